"""The SQL of history: one file per statement, each opening with what it is for."""

from importlib.resources import files
from typing import Final

_SUFFIX: Final = ".sql"
# Read on import, before there is a loop that it could hold up.
_TEXTS: Final = {
    file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
    for file in files(__name__).iterdir()
    if file.name.endswith(_SUFFIX)
}


def query(name: str) -> str:
    """The text of `name`.sql."""
    return _TEXTS[name]
