"""Getting one message committed: the same id again and again until it is known.

A message whose answer was lost may or may not be in the room. Sent again with the same
id it cannot get in twice, so that is what happens until there is an answer or time is up.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock

RETRY_BASE_S: Final = 0.2
RETRY_CAP_S: Final = 5.0


class TryAgainError(Exception):
    """It may work later: no connection, no answer in time, a temporary refusal."""

    def __init__(self, reason: str, *, sent: bool = True) -> None:
        super().__init__(reason)
        self.sent = sent
        """It may have been heard, only the answer is missing."""


class RefusedError(Exception):
    """It will not work, however often it is tried; says why."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Draft:
    """A message on its way, with the id that makes repeating it harmless."""

    text: str
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """It is in the room, at this place."""

    offset: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It was given up."""

    reason: str
    unknown: bool
    """Nobody said no: it may be in the room all the same."""


Attempt = Callable[[Draft], Awaitable[Confirmed]]
"""Sends once. Raises TryAgainError or RefusedError."""


async def deliver(
    draft: Draft,
    attempt: Attempt,
    *,
    clock: Clock,
    give_up_s: float,
    chance: random.Random,
    retrying: Callable[[str], None],
) -> Confirmed | Failed:
    """Attempt until there is an answer, at most about `give_up_s` seconds.

    `retrying` hears the reason each time a message that may have arrived is repeated.
    """
    backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, chance)
    deadline_s = clock.monotonic_s() + give_up_s
    sent = False
    while True:
        try:
            return await attempt(draft)
        except RefusedError as error:
            return Failed(str(error), unknown=False)
        except TryAgainError as error:
            reason = str(error)
            sent = sent or error.sent
        pause_s = backoff.next_s()
        if clock.monotonic_s() + pause_s >= deadline_s:
            return Failed(f"{reason}; given up after {give_up_s:g} s", unknown=sent)
        if sent:
            retrying(reason)
        await clock.sleep(pause_s)
