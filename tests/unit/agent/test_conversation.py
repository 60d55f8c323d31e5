"""What a journal says of where a run stands."""

import pytest

from chatmesh.agent.conversation import (
    Call,
    Context,
    Entry,
    Journal,
    PersonSaid,
    Responded,
    Returned,
    Steered,
    arguments_of,
    carried_over,
    decode,
    encode,
    read_message,
)

CONTEXT = Context([PersonSaid("bo", "hi")], PersonSaid("ada", "6*7?"))
CALLS = Responded(1, "Let me see.", [Call("c1", "calc", "{}"), Call("c2", "time", "")])
ONE = Returned(1, "c1", "calc", "done", "42")
TWO = Returned(1, "c2", "time", "failed", "no")
STEER = Steered(2, "r2", PersonSaid("bo", "and 7*8?"))
ANSWER = Responded(2, "42")


@pytest.mark.parametrize(
    ("entries", "open_calls", "wants_answer"),
    [
        ([], [], True),
        ([CONTEXT], [], True),
        ([CONTEXT, CALLS], ["c1", "c2"], False),
        ([CONTEXT, CALLS, ONE], ["c2"], False),
        ([CONTEXT, CALLS, ONE, TWO], [], True),
        ([CONTEXT, CALLS, ONE, TWO, STEER], [], True),
        ([CONTEXT, CALLS, ONE, TWO, ANSWER], [], False),
        ([CONTEXT, CALLS, ONE, TWO, ANSWER, STEER], [], True),
    ],
)
def test_where_a_run_stands(
    entries: list[Entry], open_calls: list[str], *, wants_answer: bool
) -> None:
    """From any place of the journal it is clear what has to be done next."""
    journal = decode(encode(entry) for entry in entries)
    assert journal.entries == entries
    assert [call.id for call in journal.open_calls] == open_calls
    assert journal.wants_answer is wants_answer


def test_what_a_model_is_told() -> None:
    """The room's past, the message, and everything finished since, in order."""
    journal = Journal([CONTEXT, CALLS, ONE, TWO, STEER])
    assert journal.turns() == [
        PersonSaid("bo", "hi"),
        PersonSaid("ada", "6*7?"),
        CALLS,
        ONE,
        TWO,
        PersonSaid("bo", "and 7*8?"),
    ]


UNFINISHED = Responded(2, "4", cut_off=True)


@pytest.mark.parametrize(
    ("entries", "carried", "wants_answer"),
    [
        ([], [], True),
        ([CONTEXT], [CONTEXT], True),
        ([CONTEXT, CALLS, ONE, TWO], [CONTEXT, CALLS, ONE, TWO], True),
        ([CONTEXT, CALLS, ONE, TWO, UNFINISHED], [CONTEXT, CALLS, ONE, TWO], True),
        ([CONTEXT, CALLS, ONE, TWO, ANSWER], [CONTEXT, CALLS, ONE, TWO, ANSWER], False),
    ],
)
def test_what_a_retry_begins_with(
    entries: list[Entry], carried: list[Entry], *, wants_answer: bool
) -> None:
    """What was finished, and nothing of it counts against the new run's limits."""
    found = carried_over(Journal(entries))
    assert found == carried
    journal = Journal(found, carried=len(found))
    assert journal.wants_answer is wants_answer
    assert journal.own.entries == []


def test_a_call_that_was_under_way_is_unknown_to_a_retry() -> None:
    """It may have taken effect, so the model is told, and nobody repeats it blindly."""
    found = carried_over(Journal([CONTEXT, CALLS, ONE]))
    assert found[:3] == [CONTEXT, CALLS, ONE]
    (unknown,) = found[3:]
    assert isinstance(unknown, Returned)
    assert (unknown.call, unknown.outcome) == ("c2", "unknown")
    assert Journal(found).open_calls == []


@pytest.mark.parametrize("text", ["{", "[]", "5", "null"])
def test_arguments_that_are_none(text: str) -> None:
    """What a model writes may be anything; it is told what is wrong."""
    with pytest.raises(ValueError, match="the arguments are no JSON"):
        arguments_of(Call("c", "t", text))


def test_arguments() -> None:
    """No arguments at all are an empty object."""
    assert arguments_of(Call("c", "t", '{"a":1}')) == {"a": 1}
    assert arguments_of(Call("c", "t", " ")) == {}


def test_messages_of_the_room() -> None:
    """Messages are read, with their author; other publications are not."""
    info = b'{"user":"ada","client":"c"}'
    body = b'{"type":"message","id":"1","text":"hello"}'
    assert read_message(body, info, 3) == PersonSaid("ada", "hel")
    assert read_message(b'{"type":"typing"}', info, 3) is None
    assert read_message(b"\xff", b"", 3) is None
