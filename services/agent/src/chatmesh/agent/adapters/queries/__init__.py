"""The SQL of runs: one file per statement, each opening with what it is for.

What two statements end with is a file of its own, which both of them name.
"""

from functools import cache
from importlib.resources import files


@cache
def query(*parts: str) -> str:
    """The text of a statement, from the `.sql` files that it is written in."""
    folder = files(__name__)
    return "\n".join(
        folder.joinpath(f"{part}.sql").read_text(encoding="utf-8") for part in parts
    )
