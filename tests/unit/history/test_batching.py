"""From deliveries to one statement, and from its answer to who hears what."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.history.batching import Batch, Committed, Delivery, digest_of, refuse
from chatmesh.history.ports import Fence, Placed
from chatmesh.wire import errors, limits
from chatmesh.wire.messages import CommandBatch, Entry, Outcome, PublishCommand
from conformance.memory_log import MemoryLog


def command(
    key: str = "1",
    *,
    channel: str = "room:a",
    data: bytes = b"{}",
    user: str = "ada",
    request: int = 7,
    hears: bool = False,
) -> PublishCommand:
    return PublishCommand(
        channel, key, data, b'{"user":"ada"}', user, request, hears=hears
    )


def delivery(
    *commands: PublishCommand, tag: int = 1, deaths: int = 0, reply_to: str = "replies"
) -> Delivery:
    batch = CommandBatch("gateway-1", reply_to, list(commands))
    return Delivery(tag, batch, size=100, deaths=deaths, received_s=0.0)


async def settle(
    log: MemoryLog, *deliveries: Delivery, again: bool = False
) -> Committed:
    batch = Batch.of(deliveries)
    return batch.settle(await log.append(batch.columns), again=again)


def outcomes(committed: Committed, reply_to: str = "replies") -> list[Outcome]:
    return committed.announcement.outcomes.get(reply_to, [])


def entries(committed: Committed) -> list[tuple[str, list[int]]]:
    return [
        (event.channel, [entry.offset for entry in event.entries])
        for event in committed.announcement.events
    ]


async def test_a_reply_rides_on_the_event_when_the_asker_hears_it() -> None:
    """One message instead of two: the entry names who waits."""
    committed = await settle(MemoryLog(), delivery(command(hears=True)))

    (event,) = committed.announcement.events
    (entry,) = event.entries
    assert (entry.origin, entry.request) == ("gateway-1", 7)
    assert outcomes(committed) == []


async def test_whoever_does_not_hear_the_channel_is_answered() -> None:
    """The event goes to all, the outcome to the one who asked."""
    committed = await settle(MemoryLog("e"), delivery(command()))

    (event,) = committed.announcement.events
    (entry,) = event.entries
    (outcome,) = outcomes(committed)
    assert (entry.origin, entry.request) == ("", 0)
    assert (outcome.request, outcome.offset, outcome.epoch) == (7, 1, "e")
    assert outcome.error_code == 0


async def test_nobody_is_answered_who_does_not_wait() -> None:
    """Request 0 means that nobody does."""
    committed = await settle(MemoryLog(), delivery(command(request=0)))

    assert committed.announcement.outcomes == {}


async def test_the_same_id_and_body_get_the_same_answer() -> None:
    """A repeat takes no offset and makes no event."""
    log = MemoryLog()
    first = await settle(log, delivery(command()))
    second = await settle(log, delivery(command(request=8)))

    assert entries(second) == []
    assert outcomes(second)[0].offset == outcomes(first)[0].offset == 1
    assert outcomes(second)[0].at_ms == outcomes(first)[0].at_ms
    assert second.repeated == 1


@pytest.mark.parametrize("other", [command(data=b"[]"), command(user="eve")])
async def test_another_body_or_author_is_a_conflict(other: PublishCommand) -> None:
    """Whether the id was taken long ago or by a neighbour in the same batch."""
    log = MemoryLog()
    together = await settle(log, delivery(command(), other))
    later = await settle(log, delivery(other))

    assert entries(together) == [("room:a", [1])]
    assert [o.error_code for o in outcomes(together)] == [0, errors.CONFLICT.code]
    assert [o.error_code for o in outcomes(later)] == [errors.CONFLICT.code]


async def test_a_repeat_inside_one_batch_is_answered_too() -> None:
    """Both get the one place; the event is sent once."""
    committed = await settle(
        MemoryLog(),
        delivery(command(hears=True)),
        delivery(command(request=8), tag=2),
    )

    assert entries(committed) == [("room:a", [1])]
    assert [(o.request, o.offset) for o in outcomes(committed)] == [(8, 1)]
    assert (committed.fresh, committed.repeated) == (1, 1)


async def test_what_was_delivered_before_is_announced_again() -> None:
    """The process that committed it may have died before it told anybody."""
    log = MemoryLog()
    await settle(log, delivery(command("1"), command("2")))

    again = await settle(
        log, delivery(command("1", hears=True), command("2"), command("3"), deaths=1)
    )

    assert entries(again) == [("room:a", [1, 2, 3])]
    # Gateways drop what they know already, and a reply riding on it would be lost.
    assert [o.offset for o in outcomes(again)] == [1, 2, 3]


async def test_events_hold_dense_runs_only() -> None:
    """Entries known before and new ones may lie apart."""
    log = MemoryLog()
    await settle(log, delivery(*(command(str(n)) for n in range(1, 6))))

    again = await settle(
        log, delivery(command("4"), command("1"), command("x")), again=True
    )

    assert entries(again) == [("room:a", [1]), ("room:a", [4]), ("room:a", [6])]


def test_what_retention_emptied_is_not_announced() -> None:
    """Its payload is gone, and everybody is past it."""
    batch = Batch.of([delivery(command(), deaths=1)])
    gone = Placed(1, 5, "e", digest_of("ada", b"{}"), kept=False)

    committed = batch.settle([gone])

    assert entries(committed) == []
    assert outcomes(committed)[0].offset == 1


async def test_events_are_cut_to_what_a_message_may_hold() -> None:
    """Sixty-four kilobytes each, a hundred of them: several events, in order."""
    data = b'"' + b"x" * (limits.PUBLICATION_BYTES_MAX - 2) + b'"'
    many = [command(str(n), data=data, request=0) for n in range(40)]

    committed = await settle(MemoryLog(), delivery(*many))

    sizes = [
        sum(len(entry.data) for entry in event.entries)
        for event in committed.announcement.events
    ]
    assert max(sizes) <= limits.BATCH_BYTES_MAX
    assert [n for _, run in entries(committed) for n in run] == list(range(1, 41))


async def test_events_are_cut_by_what_their_authors_add_too() -> None:
    """Tiny payloads with large infos and tags fill a message as well."""
    info = b'"' + b"x" * (limits.PUBLICATION_BYTES_MAX - 2) + b'"'
    tags = {"k": "x" * (limits.TAGS_CHARS_MAX - 1)}
    many = [
        msgspec.structs.replace(command(str(n), request=0), info=info, tags=tags)
        for n in range(40)
    ]

    committed = await settle(MemoryLog(), delivery(*many))

    sizes = [
        sum(len(entry.info) + len(entry.tags["k"]) for entry in event.entries)
        for event in committed.announcement.events
    ]
    assert max(sizes) <= limits.BATCH_BYTES_MAX
    assert [n for _, run in entries(committed) for n in run] == list(range(1, 41))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (command(channel=""), errors.BAD_REQUEST.code),
        (command(channel="a b"), errors.BAD_REQUEST.code),
        (command(channel="x" * 256), errors.BAD_REQUEST.code),
        (command(key=""), errors.BAD_REQUEST.code),
        (command(key="x" * 129), errors.BAD_REQUEST.code),
        (command(key="a\0"), errors.BAD_REQUEST.code),
        (command(user="a\0"), errors.BAD_REQUEST.code),
        (command(user="x" * 256), errors.BAD_REQUEST.code),
        (command(data=b"x" * 65_537), errors.TOO_LARGE.code),
        (
            msgspec.structs.replace(command(), info=b"x" * 65_537),
            errors.TOO_LARGE.code,
        ),
        (
            msgspec.structs.replace(command(), tags={"a": "\0"}),
            errors.BAD_REQUEST.code,
        ),
        (
            msgspec.structs.replace(command(), tags={"a": "x" * 5000}),
            errors.TOO_LARGE.code,
        ),
        (command(data=b"[" * 60_000), errors.BAD_REQUEST.code),
        (command(data=b'{"a":' * 65 + b"1" + b"}" * 65), errors.BAD_REQUEST.code),
        (
            msgspec.structs.replace(command(), info=b"[" * 65 + b"]" * 65),
            errors.BAD_REQUEST.code,
        ),
    ],
)
async def test_what_is_wrong_in_itself_never_reaches_the_log(
    bad: PublishCommand, code: int
) -> None:
    """It is refused with a reason, and its neighbours go through."""
    committed = await settle(MemoryLog(), delivery(command("1"), bad, command("3")))

    assert entries(committed) == [("room:a", [1, 2])]
    refused = next(o for o in outcomes(committed) if o.error_code)
    assert refused.error_code == code
    assert refused.error_message
    assert committed.refused == 1


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b"]),
                st.sampled_from("123"),
                st.sampled_from([b"x", b"y"]),
                st.booleans(),
            ),
            max_size=6,
        ),
        max_size=5,
    )
)
async def test_every_command_is_answered_once_and_every_entry_told_once(
    batches: list[list[tuple[str, str, bytes, bool]]],
) -> None:
    """Whatever arrives: one answer per request, offsets dense, one entry per id."""
    log = MemoryLog()
    told: dict[str, list[Entry]] = {}
    answered: list[int] = []
    asked = 0
    for tag, rows in enumerate(batches, start=1):
        commands: list[PublishCommand] = []
        for channel, key, data, hears in rows:
            asked += 1
            commands.append(
                command(key, channel=channel, data=data, request=asked, hears=hears)
            )
        committed = await settle(log, delivery(*commands, tag=tag))
        answered += [o.request for o in outcomes(committed)]
        for event in committed.announcement.events:
            told.setdefault(event.channel, []).extend(event.entries)
            answered += [e.request for e in event.entries if e.request]

    assert sorted(answered) == list(range(1, asked + 1))
    for listed in told.values():
        assert [entry.offset for entry in listed] == list(range(1, len(listed) + 1))
        assert len({entry.id for entry in listed}) == len(listed)


def test_author_and_payload_make_the_digest() -> None:
    """Nothing can move from one to the other and stay the same."""
    assert digest_of("a", b"bc") != digest_of("ab", b"c")
    assert digest_of("a", b"b") == digest_of("a", b"b")


def test_an_ordinary_command_is_not_refused() -> None:
    """Binary payloads and empty authors included."""
    assert refuse(command(data=b"\xff\0", user="")) is None
    assert refuse(command(data=b"[" * 64 + b"]" * 64)) is None
    assert refuse(command(data=b"\xff" + b"[{" * 1000)) is None


# -- Fences ---------------------------------------------------------------------------


def test_who_was_replaced_is_told_so() -> None:
    """With an error of its own, and nothing is announced."""
    late = PublishCommand("a", "1", b"x", request=1, fence="run", fence_epoch=1)
    batch = Batch.of([delivery(late)])

    committed = batch.settle([Placed(0, 0, "", None, kept=False)])

    ((outcome,),) = committed.announcement.outcomes.values()
    assert outcome.error_code == errors.SUPERSEDED.code
    assert committed.announcement.events == []
    assert (committed.fresh, committed.refused) == (0, 1)


def test_of_two_with_one_id_in_a_batch_the_newer_author_has_the_row() -> None:
    """Whoever was replaced is refused, and does not take the other one down."""
    older = PublishCommand("a", "1", b"old", request=1, fence="run", fence_epoch=1)
    newer = PublishCommand("a", "1", b"new", request=2, fence="run", fence_epoch=2)
    batch = Batch.of([delivery(older, newer)])
    assert batch.columns.payloads == [b"new"]
    assert batch.columns.fences == {0: Fence("run", 2)}

    committed = batch.settle([Placed(1, 5, "e", None)])

    (told,) = committed.announcement.outcomes.values()
    assert [(one.request, one.error_code) for one in told] == [
        (1, errors.CONFLICT.code),
        (2, 0),
    ]
    ((entry,),) = (event.entries for event in committed.announcement.events)
    assert entry.data == b"new"
