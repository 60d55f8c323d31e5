"""The browser that the browser tests drive."""

import shutil
from collections.abc import Callable
from typing import Final

from chatmesh.local import packages

_NAMES: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)


def find() -> str | None:
    """The first installed one."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


def ensure(say: Callable[[str], None]) -> str | None:
    """As `find`, after installing it where that needs no question."""
    found = find()
    if found is not None or not packages.can_install():
        return found
    try:
        packages.install("chromium", say=say)
    except packages.CannotInstall as trouble:
        say(str(trouble))
    return find()


MISSING: Final = "no Chromium: install it (Debian: sudo apt-get install chromium)"
