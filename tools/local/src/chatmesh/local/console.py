"""Lines from many processes on one terminal, each with the name of who said it."""

import sys
import threading
from typing import Final, TextIO

from chatmesh.local.process import Sink

NAME_WIDTH: Final = 10
_COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_OWN_COLOUR: Final = 1  # bold


class Console:
    """Writes whole lines; safe to use from the threads that read the children."""

    def __init__(self, stream: TextIO, *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour
        self._lock = threading.Lock()
        self._names: list[str] = []

    @classmethod
    def of_this_terminal(cls) -> "Console":
        return cls(sys.stdout, colour=sys.stdout.isatty())

    def say(self, text: str) -> None:
        """Our own voice."""
        for line in text.splitlines() or [""]:
            self._write(self._prefix("chatmesh", _OWN_COLOUR) + line)

    def block(self, text: str) -> None:
        """Set apart, without a name in front: it is meant to be copied from."""
        self._write(f"\n{text.rstrip()}\n")

    def sink(self, name: str) -> Sink:
        """Where the lines of `name` go."""
        if name not in self._names:
            self._names.append(name)
        colour = _COLOURS[self._names.index(name) % len(_COLOURS)]
        prefix = self._prefix(name, colour)

        def write(line: str) -> None:
            self._write(prefix + line)

        return write

    def _prefix(self, name: str, colour: int) -> str:
        padded = f"{name:<{NAME_WIDTH}} | "
        return f"\x1b[{colour}m{padded}\x1b[0m" if self._colour else padded

    def _write(self, text: str) -> None:
        with self._lock:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # The terminal is gone, or whoever read our pipe. What runs goes on
                # until somebody asks it to stop.
                return
