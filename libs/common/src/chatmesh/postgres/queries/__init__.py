"""The SQL of membership: one file per statement, for the tables of any service."""

from importlib.resources import files
from typing import Final

_STANDS_FOR: Final = "service_"
_SUFFIX: Final = ".sql"
# Read on import, before there is a loop that it could hold up.
_TEXTS: Final = {
    file.name.removesuffix(_SUFFIX): file.read_text(encoding="utf-8")
    for file in files(__name__).iterdir()
    if file.name.endswith(_SUFFIX)
}


def query(name: str, service: str) -> str:
    """The text of `name`.sql for the tables `<service>_replicas`, `<service>_partitions`."""
    return _TEXTS[name].replace(_STANDS_FOR, f"{service}_")
