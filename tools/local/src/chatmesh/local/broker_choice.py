"""Which RabbitMQ to use, decided from what was found; no I/O here."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from chatmesh.local.trouble import Trouble


class Way(Enum):
    """The ways to a broker, in the order in which they are tried."""

    GIVEN = auto()
    """The address somebody set in CHATMESH_AMQP_URL."""
    SHARED = auto()
    """A broker on this machine that lets us in; we keep to names of our own."""
    PRIVATE = auto()
    """The installed program with a data folder of our own."""
    INSTALL = auto()
    """As PRIVATE, after the system's package manager has brought it."""
    DOCKER = auto()
    """A container, gone when we stop."""


@dataclass(frozen=True)
class Surroundings:
    """What this machine offers."""

    given: str | None
    shared_lets_us_in: bool
    installed: bool
    installable: bool
    """Without asking anybody: root, and apt-get is there."""
    docker: bool


class NoBroker(Trouble):
    """None of the ways is open; the message says what to install."""


INSTALL_HINT: Final = (
    "RabbitMQ is needed: install it (Debian, Ubuntu: sudo apt-get install "
    "rabbitmq-server; macOS: brew install rabbitmq), start a Docker engine, "
    "or set CHATMESH_AMQP_URL"
)


def choose(found: Surroundings) -> Way:
    """The first way that is open.

    Raises:
        NoBroker: none is.
    """
    if found.given is None and found.shared_lets_us_in:
        return Way.SHARED
    return choose_private(found)


def choose_private(found: Surroundings) -> Way:
    """As `choose`, for tests: never what somebody else uses without being told to.

    Raises:
        NoBroker: none is open.
    """
    if found.given is not None:
        return Way.GIVEN
    if found.installed:
        return Way.PRIVATE
    if found.installable:
        return Way.INSTALL
    if found.docker:
        return Way.DOCKER
    raise NoBroker(INSTALL_HINT)
