"""Which observations of a histogram carry the id of a trace."""

from typing import Final

EVERY_S: Final = 1.0
"""One is as good as a hundred to whoever looks for a slow message, and costs a hundredth."""


class Exemplars:
    """Gives at most one exemplar in `EVERY_S` seconds; one of these per histogram."""

    def __init__(self) -> None:
        self._next_s = float("-inf")

    def of(self, trace_id: str, now_s: float) -> dict[str, str] | None:
        """Labels for an observation in this trace; `now_s` is a clock that only ascends."""
        if now_s < self._next_s:
            return None
        self._next_s = now_s + EVERY_S
        return {"trace_id": trace_id}
