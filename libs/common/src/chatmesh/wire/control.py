"""What gateways ask of each other, over the control exchange.

An `Ask` goes to every gateway there is, the asking one included, and each answers with a
`Told` to the queue it names. Who has to answer is known from heartbeats. What belongs to
one connection of an HTTP fallback goes to the gateway that holds it, and to no other.
"""

import msgspec


class Target(msgspec.Struct, array_like=True, frozen=True):
    """Connections by user, client id and session, where given: all of it has to be so."""

    user: str
    client: str = ""
    session: str = ""


class Position(msgspec.Struct, array_like=True, frozen=True):
    """A place in one life of a channel's log."""

    offset: int = 0
    epoch: str = ""


class Disconnect(msgspec.Struct, array_like=True, frozen=True, tag="disconnect"):
    """Close connections; those of `spared` clients stay."""

    target: Target
    code: int
    reason: str
    spared: list[str] = []


class Unsubscribe(msgspec.Struct, array_like=True, frozen=True, tag="unsubscribe"):
    """End a subscription, whoever made it, and tell the client."""

    target: Target
    channel: str


class Subscribe(msgspec.Struct, array_like=True, frozen=True, tag="subscribe"):
    """Subscribe connections to a channel and tell their clients."""

    target: Target
    channel: str
    expire_at_s: float = 0.0
    """Unix time; 0 never."""
    info: bytes = b""
    """Shown to others as `chan_info`: JSON, or any bytes."""
    data: bytes = b""
    """Told to the client: JSON, or any bytes."""
    since: Position | None = None
    """Deliver what came after this, then go on live."""
    override: dict[str, bool] = {}
    """Namespace options decided for this one subscription, by name."""


class Refresh(msgspec.Struct, array_like=True, frozen=True, tag="refresh"):
    """Give connections another expiry, or end them as expired."""

    target: Target
    expired: bool = False
    expire_at_s: float = 0.0
    """Unix time; 0 never."""
    info: bytes | None = None
    """JSON shown to others from now on; None leaves what is shown."""


class Forget(msgspec.Struct, array_like=True, frozen=True, tag="forget"):
    """A channel's history was removed: keep nothing of it in memory."""

    channel: str


class Survey(msgspec.Struct, array_like=True, frozen=True, tag="survey"):
    """Say how many are here."""


class ListChannels(msgspec.Struct, array_like=True, frozen=True, tag="channels"):
    """Say which channels have subscribers here, of those that match a pattern."""

    pattern: str = ""
    """Shell-like, with `*`, `?`, `[…]` and `{a,b}`; empty for all."""


Act = Disconnect | Unsubscribe | Subscribe | Refresh | Forget | Survey | ListChannels


class Done(msgspec.Struct, array_like=True, frozen=True, tag="done"):
    """It is done here, for this many connections."""

    connections: int = 0


class Refused(msgspec.Struct, array_like=True, frozen=True, tag="refused"):
    """It cannot be done here, for a reason of `wire.errors`."""

    code: int
    message: str
    temporary: bool = False


class Node(msgspec.Struct, array_like=True, frozen=True, tag="node"):
    """One gateway in numbers."""

    uid: str
    name: str
    version: str = ""
    num_clients: int = 0
    num_users: int = 0
    num_subs: int = 0
    num_channels: int = 0
    uptime_s: int = 0


class ChannelCounts(msgspec.Struct, array_like=True, frozen=True, tag="counts"):
    """Subscribers here, by channel."""

    counts: dict[str, int]


Answer = Done | Refused | Node | ChannelCounts


class Ask(msgspec.Struct, array_like=True, frozen=True, tag="ask"):
    """Do something, and say so. Goes to every gateway."""

    request: int
    """The asking gateway's own number."""
    reply_to: str
    act: Act


class Told(msgspec.Struct, array_like=True, frozen=True, tag="told"):
    """One gateway's answer to an `Ask`."""

    request: int
    node: str
    answer: Answer


class Beat(msgspec.Struct, array_like=True, frozen=True, tag="beat"):
    """A gateway is there and hears what all gateways hear."""

    node: str
    """Which one: unique per process life."""
    first: bool = False
    """It has just come and knows nobody: say that you are there."""


class Bye(msgspec.Struct, array_like=True, frozen=True, tag="bye"):
    """A gateway is leaving: nobody waits for its answers any more."""

    node: str


class Emulated(msgspec.Struct, array_like=True, frozen=True, tag="emulated"):
    """Commands of a client whose stream another gateway holds. Goes to that one."""

    session: str
    data: bytes


ControlMessage = Ask | Told | Beat | Bye | Emulated
"""What arrives on a gateway's queue from other gateways."""
