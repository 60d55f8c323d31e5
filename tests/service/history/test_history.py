"""History as a process: what gateways rely on."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from chatmesh.local.service import Service
from chatmesh.wire import errors, messages, topics
from chatmesh.wire.messages import CommandBatch, PublishCommand, Read
from support.eventually import eventually
from support.history_side import GatewaySide, history_service, metric, readiness
from support.instances import Corner
from support.replicas import Replicas, replicas_of

pytestmark = pytest.mark.timeout(150)

HASTY = {"CHATMESH_HISTORY_LEASE_S": "1.5", "CHATMESH_HISTORY_TICK_S": "0.3"}
"""For tests in which replicas die for other reasons than to measure the takeover."""

CHANNELS = tuple(f"room:{n}" for n in range(12))


@pytest.fixture
async def replicas(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Replicas]:
    async with replicas_of(
        history_service, "history", corner, database_url, tmp_path
    ) as made:
        yield made


@pytest.fixture
async def side(corner: Corner) -> AsyncIterator[GatewaySide]:
    async with GatewaySide.open(corner.url, corner.prefix) as opened:
        await opened.hear(*CHANNELS)
        yield opened


async def test_a_message_is_committed_told_and_answered(
    replicas: Replicas, side: GatewaySide
) -> None:
    """Everyone bound to the channel hears it; the asker gets its place."""
    await replicas.start()

    (outcome,) = await side.post(("room:0", "id", "hello"))
    page = await side.read(Read(1, "room:0", 0, 10))

    (entry,) = await eventually(lambda: side.heard("room:0"))
    assert (outcome.offset, outcome.epoch) == (1, page.epoch)
    assert (entry.offset, entry.id, entry.data) == (1, "id", b"hello")
    assert page.entries == [entry]
    assert (await side.heads(2, "room:0", "room:1")).heads == [
        (page.epoch, 1),
        (page.epoch, 0),
    ]


async def test_an_id_is_one_message_for_ever(
    replicas: Replicas, side: GatewaySide
) -> None:
    """Same body: same answer, after a restart too. Other body or author: a conflict."""
    first = await replicas.start()
    (posted,) = await side.post(("room:0", "id", "hello"))
    await first.stop()
    await replicas.start()

    again, other = await side.post(("room:0", "id", "hello"), ("room:0", "id", "else"))
    (stranger,) = await side.answers(
        await side.send(("room:0", "id", "hello"), user="eve")
    )

    assert (again.offset, again.at_ms) == (posted.offset, posted.at_ms)
    assert other.error_code == stranger.error_code == errors.CONFLICT.code
    assert len(side.heard("room:0")) == 1


async def test_order_of_sending_is_order_of_offsets(
    replicas: Replicas, side: GatewaySide
) -> None:
    """Thousands of messages over many channels, each channel in the order sent."""
    await replicas.start()
    rows = [(channel, f"{n}", f"{n}") for n in range(200) for channel in CHANNELS]

    numbers: list[int] = []
    for at in range(0, len(rows), 100):
        numbers += await side.send(*rows[at : at + 100])
    outcomes = await side.answers(numbers, within_s=30)

    assert not any(outcome.error_code for outcome in outcomes)
    await eventually(lambda: all(len(side.heard(c)) == 200 for c in CHANNELS))
    for channel in CHANNELS:
        heard = side.heard(channel)
        assert [entry.offset for entry in heard] == list(range(1, 201))
        assert [entry.id for entry in heard] == [str(n) for n in range(200)]


@pytest.mark.parametrize(
    "label",
    [
        "history.received",
        "history.committed",
        "history.published",
        "history.replied",
        "history.acked",
    ],
)
async def test_dying_at_any_point_is_harmless(
    replicas: Replicas, side: GatewaySide, label: str
) -> None:
    """Killed between any two steps: nothing lost, nothing twice, everyone answered."""
    doomed = await replicas.start({**HASTY, "CHATMESH_CRASH_AT": f"{label}:4"})
    rows = [("room:0", str(n), str(n)) for n in range(40)]

    numbers: list[int] = []
    for n, row in enumerate(rows):
        numbers += await side.send(row)
        if n < 3:
            # One batch each, so that it dies with the fourth.
            await side.answers(numbers)
    await eventually(lambda: not doomed.running, within_s=15, reason="it dies")
    await replicas.start(HASTY)
    outcomes = await side.answers(numbers, within_s=30)

    assert [outcome.offset for outcome in outcomes] == list(range(1, 41))
    await eventually(lambda: len(side.heard("room:0")) == 40)
    assert [entry.id for entry in side.heard("room:0")] == [key for _, key, _ in rows]


async def test_malformed_messages_are_buried_and_hold_nobody_up(
    replicas: Replicas, side: GatewaySide, corner: Corner
) -> None:
    """The letter says why it died and where it came from."""
    service = await replicas.start()
    key = topics.partition_key(topics.partition_of("room:0"))
    await side.publish(side.topics.commands, key, b"not msgpack")
    await side.publish(side.topics.rpc, topics.HISTORY_SERVICE, b"\x01")

    (outcome,) = await side.post(("room:0", "id", "hello"))

    assert outcome.offset == 1
    name = 'chatmesh_history_dead_letters_total{cause="malformed"}'
    assert await metric(service, name) == 2.0
    del corner


async def test_the_culprit_dies_and_its_neighbours_live(
    replicas: Replicas, side: GatewaySide
) -> None:
    """A command that kills its process is buried after its tries; the rest goes on."""
    batch = CommandBatch(
        "side",
        side.queue,
        [
            PublishCommand("room:0", key, key.encode(), request=n)
            for n, key in enumerate(("before", "killer", "after"), start=901)
        ],
    )
    touchy = {
        **HASTY,
        "CHATMESH_HISTORY_SUSPECT_DELIVERIES": "2",
        "CHATMESH_HISTORY_ATTEMPTS_MAX": "2",
    }
    service = await replicas.start({**touchy, "CHATMESH_CRASH_AT": "history.received"})
    key = topics.partition_key(topics.partition_of("room:0"))
    await side.publish(side.topics.commands, key, messages.encode(batch))
    # Two deaths among others, one when it is tried alone, and then two at the second of
    # its commands.
    for crash_at in (
        "history.received",
        "history.attempt",
        *["history.attempt:2"] * 2,
        "",
    ):
        await service.process.wait()
        service = replicas.make({**touchy, "CHATMESH_CRASH_AT": crash_at})
        service.launch()

    before, killer, after = await side.answers([901, 902, 903], within_s=30)

    assert (before.offset, after.offset) == (1, 2)
    assert killer.error_code == errors.INTERNAL.code
    assert not killer.error_temporary
    assert [entry.id for entry in side.heard("room:0")] == ["before", "after"]


async def test_two_replicas_share_and_a_killed_one_is_replaced(
    replicas: Replicas, side: GatewaySide
) -> None:
    """Eight partitions each; within ten seconds of a kill all sixteen are served."""
    one = await replicas.start()
    two = await replicas.start()

    async def held(service: Service) -> float:
        return await metric(service, "chatmesh_history_partitions")

    async def fair() -> bool:
        return await held(one) == 8 and await held(two) == 8

    await eventually(fair, within_s=10)
    two.process.kill()
    numbers = await side.send(*((c, "after the kill", "x") for c in CHANNELS))
    outcomes = await side.answers(numbers, within_s=10)

    assert [outcome.offset for outcome in outcomes] == [1] * len(CHANNELS)


async def test_order_is_kept_while_partitions_move(
    replicas: Replicas, side: GatewaySide
) -> None:
    """Replicas come and go under load: no gap, no repeat, no swap."""
    first = await replicas.start()
    numbers: list[int] = []

    async def send(start: int, stop: int) -> None:
        for n in range(start, stop):
            numbers.extend(await side.send(*((c, str(n), "x") for c in CHANNELS)))

    await send(0, 40)
    second = replicas.make()
    second.launch()
    await send(40, 160)
    await second.until_ready()
    await send(160, 240)
    await first.stop()
    await send(240, 320)
    outcomes = await side.answers(numbers, within_s=30)

    assert not any(outcome.error_code for outcome in outcomes)
    await eventually(lambda: all(len(side.heard(c)) == 320 for c in CHANNELS))
    for channel in CHANNELS:
        heard = side.heard(channel)
        assert [entry.offset for entry in heard] == list(range(1, 321))
        assert [entry.id for entry in heard] == [str(n) for n in range(320)]


async def test_a_refused_announcement_is_made_again(
    replicas: Replicas, side: GatewaySide
) -> None:
    """A queue that takes no more (or died with its node) stops nobody for long."""
    await replicas.start(HASTY)
    await side.hear(CHANNELS[0])
    full = await side.full_queue(CHANNELS[0])
    # More batches than may wait for their confirms at a time.
    rows = [(CHANNELS[0], str(number), f'"{number}"') for number in range(24)]
    numbers = [number for row in rows for number in await side.send(row)]
    await eventually(lambda: len(side.events) > 0, within_s=30.0)
    await side.delete_queue(full)

    outcomes = await side.answers(numbers, within_s=60.0)

    assert [outcome.offset for outcome in outcomes] == list(range(1, 25))


async def test_a_clean_stop_hands_over_at_once(
    replicas: Replicas, side: GatewaySide
) -> None:
    """Nobody waits for a lease to run out."""
    await replicas.start({"CHATMESH_HISTORY_LEASE_S": "60"})
    two = await replicas.start({"CHATMESH_HISTORY_LEASE_S": "60"})
    await two.stop()

    assert two.process.exit_code == 0
    outcomes = await side.answers(
        await side.send(*((c, "x", "x") for c in CHANNELS)), within_s=5
    )
    assert len(outcomes) == len(CHANNELS)


async def test_reads_fail_in_time_while_the_database_refuses(
    replicas: Replicas, side: GatewaySide, database_url: str
) -> None:
    """A temporary error instead of silence; commands wait and are done afterwards."""
    service = await replicas.start()
    await side.post(("room:0", "1", "x"))
    admin = await asyncpg.connect(database_url)
    try:
        async with admin.transaction():
            await admin.execute("lock table channels in access exclusive mode")
            page = await side.read(Read(1, "room:0", 0, 10))
            waiting = await side.send(("room:0", "2", "x"))
            assert page.error_code == errors.INTERNAL.code
    finally:
        await admin.close()

    (outcome,) = await side.answers(waiting)
    assert outcome.offset == 2
    assert (await readiness(service))["ready"]


async def test_retention_is_carried_out(replicas: Replicas, side: GatewaySide) -> None:
    """The namespace keeps two; the rest goes, and the id stays taken."""
    await replicas.start(
        {
            "CHATMESH_NAMESPACES": '{"room": {"history_size": 2}}',
            "CHATMESH_HISTORY_RETENTION_EVERY_S": "0.2",
        }
    )
    await side.post(*(("room:0", str(n), "x") for n in range(10)))

    async def trimmed() -> bool:
        page = await side.read(Read(1, "room:0", 0, 10))
        return page.floor == 8 and [e.offset for e in page.entries] == [9, 10]

    await eventually(trimmed)
    (again,) = await side.post(("room:0", "0", "x"))
    assert again.offset == 1
