"""Ends the runs that nobody goes on with, so that no room waits for them for ever.

Replicas take over from each other. Where none is left, or none gets to it, a room would
see an answer that never ends: this is for a process of its own, which performs nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from chatmesh.agent.agents import AgentsFile
from chatmesh.agent.performance import Performance, Stage
from chatmesh.agent.ports import Claimed, RunBookUnavailable
from chatmesh.runtime.tasks import Tasks, heed_cancellation

_log = logging.getLogger(__name__)

RUNS_PER_STEP: Final = 50
_STOP_S: Final = 5.0


class Reaping:
    """However many do it: what one of them has in hand, the others leave alone."""

    def __init__(
        self,
        stage: Stage,
        agents: Callable[[], AgentsFile],
        *,
        after_s: float,
        lease_s: float,
        every_s: float,
        state: Callable[[str], None],
    ) -> None:
        """`state` hears, with each look, why the book cannot be used; empty: it can."""
        self._stage = stage
        self._agents = agents
        self._after_s = after_s
        self._lease_s = lease_s
        self._every_s = every_s
        self._state = state
        self._tasks = Tasks()

    async def run(self) -> None:
        """Look for ever, until cancelled."""
        try:
            while True:
                heed_cancellation()
                try:
                    # Without a link nobody could be told.
                    if self._stage.room.reachable:
                        await self.reap()
                    self._state("")
                except RunBookUnavailable as error:
                    self._state(str(error))
                    _log.warning("cannot look for runs", extra={"cause": str(error)})
                await self._stage.clock.sleep(self._every_s)
        finally:
            await self._tasks.stop(_STOP_S)

    async def reap(self) -> None:
        """End what there is to be ended now. Raises RunBookUnavailable."""
        asked_s = self._stage.clock.monotonic_s()
        found = await self._stage.book.reap(self._after_s, RUNS_PER_STEP)
        if found:
            _log.warning("nobody went on with runs", extra={"runs": len(found)})
            ends = [self._end(one, asked_s) for one in found]
            await asyncio.wait(
                {self._tasks.spawn(end, name="end a run") for end in ends}
            )

    async def _end(self, claimed: Claimed, asked_s: float) -> None:
        # Within one lease, or it is left to the next look.
        performance = Performance(
            claimed,
            self._agents().agents.get(claimed.agent),
            self._stage,
            lease_ends_s=asked_s + self._lease_s,
            abandoned=True,
        )
        await performance.perform()
