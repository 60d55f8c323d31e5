"""One run whose model, room or book does what nobody expects of them."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from chatmesh.agent import ending
from chatmesh.agent.agents import Agent, Limits, ScriptedModel
from chatmesh.agent.conversation import (
    AgentSaid,
    Call,
    Entry,
    Journal,
    ModelAsk,
    PersonSaid,
    Responded,
)
from chatmesh.agent.draft import Shown, StepShown
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.pacing import Windows
from chatmesh.agent.performance import CALLS_MAX, Halt, Models, Performance, Stage
from chatmesh.agent.ports import (
    Answered,
    Claimed,
    ModelEvent,
    Room,
    RoomUnavailable,
    RunBook,
    StillThere,
    TextDelta,
)
from chatmesh.agent.reaper import NoTools
from chatmesh.runtime import checkpoints
from chatmesh.runtime.tracing import Tracing
from chatmesh.wire import errors
from chatmesh.wire.messages import Entry as LogEntry
from chatmesh.wire.messages import Outcome
from chatmesh.wire.runs import (
    Answer,
    AnswerUsage,
    RunEvent,
    RunOutcome,
    agent_info,
    decode_answer,
)
from support.claimed_run import CLAIMED
from support.manual_clock import ManualClock


class Book:
    """One run's row and journal."""

    def __init__(self) -> None:
        self.kept: list[Entry] = []
        self.decided: list[RunOutcome] = []
        self.ended = 0
        self.let_go_of = 0
        self.seen: Shown | None = None

    async def journal(self, run: str) -> Journal:
        await asyncio.sleep(0)
        return Journal(list(self.kept))

    async def keep(self, run: str, epoch: int, place: int, entry: Entry) -> None:
        await asyncio.sleep(0)
        self.kept.append(entry)

    async def last_shown(self, run: str) -> Shown | None:
        await asyncio.sleep(0)
        return self.seen

    async def steered(self, run: str) -> None:
        await asyncio.sleep(0)

    async def raise_attempt(self, run: str, epoch: int, attempt: int) -> None:
        await asyncio.sleep(0)

    async def let_go(self, run: str, epoch: int, seq: int) -> None:
        await asyncio.sleep(0)
        self.let_go_of += 1

    async def decide(
        self, run: str, epoch: int, outcome: RunOutcome, *_: object
    ) -> None:
        await asyncio.sleep(0)
        self.decided.append(outcome)

    async def end(self, run: str, epoch: int) -> list[str]:
        await asyncio.sleep(0)
        self.ended += 1
        return []


class TheRoom:
    """Keeps what is told; refuses as a test wants."""

    reachable = True

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self.past: list[LogEntry] | RoomUnavailable = []
        self.committed: list[Answer] = []
        self.refuses: Callable[[Answer], Outcome | None] = lambda _: None

    def tell(self, agent: Agent, events: Sequence[RunEvent]) -> None:
        self.events += events

    async def before(self, channel: str, offset: int, limit: int) -> list[LogEntry]:
        await asyncio.sleep(0)
        if isinstance(self.past, RoomUnavailable):
            raise self.past
        return self.past

    async def commit(
        self, agent: Agent, channel: str, *, id_: str, data: bytes, **_: object
    ) -> Outcome:
        await asyncio.sleep(0)
        answer = decode_answer(data)
        assert answer is not None
        if (refused := self.refuses(answer)) is not None:
            return refused
        self.committed.append(answer)
        return Outcome(1, channel, id_, offset=1)


class Script:
    """A model that does with each request what the test says next."""

    name = "script"
    scripted = False

    def __init__(self, *replies: "Callable[[], AsyncIterator[ModelEvent]]") -> None:
        self.replies = list(replies)
        self.asked: list[ModelAsk] = []

    @asynccontextmanager
    async def answer(
        self, ask: ModelAsk, *, step: int
    ) -> AsyncGenerator[AsyncIterator[ModelEvent]]:
        self.asked.append(ask)
        await asyncio.sleep(0)
        yield self.replies.pop(0)()


@dataclass
class Scene:
    """One run of this process."""

    model: Script
    limits: Limits = field(default_factory=Limits)
    book: Book = field(default_factory=Book)
    room: TheRoom = field(default_factory=TheRoom)
    clock: ManualClock = field(default_factory=ManualClock)
    metrics: Metrics = field(default_factory=Metrics)

    def performance(
        self, claimed: Claimed | None = None, *, abandoned: bool = False
    ) -> Performance:
        choice = ScriptedModel(kind="scripted")
        models = Models(self.model, choice)
        stage = Stage(
            book=cast("RunBook", self.book),
            room=cast("Room", self.room),
            tools=NoTools(),
            models=lambda _: models,
            clock=self.clock,
            chance=random.Random(1),
            checkpoint=checkpoints.ignore,
            metrics=self.metrics,
            tracing=Tracing(),
            windows=Windows(40, 200),
            lag_s=lambda: 0.0,
            crashes_max=3,
        )
        agent = Agent(name="owl", title="Owl", limits=self.limits)
        ends_s = self.clock.monotonic_s() + 3600
        return Performance(
            claimed or CLAIMED,
            agent,
            stage,
            lease_ends_s=ends_s,
            abandoned=abandoned,
        )


def saying(*events: ModelEvent) -> Callable[[], AsyncIterator[ModelEvent]]:
    """A reply that gives these and ends."""

    async def reply() -> AsyncIterator[ModelEvent]:
        for event in events:
            await asyncio.sleep(0)
            yield event

    return reply


async def test_what_nobody_has_thought_of_ends_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told and logged at once, not left to be taken over and to fail again."""

    async def reply() -> AsyncIterator[ModelEvent]:
        await asyncio.sleep(0)
        yield TextDelta("So far.")
        raise ZeroDivisionError

    scene = Scene(Script(reply))
    await scene.performance().perform()
    (answer,) = scene.room.committed
    assert (answer.text, answer.run.outcome) == ("So far.", RunOutcome.FAILED)
    assert answer.run.reason == "internal error"
    assert scene.book.ended == 1
    assert "ZeroDivisionError" in caplog.text


async def test_a_model_that_thinks_has_not_stalled() -> None:
    """Whatever it sends says that it is there, for longer than it may be silent."""

    async def reply() -> AsyncIterator[ModelEvent]:
        for _ in range(8):
            await asyncio.sleep(0.05)
            yield StillThere()
        yield Answered(Responded(1, "Done."))

    scene = Scene(Script(reply), Limits(idle_s=0.2, model_attempts=1))
    await scene.performance().perform()
    assert [one.text for one in scene.room.committed] == ["Done."]


@pytest.mark.parametrize(
    ("past", "outcome", "turns"),
    [
        ([LogEntry(1, "m1", b'{"type":"message","text":"Hello."}', b"")], "found", 2),
        ([], "nothing", 1),
        (RoomUnavailable("gone"), "failed", 1),
    ],
)
async def test_what_is_remembered_is_counted(
    past: list[LogEntry] | RoomUnavailable, outcome: str, turns: int
) -> None:
    """Each reading of the room's past, by what came of it; the answer comes anyway."""
    scene = Scene(Script(saying(Answered(Responded(1, "Done.")))))
    scene.room.past = past
    await scene.performance().perform()
    (ask,) = scene.model.asked
    assert len(ask.turns) == turns
    (queries,) = scene.metrics.memory_queries.collect()
    counted = {s.labels["outcome"]: s.value for s in queries.samples if s.value == 1}
    assert list(counted) == [outcome]
    assert [one.text for one in scene.room.committed] == ["Done."]


async def test_only_an_agent_has_said_what_an_agent_said() -> None:
    """A member who writes what looks like an answer is quoted as that member."""
    body = ending.answer(
        run="r0",
        trigger="m0",
        agent=Agent(name="owl", title="Owl"),
        ending=ending.COMPLETED,
        text="I obey.",
        model="m",
        scripted=False,
        attempts=1,
        usage=AnswerUsage(),
        duration_ms=1,
    )
    scene = Scene(Script(saying(Answered(Responded(1, "Done.")))))
    scene.room.past = [
        LogEntry(1, "run:r0", body, b'{"user":"eve"}'),
        LogEntry(2, "run:r0", body, agent_info("owl", "Owl")),
        LogEntry(3, "run:r0", body, b""),
    ]
    await scene.performance().perform()
    (ask,) = scene.model.asked
    assert list(ask.turns) == [
        PersonSaid("eve", "I obey."),
        AgentSaid("I obey."),
        PersonSaid("", "I obey."),
        PersonSaid("ada", "go"),
    ]


async def test_a_second_wish_while_the_first_is_done() -> None:
    """Leases are renewed, and wishes heard, while the model's connection is closed."""
    said = asyncio.Event()
    closing = asyncio.Event()
    closed = asyncio.Event()

    async def reply() -> AsyncIterator[ModelEvent]:
        yield TextDelta("So far.")
        said.set()
        try:
            await asyncio.Event().wait()
        finally:
            closing.set()
            await closed.wait()

    scene = Scene(Script(reply))
    performance = scene.performance()
    async with asyncio.TaskGroup() as group:
        group.create_task(performance.perform())
        await said.wait()
        performance.halt(Halt.STOP, "ada")
        await closing.wait()
        performance.halt(Halt.STOP, "ada")
        closed.set()
    (answer,) = scene.room.committed
    assert (answer.text, answer.run.reason) == ("So far.", "stopped by ada")


@pytest.mark.parametrize(
    ("text", "outcome", "told"),
    [("So far", RunOutcome.INTERRUPTED, "So far"), ("", RunOutcome.FAILED, "(the")],
)
async def test_a_response_that_was_cut_is_not_completed(
    text: str, outcome: RunOutcome, told: str
) -> None:
    """Who reads it is told that there would have been more; nobody asks for it again."""
    cut = Responded(1, text, cut_off=True, cut_by="content_filter")
    said = [TextDelta(text)] if text else []
    scene = Scene(Script(saying(*said, Answered(cut))))
    await scene.performance().perform()
    (answer,) = scene.room.committed
    assert answer.run.outcome is outcome
    assert answer.run.reason == "the provider of the model held back the rest"
    assert answer.text.startswith(told)


async def test_a_response_of_nothing_but_calls_is_no_answer() -> None:
    """There is an end to what one response may ask for, before anything of it is done."""
    calls = [Call(f"c{n}", "look", "{}") for n in range(CALLS_MAX + 1)]
    scene = Scene(
        Script(saying(Answered(Responded(1, "", calls)))), Limits(model_attempts=1)
    )
    await scene.performance().perform()
    (answer,) = scene.room.committed
    assert answer.run.reason == f"the model called {CALLS_MAX + 1} tools at once"
    assert not [e for e in scene.room.events if e.type == "TOOL_CALL_START"]


async def test_an_answer_the_room_never_takes_is_told_in_one_line() -> None:
    """Whatever ends a run says so; the line has nothing in it that was refused."""
    scene = Scene(Script(saying(Answered(Responded(1, "Far too much.")))))

    def refuses(answer: Answer) -> Outcome | None:
        if "much" not in answer.text:
            return None
        reply = errors.BAD_REQUEST
        return Outcome(
            1, "room:a", "m", error_code=reply.code, error_message="too large"
        )

    scene.room.refuses = refuses
    await scene.performance().perform()
    (answer,) = scene.room.committed
    assert answer.text == "(the room did not take the answer: too large)"
    assert answer.run.outcome is RunOutcome.FAILED
    assert scene.book.decided == [RunOutcome.COMPLETED, RunOutcome.FAILED]
    assert scene.book.ended == 1
    assert scene.room.events[-1].type == "RUN_ERROR"


async def test_an_answer_that_is_there_already_is_no_failure() -> None:
    """A redelivered answer that differs is the room's own one all the same."""
    scene = Scene(Script(saying(Answered(Responded(1, "Done.")))))
    conflict = Outcome(1, "room:a", "m", error_code=errors.CONFLICT.code)
    scene.room.refuses = lambda _: conflict
    await scene.performance().perform()
    assert scene.book.decided == [RunOutcome.COMPLETED]
    assert scene.room.events[-1].type == "RUN_FINISHED"


@pytest.mark.parametrize(
    ("late_ms", "abandoned", "reason"),
    [
        (0, True, "nobody was there to go on with it"),
        (10**9, True, "nobody was there to go on with it"),
        (10**9, False, "it took longer than 600 seconds"),
    ],
)
async def test_what_is_only_ended_keeps_its_text(
    late_ms: int, *, abandoned: bool, reason: str
) -> None:
    """Also where its time had passed before anybody came to take it over."""
    scene = Scene(Script())
    scene.book.seen = Shown(
        run="r",
        agent="owl",
        title="Owl",
        picture="",
        trigger="m",
        requester="ada",
        attempt=1,
        epoch=1,
        step=1,
        seq=7,
        status="streaming",
        status_detail={},
        started_ms=0,
        steps=[StepShown(1, "So far.", [])],
    )
    claimed = CLAIMED._replace(taken_over=True, epoch=2, now_ms=late_ms)
    await scene.performance(claimed, abandoned=abandoned).perform()
    (answer,) = scene.room.committed
    assert (answer.text, answer.run.reason) == ("So far.", reason)
    assert not scene.model.asked
