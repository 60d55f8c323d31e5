"""Drops what ended runs read and wrote once it was kept for long enough, a little at a time."""

import logging
from typing import Final

from chatmesh.agent.metrics import Metrics
from chatmesh.agent.ports import RunBook, RunBookUnavailable
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import heed_cancellation

_log = logging.getLogger(__name__)

RUNS_PER_STEP: Final = 200
_BREATH_S: Final = 0.05
"""Between two steps: runs that are alive go first."""
_SECONDS_PER_DAY: Final = 24 * 3600


class Forgetting:
    """Every replica forgets; what one of them has in hand, the others leave alone."""

    def __init__(
        self,
        book: RunBook,
        *,
        clock: Clock,
        metrics: Metrics,
        kept_days: float,
        every_s: float,
    ) -> None:
        """`kept_days`: 0 keeps everything for ever."""
        self._book = book
        self._clock = clock
        self._metrics = metrics
        self._kept_s = kept_days * _SECONDS_PER_DAY
        self._every_s = every_s

    async def run(self) -> None:
        """Forget for ever; returns at once when everything is kept."""
        while self._kept_s:
            heed_cancellation()
            try:
                await self.forget()
            except RunBookUnavailable as error:
                # Nothing is lost by being late.
                _log.warning("journals not dropped", extra={"cause": str(error)})
            await self._clock.sleep(self._every_s)

    async def forget(self) -> None:
        """Drop all there is to be dropped now. Raises RunBookUnavailable."""
        dropped = RUNS_PER_STEP
        while dropped == RUNS_PER_STEP:
            dropped = await self._book.forget(self._kept_s, RUNS_PER_STEP)
            self._metrics.runs_forgotten.inc(dropped)
            await self._clock.sleep(_BREATH_S)
