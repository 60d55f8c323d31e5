"""Who may take whose partitions, by the clock of a real PostgreSQL."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chatmesh.postgres.database import Connection
from chatmesh.postgres.leases import PostgresLeases

LEASE_S = 60.0
"""So long that none runs out by itself while a test runs."""
COME_BACK_S = 30.0
ALL = range(16)


class Replicas:
    """Members of one service, whose past can be moved."""

    def __init__(self, url: str, admin: asyncpg.Connection) -> None:
        self._url = url
        self._admin = admin
        self._connections: list[Connection] = []

    def leases(self, name: str, lease_s: float = LEASE_S) -> PostgresLeases:
        connection = Connection(
            self._url, application="chatmesh-test", connect_s=5, statement_s=5
        )
        self._connections.append(connection)
        return PostgresLeases(connection, "history", name, lease_s=lease_s)

    async def join(self, name: str, lease_s: float = LEASE_S) -> PostgresLeases:
        leases = self.leases(name, lease_s)
        await leases.renew()
        return leases

    async def ended(self, name: str, ago_s: float) -> None:
        """Its lease ran out, and it has not come back."""
        await self._admin.execute(
            "update history_replicas "
            "set lease_until = now() - $2::float8 * interval '1 second' where id = $1",
            *(name, ago_s),
        )

    async def joined(self, name: str, ago_s: float) -> None:
        await self._admin.execute(
            "update history_replicas "
            "set joined_at = now() - $2::float8 * interval '1 second' where id = $1",
            *(name, ago_s),
        )

    async def renewed(self, name: str, ago_s: float) -> None:
        await self.ended(name, ago_s - LEASE_S)

    def close(self) -> None:
        for connection in self._connections:
            connection.drop()


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[Replicas]:
    admin = await asyncpg.connect(database_url)
    made = Replicas(database_url, admin)
    try:
        yield made
    finally:
        made.close()
        await admin.close()


async def test_what_is_free_goes_to_whoever_comes(replicas: Replicas) -> None:
    """Nobody is asked, and nobody can take it a second time."""
    first = await replicas.join("first")
    second = await replicas.join("second")
    assert await first.claim([0, 1]) == [0, 1]
    assert await second.claim([0, 1, 2]) == [2]


async def test_the_living_keep_what_they_hold(replicas: Replicas) -> None:
    """However long nobody has heard of them, until their lease is over."""
    holder = await replicas.join("holder")
    await holder.claim(ALL)
    await replicas.renewed("holder", ago_s=LEASE_S - 20)
    other = await replicas.join("other")
    await replicas.joined("other", ago_s=1000)
    # One with other settings: when it renewed is not to be told from its lease.
    await replicas.join("long", lease_s=10 * LEASE_S)
    await replicas.joined("long", ago_s=1000)
    assert await other.claim(ALL) == []


async def test_a_member_takes_what_the_dead_held(replicas: Replicas) -> None:
    """It was there when the lease ended, and the holder did not renew."""
    holder = await replicas.join("holder")
    await holder.claim(ALL)
    other = await replicas.join("other")
    await replicas.joined("other", ago_s=10)
    await replicas.ended("holder", ago_s=0.5)
    assert await other.claim(ALL) == list(ALL)


async def test_a_newcomer_takes_what_somebody_saw_the_dead_leave(
    replicas: Replicas,
) -> None:
    """A replica that started after the lease had ended need not wait for another one."""
    holder = await replicas.join("holder")
    await holder.claim(ALL)
    survivor = await replicas.join("survivor")
    await replicas.joined("survivor", ago_s=10)
    await replicas.ended("holder", ago_s=0.5)
    await survivor.renew()
    newcomer = await replicas.join("newcomer")
    assert await newcomer.claim(ALL) == list(ALL)


async def test_whoever_has_waited_has_waited_for_all(replicas: Replicas) -> None:
    """Where nobody saw the lease end, newcomers need not wait one after the other."""
    holder = await replicas.join("holder")
    await holder.claim(ALL)
    await replicas.ended("holder", ago_s=COME_BACK_S + 10)
    first = await replicas.join("first")
    newcomer = await replicas.join("newcomer")
    assert await newcomer.claim(ALL) == []
    await replicas.joined("first", ago_s=COME_BACK_S + 5)
    await first.renew()
    assert await newcomer.claim(ALL) == list(ALL)


async def test_a_witness_has_renewed_since(replicas: Replicas) -> None:
    """One whose lease only has not run out yet has not seen more than the holder."""
    holder = await replicas.join("holder")
    await holder.claim(ALL)
    await replicas.join("witness")
    await replicas.joined("witness", ago_s=50)
    await replicas.ended("holder", ago_s=2)
    await replicas.renewed("witness", ago_s=3)
    newcomer = await replicas.join("newcomer")
    assert await newcomer.claim(ALL) == []


async def test_after_the_database_was_away_holders_have_time_to_come_back(
    replicas: Replicas,
) -> None:
    """All leases ended unseen: the first one back does not take what the others held."""
    holder = await replicas.join("holder")
    await holder.claim([0, 1])
    first = await replicas.join("first")
    await first.claim([2, 3])
    await replicas.ended("holder", ago_s=200)
    await replicas.ended("first", ago_s=200)
    await first.renew()
    assert await first.claim(range(4)) == [2, 3], "its own, and nobody else's"
    await replicas.joined("first", ago_s=COME_BACK_S - 5)
    assert await first.claim(range(4)) == [2, 3]
    await replicas.joined("first", ago_s=COME_BACK_S + 5)
    assert await first.claim(range(4)) == [0, 1, 2, 3]


async def test_who_gave_way_is_dead_to_those_who_renew(replicas: Replicas) -> None:
    """A lease that was ended by its holder is taken at the next tick of a member."""
    holder = await replicas.join("holder")
    await holder.claim(ALL)
    other = await replicas.join("other")
    await replicas.joined("other", ago_s=10)
    await holder.lapse()
    await other.renew()
    assert await other.claim(ALL) == list(ALL)
    view = await holder.renew()
    assert set(view.owners.values()) == {"other"}
