"""What the room sees of a run."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.agent.agents import Agent
from chatmesh.agent.draft import DELTA_CHARS_MAX, SHOWN_CHARS_MAX, Draft
from chatmesh.agent.tools.port import ApprovalView
from chatmesh.wire.runs import RunEvent, RunStatus


def draft() -> Draft:
    return Draft(
        room="room:a",
        run="r",
        agent=Agent(name="owl", title="Owl", picture="O"),
        trigger="m",
        requester="ada",
        attempt=1,
        epoch=1,
        seq=0,
        started_ms=0,
    )


def data(event: RunEvent) -> dict[str, Any]:
    return json.loads(bytes(event.data))


def test_a_run_from_its_start_to_its_end() -> None:
    """Every event has the next number, and says where it belongs."""
    run = draft()
    events = [run.started(), *run.now(RunStatus.THINKING), run.begin_step(1)]
    run.gather("Hel")
    events += run.now(RunStatus.STREAMING) + run.tell(40)
    run.gather("lo")
    events += run.end_text(40)
    events += [run.end_step(), run.finished("success", {}, 5)]

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events] == [
        "RUN_STARTED",
        "CUSTOM",
        "STEP_STARTED",
        "CUSTOM",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "STEP_FINISHED",
        "RUN_FINISHED",
    ]
    assert [event.off for event in events][5:8] == [0, 3, 5]
    assert run.shown().steps[0].text == "Hello"


@given(st.lists(st.text(max_size=5), max_size=30), st.integers(0, 29))
def test_a_snapshot_holds_what_its_events_held(pieces: list[str], at: int) -> None:
    """Whoever starts from a snapshot and hears what follows has all text, once."""
    run = draft()
    run.begin_step(1)
    text, seen = "", run.shown().seq
    after: list[RunEvent] = []
    for number, piece in enumerate(pieces):
        run.gather(piece)
        events = run.tell(0) if number % 3 else []
        after += events
        if number == at:
            text, seen = run.shown().steps[0].text, run.shown().seq
            after = []
    after += run.end_text(0)
    for event in after:
        assert event.seq == seen + 1
        seen = event.seq
        if event.type == "TEXT_MESSAGE_CONTENT":
            assert event.off == len(text)
            text += data(event)["delta"]
    assert text == "".join(pieces)


def test_long_text_goes_in_pieces() -> None:
    """No event is larger than a publication may be."""
    run = draft()
    run.begin_step(1)
    run.gather("x" * (2 * DELTA_CHARS_MAX + 1))
    told = [e for e in run.tell(0) if e.type == "TEXT_MESSAGE_CONTENT"]
    assert [len(data(e)["delta"]) for e in told] == [
        DELTA_CHARS_MAX,
        DELTA_CHARS_MAX,
        1,
    ]
    assert all(b.off == a.off + DELTA_CHARS_MAX for a, b in pairwise(told))


def test_a_step_that_is_said_anew_loses_its_text_and_keeps_others() -> None:
    """A higher attempt drops its step and those after it."""
    run = draft()
    run.begin_step(1)
    run.gather("one")
    run.end_text(0)
    run.begin_step(2)
    run.gather("two")
    run.tell(0)
    run.gather(" untold")
    run.attempt = 2
    event = run.attempted(2, "the model broke off")
    assert (event.attempt, event.step) == (2, 2)
    assert run.all_text == "one"
    run.begin_step(2)
    run.gather("anew")
    (_, content) = run.tell(0)
    assert (content.off, run.all_text) == (0, "one\n\nanew")


def test_numbers_jump_after_a_takeover() -> None:
    """What the owner before may still have told stays below."""
    run = draft()
    assert run.attempted(1, "taken over", seq=500).seq == 501


def test_a_status_is_told_when_it_changes() -> None:
    """And not again while it lasts."""
    run = draft()
    assert len(run.now(RunStatus.TOOL, tool="calc")) == 1
    assert run.now(RunStatus.TOOL, tool="calc") == []
    assert len(run.now(RunStatus.TOOL, tool="time")) == 1


def test_a_tool_from_call_to_result() -> None:
    """A call, its arguments, progress and result are seen, and cut where too long."""
    run = draft()
    run.begin_step(1)
    run.call_started("c1", "calc")
    run.call_arguments("c1", '{"a":1}')
    run.call_progress("c1", 0.5, "half")
    run.call_ended("c1", "x" * (SHOWN_CHARS_MAX + 1), "done")
    (tool,) = run.shown().steps[0].tools
    assert (tool.name, tool.arguments, tool.state, tool.outcome) == (
        "calc",
        '{"a":1}',
        "ended",
        "done",
    )
    assert len(tool.result) == SHOWN_CHARS_MAX
    assert tool.result.endswith("(cut)")


def test_an_approval_is_seen_until_it_is_answered() -> None:
    """With who may answer it."""
    run = draft()
    run.begin_step(1)
    run.call_started("c1", "python")
    view = ApprovalView(
        "a1", "python", {"code": "1"}, "d", 9, "ada", ("requester", "owner")
    )
    asked = data(run.approval_requested("c1", view))["value"]
    assert asked["eligible"] == {"roles": ["owner"], "requester": "ada"}
    assert [one["approval"] for one in run.shown().approvals] == ["a1"]
    run.approval_answered("c1", view)
    assert run.shown().approvals == []
