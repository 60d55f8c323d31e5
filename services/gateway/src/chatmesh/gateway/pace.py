"""How fast a client, and a user with all their clients, may ask a gateway for things.

Over the rate a command is refused with 111, which SDKs take as "a little later". A client
that goes on as if nothing had been said, at more than twice its rate, is sent away with
3013. Users are only refused: it would not be fair to send away one of their devices for
what another one does. Each gateway counts for itself.
"""

import enum
from typing import Final, NamedTuple

from chatmesh.gateway.admission import Admission

REFUSED_COSTS: Final = 0.5
"""What a refused command takes of the allowance: with it, twice the rate is endured."""
USERS_KEPT_MIN: Final = 1000
"""Fewer users than this are not worth looking for those who have been quiet."""


class Rate(NamedTuple):
    """Commands a second, and at once after a quiet time. A rate of 0 has no limit."""

    per_s: float = 0.0
    burst: int = 1


UNLIMITED: Final = Rate()


class Verdict(enum.Enum):
    ADMITTED = "admitted"
    REFUSED = "refused"
    GOODBYE = "goodbye"


class Pace:
    """The allowance of one connection: full it is one burst, and one below zero the end."""

    __slots__ = ("_filled_s", "_left", "_rate")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._filled_s = 0.0

    def judge(self, now_s: float) -> Verdict:
        """One more command."""
        per_s, burst = self._rate
        if not per_s:
            return Verdict.ADMITTED
        # A clock that is set back takes nothing away.
        grown = max(0.0, now_s - self._filled_s) * per_s
        self._left = min(float(burst), self._left + grown)
        self._filled_s = now_s
        if self._left >= 1.0:
            self._left -= 1.0
            return Verdict.ADMITTED
        self._left -= REFUSED_COSTS
        return Verdict.GOODBYE if self._left <= -burst else Verdict.REFUSED


class Paces:
    """What one gateway allows: to each connection, and to users over all of theirs here.

    A user's allowance outlives their connections: coming back does not fill it.
    """

    def __init__(self, connection: Rate = UNLIMITED, user: Rate = UNLIMITED) -> None:
        self.connection = connection
        self.refused = 0
        """Commands refused so far for whatever hurry."""
        self._rate = user
        self._users: dict[str, Admission] = {}
        self._prune_at = USERS_KEPT_MIN

    def __len__(self) -> int:
        return len(self._users)

    def admits(self, user: str, now_s: float) -> bool:
        """One more command of this user; nobody in particular is always admitted."""
        if not self._rate.per_s or not user:
            return True
        allowance = self._users.get(user)
        if allowance is None:
            if len(self._users) >= self._prune_at:
                self._forget_quiet(now_s)
            allowance = Admission(self._rate.per_s, self._rate.burst, now_s)
            self._users[user] = allowance
        return not allowance.admit(now_s)

    def _forget_quiet(self, now_s: float) -> None:
        """Whoever has a full allowance again need not be remembered."""
        busy = {u: a for u, a in self._users.items() if not a.is_full(now_s)}
        self._users = busy
        self._prune_at = max(USERS_KEPT_MIN, 2 * len(busy))
