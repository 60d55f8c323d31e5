"""When gathered text is sent: the first words at once, then in windows that stretch.

A window is short while there is time, so that text flows; it is longer when the process
or the broker is behind, so that being behind does not grow. No clock in here: callers say
what time it is, in seconds of any clock that never goes back.
"""

from dataclasses import dataclass
from typing import Final

SIZE_CHARS: Final = 2048
"""So much text goes at once, whatever the window."""

_LAG_SLOW_S: Final = 0.02
_LAG_BEHIND_S: Final = 0.1
_STRETCH: Final = 2.5


@dataclass(frozen=True, slots=True)
class Windows:
    """The shortest and the longest window, in milliseconds."""

    shortest_ms: int
    longest_ms: int

    def under(self, lag_s: float) -> int:
        """The window for a process whose event loop is this far behind, milliseconds."""
        if lag_s < _LAG_SLOW_S:
            return self.shortest_ms
        if lag_s < _LAG_BEHIND_S:
            return min(self.longest_ms, int(self.shortest_ms * _STRETCH))
        return self.longest_ms


class Pace:
    """When one run may send its gathered text."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._sent_s: float | None = None

    def restart(self) -> None:
        """A new piece of text begins: its first words go at once."""
        self._sent_s = None

    def sent(self, now_s: float) -> None:
        self._sent_s = now_s

    def wait_s(self, now_s: float, *, gathered: int, lag_s: float) -> float:
        """How long to go on gathering; 0: send now.

        `gathered` is in characters.
        """
        if self._sent_s is None or gathered >= SIZE_CHARS:
            return 0.0
        window_s = self._windows.under(lag_s) / 1000
        return max(0.0, self._sent_s + window_s - now_s)
