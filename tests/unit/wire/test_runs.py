"""What everybody may see of an agent's run: ids, names and bodies."""

import json

import msgspec
from msgspec import Raw

from chatmesh.wire import messages, runs
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from chatmesh.wire.messages import LivePublication, PublishCommand

EVENT = runs.RunEvent(
    "room:tea",
    "r",
    "helper",
    attempt=1,
    epoch=2,
    step=3,
    seq=4,
    off=5,
    type=runs.EventType.TEXT_MESSAGE_CONTENT,
    data=Raw(b'{"messageId":"m","delta":"d"}'),
)


def test_there_is_one_run_for_an_agent_and_a_trigger() -> None:
    """The same three names give the same id everywhere; any other gives another."""
    run = runs.run_of("helper", "room:tea", "m1")

    assert run == runs.run_of("helper", "room:tea", "m1")
    assert run != runs.run_of("other", "room:tea", "m1")
    assert run != runs.run_of("helper", "room:te", "am1")
    assert runs.answer_id(run) == f"run:{run}"


def test_an_agent_is_known_by_its_user() -> None:
    """And its publications say so to those who show them."""
    info = json.loads(runs.agent_info("helper", "Helper", "h.png"))

    assert runs.is_agent(info["user"])
    assert not runs.is_agent("ada")
    assert info["conn_info"] == {"name": "Helper", "agent": True, "picture": "h.png"}


def test_an_event_reads_as_it_was_written() -> None:
    """Flat, with the names the protocol has."""
    written = msgspec.json.encode(EVENT)

    assert set(json.loads(written)) == {
        *("room", "run", "agent", "attempt", "epoch", "step"),
        *("seq", "off", "type", "data"),
    }
    assert msgspec.json.encode(runs.decode_event(written)) == written


def test_other_publications_are_no_events_and_no_answers() -> None:
    """Whatever people publish."""
    for data in (b"", b"{}", b'{"type":"message","text":"x"}', b"[" * 5000, b"\xff"):
        assert runs.decode_event(data) is None
        assert runs.decode_answer(data) is None


def test_an_answer_reads_as_it_was_written() -> None:
    """The durable message, whose keys are those of JavaScript."""
    run = runs.AnswerRun("r", "m1", runs.RunOutcome.CANCELLED, reason="stopped by ada")
    answer = runs.Answer("run:r", "so far", runs.AnswerAgent("helper"), run)

    written = json.loads(msgspec.json.encode(answer))

    assert written["type"] == "message"
    assert written["run"]["durationMs"] == 0
    assert written["run"]["usage"]["inputTokens"] == 0
    assert runs.decode_answer(json.dumps(written).encode()) == answer


def test_a_fence_is_read_by_those_who_know_it_and_others_go_on() -> None:
    """Fields are appended: what was written before them has none."""
    command = PublishCommand("room:tea", "i", b"{}", fence="r", fence_epoch=2)
    older = msgspec.msgpack.encode(msgspec.structs.astuple(command)[:-2])

    assert msgspec.msgpack.decode(older, type=PublishCommand).fence == ""
    assert LivePublication(b"").fence_epoch == 0


def test_a_call_and_its_answer_reach_the_other_side() -> None:
    """The one by the service's queue, the other among all that a gateway hears."""
    call = ServiceCall(
        1, "q", "run.stop", "room:tea", "ada", "c", "member", b"{}", 1_000
    )
    answer = ServiceAnswer(1, b"{}")

    assert messages.decode_service_call(messages.encode(call)) == call
    assert messages.decode_gateway_inbound(messages.encode(answer)) == answer
