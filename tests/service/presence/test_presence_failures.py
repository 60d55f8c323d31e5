"""Presence while parts die: nobody forgotten, nobody announced twice, no storm."""

import asyncio
import itertools
from contextlib import AsyncExitStack

import asyncpg
import pytest

from chatmesh.local.instances import Instances
from chatmesh.local.service import Service
from chatmesh.wire import limits
from chatmesh.wire.presence import Joined, Left
from chatmesh.wire.topics import partition_of
from support.eventually import eventually
from support.history_side import metric
from support.instances import Corner
from support.presence_side import ReporterSide
from support.replicas import Replicas

pytestmark = pytest.mark.timeout(120)

HASTY = {"CHATMESH_PRESENCE_LEASE_S": "1.5", "CHATMESH_PRESENCE_TICK_S": "0.3"}
"""For tests in which replicas die for other reasons than to measure the takeover."""
SHORT = {
    "CHATMESH_PRESENCE_PROCESS_LEASE_S": "6",
    "CHATMESH_PRESENCE_GRACE_S": "2",
    "CHATMESH_PRESENCE_SETTLE_S": "2",
}
EXACT = {"CHATMESH_PRESENCE_GRACE_S": "0", "CHATMESH_PRESENCE_PROCESS_LEASE_S": "6"}
LONG = {"CHATMESH_PRESENCE_GRACE_S": "60"}


def room_of(partition: int) -> str:
    """A room whose reports go through this partition."""
    names = (f"room:r{number}" for number in range(10_000))
    return next(name for name in names if partition_of(name) == partition)


EVERYWHERE = [room_of(partition) for partition in range(limits.PARTITIONS)]


async def test_users_of_a_killed_gateway_leave_once(
    replicas: Replicas, side: ReporterSide, other: ReporterSide
) -> None:
    """After lease and grace; who comes back on another gateway before never left."""
    await replicas.start(SHORT)
    await other.tell(
        Joined("room:0", "a1", "ada"),
        Joined("room:0", "b1", "bob"),
        Joined("room:0", "x1"),
    )
    joined = ["join ada/a1", "join bob/b1", "join /x1"]
    await side.hears("room:0", *joined)
    other.fall_silent()

    # The lease ran out when the anonymous connection leaves, for it has no grace.
    await side.hears("room:0", *joined, "leave /x1", within_s=20)
    await side.join("room:0", "a2", "ada")

    await side.hears("room:0", *joined, "leave /x1", "leave bob/b1", within_s=10)
    assert await side.clients("room:0") == ["a2"]


async def test_without_a_grace_a_killed_gateway_is_a_leave_per_connection(
    replicas: Replicas, side: ReporterSide, other: ReporterSide
) -> None:
    """The protocol's exact behaviour, when the lease has run out."""
    await replicas.start(EXACT)
    await other.tell(Joined("room:0", "a1", "ada"), Joined("room:0", "a2", "ada"))
    await side.hears("room:0", "join ada/a1", "join ada/a2")
    other.fall_silent()

    await side.hears(
        "room:0",
        "join ada/a1",
        "join ada/a2",
        "leave ada/a1",
        "leave ada/a2",
        within_s=20,
    )


async def test_a_gateway_that_was_only_slow_flickers_nobody(
    replicas: Replicas, side: ReporterSide, other: ReporterSide
) -> None:
    """Believed dead, it is asked for a snapshot as soon as it is heard again."""
    await replicas.start({**SHORT, "CHATMESH_PRESENCE_GRACE_S": "30"})
    await other.join("room:0", "a1", "ada")
    await side.hears("room:0", "join ada/a1")
    other.fall_silent()
    await eventually(lambda: _is_lost(side), within_s=20)
    other.speak_again()

    await eventually(lambda: other.resyncs, within_s=10)
    await eventually(lambda: _is_here(side), within_s=10)
    assert side.news("room:0") == ["join ada/a1"]


async def _is_lost(side: ReporterSide) -> bool:
    return [member.lost for member in await side.members("room:0")] == [True]


async def _is_here(side: ReporterSide) -> bool:
    return [member.lost for member in await side.members("room:0")] == [False]


async def test_a_rolling_restart_of_gateways_is_no_news(
    replicas: Replicas, side: ReporterSide, corner: Corner
) -> None:
    """Three gateways go one after the other, and all their users move: silence."""
    await replicas.start({"CHATMESH_PRESENCE_LARGE_ABOVE": "1000"})
    users = [f"u{n}" for n in range(100)]
    async with AsyncExitStack() as stack:

        async def gateway(name: str) -> ReporterSide:
            opened = ReporterSide.open(corner.url, corner.prefix, name)
            return await stack.enter_async_context(opened)

        now = await gateway("old0")
        await now.tell(*(Joined("room:0", f"{u}@old0", u) for u in users))
        await eventually(lambda: len(side.news("room:0")) == len(users), within_s=15)
        for number in (1, 2, 3):
            after = await gateway(f"new{number}")
            # Told by whom they left and by whom they came to, in any order.
            async with asyncio.TaskGroup() as group:
                group.create_task(_leave_all(now, users))
                group.create_task(
                    after.tell(
                        *(Joined("room:0", f"{u}@{after.origin}", u) for u in users)
                    )
                )
            now.fall_silent()
            now = after
        await eventually(lambda: _counts_are(side, len(users), len(users)), within_s=15)

    assert len(side.news("room:0")) == len(users)


async def _leave_all(gateway: ReporterSide, users: list[str]) -> None:
    await gateway.tell(*(Left("room:0", f"{u}@{gateway.origin}") for u in users))
    await gateway.renew(ended=True)


async def _counts_are(side: ReporterSide, clients: int, users: int) -> bool:
    counts = await side.counts("room:0")
    return (counts.num_clients, counts.num_users) == (clients, users)


async def test_dying_at_any_point_is_harmless(
    replicas: Replicas, side: ReporterSide
) -> None:
    """Killed between any two steps, one replica after the other: all is shown once."""
    numbers = itertools.count()
    expected: list[str] = []
    staying: list[str] = []
    for label in ("received", "stored", "told", "acked"):
        crash = {"CHATMESH_CRASH_AT": f"presence.{label}:4"}
        doomed = await replicas.start({**HASTY, **LONG, **crash})
        while doomed.running:
            number = next(numbers)
            client, user = f"c{number:02}", f"u{number:02}"
            await side.join("room:0", client, user)
            expected.append(f"join {user}/{client}")
            if number % 2:
                await side.leave("room:0", client, clean=True)
                expected.append(f"leave {user}/{client}")
            else:
                staying.append(client)
            # One step at a time, or all of them may be one batch.
            await eventually(
                lambda: not doomed.running or side.news("room:0") == expected,  # noqa: B023
                within_s=15,
            )
    await replicas.start({**HASTY, **LONG})

    await side.hears("room:0", *expected, within_s=20)
    assert await side.clients("room:0") == staying


async def test_a_killed_presence_forgets_nothing(
    replicas: Replicas, side: ReporterSide
) -> None:
    """Who is here, who is lost, who came back meanwhile: as if nothing had been."""
    first = await replicas.start({**HASTY, **SHORT})
    await side.tell(
        Joined("room:0", "a1", "ada"),
        Joined("room:0", "b1", "bob"),
        Joined("room:0", "c1", "cem"),
    )
    joined = ["join ada/a1", "join bob/b1", "join cem/c1"]
    await side.hears("room:0", *joined)
    first.kill()
    await side.leave("room:0", "a1")
    await side.leave("room:0", "b1")
    await side.join("room:0", "a2", "ada")
    await replicas.start({**HASTY, **SHORT})

    await side.hears("room:0", *joined, "leave bob/b1", within_s=20)
    assert await side.clients("room:0") == ["a2", "c1"]
    assert side.resyncs == []


async def test_replicas_share_the_work_and_replace_each_other(
    replicas: Replicas, side: ReporterSide
) -> None:
    """Every partition is served; after a kill all are again, within ten seconds."""
    await side.hear(*EVERYWHERE)
    first = await replicas.start()
    second = await replicas.start()
    await eventually(lambda: _holds(first, 8), within_s=15)
    await eventually(lambda: _holds(second, 8), within_s=15)
    await side.tell(*(Joined(room, "a1", "ada") for room in EVERYWHERE))
    for room in EVERYWHERE:
        await side.hears(room, "join ada/a1")

    first.kill()
    loop = asyncio.get_running_loop()
    killed_at = loop.time()
    await side.tell(*(Joined(room, "b1", "bob") for room in EVERYWHERE))
    for room in EVERYWHERE:
        await side.hears(room, "join ada/a1", "join bob/b1", within_s=20)

    assert loop.time() - killed_at < 10
    assert await _holds(second, 16)


async def _holds(service: Service, partitions: int) -> bool:
    return await metric(service, "chatmesh_presence_partitions") == partitions


async def test_a_frozen_replica_is_replaced_and_does_no_harm_when_it_wakes(
    replicas: Replicas, side: ReporterSide
) -> None:
    """Its partitions are taken over; what it still meant to store is not stored."""
    await side.hear(*EVERYWHERE)
    first = await replicas.start({**HASTY, **LONG})
    await side.tell(*(Joined(room, "a1", "ada") for room in EVERYWHERE))
    for room in EVERYWHERE:
        await side.hears(room, "join ada/a1")
    first.pause()
    try:
        await replicas.start({**HASTY, **LONG, "CHATMESH_PRESENCE_HEARTBEAT_S": "5"})
    finally:
        first.resume()
    await side.tell(*(Joined(room, "b1", "bob") for room in EVERYWHERE))

    for room in EVERYWHERE:
        await side.hears(room, "join ada/a1", "join bob/b1", within_s=30)
        assert await side.clients(room) == ["a1", "b1"]


async def test_a_database_that_is_away_delays_and_loses_nothing(
    replicas: Replicas, side: ReporterSide, instances: Instances, database_url: str
) -> None:
    """Reports wait; requests are answered with a temporary error meanwhile."""
    await replicas.start({"CHATMESH_PRESENCE_READ_TIMEOUT_S": "1"})
    await side.join("room:0", "a1", "ada")
    await side.hears("room:0", "join ada/a1")
    name = database_url.rpartition("/")[2]
    admin = await asyncpg.connect(instances.database_url)
    try:
        await admin.execute(f'alter database "{name}" allow_connections false')
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            name,
        )
        await side.join("room:0", "b1", "bob")
        refused = await side.counts("room:0")
        assert refused.error_code == 100
        assert side.news("room:0") == ["join ada/a1"]
    finally:
        await admin.execute(f'alter database "{name}" allow_connections true')
        await admin.close()

    await side.hears("room:0", "join ada/a1", "join bob/b1", within_s=20)


async def test_a_database_that_lost_everything_is_told_anew(
    replicas: Replicas, side: ReporterSide, database_url: str
) -> None:
    """Gateways are asked for snapshots as soon as their numbers do not fit."""
    first = await replicas.start({**HASTY, **LONG})
    await side.tell(Joined("room:0", "a1", "ada"), Joined("room:1", "b1", "bob"))
    await side.hears("room:0", "join ada/a1")
    await side.hears("room:1", "join bob/b1")
    await first.stop()
    admin = await asyncpg.connect(database_url)
    await admin.execute(
        "truncate presence_connections, presence_faces, presence_channels,"
        " presence_sequences, presence_news"
    )
    await admin.close()
    await replicas.start({**HASTY, **LONG})

    await eventually(lambda: side.resyncs, within_s=15)
    await eventually(lambda: _counts_are(side, 1, 1), within_s=15)
    assert await side.clients("room:1") == ["b1"]


async def test_a_large_room_hears_counts_once_a_second(
    replicas: Replicas, side: ReporterSide
) -> None:
    """However many come, the room hears numbers, now and then."""
    await replicas.start({"CHATMESH_PRESENCE_LARGE_ABOVE": "20"})
    loop = asyncio.get_running_loop()
    started = loop.time()
    for number in range(300):
        await side.join("room:0", f"c{number}", f"u{number}")
    await eventually(
        lambda: side.news("room:0")[-1:] == ["300 clients, 300 users"], within_s=15
    )
    seconds = loop.time() - started

    joins = [news for news in side.news("room:0") if news.startswith("join")]
    counts = [news for news in side.news("room:0") if "clients" in news]
    assert len(joins) == 20
    assert len(counts) <= seconds + 2


async def test_a_stopped_presence_leaves_its_work_to_the_others_at_once(
    replicas: Replicas, side: ReporterSide
) -> None:
    """A rolling restart of presence is no news either, and repeats nothing."""
    first = await replicas.start(LONG)
    await side.join("room:0", "a1", "ada")
    await side.hears("room:0", "join ada/a1")
    second = replicas.make(LONG)
    await second.start()
    await first.stop()
    await side.join("room:0", "b1", "bob")

    await side.hears("room:0", "join ada/a1", "join bob/b1", within_s=6)
    assert side.repeats == 0
