"""The SQL of runs: a file per statement, each opening with what it is for.

What two statements end with is a file of its own.
"""

from functools import cache
from importlib.resources import files
from typing import Final

_GOES_ON: Final = {"adopt": "take_over", "reap": "take_over"}


@cache
def query(name: str) -> str:
    """The text of `name`.sql, and of what it goes on with."""
    parts = [name, _GOES_ON[name]] if name in _GOES_ON else [name]
    folder = files(__name__)
    return "\n".join(
        folder.joinpath(f"{part}.sql").read_text(encoding="utf-8") for part in parts
    )
