"""What a session knows of itself: all that its rules share."""

import enum
from collections import deque
from typing import Final

from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import Awaited, OfSubscription
from chatmesh.gateway.effects import Effect
from chatmesh.gateway.policy import Seat
from chatmesh.gateway.subscriptions import Grant, Subscription
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import SubscriptionClaims
from chatmesh.wire import channels, client, close_codes, errors, limits
from chatmesh.wire.calls import Role
from chatmesh.wire.client import Command, Reply
from chatmesh.wire.client_json import OversizedCommand, encode_info
from chatmesh.wire.close_codes import Disconnect
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.infos import client_info
from chatmesh.wire.presence import Joined, Left

COMMANDS_WAITING_MAX: Final = 512
"""Commands of a connection that may wait for what comes before them to be decided."""

Received = Command | OversizedCommand
Lasting = (
    client.ConnectResult
    | client.SubscribeResult
    | client.RefreshResult
    | client.SubRefreshResult
)


class State(enum.Enum):
    GREETING = "greeting"
    """Nothing heard yet; only a connect is welcome."""
    CONNECTING = "connecting"
    """The connect is being decided; what follows it waits in order."""
    READY = "ready"
    REFUSED = "refused"
    """The connect got an error reply; the rest of its frame is dropped."""
    CLOSED = "closed"


class Footing:
    """Who a connection is, where it is subscribed, and what it waits for."""

    def __init__(
        self, terms: Terms, *, client_id: str, session_id: str, says_pings: bool
    ) -> None:
        self.terms = terms
        self.policy = terms.policy
        self.client_id = client_id
        self.session_id = session_id
        """Secret of a connection over an HTTP fallback, by which its commands find it."""
        self.says_pings = says_pings
        """Whether pings are messages of the protocol; else the transport has its own."""
        self.user = ""
        self.known = False
        """Whether it has been decided who this is, for as long as they are here."""
        self.role = Role.GUEST
        self.state = State.GREETING
        self.expires_at_s = 0.0
        """Unix seconds at which the connection's token ends; 0 never."""
        self.subscriptions: dict[str, Subscription] = {}
        self.grants: list[Grant] = []
        """What the server subscribes it to as soon as it is connected."""
        self.conn_info = b""
        """What its token says to be shown of it: JSON, or any bytes."""
        self.info = b""
        """JSON of its ClientInfo, where no channel has one of its own."""
        self.waiting: deque[Received] = deque()
        """What came behind a connect that is being decided."""
        self.held: int = 0
        """Commands that wait, for the connect or behind a subscribe."""
        self.awaited: dict[int, Awaited] = {}
        self.calls = 0
        """Forwarded to services and not answered yet."""
        self.deciding = 0
        """Subscribes that are not decided yet."""
        self._last_id = 0

    def wait_for(self, awaited: Awaited) -> int:
        """Number what is asked for; its outcome comes back by this."""
        self._last_id += 1
        self.awaited[self._last_id] = awaited
        self.deciding += isinstance(awaited, OfSubscription)
        return self._last_id

    def wait_behind(
        self, sub: Subscription, command: int, request: client.Request
    ) -> list[Effect]:
        """Perform a command only when a subscribe before it is decided."""
        if self.held >= COMMANDS_WAITING_MAX:
            return self.close(close_codes.TOO_MANY_REQUESTS)
        self.held += 1
        sub.behind.append((command, request))
        return []

    # -- The end ----------------------------------------------------------------------

    def close(self, disconnect: Disconnect) -> list[Effect]:
        """Say goodbye, once, and leave every channel."""
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        self.waiting.clear()
        self.awaited.clear()
        # Whom we send away for good leaves cleanly; anybody else may come back.
        left = self.leave_all(clean=not disconnect.reconnects)
        return [*left, fx.Close(disconnect)]

    def bad(self, reason: str) -> list[Effect]:
        """What was sent breaks the protocol."""
        return self.close(close_codes.BAD_REQUEST.because(reason))

    def leave_all(self, *, clean: bool = False) -> list[Effect]:
        """The connection is gone, whoever ended it: nothing is heard any more.

        `clean` says that it was meant; otherwise the client may be back in a moment.
        """
        joined = [(name, sub) for name, sub in self.subscriptions.items() if sub.joined]
        self.known = False
        self.subscriptions.clear()
        return [self.leave(channel, sub, clean=clean) for channel, sub in joined]

    # -- In a channel -----------------------------------------------------------------

    def seat_in(self, channel: str) -> Seat:
        """By a subscription that stands, or is only waiting for the channel."""
        sub = self.subscriptions.get(channel)
        if sub is None or not sub.allowed:
            return Seat.NONE
        return Seat.GRANTED if sub.server_side or sub.by_token else Seat.TAKEN

    def owns(self, claims: SubscriptionClaims) -> bool:
        """Whether a subscription token is for this connection."""
        bound_elsewhere = claims.client and claims.client != self.client_id
        return claims.user == self.user and not bound_elsewhere

    def info_in(self, channel: str) -> bytes:
        """JSON of the ClientInfo that goes with what it says there."""
        sub = self.subscriptions.get(channel)
        return sub.info if sub is not None and sub.info else self.info

    def shown_info(self, channel_info: bytes) -> bytes:
        """JSON of its ClientInfo in a channel whose token says this of it."""
        return encode_info(
            client_info(self.user, self.client_id, self.conn_info, channel_info)
        )

    def join(self, channel: str, sub: Subscription) -> Effect:
        return fx.Join(channel, sub.hearing, self.present(channel, sub))

    def leave(self, channel: str, sub: Subscription, *, clean: bool) -> Effect:
        absent = None
        if sub.is_present:
            absent = Left(channel, self.client_id, clean)
        return fx.Leave(channel, absent)

    def present(self, channel: str, sub: Subscription) -> Joined | None:
        """What presence is told of this connection, where the channel has presence."""
        if not sub.is_present:
            return None
        return Joined(
            channel,
            self.client_id,
            self.user,
            self.conn_info,
            sub.chan_info,
            announce=sub.options.join_leave,
        )


def refusal(command: int, error: ErrorReply) -> Effect:
    return fx.Send(Reply(command, error=error))


def token_error(
    heard: fx.TokenExpired | fx.TokenRefused | fx.Refused,
) -> ErrorReply:
    """What a subscription's client is told of a token that was not taken."""
    match heard:
        case fx.TokenExpired():
            return errors.TOKEN_EXPIRED
        case fx.TokenRefused(reason=reason):
            return errors.because(errors.PERMISSION_DENIED, reason)
        case fx.Refused(error=error):
            return error


def refuses_name(channel: str) -> ErrorReply | None:
    """Why this is no channel's name, or None."""
    reason = channels.refusal(channel)
    return None if reason is None else errors.because(errors.BAD_REQUEST, reason)


def tell_end(result: Lasting, expires_at_s: float, now_s: float) -> None:
    """Say in a result how many seconds are left of what ends; of 0 nothing is said."""
    if expires_at_s:
        result.expires = True
        result.ttl = max(1, min(int(expires_at_s - now_s), limits.TTL_S_MAX))
