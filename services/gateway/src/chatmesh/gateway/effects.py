"""What a session asks for, and what it hears back: imperative out, past tense in."""

import msgspec
from msgspec import Raw

from chatmesh.gateway.hearing import PLAIN, Hearing
from chatmesh.gateway.tokens import ConnectionClaims, SubscriptionClaims
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.client import Push, Reply, StreamPosition
from chatmesh.wire.close_codes import Disconnect
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import LivePublication, PublishCommand
from chatmesh.wire.presence import Change, Joined, Left, PresenceAnswer, PresenceAsk


class _Fact(msgspec.Struct, frozen=True, gc=False):
    """A value that is made for every command and forgotten at once: it has to be cheap."""


# -- Asked for ------------------------------------------------------------------------


class Send(_Fact, frozen=True):
    """Answer a command."""

    reply: Reply


class Tell(_Fact, frozen=True):
    """Push something nobody asked for just now."""

    push: Push


class Close(_Fact, frozen=True):
    """Say goodbye; nothing is sent or heard afterwards."""

    disconnect: Disconnect


class VerifyConnectionToken(_Fact, frozen=True):
    """Heard back as TokenAccepted, TokenExpired or TokenRefused with the same id."""

    id: int
    token: str


class VerifySubscriptionToken(_Fact, frozen=True):
    """Heard back as SubscriptionTokenAccepted, TokenExpired or TokenRefused."""

    id: int
    token: str


class Want(_Fact, frozen=True):
    """A channel to be heard, and where the client left it, if it was there before."""

    channel: str
    since: StreamPosition | None = None
    durable: bool = True
    newest_only: bool = False
    """Recover the newest publication and nothing else (cache recovery)."""
    hearing: Hearing = PLAIN


class Watch(_Fact, frozen=True):
    """Get channels ready; heard back as ChannelsReady or ChannelsFailed, same id."""

    id: int
    wants: tuple[Want, ...]


class Join(_Fact, frozen=True):
    """From this instant on, this connection hears the channel's publications."""

    channel: str
    hearing: Hearing = PLAIN
    present: Joined | None = None
    """What presence is told, where the channel has presence."""


class Leave(_Fact, frozen=True):
    channel: str
    absent: Left | None = None
    """What presence is told, where the channel has presence."""


class Commit(_Fact, frozen=True):
    """Have a durable publication committed; heard back as Committed or Refused."""

    id: int
    command: PublishCommand


class Emit(_Fact, frozen=True):
    """Publish an ephemeral publication; heard back as Emitted or Refused."""

    id: int
    channel: str
    publication: LivePublication


class AskPresence(_Fact, frozen=True):
    """Ask the presence service; heard back as PresenceTold or Refused."""

    id: int
    ask: PresenceAsk


class TellPresence(_Fact, frozen=True):
    """Tell presence that somebody types, or is shown otherwise; nothing is heard back."""

    change: Change


class AskService(_Fact, frozen=True):
    """Forward a call to a service; heard back as ServiceTold or Refused."""

    id: int
    service: str
    call: ServiceCall
    """Without number, address and deadline, which are for the gateway to give."""


class ReadPage(_Fact, frozen=True):
    """Read a page of a channel's log; heard back as PageRead or Refused."""

    id: int
    channel: str
    limit: int
    since: StreamPosition | None
    reverse: bool


Effect = (
    Send
    | Tell
    | Close
    | VerifyConnectionToken
    | VerifySubscriptionToken
    | Watch
    | Join
    | Leave
    | Commit
    | Emit
    | ReadPage
    | AskPresence
    | TellPresence
    | AskService
)

# -- Heard back -----------------------------------------------------------------------


class TokenAccepted(_Fact, frozen=True):
    id: int
    claims: ConnectionClaims


class SubscriptionTokenAccepted(_Fact, frozen=True):
    id: int
    claims: SubscriptionClaims


class TokenExpired(_Fact, frozen=True):
    id: int


class TokenRefused(_Fact, frozen=True):
    id: int
    reason: str


class Snapshot(_Fact, frozen=True):
    """Where a channel stands at the instant a connection joins it."""

    channel: str
    epoch: str = ""
    top: int = 0
    recovered: bool = False
    publications: list[Raw] = []
    """What the client missed, encoded for it; only when recovered."""


class ChannelsReady(_Fact, frozen=True):
    """Each wanted channel, in the order it was asked for."""

    id: int
    snapshots: list[Snapshot]


class ChannelsFailed(_Fact, frozen=True):
    id: int
    error: ErrorReply


class Committed(_Fact, frozen=True):
    id: int
    offset: int
    at_ms: int


class Emitted(_Fact, frozen=True):
    id: int


class PageRead(_Fact, frozen=True):
    id: int
    publications: list[Raw]
    epoch: str
    offset: int


class PresenceTold(_Fact, frozen=True):
    id: int
    answer: PresenceAnswer


class ServiceTold(_Fact, frozen=True):
    id: int
    data: Raw


class Refused(_Fact, frozen=True):
    """The asked-for thing was refused or has failed, for the client to know."""

    id: int
    error: ErrorReply


Heard = (
    TokenAccepted
    | SubscriptionTokenAccepted
    | TokenExpired
    | TokenRefused
    | ChannelsReady
    | ChannelsFailed
    | Committed
    | Emitted
    | PageRead
    | PresenceTold
    | ServiceTold
    | Refused
)
