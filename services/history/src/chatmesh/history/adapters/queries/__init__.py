"""The SQL of history: one file per statement, each opening with what it is for.

What two statements share is a file of its own, which both go on with.
"""

from importlib.resources import files
from typing import Final

_SUFFIX: Final = ".sql"
# Read on import, before there is a loop that it could hold up.
_TEXTS: Final = {
    file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
    for file in files(__name__).iterdir()
    if file.name.endswith(_SUFFIX)
}
_GOES_ON: Final = {"append": ("store",), "append_fenced": ("store", "late")}


def query(name: str) -> str:
    """The text of `name`.sql, and of what it goes on with."""
    return "\n".join(_TEXTS[part] for part in (name, *_GOES_ON.get(name, ())))
