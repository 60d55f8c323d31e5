"""How many may come in per second: a storm is shaped, not suffered."""


class Admission:
    """A token bucket. `rate_per_s` 0 lets everyone in."""

    __slots__ = ("_burst", "_filled_s", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(max(burst, 1))
        self._tokens = self._burst
        self._filled_s = now_s

    def admit(self, now_s: float) -> float:
        """Let one in; gives 0, or the seconds after which to try again."""
        if not self._rate_per_s:
            return 0.0
        self._fill(now_s)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate_per_s

    def is_full(self, now_s: float) -> bool:
        """Whether it is as if nobody had ever come."""
        self._fill(now_s)
        return self._tokens >= self._burst

    def _fill(self, now_s: float) -> None:
        # A clock that is set back takes nothing away.
        grown = max(0.0, now_s - self._filled_s) * self._rate_per_s
        self._tokens = min(self._burst, self._tokens + grown)
        self._filled_s = now_s
