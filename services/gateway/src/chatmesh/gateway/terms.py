"""What a gateway offers each of its sessions."""

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec import Raw

from chatmesh.gateway.pace import Paces
from chatmesh.gateway.policy import Policy
from chatmesh.wire import limits


@dataclass(frozen=True, slots=True)
class Terms:
    """What a gateway offers every session; one object shared by all."""

    policy: Policy
    version: str
    connect_data: Raw
    """Told to every client in its connect reply: which gateway it reached."""
    ping_interval_s: int
    pong: bool = True
    node: str = ""
    """Names this gateway to the others: commands of an HTTP fallback are sent there."""
    channels_max: int = limits.CHANNELS_PER_CONNECTION_MAX
    in_flight_max: int = limits.COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX
    paces: Paces = field(default_factory=Paces)
    new_id: Callable[[], str] = lambda: ""
    """Makes ids for publications whose client brings none; unique for ever."""
