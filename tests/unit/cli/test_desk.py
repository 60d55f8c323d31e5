"""Agents in the terminal: what is told once, what is asked for, what can be answered."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatmesh.cli.desk import Command, Desk
from chatmesh.cli.lines import Message, message_of
from chatmesh.cli.runs import Told, read_event
from chatmesh.cli.sending import RefusedError, TryAgainError
from chatmesh.runtime.tasks import Tasks
from support.eventually import eventually


class Screen:
    def __init__(self) -> None:
        self.notices: list[str] = []
        self.shown: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def live(self, shown: list[str]) -> None:
        self.shown = shown


class Clock:
    """Nobody waits, and time passes all the same."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return 1

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Stage:
    def __init__(self) -> None:
        self.screen = Screen()
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.answers: dict[str, list[object]] = {}
        self.desk = Desk(self._ask, self.screen, Clock())
        self.tasks = Tasks()
        self._seq = 0

    async def _ask(self, method: str, data: dict[str, object]) -> object:
        self.asked.append((method, data))
        answers = self.answers.get(method) or [{}]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def says(self, kind: str, data: dict[str, Any], **more: object) -> None:
        self._seq += 1
        self.desk.hear(event(self._seq, kind, data, **more))

    def custom(self, name: str, value: dict[str, Any]) -> None:
        self.says("CUSTOM", {"name": name, "value": value})

    def asks(self, approval: str, arguments: object = None) -> None:
        self.custom(
            "approval.requested",
            {
                "approval": approval,
                "toolCallId": f"call-{approval}",
                "tool": "mail",
                "arguments": arguments or {"to": "bob"},
                "digest": "d1",
                "deadlineMs": 9,
                "eligible": {"roles": [], "requester": "ada"},
            },
        )

    def starts(self) -> None:
        self.says("RUN_STARTED", {"agent": {"name": "owl", "title": "Owl"}})


def event(seq: int, kind: str, data: dict[str, Any], **more: object) -> Told:
    fields = {
        "run": "r1", "agent": "owl", "attempt": 1, "epoch": 1, "step": 1,
        "seq": seq, "off": 0, "type": kind, "data": data, **more,
    }  # fmt: skip
    told = read_event(fields, "agent:owl")
    assert told is not None
    return told


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    stage.tasks.spawn(stage.desk.keep_up(), name="keep up")
    yield stage
    await stage.tasks.stop(1)


async def test_text_is_live_until_the_message_comes(stage: Stage) -> None:
    """Nothing of it stays: the message has it all."""
    stage.starts()
    stage.custom("status", {"status": "streaming"})
    stage.says("TEXT_MESSAGE_CONTENT", {"delta": "one\ntwo"})
    assert stage.screen.shown == ["Owl is writing · /stop", "one", "two"]

    answer = message_of(
        {"type": "message", "text": "Done.", "run": {"id": "r1"}}, "agent:owl", 1
    )
    assert answer is not None
    stage.desk.over(answer)
    await asyncio.sleep(0)

    assert stage.screen.shown == []
    assert stage.screen.notices == []


async def test_a_tool_is_told_once_when_it_has_ended(stage: Stage) -> None:
    """With what it was given and what came of it."""
    stage.starts()
    stage.says("TOOL_CALL_START", {"toolCallId": "c1", "toolCallName": "clock"})
    stage.says("TOOL_CALL_ARGS", {"toolCallId": "c1", "delta": "{}"})
    stage.says("TOOL_CALL_END", {"toolCallId": "c1"})
    assert stage.screen.notices == []
    stage.says(
        "TOOL_CALL_RESULT", {"toolCallId": "c1", "content": "12:00", "outcome": "done"}
    )
    stage.custom("heartbeat", {})
    await asyncio.sleep(0)

    assert stage.screen.notices == ["Owl used clock({}): 12:00"]


async def test_what_is_missing_is_asked_for_until_it_is_there(stage: Stage) -> None:
    """A gateway may be slow, and a snapshot too old."""
    run = {
        "run": "r1", "agent": "owl", "title": "Owl", "attempt": 1, "epoch": 1,
        "steps": [{"step": 1, "text": "abc", "tools": []}],
    }  # fmt: skip
    stage.answers["run.snapshot"] = [
        TryAgainError("busy"),
        {"runs": [{**run, "seq": 3}]},
        {"runs": [{**run, "seq": 4}]},
    ]
    stage.desk.hear(event(5, "TEXT_MESSAGE_CONTENT", {"delta": "def"}, off=3))

    await eventually(lambda: stage.screen.shown[-1:] == ["abcdef"])

    assert [method for method, _ in stage.asked][:3] == ["run.snapshot"] * 3


async def test_without_agents_nobody_goes_on_asking(stage: Stage) -> None:
    """A mesh need not have any."""
    stage.answers["run.snapshot"] = [RefusedError("method not found", 104)]
    stage.desk.join()

    await eventually(lambda: stage.asked)
    for _ in range(50):
        await asyncio.sleep(0)

    assert len(stage.asked) == 1


async def test_a_question_is_answered_by_the_beginning_of_its_id(stage: Stage) -> None:
    """Approved with other arguments, or denied with a reason; its digest goes along."""
    stage.starts()
    stage.asks("a1b2c3d4e5")
    asked = stage.screen.notices[-1]
    assert "may mail do this?" in asked
    assert "/approve a1b2c3d4 " in asked

    await stage.desk.obey(Command("approve", 'a1b2 {"to": "eve"}'))
    await stage.desk.obey(Command("deny", "a1b2 not now"))

    answers = [data for method, data in stage.asked if method == "approval.answer"]
    about = {"approval": "a1b2c3d4e5", "digest": "d1"}
    assert answers == [
        {**about, "approve": True, "arguments": {"to": "eve"}},
        {**about, "approve": False, "reason": "not now"},
    ]
    stage.custom(
        "approval.answered",
        {"approval": "a1b2c3d4e5", "outcome": "approved", "by": "ada"},
    )
    assert stage.screen.notices[-1] == "mail: approved by ada"


async def test_a_question_shows_all_that_would_be_done(stage: Stage) -> None:
    """Nothing is cut: what stands at the end may be what matters."""
    stage.starts()
    text = "x" * 5000 + " rm -rf /"
    stage.asks("a1b2c3d4e5", {"to": "bob", "text": text})
    await asyncio.sleep(0)
    said = stage.screen.notices
    assert said[0] == "mail, called with"
    assert json.loads("".join(said[1:-1])) == {"to": "bob", "text": text}
    assert "/approve a1b2c3d4 " in said[-1]


async def test_calls_of_two_runs_are_told_though_they_have_one_id(stage: Stage) -> None:
    """Models count their calls from one in each answer."""
    for run in ("r1", "r2"):
        for seq, kind, data in (
            (1, "RUN_STARTED", {"agent": {"name": "owl", "title": "Owl"}}),
            (2, "TOOL_CALL_START", {"toolCallId": "c1", "toolCallName": "clock"}),
            (3, "TOOL_CALL_RESULT", {"toolCallId": "c1", "content": run}),
        ):
            outcome = {"outcome": "done"} if seq == 3 else {}
            stage.desk.hear(event(seq, kind, {**data, **outcome}, run=run))
    await asyncio.sleep(0)
    assert [line[-2:] for line in stage.screen.notices] == ["r1", "r2"]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("", "/approve: which one? name its id"),
        ("zz", "/approve: there is no such question"),
        ("a1 [1]", "/approve: arguments are one JSON object: this is something else"),
    ],
)
async def test_an_unclear_answer_is_not_sent(
    stage: Stage, rest: str, said: str
) -> None:
    """Better asked again than wrong."""
    stage.starts()
    stage.asks("a1")
    stage.asks("b2")

    await stage.desk.obey(Command("approve", rest))

    assert stage.screen.notices[-1] == said
    assert all(method != "approval.answer" for method, _ in stage.asked)


async def test_a_run_is_stopped_and_trouble_is_said(stage: Stage) -> None:
    """All of the room, or those of one agent; a refusal has its reason."""
    stage.answers["run.stop"] = [
        {"stopped": ["r1"]},
        {"stopped": []},
        RefusedError("permission denied", 103),
    ]

    await stage.desk.obey(Command("stop"))
    await stage.desk.obey(Command("stop", "@owl"))
    await stage.desk.obey(Command("stop"))

    assert stage.asked[:2] == [("run.stop", {}), ("run.stop", {"agent": "owl"})]
    assert stage.screen.notices == [
        "nobody is at work here",
        "/stop: permission denied",
    ]


async def test_a_failed_answer_is_asked_for_once_more(stage: Stage) -> None:
    """The last one, or the last one of an agent; each once, and no other."""

    def answer(run: str, name: str, outcome: str, retry_of: str = "") -> Message:
        made = {"id": run, "outcome": outcome, "retryOf": retry_of}
        found = message_of(
            {"type": "message", "text": "…", "run": made}, f"agent:{name}", 1
        )
        assert found is not None
        return found

    for run, name, outcome in (
        ("r1", "owl", "failed"),
        ("r2", "fox", "interrupted"),
        ("r3", "owl", "completed"),
        ("r4", "owl", "cancelled"),
        ("r5", "owl", "failed"),
    ):
        stage.desk.over(answer(run, name, outcome))
    # Somebody else has asked for this one already.
    stage.desk.over(answer("r6", "owl", "completed", retry_of="r5"))

    await stage.desk.obey(Command("retry", "@owl"))
    await stage.desk.obey(Command("retry"))
    await stage.desk.obey(Command("retry"))

    assert stage.asked == [("run.retry", {"run": "r1"}), ("run.retry", {"run": "r2"})]
    assert stage.screen.notices == [
        "owl is asked once more",
        "fox is asked once more",
        "no answer has failed here",
    ]


def test_an_answer_says_how_it_came_about() -> None:
    """Only of an agent: anybody can write the same fields."""
    data = {
        "type": "message", "id": "run:r1", "text": "Done.",
        "agent": {"name": "owl", "title": "Owl"},
        "run": {
            "id": "r1", "outcome": "cancelled", "reason": "stopped by ada",
            "model": "fake-1", "durationMs": 2340,
            "usage": {"inputTokens": 100, "outputTokens": 20},
        },
    }  # fmt: skip

    answer = message_of(data, "agent:owl", 1)
    claimed = message_of(data, "mallory", 1)

    assert answer is not None
    assert (answer.user, answer.agent, answer.run) == ("Owl", True, "r1")
    assert answer.foot == "cancelled: stopped by ada, fake-1, 2.3 s, 120 tokens"
    assert claimed is not None
    assert (claimed.user, claimed.agent, claimed.run) == ("mallory", False, "")
