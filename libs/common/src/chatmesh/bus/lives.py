"""One broker link after the other, for as long as a process lives.

A link that fails is not repaired: its life ends, and after a pause the next one begins.
"""

import logging
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.health import BROKER
from chatmesh.runtime.replica import Replica
from chatmesh.runtime.service import Stopping

_log = logging.getLogger(__name__)

_RETRY_BASE_S: Final = 0.1
_RETRY_CAP_S: Final = 2.0
_STABLE_S: Final = 10.0
"""A link that lived so long was no failure to build one."""


class Life(Protocol):
    """A link, and everything that lives and dies with it."""

    async def run(self, stopping: Stopping) -> None:
        """Live until the link is lost or somebody asks to stop. Raises LinkLost."""
        ...


L = TypeVar("L", bound=Life)


class Lives(Generic[L]):
    """The lives of one process's link, at most one at a time."""

    def __init__(self, replica: Replica, new_life: Callable[[int], L]) -> None:
        """`new_life` gets the life's number, from 1."""
        self._replica = replica
        self._new_life = new_life
        self._now: L | None = None

    @property
    def now(self) -> L | None:
        """The one that is lived; None in between."""
        return self._now

    async def run(self, stopping: Stopping) -> None:
        """One life after the other, until asked to stop."""
        health, clock = self._replica.health, self._replica.clock
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, self._replica.chance)
        number = 0
        while not stopping.requested:
            number += 1
            started_s = clock.monotonic_s()
            self._now = self._new_life(number)
            try:
                await self._now.run(stopping)
            except LinkLost as lost:
                health.set(BROKER, ok=False, reason=str(lost))
                _log.warning("broker link lost", extra={"cause": str(lost)})
            finally:
                self._now = None
            if stopping.requested:
                break
            if clock.monotonic_s() - started_s > _STABLE_S:
                backoff.reset()
            await clock.sleep(backoff.next_s())
