"""A replica comes to its share, and lets go in the right order."""

import asyncio
from collections.abc import Callable, Sequence

from chatmesh.runtime.assignment import View
from chatmesh.runtime.clock import Clock, SystemClock
from chatmesh.runtime.health import Health
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.shares import LeasesUnavailable, Shares
from support.eventually import eventually
from support.history_doubles import QuickClock


class LeasesDouble:
    """Everybody's partitions in one dict, as one replica sees them."""

    def __init__(self, me: str, owners: dict[int, str | None]) -> None:
        self.me = me
        self.owners = owners
        self.replicas = [me]
        self.silent: set[str] = set()
        self.renewals = 0.0
        self.away = False
        self.stuck = False
        self.unclaimable: set[int] = set()
        self.said: list[tuple[str, list[int]]] = []

    async def renew(self) -> View:
        if self.stuck:
            await asyncio.Event().wait()
        if self.away:
            raise LeasesUnavailable("no database")
        self.renewals += 1
        ends = {r: 0.0 if r in self.silent else self.renewals for r in self.replicas}
        return View(ends, dict(self.owners))

    async def claim(self, partitions: Sequence[int]) -> list[int]:
        got = [p for p in partitions if p not in self.unclaimable]
        self.said.append(("claim", got))
        self.owners.update(dict.fromkeys(got, self.me))
        return got

    async def release(self, partitions: Sequence[int]) -> None:
        self.said.append(("release", list(partitions)))
        self.owners.update(dict.fromkeys(partitions))

    async def lapse(self) -> None:
        if self.away:
            raise LeasesUnavailable("no database")
        self.said.append(("lapse", []))

    async def leave(self) -> None:
        self.said.append(("leave", []))


class ConsumptionDouble:
    def __init__(self, leases: LeasesDouble) -> None:
        self.leases = leases
        self.held: set[int] = set()
        self.lost = ""
        self.settling = asyncio.Event()
        self.settling.set()

    @property
    def consuming(self) -> frozenset[int]:
        return frozenset(self.held)

    async def consume(self, partition: int) -> None:
        self.held.add(partition)

    async def give_up(self, partition: int) -> None:
        self.held.discard(partition)
        await self.settling.wait()
        self.leases.said.append(("settled", [partition]))

    def lose(self, reason: str) -> None:
        self.lost = reason


def shares(
    leases: LeasesDouble,
    *,
    lease_s: float = 6.0,
    tick_s: float = 1.0,
    clock: Clock | None = None,
    seen: Callable[[int, float], None] = lambda _held, _age_s: None,
) -> tuple[Shares, Health]:
    health = Health("database", "partitions")
    made = Shares(
        leases.me,
        leases,
        clock=clock or QuickClock(),
        health=health,
        lease_s=lease_s,
        tick_s=tick_s,
        seen=seen,
    )
    return made, health


async def tick(keeping: Shares, consumption: ConsumptionDouble) -> None:
    """Let it look once."""
    looked = asyncio.ensure_future(keeping.keep(consumption))
    for _ in range(20):
        await asyncio.sleep(0)
    looked.cancel()


async def test_alone_it_takes_everything() -> None:
    """And is ready once it consumes it."""
    leases = LeasesDouble("a", dict.fromkeys(range(4)))
    consumption = ConsumptionDouble(leases)
    keeping, health = shares(leases)

    await tick(keeping, consumption)

    assert consumption.held == {0, 1, 2, 3}
    assert health.ready


async def test_it_settles_before_it_hands_over() -> None:
    """A newcomer gets partitions only after the last of their commands is done."""
    leases = LeasesDouble("a", dict.fromkeys(range(4)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases)
    await tick(keeping, consumption)
    leases.replicas.append("b")
    leases.said.clear()

    await tick(keeping, consumption)

    assert leases.said == [("settled", [2]), ("settled", [3]), ("release", [2, 3])]
    assert consumption.held == {0, 1}


async def test_a_long_hand_over_does_not_cost_the_lease() -> None:
    """It is renewed meanwhile; else others would begin before the work is settled."""
    leases = LeasesDouble("a", dict.fromkeys(range(4)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases, tick_s=0.01, clock=SystemClock())
    await tick(keeping, consumption)
    leases.replicas.append("b")
    leases.said.clear()
    consumption.settling.clear()

    working = asyncio.ensure_future(keeping.keep(consumption))
    renewals = leases.renewals
    await eventually(lambda: leases.renewals > renewals + 3)
    assert leases.said == []
    consumption.settling.set()
    await eventually(lambda: ("release", [2, 3]) in leases.said)
    working.cancel()

    assert leases.said == [("settled", [2]), ("settled", [3]), ("release", [2, 3])]


async def test_a_hand_over_that_was_interrupted_is_begun_again() -> None:
    """What was not settled then is waited for before anything is released."""
    leases = LeasesDouble("a", dict.fromkeys(range(4)))
    consumption = ConsumptionDouble(leases)
    keeping, health = shares(leases, tick_s=0.01, clock=SystemClock())
    await tick(keeping, consumption)
    leases.replicas.append("b")
    leases.said.clear()
    consumption.settling.clear()

    working = asyncio.ensure_future(keeping.keep(consumption))
    await eventually(lambda: 2 not in consumption.held)
    leases.away = True
    await eventually(lambda: not health.ready)
    leases.away = False
    consumption.settling.set()
    await eventually(lambda: ("release", [2, 3]) in leases.said)
    working.cancel()

    assert leases.said == [("settled", [2]), ("settled", [3]), ("release", [2, 3])]


async def test_what_others_still_hold_is_waited_for() -> None:
    """Not ready, with the reason, until they let go."""
    leases = LeasesDouble("b", {0: "dead", 1: None})
    leases.unclaimable = {0}
    consumption = ConsumptionDouble(leases)
    keeping, health = shares(leases)

    await tick(keeping, consumption)
    assert consumption.held == {1}
    assert not health.ready

    leases.unclaimable = set()
    await tick(keeping, consumption)
    assert consumption.held == {0, 1}
    assert health.ready


async def test_a_replica_taken_for_dead_lets_go_of_its_link() -> None:
    """Everything it holds goes back to the broker; order is the new holder's affair."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases)
    await tick(keeping, consumption)
    leases.owners[1] = "b"

    await keeping.keep(consumption)

    assert "taken over" in consumption.lost


async def test_leaving_gives_everything_back() -> None:
    """The others need not wait for the lease to run out."""
    leases = LeasesDouble("a", {})
    keeping, _ = shares(leases)

    await keeping.leave()

    assert leases.said == [("leave", [])]


async def test_who_cannot_renew_lets_go_when_the_lease_is_over() -> None:
    """The broker would go on feeding the one replica that cannot commit."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    clock = QuickClock()
    keeping, health = shares(leases, clock=clock)
    await tick(keeping, consumption)
    leases.away = True
    away_since_s = clock.now_s

    await keeping.keep(consumption)

    assert "in time" in consumption.lost
    assert clock.now_s - away_since_s <= 6.0
    assert not health.ready


async def test_a_question_without_an_answer_does_not_outlast_the_lease() -> None:
    """A line to the database that is open and silent is no reason to hold on."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases, lease_s=0.05, clock=SystemClock())
    await tick(keeping, consumption)
    leases.stuck = True

    async with asyncio.timeout(20):
        await keeping.keep(consumption)

    assert "in time" in consumption.lost


async def test_who_holds_nothing_waits_for_the_database() -> None:
    """There is nothing to let go of, however long it takes."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    leases.away = True
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases)
    looked = asyncio.ensure_future(keeping.keep(consumption))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not looked.done()

    leases.away = False
    for _ in range(5):
        await asyncio.sleep(0)
    looked.cancel()

    assert consumption.held == {0, 1}
    assert consumption.lost == ""


async def test_a_lost_consumption_counts_as_none() -> None:
    """What is shown between two links is that nothing is worked on."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    held: list[int] = []
    keeping, health = shares(leases, seen=lambda count, _age_s: held.append(count))

    await tick(keeping, consumption)
    await asyncio.sleep(0)

    assert 2 in held
    assert held[-1] == 0
    assert not health.ready


async def gave_way(keeping: Shares, looks: int) -> None:
    stopping = Stopping()
    watching = asyncio.ensure_future(keeping.give_way(stopping))
    for _ in range(looks):
        await asyncio.sleep(0)
    stopping.request("enough")
    await watching


async def test_without_a_link_the_lease_is_given_up_once() -> None:
    """The others need not wait for the rest of it; what they leave stays its own."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases)
    await tick(keeping, consumption)
    await asyncio.sleep(0)
    leases.said.clear()

    await gave_way(keeping, looks=40)

    assert leases.said == [("lapse", [])]
    assert leases.owners == {0: "a", 1: "a"}


async def test_with_a_link_the_lease_is_kept() -> None:
    """Nor is one given up that there has never been."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases)
    await gave_way(keeping, looks=40)
    working = asyncio.ensure_future(keeping.keep(consumption))
    await asyncio.sleep(0)

    await gave_way(keeping, looks=40)
    working.cancel()

    assert ("lapse", []) not in leases.said


async def test_no_database_to_give_way_in_is_no_failure() -> None:
    """Then the lease runs out by itself."""
    leases = LeasesDouble("a", dict.fromkeys(range(2)))
    consumption = ConsumptionDouble(leases)
    keeping, _ = shares(leases)
    await tick(keeping, consumption)
    await asyncio.sleep(0)
    leases.away = True

    await gave_way(keeping, looks=40)

    assert ("lapse", []) not in leases.said
