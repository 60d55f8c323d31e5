"""Keeps what the namespaces say, no more, in steps too small to be noticed."""

import logging
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from chatmesh.history.metrics import Metrics
from chatmesh.history.ports import LogRefused, LogUnavailable, Retention
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import heed_cancellation
from chatmesh.wire.namespaces import NamespaceOptions

_log = logging.getLogger(__name__)

CHANNELS_PER_STEP: Final = 1000
_BREATH_S: Final = 0.02
"""Between two steps: commits go first."""


class Rule(NamedTuple):
    """What a namespace keeps of each channel; 0 sets no bound."""

    namespace: str
    size: int
    age_s: int


def rules(namespaces: Mapping[str, NamespaceOptions]) -> list[Rule]:
    """The namespaces that do not keep everything for ever."""
    return [
        Rule(name, options.history_size, options.history_age_s)
        for name, options in sorted(namespaces.items())
        if options.history_size or options.history_age_s
    ]


class Retainer:
    """Goes round all channels, again and again, while it is this replica's turn."""

    def __init__(
        self,
        retention: Retention,
        rules: list[Rule],
        *,
        my_turn: Callable[[], bool],
        clock: Clock,
        metrics: Metrics,
        every_s: float,
        step: int,
    ) -> None:
        self._retention = retention
        self._rules = rules
        self._my_turn = my_turn
        self._clock = clock
        self._metrics = metrics
        self._every_s = every_s
        self._step = step

    async def run(self) -> None:
        """Retain for ever; returns at once when everything is kept for ever."""
        while self._rules:
            heed_cancellation()
            await self._clock.sleep(self._every_s)
            try:
                await self.go_round()
            except (LogUnavailable, LogRefused) as error:
                # Nothing is lost by being late.
                _log.warning("retention interrupted", extra={"cause": str(error)})

    async def go_round(self) -> None:
        """Visit every channel once, staying with those that have much to give.

        Raises LogUnavailable and LogRefused.
        """
        after: str | None = ""
        while after is not None and self._my_turn():
            heed_cancellation()
            emptied, last = await self._retention.retain(
                self._rules, after, channels=CHANNELS_PER_STEP, entries=self._step
            )
            self._metrics.emptied.inc(emptied)
            if not emptied:
                after = last
            await self._clock.sleep(_BREATH_S)
