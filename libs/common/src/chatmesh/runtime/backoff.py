"""How long to wait before trying again: capped, jittered, and a value one can test.

Full jitter: anything between nothing and the current bound, so that a thousand
processes that lost the same neighbour do not come back in the same instant.
"""

import random as chance
from typing import Final

_DOUBLINGS_MAX: Final = 64
"""Far beyond any cap, and small enough that two to this power stays a float."""


class Backoff:
    """Delays for one retried thing. Ask `next_s` per failure, `reset` per success."""

    def __init__(self, base_s: float, cap_s: float, random: chance.Random) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError(f"backoff wants 0 < base <= cap, not {base_s} and {cap_s}")
        self._base_s = base_s
        self._cap_s = cap_s
        self._random = random
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        bound_s = min(self._cap_s, self._base_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS_MAX)
        return self._random.uniform(0.0, bound_s)

    def reset(self) -> None:
        self._failures = 0
