"""The SQL of membership, for the tables of any service."""

from typing import Final

from chatmesh.postgres.statements import statements

_STANDS_FOR: Final = "service_"
_text: Final = statements(__name__)


def query(name: str, service: str) -> str:
    """The text of `name`.sql for the tables `<service>_replicas`, `<service>_partitions`."""
    return _text(name).replace(_STANDS_FOR, f"{service}_")
