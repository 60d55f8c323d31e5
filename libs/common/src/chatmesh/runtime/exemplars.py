"""Which observations of a histogram carry the id of a trace."""

from typing import Final

EVERY_S: Final = 1.0


class Exemplars:
    """Gives at most one exemplar in `EVERY_S` seconds, and one to all that is slow.

    Writing one costs more than the observation, and of what is usual one is as good as a
    hundred. What is slow is what people look for. One of these per histogram.
    """

    def __init__(self, *, slow_s: float) -> None:
        """`slow_s` is the objective: what takes longer is not usual."""
        self._slow_s = slow_s
        self._next_s = float("-inf")

    def of(self, trace_id: str, took_s: float, now_s: float) -> dict[str, str] | None:
        """Labels for an observation in this trace; `now_s` is of the monotonic clock."""
        if took_s <= self._slow_s and now_s < self._next_s:
            return None
        self._next_s = now_s + EVERY_S
        return {"trace_id": trace_id}
