"""Keeps this replica's lease and brings it to its fair share of the partitions."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from chatmesh.runtime.assignment import Silence, View, moves
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.failures import sole
from chatmesh.runtime.health import DATABASE, Health
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.tasks import heed_cancellation

_log = logging.getLogger(__name__)

PARTITIONS: Final = "partitions"
"""Name of the health check that says whether this replica has its share."""
SILENT_TICKS: Final = 2.5
"""Who has not renewed for so many ticks is given nothing new."""
GIVE_WAY_S: Final = 1.0
"""Without a link for so long, the others do not wait for the rest of the lease."""
_LOOK_S: Final = 0.25


class LeasesUnavailable(Exception):
    """Nobody can say now who lives and who holds what."""


class Leases(Protocol):
    """Membership of the replicas and who may work on which partition, in one time."""

    async def renew(self) -> View:
        """Renew my lease (join, if I am new) and look. Raises LeasesUnavailable."""
        ...

    async def claim(self, partitions: Sequence[int]) -> list[int]:
        """Take what is free or held by the dead; say what I got. Raises LeasesUnavailable."""
        ...

    async def release(self, partitions: Sequence[int]) -> None:
        """Give back what I hold and no longer use. Raises LeasesUnavailable."""
        ...

    async def lapse(self) -> None:
        """End my lease now and give nothing back: whoever wants it may take it.

        What nobody took is mine again when I renew. Raises LeasesUnavailable.
        """
        ...

    async def leave(self) -> None:
        """Give everything back and end my lease now. Raises LeasesUnavailable."""
        ...


class Consumption(Protocol):
    """The partitions this replica works on now."""

    @property
    def consuming(self) -> frozenset[int]: ...

    async def consume(self, partition: int) -> None:
        """Start. What it raises ends `Shares.keep`."""
        ...

    async def give_up(self, partition: int) -> None:
        """Stop, and return when all that had arrived is settled. As `consume`.

        Asked again, because it was interrupted, it waits again.
        """
        ...

    def lose(self, reason: str) -> None:
        """Somebody else holds what we work on: drop everything, and `keep` with it."""
        ...


class Shares:
    """The replica's side of the agreement who works on what.

    The lease is renewed only while there is something to work with, a healthy link: a
    replica that is cut off has to lose its partitions to the others. And what it works
    with is let go of when the lease could not be renewed in time: the broker would go
    on feeding the one that cannot commit, and nobody else.
    """

    def __init__(
        self,
        me: str,
        leases: Leases,
        *,
        clock: Clock,
        health: Health,
        lease_s: float,
        tick_s: float,
        seen: Callable[[int, float], None] = lambda _held, _age_s: None,
        took_over: Callable[[int], None] = lambda _partitions: None,
    ) -> None:
        """`seen` hears, each tick, how many partitions are held and the lease's age.

        `took_over` hears how many were taken from a replica that never gave them back.
        """
        self._me = me
        self._leases = leases
        self._clock = clock
        self._health = health
        self._lease_s = lease_s
        self._tick_s = tick_s
        self._seen = seen
        self._took_over = took_over
        self._silence = Silence(after_s=SILENT_TICKS * tick_s)
        self._renewed_s: float | None = None
        """When the last renewal that came through was asked for."""
        self._idle_since_s: float | None = None
        """Since when there is a lease and nothing to work with; None: it is not so."""
        self._turn = asyncio.Lock()

    async def keep(self, consumption: Consumption) -> None:
        """Tick until cancelled, or until the consumption is lost."""
        self._idle_since_s = None
        try:
            while not await self._looked(consumption):
                pass
        finally:
            now_s = self._clock.monotonic_s()
            self._idle_since_s = now_s
            self._health.set(PARTITIONS, ok=False, reason="nothing to work with")
            if self._renewed_s is not None:
                self._seen(0, now_s - self._renewed_s)

    async def give_way(self, stopping: Stopping) -> None:
        """End the lease whenever there is nothing to work with, until asked to stop.

        Without it the others would wait for a lease that was renewed until the moment
        somebody noticed that the link is dead.
        """
        while not stopping.requested:
            heed_cancellation()
            await self._clock.sleep(_LOOK_S)
            if not self._idle_too_long():
                continue
            try:
                async with self._turn:
                    # The next link may have come while this waited for its turn.
                    if self._idle_too_long():
                        self._idle_since_s = None
                        await self._leases.lapse()
            except LeasesUnavailable as error:
                # Then it runs out by itself.
                _log.warning("could not give way", extra={"cause": str(error)})

    def _idle_too_long(self) -> bool:
        since_s = self._idle_since_s
        return since_s is not None and self._clock.monotonic_s() - since_s >= GIVE_WAY_S

    async def leave(self) -> None:
        """Hand everything over now; the others see it at their next tick."""
        try:
            async with self._turn, asyncio.timeout(self._lease_s):
                await self._leases.leave()
        except (LeasesUnavailable, TimeoutError) as error:
            _log.warning("could not hand over", extra={"cause": str(error)})

    async def _looked(self, consumption: Consumption) -> bool:
        """Tick, and wait for the next one; says whether the consumption is lost."""
        started_s = self._clock.monotonic_s()
        try:
            async with self._turn:
                if await self._tick(consumption):
                    return True
        except LeasesUnavailable as error:
            self._health.set(DATABASE, ok=False, reason=str(error))
            _log.warning("lease not renewed", extra={"cause": str(error)})
        now_s = self._clock.monotonic_s()
        if self._renewed_s is not None:
            self._seen(len(consumption.consuming), now_s - self._renewed_s)
        pause_s = max(0.0, self._tick_s - (now_s - started_s))
        left_s = self._lease_left_s(consumption)
        if left_s is not None and left_s <= 0:
            consumption.lose("the lease could not be renewed in time")
            return True
        heed_cancellation()
        await self._clock.sleep(pause_s if left_s is None else min(pause_s, left_s))
        return False

    def _lease_left_s(self, consumption: Consumption) -> float | None:
        """Until the others may take over; None when there is nothing to take."""
        if self._renewed_s is None or not consumption.consuming:
            return None
        return self._renewed_s + self._lease_s - self._clock.monotonic_s()

    async def _renew(self, consumption: Consumption) -> View:
        """Renew, and look. Raises LeasesUnavailable when the lease is over before."""
        asked_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self._lease_left_s(consumption)):
                view = await self._leases.renew()
        except TimeoutError as error:
            raise LeasesUnavailable("no answer in the time of the lease") from error
        self._renewed_s = asked_s
        self._health.set(DATABASE, ok=True)
        return view

    async def _hand_over(
        self, consumption: Consumption, partitions: Sequence[int]
    ) -> None:
        """Settle and release; settling may take longer than a lease."""
        try:
            async with asyncio.TaskGroup() as group:
                settling = group.create_task(_give_up(consumption, partitions))
                while not settling.done():
                    await asyncio.wait({settling}, timeout=self._tick_s)
                    if not settling.done():
                        await self._renew(consumption)
        except BaseExceptionGroup as failures:
            raise sole(failures, LeasesUnavailable) from None
        await self._leases.release(partitions)
        _log.info("partitions handed over", extra={"partitions": partitions})

    async def _tick(self, consumption: Consumption) -> bool:
        """Come closer to the fair share; says whether the consumption is lost."""
        view = await self._renew(consumption)
        taken = sorted(
            partition
            for partition in consumption.consuming
            if view.owners.get(partition) != self._me
        )
        if taken:
            # Somebody took us for dead. Cancelling would let the new holder start
            # while our last work is still going on; losing the link gives it back.
            consumption.lose(
                f"partitions {taken} were taken over while this one lapsed"
            )
            return True
        silent = self._silence.look(view, self._clock.monotonic_s())
        release, claim = moves(self._me, view, consumption.consuming, silent)
        if release:
            await self._hand_over(consumption, release)
        got = await self._leases.claim(claim) if claim else []
        for partition in got:
            await consumption.consume(partition)
        if got:
            _log.info("partitions taken", extra={"partitions": got})
            self._took_over(
                sum(view.owners.get(one) not in {None, self._me} for one in got)
            )
        missing = sorted(set(claim) - set(got))
        self._health.set(
            PARTITIONS,
            ok=not missing,
            reason=f"waiting for partitions {missing}" if missing else "",
        )
        return False


async def _give_up(consumption: Consumption, partitions: Sequence[int]) -> None:
    for partition in partitions:
        await consumption.give_up(partition)
