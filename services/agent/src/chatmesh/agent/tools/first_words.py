"""Waits, in the first moment of a link, for workers to say what they serve.

Registrations are heard, not stored, so a process that has just come up knows of no tool
although they are all there. Whoever asks for offers then waits a moment instead of telling
a model that there are none.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from chatmesh.agent.tools.port import ToolOffer
from chatmesh.agent.tools.registry import chosen
from chatmesh.runtime.clock import Clock

WITHIN_S: Final = 1.0
"""After a link has come up: by then every living worker has answered to `discover`."""
QUIET_S: Final = 0.1
"""Where a pattern is asked for, nobody knows how much belongs to it: all is heard when
nothing more has come for so long."""
_REST: Final = "*"


class FirstWords:
    """What one process has to wait for before it may say what is served."""

    def __init__(self, clock: Clock, within_s: float = WITHIN_S) -> None:
        self._clock = clock
        self._within_s = within_s
        self._until_s: float | None = None
        self._heard_s = 0.0
        self._news = asyncio.Event()

    def linked(self) -> None:
        """A link is up, and workers were asked to register. Only the first one counts.

        After a later one what was known before is still known, for the length of a lease.
        """
        if self._until_s is None:
            self._until_s = self._clock.monotonic_s() + self._within_s
            self._wake()

    def heard(self) -> None:
        """A worker has registered."""
        self._heard_s = self._clock.monotonic_s()
        self._wake()

    async def wait(
        self, names: Sequence[str], offers: Callable[[], list[ToolOffer]]
    ) -> list[ToolOffer]:
        """What `offers` gives, once each of `names` is among it or it is too late to wait.

        Without any link that takes `within_s` at most, counted from this call.
        """
        unlinked_s = self._clock.monotonic_s() + self._within_s
        while True:
            news = self._news
            found = offers()
            until_s = unlinked_s if self._until_s is None else self._until_s
            if _complete(names, found):
                until_s = min(until_s, self._quiet_s(names))
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return found
            try:
                async with asyncio.timeout(left_s):
                    await news.wait()
            except TimeoutError:
                continue  # The next look is the last, unless there is news.

    def _quiet_s(self, names: Sequence[str]) -> float:
        """When what has been found so far is taken for everything."""
        if any(name.endswith(_REST) for name in names):
            return self._heard_s + QUIET_S
        return 0.0

    def _wake(self) -> None:
        # Whoever waits has this event in hand; who comes later waits for the next.
        self._news.set()
        self._news = asyncio.Event()


def _complete(names: Sequence[str], found: Sequence[ToolOffer]) -> bool:
    return all(any(chosen(offer.name, (name,)) for offer in found) for name in names)
