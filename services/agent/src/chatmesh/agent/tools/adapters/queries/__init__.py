"""The SQL of tools: one file per statement, each opening with what it is for."""

from importlib.resources import files
from pathlib import PurePath
from typing import Final

# Read with the module, since nobody may read files while an event loop runs.
_TEXTS: Final = {
    PurePath(file.name).stem: file.read_text(encoding="utf-8")
    for file in files(__name__).iterdir()
    if file.name.endswith(".sql")
}


def query(name: str) -> str:
    """The text of `name`.sql."""
    return _TEXTS[name]
