"""The SQL of history: a file per statement, each opening with what it is for.

What two statements go on with is a file of its own.
"""

from importlib.resources import files
from typing import Final

_SUFFIX: Final = ".sql"
_GOES_ON: Final = {"append": ("store",), "append_fenced": ("store", "late")}


def _read() -> dict[str, str]:
    texts = {
        file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
        for file in files(__name__).iterdir()
        if file.name.endswith(_SUFFIX)
    }
    return {
        name: "\n".join([text, *(texts[part] for part in _GOES_ON.get(name, ()))])
        for name, text in texts.items()
    }


# Read on import, before there is a loop that it could hold up.
_TEXTS: Final = _read()


def query(name: str) -> str:
    """The text of `name`.sql, and of what it goes on with."""
    return _TEXTS[name]
