"""One service as a process of its own, for tests that start, freeze and kill it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from chatmesh.local import ports
from chatmesh.local.mesh import inherited
from chatmesh.local.process import Command
from chatmesh.local.service import Service

NOTHING: Mapping[str, str] = MappingProxyType({})


def service_process(
    section: str,
    *,
    amqp_url: str,
    database_url: str,
    prefix: str,
    folder: Path,
    name: str = "",
    settings: Mapping[str, str] = NOTHING,
) -> Service:
    """A replica of the service of this section of the settings, not started yet.

    `name` tells it from others and names its log in `folder`; empty: as the section.
    """
    port = ports.free_port()
    environ = {
        **inherited(None),
        "CHATMESH_AMQP_URL": amqp_url,
        "CHATMESH_DATABASE_URL": database_url,
        "CHATMESH_PREFIX": prefix,
        f"CHATMESH_{section.upper()}_PORT": str(port),
        **settings,
    }
    name = name or section
    command = Command(name, (sys.executable, "-m", f"chatmesh.{section}"), environ)
    return Service(command, http_port=port, log=folder / f"{name}.log")
