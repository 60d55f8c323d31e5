"""How little a process is held up by Python's search for garbage."""

import gc
from typing import Final

LOOK_AFTER: Final = 10_000
"""Containers made, beyond those gone again, before the youngest are looked through.

Python's 700 is less than what one batch of messages has on its way: nearly all would be
looked at while still needed, and counted as old."""


def look_seldom() -> None:
    """Set this process up to look for garbage seldom; call it once what it needs is loaded."""
    gc.set_threshold(LOOK_AFTER)
    keep_what_is_loaded()


def keep_what_is_loaded() -> None:
    """Look no more through modules, classes and all else there is by now.

    They stay for the process's life; looking through a hundred thousand of them takes
    50 ms each time, in which nobody is served. Call it again after loading more.
    """
    gc.collect()
    gc.freeze()
