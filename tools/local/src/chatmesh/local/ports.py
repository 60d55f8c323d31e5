"""Ports nobody else is using.

Picked below the range from which the kernel hands out ports to outgoing connections, so
that none of those takes one between the pick and the bind. Test runs beside each other
pick from a share each (`TESTS_PORTS=first-last`), so that neither do they.
"""

import os
import random
import socket
from collections.abc import Iterable
from typing import Final

from chatmesh.local.trouble import Trouble

LOOPBACK: Final = "127.0.0.1"
FIRST: Final = 15000
LAST: Final = 29999
SHARE: Final = "TESTS_PORTS"
_TRIES: Final = 200

_given_out: set[int] = set()


class NoFreePort(Trouble):
    """No port could be bound in two hundred tries."""


def is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def busy(ports: Iterable[int]) -> list[int]:
    """Those of `ports` that somebody holds already."""
    return [port for port in ports if not is_free(port)]


def share(number: int, of: int) -> str:
    """The part of all ports that is for one of several, counted from 0."""
    size = (LAST - FIRST + 1) // of
    return f"{FIRST + number * size}-{FIRST + (number + 1) * size - 1}"


def free_port() -> int:
    """A port to listen on; never the same twice in one process."""
    chance = random.SystemRandom()
    first, _, last = os.environ.get(SHARE, f"{FIRST}-{LAST}").partition("-")
    for _ in range(_TRIES):
        port = chance.randint(int(first), int(last))
        if port not in _given_out and is_free(port):
            _given_out.add(port)
            return port
    raise NoFreePort(f"no free port between {first} and {last}")


def keep_or_pick(preferred: int | None) -> int:
    """The port used last time if it is still free, else another one."""
    if preferred is not None and is_free(preferred):
        _given_out.add(preferred)
        return preferred
    return free_port()
