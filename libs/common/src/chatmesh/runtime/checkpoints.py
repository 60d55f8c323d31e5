"""Named points of a process's work at which tests may kill it.

Code that makes a promise passes its checkpoint: `checkpoint("history.committed")`. In
production that does nothing; a chaos run names the label at which the process dies, as
if the power went, and then looks whether the promise held.
"""

import os
import signal
import sys
from collections.abc import Callable

from chatmesh.runtime.startup import CannotStart

Checkpoint = Callable[[str], None]


def ignore(label: str) -> None:
    """Pass a checkpoint in ordinary life."""


def from_setting(value: str) -> Checkpoint:
    """Read the setting `crash_at`: nothing, `label`, or `label:n` for its nth pass.

    Raises CannotStart when it says neither.
    """
    if not value:
        return ignore
    label, _, count = value.partition(":")
    if not label or (":" in value and not (count.isascii() and count.isdigit())):
        raise CannotStart(f"crash_at is {value!r}; it wants a label, or label:count")
    passes = int(count) if count else 1
    if passes < 1:
        raise CannotStart("crash_at counts passes from 1")
    return _Crash(label, passes)


class _Crash:
    def __init__(self, label: str, passes: int) -> None:
        self._label = label
        self._left = passes

    def __call__(self, label: str) -> None:
        if label != self._label:
            return
        self._left -= 1
        if self._left == 0:
            sys.stderr.write(f"crash_at: dying at checkpoint {label}\n")
            sys.stderr.flush()
            # No clean-up of any kind may run: that is the point of the exercise.
            os.kill(os.getpid(), signal.SIGKILL)
