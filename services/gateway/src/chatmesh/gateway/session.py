"""The rules of one connection: what each command means, and what may come back.

A session hears frames of commands and the outcomes of what it asked for, and answers
with effects. It awaits nothing, reads no clock and knows no socket: time is an argument,
and whoever runs it performs the effects in order, without a pause between them.
"""

import contextlib
import enum
from collections import deque
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec
from msgspec import Raw

from chatmesh.gateway import attendance, bodies, forwarding, payloads
from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import (
    AskingPresence,
    AskingService,
    Authenticating,
    Awaited,
    CheckingSubscription,
    Connecting,
    Publishing,
    ReadingHistory,
    Refreshing,
    RefreshingSubscription,
    SendingMessage,
    Subscribing,
    SubscribingForServer,
)
from chatmesh.gateway.bodies import BadBody, Call, body_of, message_of
from chatmesh.gateway.effects import Effect, Heard, Want
from chatmesh.gateway.pace import Pace, Verdict
from chatmesh.gateway.policy import Seat
from chatmesh.gateway.subscriptions import (
    Grant,
    Subscription,
    hearing_of,
    overridden,
    refuses_wishes,
    result_of,
    want_of,
)
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import (
    NOTHING_SAID,
    ConnectionClaims,
    SubscriptionClaims,
)
from chatmesh.wire import channels, client, close_codes, errors, limits
from chatmesh.wire.calls import Role, ServiceCall
from chatmesh.wire.client import Command, Reply, SubscribeResult
from chatmesh.wire.client_json import (
    OversizedCommand,
    client_info,
    encode_info,
    in_either,
)
from chatmesh.wire.close_codes import Disconnect, Unsubscribe
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import LivePublication, PublishCommand
from chatmesh.wire.presence import (
    Active,
    CountsAsk,
    Joined,
    Left,
    MembersAsk,
    PresenceAsk,
)
from chatmesh.wire.runs import is_agent

COMMANDS_WAITING_MAX: Final = 512
"""Commands of a connection that may wait for what comes before them to be decided."""
WAITING_BYTES_MAX: Final = 4 * limits.COMMAND_BYTES_MAX
"""And what the frames they came in may weigh: SDKs send a connect and what follows it."""
REFRESH_GRACE_S: Final = 25.0
"""How long after its expiry a token may still be refreshed."""

Received = Command | OversizedCommand


class State(enum.Enum):
    GREETING = "greeting"
    """Nothing heard yet; only a connect is welcome."""
    CONNECTING = "connecting"
    """The connect is being decided; what follows it waits in order."""
    READY = "ready"
    REFUSED = "refused"
    """The connect got an error reply; the rest of its frame is dropped."""
    CLOSED = "closed"


class NotNow(Exception):
    """The server's wish cannot be granted to this connection; says why."""

    def __init__(self, error: ErrorReply) -> None:
        super().__init__(error.message)
        self.error = error


class _MessageSent(msgspec.Struct):
    """The answer to rpc message.send: committed, and where."""

    offset: int
    id: str
    at: int


_json = msgspec.json.Encoder()


class Session:
    """One connection's life, from its first frame to its goodbye.

    Performing effects: `Send`, `Tell` and `Join` in the order given and in one go, so
    that no publication slips between a subscribe reply and the join. Whatever was asked
    for is heard back exactly once, in any order, also at once.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        client_id: str,
        session_id: str = "",
        says_pings: bool = True,
    ) -> None:
        self.client_id = client_id
        self.session_id = session_id
        """Secret of a connection over an HTTP fallback, by which its commands find it."""
        self._says_pings = says_pings
        """Whether pings are messages of the protocol; else the transport has its own."""
        self.user = ""
        self.known = False
        """Whether it has been decided who this is, for as long as they are here."""
        self.role = Role.GUEST
        self.state = State.GREETING
        self.expires_at_s = 0.0
        """Unix seconds at which the connection's token ends; 0 never."""
        self.subscriptions: dict[str, Subscription] = {}
        self._terms = terms
        self._policy = terms.policy
        self._grants: list[Grant] = []
        """What the server subscribes it to as soon as it is connected."""
        self._conn_info = b""
        self._info = b""
        self._pace = Pace(terms.paces.connection)
        self._waiting: deque[Received] = deque()
        self._held = 0
        """Commands that wait, for the connect or behind a subscribe."""
        self._held_bytes = 0
        self._awaited: dict[int, Awaited] = {}
        self._last_id = 0
        self._calls = 0
        """Forwarded to services and not answered yet."""

    # -- Heard from the client --------------------------------------------------------

    def receive(
        self, frame: Sequence[Received], now_s: float, size: int = 0
    ) -> list[Effect]:
        """Hear one frame's commands, in order. `now_s` is Unix time, `size` bytes."""
        if self.state is State.REFUSED:
            return self.close(close_codes.BAD_REQUEST.because("connect was refused"))
        effects: list[Effect] = []
        held = self._held
        if not held:
            self._held_bytes = 0
        for command in frame:
            self._receive_one(command, now_s, effects)
        if self._held > held:
            self._held_bytes += size
            if self._held_bytes > WAITING_BYTES_MAX:
                effects += self.close(close_codes.TOO_MANY_REQUESTS)
        return effects

    def malformed(self, reason: str) -> list[Effect]:
        """Hear that a frame could not be read."""
        if self.state is State.CLOSED:
            return []
        return self.close(close_codes.BAD_REQUEST.because(reason))

    def close(self, disconnect: Disconnect) -> list[Effect]:
        """Say goodbye, once, and leave every channel."""
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        self._waiting.clear()
        self._awaited.clear()
        # Whom we send away for good leaves cleanly; anybody else may come back.
        left = self.leave_all(clean=not disconnect.reconnects)
        return [*left, fx.Close(disconnect)]

    def leave_all(self, *, clean: bool = False) -> list[Effect]:
        """The connection is gone, whoever ended it: nothing is heard any more.

        `clean` says that it was meant; otherwise the client may be back in a moment.
        """
        joined = [(name, sub) for name, sub in self.subscriptions.items() if sub.joined]
        self.known = False
        self.subscriptions.clear()
        return [self._leave(channel, sub, clean=clean) for channel, sub in joined]

    def _receive_one(  # noqa: PLR0911 - one line for each thing that may be wrong
        self, received: Received, now_s: float, effects: list[Effect]
    ) -> None:
        if self.state in {State.CLOSED, State.REFUSED}:
            return
        if self.state is State.CONNECTING:
            if self._held >= COMMANDS_WAITING_MAX:
                effects += self.close(close_codes.TOO_MANY_REQUESTS)
                return
            self._held += 1
            self._waiting.append(received)
            return
        if isinstance(received, OversizedCommand):
            effects += self._oversized(received)
            return
        request = client.request_of(received)
        if request is None:
            if received.id:
                effects += self._bad("no known request in the command")
            return  # An empty command is a pong; the wheel has noted it.
        if not received.id and not isinstance(request, client.SendRequest):
            effects += self._bad("command without an id")
            return
        if self.state is State.GREETING and not isinstance(
            request, client.ConnectRequest
        ):
            effects += self._bad("the first command must be connect")
            return
        hasty = self._judge(received.id, request, now_s)
        if hasty is None:
            hasty = self._perform(received.id, request, now_s)
        effects += hasty

    def _judge(
        self, command: int, request: client.Request, now_s: float
    ) -> list[Effect] | None:
        """What too much haste costs, a refusal or the connection; None: let it pass."""
        if isinstance(request, client.ConnectRequest | client.SendRequest):
            return None  # The door has a rate of its own; the other is refused anyhow.
        paces = self._terms.paces
        verdict = self._pace.judge(now_s)
        if verdict is Verdict.GOODBYE:
            return self.close(close_codes.TOO_MANY_REQUESTS)
        if isinstance(request, client.UnsubscribeRequest):
            return None  # An SDK that is refused this gives up its connection.
        if (
            verdict is Verdict.REFUSED
            or len(self._awaited) >= self._terms.in_flight_max
            or not paces.admits(self.user, now_s)
        ):
            paces.refused += 1
            return [_refusal(command, errors.TOO_MANY_REQUESTS)]
        return None

    def _perform(  # noqa: PLR0911, PLR0912, C901 - the protocol at a glance, a line a command
        self, command: int, request: client.Request, now_s: float
    ) -> list[Effect]:
        match request:
            case client.ConnectRequest():
                return self._connect(command, request, now_s)
            case client.SubscribeRequest():
                return self._subscribe(command, request)
            case client.UnsubscribeRequest():
                return self._unsubscribe(command, request)
            case client.PublishRequest():
                return self._publish(command, request)
            case client.HistoryRequest():
                return self._history(command, request)
            case client.RPCRequest():
                return self._rpc(command, request)
            case client.RefreshRequest():
                return self._refresh(command, request)
            case client.SubRefreshRequest():
                return self._sub_refresh(command, request)
            case client.PresenceRequest():
                ask = MembersAsk(0, request.channel)
                return self._ask_presence(command, request.channel, ask)
            case client.PresenceStatsRequest():
                counts = CountsAsk(0, request.channel)
                return self._ask_presence(command, request.channel, counts)
            case client.PingRequest():
                return self._bad("ping is the server's to send")
            case client.SendRequest():
                return self.close(close_codes.NOT_AVAILABLE.because("send"))
            case _:
                assert_never(request)

    @property
    def busy(self) -> bool:
        """Whether a command waits for its answer."""
        return bool(self._awaited)

    # -- Heard back from what was asked for -------------------------------------------

    def hear(  # noqa: C901 - a line for each thing that is awaited
        self, heard: Heard, now_s: float
    ) -> list[Effect]:
        """Hear the outcome of an earlier effect. `now_s` is Unix time."""
        awaited = self._awaited.pop(heard.id, None)
        if awaited is None:
            return []  # Asked for before the goodbye.
        match awaited:
            case Authenticating():
                effects = self._authenticated(awaited, heard, now_s)
            case Connecting():
                effects = self._connected(awaited, heard, now_s)
            case CheckingSubscription():
                effects = self._subscription_checked(awaited, heard, now_s)
            case Subscribing():
                effects = self._subscribed(awaited, heard, now_s)
            case SubscribingForServer():
                effects = self._subscribed_by_server(awaited, heard, now_s)
            case Publishing() | SendingMessage() | ReadingHistory():
                effects = self._answered(awaited, heard)
            case AskingPresence():
                effects = self._presence_told(awaited, heard)
            case AskingService():
                effects = self._service_told(awaited, heard)
            case Refreshing():
                effects = self._refreshed(awaited, heard, now_s)
            case RefreshingSubscription():
                effects = self._subscription_refreshed(awaited, heard, now_s)
            case _:
                assert_never(awaited)
        return effects

    def unsubscribe(self, channel: str, why: Unsubscribe) -> list[Effect]:
        """The server ends one subscription and tells the client why.

        A server-side subscription that lost its state cannot be resubscribed by the
        client, so the whole connection comes back instead.
        """
        self._grants = [one for one in self._grants if one.channel != channel]
        sub = self.subscriptions.get(channel)
        if sub is None:
            return []
        if not sub.joined:
            sub.revoked = why  # It may not stand, however soon it would.
            return []
        if sub.server_side and why.resubscribes:
            expired = why is close_codes.EXPIRED
            return self.close(
                close_codes.SUBSCRIPTION_EXPIRED
                if expired
                else close_codes.INSUFFICIENT_STATE
            )
        del self.subscriptions[channel]
        push = client.Push(
            channel=channel,
            unsubscribe=client.UnsubscribePush(why.code, why.reason),
        )
        clean = not why.resubscribes
        return [self._leave(channel, sub, clean=clean), fx.Tell(push)]

    def subscribe(self, grant: Grant) -> list[Effect]:
        """The server subscribes this connection; what stands already, stands.

        One that is still connecting is subscribed right after it is welcomed. Raises
        NotNow when it cannot be subscribed to anything more.
        """
        channel = grant.channel
        if not self.known:
            return []
        if channel in self.subscriptions:
            self.subscriptions[channel].revoked = None
            return []
        if self.state is State.CONNECTING:
            self._grants.append(grant)
            return []
        if len(self.subscriptions) >= self._terms.channels_max:
            raise NotNow(errors.LIMIT_EXCEEDED)
        self.subscriptions[channel] = Subscription(
            grant.options,
            server_side=True,
            expires_at_s=grant.expires_at_s,
            info=self._client_info(grant.info) if grant.info else b"",
            chan_info=grant.info,
            hearing=hearing_of(None, grant.options),
        )
        recovers = grant.options.durable and grant.options.recover
        want = Want(
            channel,
            grant.since if recovers else None,
            durable=grant.options.durable,
            newest_only=grant.options.cache_recovery,
        )
        awaited = self._await(SubscribingForServer(want, grant.data))
        return [fx.Watch(awaited, (want,))]

    def _subscribed_by_server(
        self, awaited: SubscribingForServer, heard: Heard, now_s: float
    ) -> list[Effect]:
        want = awaited.want
        channel = want.channel
        sub = self.subscriptions[channel]
        match heard:
            case fx.ChannelsReady(snapshots=[snapshot]):
                pass
            case fx.ChannelsFailed() | fx.Refused():
                # The client would never learn of it: let it come back and be asked again.
                return self.close(close_codes.INSUFFICIENT_STATE)
            case _:
                raise AssertionError(f"not an answer to a subscribe: {heard}")
        if want.since is not None and not snapshot.recovered:
            # What it has to see cannot be shown any more; say where the log goes on.
            want = Want(channel, durable=want.durable)
        result = result_of(sub, want, snapshot)
        data, b64data = in_either(awaited.data)
        told = client.SubscribePush(
            recoverable=result.recoverable,
            epoch=result.epoch,
            offset=result.offset,
            positioned=result.positioned,
            data=data,
            b64data=b64data,
        )
        sub.joined = True
        # The push has no place for what was missed, so it follows as if it came just now.
        missed = [client.Push(channel=channel, pub=one) for one in result.publications]
        return [
            fx.Tell(client.Push(channel=channel, subscribe=told)),
            *map(fx.Tell, missed),
            self._join(channel, sub),
            *self._revoke(channel, sub),
            *self._go_on(sub, now_s),
        ]

    def refresh(
        self, expires_at_s: float, info: bytes | None, now_s: float
    ) -> list[Effect]:
        """The server gives the connection another expiry; one in the past ends it."""
        if not self.known:
            return []
        if expires_at_s and expires_at_s <= now_s:
            return self.close(close_codes.CONNECTION_EXPIRED)
        self.expires_at_s = expires_at_s
        return self._introduce_as(info) if info is not None else []

    def _introduce_as(self, info: bytes) -> list[Effect]:
        """Others are shown another info from now on, wherever the client is."""
        if info == self._conn_info:
            return []
        self._conn_info = info
        self._info = self._client_info(b"")
        effects: list[Effect] = []
        for channel, sub in self.subscriptions.items():
            if sub.info:
                sub.info = self._client_info(sub.chan_info)
            effects += self._present_again(channel, sub)
        return effects

    def _introduce_in(
        self, channel: str, sub: Subscription, info: bytes
    ) -> list[Effect]:
        """Others are shown another info in this channel from now on."""
        if info == sub.chan_info:
            return []
        sub.chan_info, sub.info = info, self._client_info(info)
        return self._present_again(channel, sub)

    def _present_again(self, channel: str, sub: Subscription) -> list[Effect]:
        present = self._present(channel, sub) if sub.joined else None
        return [fx.TellPresence(present)] if present is not None else []

    # -- Expiry -----------------------------------------------------------------------

    def next_expiry_s(self) -> float | None:
        """Unix time at which `expire` has something to do, or None."""
        times = [s.expires_at_s for s in self.subscriptions.values() if s.expires_at_s]
        if self.expires_at_s:
            times.append(self.expires_at_s)
        return min(times) + REFRESH_GRACE_S if times else None

    def expire(self, now_s: float) -> list[Effect]:
        """End what was not refreshed in time."""
        if _over(self.expires_at_s, now_s):
            return self.close(close_codes.CONNECTION_EXPIRED)
        effects: list[Effect] = []
        for channel, sub in list(self.subscriptions.items()):
            if sub.joined and _over(sub.expires_at_s, now_s):
                effects += self.unsubscribe(channel, close_codes.EXPIRED)
        return effects

    # -- connect ----------------------------------------------------------------------

    def _connect(
        self, command: int, request: client.ConnectRequest, now_s: float
    ) -> list[Effect]:
        if self.state is not State.GREETING:
            return self._bad("already connected")
        self.state = State.CONNECTING
        if request.token:
            awaited = self._await(Authenticating(command, request))
            return [fx.VerifyConnectionToken(awaited, request.token)]
        if not (self._policy.anonymous or self._policy.insecure):
            return self.close(close_codes.BAD_REQUEST.because("a token is required"))
        nobody = ConnectionClaims(user="")
        return self._welcome(command, request, nobody, now_s)

    def _authenticated(
        self, awaited: Authenticating, heard: Heard, now_s: float
    ) -> list[Effect]:
        match heard:
            case fx.TokenAccepted():
                return self._welcome(
                    awaited.command, awaited.request, heard.claims, now_s
                )
            case fx.TokenExpired():
                return self._refuse_connect(awaited.command, errors.TOKEN_EXPIRED)
            case fx.TokenRefused():
                return self.close(close_codes.INVALID_TOKEN.because(heard.reason))
            case fx.Refused():
                return self._refuse_connect(awaited.command, heard.error)
            case _:
                raise AssertionError(f"not an answer to a token check: {heard}")

    def _welcome(
        self,
        command: int,
        request: client.ConnectRequest,
        claims: ConnectionClaims,
        now_s: float,
    ) -> list[Effect]:
        if is_agent(claims.user):
            # Whoever has such a name is believed to be one, by clients and services.
            reason = "names of agents are not for clients"
            return self.close(close_codes.PERMISSION_DENIED.because(reason))
        self.user, self.known = claims.user, True
        self.role = self._policy.role_of(claims)
        self.expires_at_s = claims.expire_at
        self._conn_info = claims.info
        self._info = self._client_info(b"")
        names = list(
            dict.fromkeys(
                [
                    *self._policy.personal_channels(self.user),
                    *claims.channels,
                    *claims.subs,
                ]
            )
        )
        if len(names) > self._terms.channels_max:
            return self.close(close_codes.CHANNEL_LIMIT)
        wants: list[Want] = []
        for name in names:
            options = self._policy.options(name)
            if options is None or channels.refusal(name):
                return self.close(
                    close_codes.BAD_REQUEST.because("token names an unknown channel")
                )
            said = claims.subs.get(name, NOTHING_SAID)
            options = overridden(options, said.override)
            wanted = request.subs.get(name)
            if wanted is not None and refuses_wishes(wanted, options):
                # Nobody is turned away for a wish about what the server decides.
                wanted = msgspec.structs.replace(wanted, tf=None)
            heard = hearing_of(wanted, options)
            wants.append(want_of(name, options, wanted, heard))
            self.subscriptions[name] = Subscription(
                options,
                server_side=True,
                info=self._client_info(said.info) if said.info else b"",
                chan_info=said.info,
                data=said.data,
                hearing=heard,
            )
        awaited = self._await(Connecting(command, tuple(wants)))
        if not wants:
            return self.hear(fx.ChannelsReady(awaited, []), now_s)
        return [fx.Watch(awaited, tuple(wants))]

    def _connected(
        self, awaited: Connecting, heard: Heard, now_s: float
    ) -> list[Effect]:
        match heard:
            case fx.ChannelsReady():
                pass
            case fx.ChannelsFailed() | fx.Refused():
                return self._refuse_connect(awaited.command, heard.error)
            case _:
                raise AssertionError(f"not an answer to a connect: {heard}")
        results: dict[str, SubscribeResult] = {}
        joins: list[Effect] = []
        for want, snapshot in zip(awaited.wants, heard.snapshots, strict=True):
            sub = self.subscriptions[want.channel]
            sub.joined = True
            results[want.channel] = result_of(sub, want, snapshot)
            joins.append(self._join(want.channel, sub))
        terms = self._terms
        result = client.ConnectResult(
            client=self.client_id,
            version=terms.version,
            data=terms.connect_data,
            subs=results,
        )
        if self._says_pings and terms.ping_interval_s:
            result.ping, result.pong = terms.ping_interval_s, terms.pong
        if self.session_id:
            result.session, result.node = self.session_id, terms.node
        if self.expires_at_s:
            result.expires = True
            result.ttl = _ttl(self.expires_at_s, now_s)
        self.state = State.READY
        effects: list[Effect] = [fx.Send(Reply(awaited.command, connect=result))]
        effects += joins
        for channel, sub in list(self.subscriptions.items()):
            effects += self._revoke(channel, sub)
        effects += self._subscribe_granted()
        while self._waiting and self.state is State.READY:
            self._held -= 1
            self._receive_one(self._waiting.popleft(), now_s, effects)
        return effects

    def _subscribe_granted(self) -> list[Effect]:
        """Do what the server wanted while the connect was being decided."""
        grants, self._grants = self._grants, []
        effects: list[Effect] = []
        for grant in grants:
            # Whoever asked is told that it does not stand.
            with contextlib.suppress(NotNow):
                effects += self.subscribe(grant)
        return effects

    def _refuse_connect(self, command: int, error: ErrorReply) -> list[Effect]:
        self.state = State.REFUSED
        self.known = False
        self._waiting.clear()
        self.subscriptions.clear()
        return [_refusal(command, error)]

    # -- subscribe, unsubscribe -------------------------------------------------------

    def _subscribe(  # noqa: PLR0911 - one line for each refusal
        self, command: int, request: client.SubscribeRequest
    ) -> list[Effect]:
        channel = request.channel
        if not channel:
            return self._bad("subscribe without a channel")
        pending = self.subscriptions.get(channel)
        if pending is not None and pending.behind:
            # It was unsubscribed meanwhile, so this begins a new subscription.
            return self._wait_behind(pending, command, request)
        refused = self._refuses_subscribe(request)
        if refused is not None:
            return [_refusal(command, refused)]
        if request.token:
            options = self._policy.options(channel)
            if options is None:
                return [_refusal(command, errors.UNKNOWN_CHANNEL)]
            # The name is taken while its token is checked: a second subscribe is refused.
            self.subscriptions[channel] = Subscription(options, allowed=False)
            awaited = self._await(CheckingSubscription(command, request))
            return [fx.VerifySubscriptionToken(awaited, request.token)]
        refused = self._policy.refuses_subscribe(channel, self.user)
        if refused is not None:
            return [_refusal(command, refused)]
        options = self._policy.options(channel)
        if options is None:
            return [_refusal(command, errors.UNKNOWN_CHANNEL)]
        refused = refuses_wishes(request, options)
        if refused is not None:
            return [_refusal(command, refused)]
        sub = self.subscriptions[channel] = Subscription(options)
        return self._watch(command, request, sub)

    def _refuses_subscribe(self, request: client.SubscribeRequest) -> ErrorReply | None:
        channel = request.channel
        reason = channels.refusal(channel)
        if reason is not None:
            return errors.because(errors.BAD_REQUEST, reason)
        if channel in self.subscriptions:
            return errors.ALREADY_SUBSCRIBED
        if len(self.subscriptions) >= self._terms.channels_max:
            return errors.LIMIT_EXCEEDED
        if request.type != client.SubscriptionType.STREAM:
            return errors.because(errors.NOT_AVAILABLE, "only stream subscriptions")
        if request.offset < 0 or request.offset > limits.OFFSET_MAX:
            return errors.because(errors.BAD_REQUEST, "offset out of range")
        return None

    def _subscription_checked(
        self, awaited: CheckingSubscription, heard: Heard, now_s: float
    ) -> list[Effect]:
        request = awaited.request
        match heard:
            case fx.SubscriptionTokenAccepted():
                claims = heard.claims
                if claims.channel != request.channel or not self._own(claims):
                    return self.close(
                        close_codes.INVALID_TOKEN.because("for another subscription")
                    )
                sub = self.subscriptions[request.channel]
                sub.allowed = sub.by_token = True
                sub.expires_at_s = claims.expire_at
                sub.options = overridden(sub.options, claims.override)
                sub.data, sub.chan_info = claims.data, claims.info
                if claims.info:
                    sub.info = self._client_info(claims.info)
                refused = refuses_wishes(request, sub.options)
                if refused is None:
                    return self._watch(awaited.command, request, sub)
                error = refused
            case fx.TokenExpired():
                error = errors.TOKEN_EXPIRED
            case fx.TokenRefused():
                error = errors.because(errors.PERMISSION_DENIED, heard.reason)
            case fx.Refused():
                error = heard.error
            case _:
                raise AssertionError(f"not an answer to a token check: {heard}")
        return self._abandon(request.channel, awaited.command, error, now_s)

    def _own(self, claims: SubscriptionClaims) -> bool:
        bound_elsewhere = claims.client and claims.client != self.client_id
        return claims.user == self.user and not bound_elsewhere

    def _watch(
        self,
        command: int,
        request: client.SubscribeRequest,
        sub: Subscription,
    ) -> list[Effect]:
        sub.hearing = hearing_of(request, sub.options)
        want = want_of(request.channel, sub.options, request, sub.hearing)
        awaited = self._await(Subscribing(command, request, want))
        return [fx.Watch(awaited, (want,))]

    def _subscribed(
        self, awaited: Subscribing, heard: Heard, now_s: float
    ) -> list[Effect]:
        channel = awaited.want.channel
        match heard:
            case fx.ChannelsReady():
                (snapshot,) = heard.snapshots
            case fx.ChannelsFailed() | fx.Refused():
                return self._abandon(channel, awaited.command, heard.error, now_s)
            case _:
                raise AssertionError(f"not an answer to a subscribe: {heard}")
        must_recover = awaited.request.flag & client.REJECT_UNRECOVERED
        if must_recover and awaited.want.since is not None and not snapshot.recovered:
            return self._abandon(
                channel, awaited.command, errors.UNRECOVERABLE_POSITION, now_s
            )
        sub = self.subscriptions[channel]
        result = result_of(sub, awaited.want, snapshot)
        if sub.expires_at_s:
            result.expires = True
            result.ttl = _ttl(sub.expires_at_s, now_s)
        sub.joined = True
        effects: list[Effect] = [
            fx.Send(Reply(awaited.command, subscribe=result)),
            self._join(channel, sub),
            *self._revoke(channel, sub),
        ]
        return effects + self._go_on(sub, now_s)

    def _revoke(self, channel: str, sub: Subscription) -> list[Effect]:
        """End what the server has ended while it was being made."""
        return self.unsubscribe(channel, sub.revoked) if sub.revoked else []

    def _abandon(
        self, channel: str, command: int, error: ErrorReply, now_s: float
    ) -> list[Effect]:
        sub = self.subscriptions.pop(channel)
        return [_refusal(command, error), *self._go_on(sub, now_s)]

    def _wait_behind(
        self, sub: Subscription, command: int, request: client.Request
    ) -> list[Effect]:
        if self._held >= COMMANDS_WAITING_MAX:
            return self.close(close_codes.TOO_MANY_REQUESTS)
        self._held += 1
        sub.behind.append((command, request))
        return []

    def _go_on(self, sub: Subscription, now_s: float) -> list[Effect]:
        """Perform what waited behind a subscribe, now that it is decided."""
        behind, sub.behind = sub.behind, []
        self._held -= len(behind)
        effects: list[Effect] = []
        for command, request in behind:
            if self.state is not State.READY:
                break
            effects += self._perform(command, request, now_s)
        return effects

    def _unsubscribe(
        self, command: int, request: client.UnsubscribeRequest
    ) -> list[Effect]:
        channel = request.channel
        if not channel:
            return self._bad("unsubscribe without a channel")
        sub = self.subscriptions.get(channel)
        if sub is not None and not sub.joined:
            return self._wait_behind(sub, command, request)
        effects: list[Effect] = []
        if sub is not None:
            del self.subscriptions[channel]
            effects.append(self._leave(channel, sub, clean=True))
        reply = Reply(command, unsubscribe=client.UnsubscribeResult())
        return [*effects, fx.Send(reply)]

    # -- publish, rpc, history --------------------------------------------------------

    def _publish(self, command: int, request: client.PublishRequest) -> list[Effect]:
        channel = request.channel
        if not channel or not request.data:
            return self._bad("publish without a channel or data")
        refused = self._refuses_publish(channel)
        if refused is not None:
            return [_refusal(command, refused)]
        options = self._policy.options(channel)
        data, info = bytes(request.data), self._info_in(channel)
        reason = payloads.refuses(data, options)
        if reason is not None:
            return [_refusal(command, errors.because(errors.BAD_REQUEST, reason))]
        awaited = self._await(Publishing(command))
        typed = self._end_typing(channel)
        if options is None or not options.durable:
            live = LivePublication(data, info)
            return [*typed, fx.Emit(awaited, channel, live)]
        publish = PublishCommand(
            channel, self._terms.new_id(), data, info=info, user=self.user
        )
        return [*typed, fx.Commit(awaited, publish)]

    def _refuses_publish(self, channel: str) -> ErrorReply | None:
        reason = channels.refusal(channel)
        if reason is not None:
            return errors.because(errors.BAD_REQUEST, reason)
        return self._policy.refuses_publish(channel, self.user, self._seat_in(channel))

    def _seat_in(self, channel: str) -> Seat:
        """By a subscription that stands, or is only waiting for the channel."""
        sub = self.subscriptions.get(channel)
        if sub is None or not sub.allowed:
            return Seat.NONE
        return Seat.GRANTED if sub.server_side or sub.by_token else Seat.TAKEN

    def _rpc(  # noqa: PLR0911 - a line a call
        self, command: int, request: client.RPCRequest
    ) -> list[Effect]:
        try:
            match request.method:
                case Call.SEND:
                    return self._send_message(command, request.data)
                case Call.TYPING:
                    return self._type(command, request.data)
                case Call.MEMBERS:
                    page = attendance.members_page(request.data)
                    return self._ask_presence(command, page.channel, page, rpc=True)
                case Call.USER:
                    asked = attendance.where_is(request.data, self.user)
                    return self._ask(command, asked, rpc=True)
                case Call.STATUS:
                    said = attendance.status(request.data, self.user)
                    return self._ask(command, said, rpc=True)
                case _:
                    return self._ask_service(command, request)
        except BadBody as bad:
            return [_refusal(command, errors.because(errors.BAD_REQUEST, str(bad)))]
        except attendance.NotTheirs:
            return [_refusal(command, errors.PERMISSION_DENIED)]

    def _ask_service(self, command: int, request: client.RPCRequest) -> list[Effect]:
        """Forward what is none of a gateway's business. Raises BadBody."""
        method, data = request.method, request.data
        service = forwarding.service_of(method)
        if service is None:
            return [_refusal(command, forwarding.unanswered(method))]
        body = forwarding.about(method, data)
        sub = self.subscriptions.get(body.channel)
        joined = sub is not None and sub.joined
        refused = forwarding.refuses(method, body.channel, self.user, joined=joined)
        if refused is None and self._calls >= limits.SERVICE_CALLS_PER_CONNECTION_MAX:
            refused = errors.TOO_MANY_REQUESTS
        if refused is not None:
            return [_refusal(command, refused)]
        self._calls += 1
        call = ServiceCall(
            request=0,
            reply_to="",
            method=method,
            channel=body.channel,
            user=self.user,
            client=self.client_id,
            role=self.role,
            data=bytes(data) or b"{}",
            deadline_ms=0,
            traceparent=body.traceparent,
        )
        return [fx.AskService(self._await(AskingService(command)), service, call)]

    def _service_told(self, awaited: AskingService, heard: Heard) -> list[Effect]:
        self._calls -= 1
        match heard:
            case fx.Refused():
                return [_refusal(awaited.command, heard.error)]
            case fx.ServiceTold():
                result = client.RPCResult(heard.data)
                return [fx.Send(Reply(awaited.command, rpc=result))]
            case _:
                raise AssertionError(f"not an answer of a service: {heard}")

    def _send_message(self, command: int, data: Raw) -> list[Effect]:
        message = message_of(data)
        refused = self._refuses_publish(message.channel)
        if refused is not None:
            return [_refusal(command, refused)]
        options = self._policy.options(message.channel)
        if options is None or not options.durable:
            reason = "messages need a durable channel"
            return [_refusal(command, errors.because(errors.NOT_AVAILABLE, reason))]
        awaited = self._await(SendingMessage(command, message.id))
        publish = PublishCommand(
            message.channel,
            message.id,
            message.body,
            info=self._info_in(message.channel),
            user=self.user,
            traceparent=message.traceparent,
        )
        return [*self._end_typing(message.channel), fx.Commit(awaited, publish)]

    # -- presence ---------------------------------------------------------------------

    def _ask_presence(
        self, command: int, channel: str, ask: PresenceAsk, *, rpc: bool = False
    ) -> list[Effect]:
        if not channel:
            return self._bad("presence without a channel")
        refused = self._refuses_presence(channel)
        if refused is not None:
            return [_refusal(command, refused)]
        return self._ask(command, ask, rpc=rpc)

    def _refuses_presence(self, channel: str) -> ErrorReply | None:
        reason = channels.refusal(channel)
        if reason is not None:
            return errors.because(errors.BAD_REQUEST, reason)
        sub = self.subscriptions.get(channel)
        options = sub.options if sub is not None else self._policy.options(channel)
        if options is not None and not options.presence:
            return errors.NOT_AVAILABLE
        return self._policy.refuses_presence(channel, self.user, self._seat_in(channel))

    def _ask(self, command: int, ask: PresenceAsk, *, rpc: bool) -> list[Effect]:
        awaited = self._await(AskingPresence(command, isinstance(ask, CountsAsk), rpc))
        return [fx.AskPresence(awaited, ask)]

    def _presence_told(self, awaited: AskingPresence, heard: Heard) -> list[Effect]:
        command = awaited.command
        match heard:
            case fx.Refused():
                return [_refusal(command, heard.error)]
            case fx.PresenceTold(answer=answer):
                reply = attendance.answered(
                    command, answer, counts=awaited.counts, rpc=awaited.rpc
                )
                return [fx.Send(reply)]
            case _:
                raise AssertionError(f"not an answer of presence: {heard}")

    def _type(self, command: int, data: Raw) -> list[Effect]:
        body = body_of(data, bodies.Typing)
        sub = self.subscriptions.get(body.channel)
        if sub is None or not sub.joined or not self.user:
            return [_refusal(command, errors.PERMISSION_DENIED)]
        if not sub.options.presence:
            return [_refusal(command, errors.NOT_AVAILABLE)]
        sub.typing = body.typing
        done = fx.Send(Reply(command, rpc=client.RPCResult(Raw(b"{}"))))
        return [fx.TellPresence(Active(body.channel, self.user, body.typing)), done]

    def _end_typing(self, channel: str) -> list[Effect]:
        """What was typed is said: nobody shall be shown typing for the lease's rest."""
        sub = self.subscriptions.get(channel)
        if sub is None or not sub.typing:
            return []
        sub.typing = False
        return [fx.TellPresence(Active(channel, self.user, active=False))]

    # -- history ----------------------------------------------------------------------

    def _history(self, command: int, request: client.HistoryRequest) -> list[Effect]:
        channel = request.channel
        if not channel:
            return self._bad("history without a channel")
        refused = self._refuses_history(request)
        if refused is not None:
            return [_refusal(command, refused)]
        awaited = self._await(ReadingHistory(command))
        limit = limits.PAGE_ENTRIES_MAX if request.limit < 0 else request.limit
        return [
            fx.ReadPage(
                awaited,
                channel,
                min(limit, limits.PAGE_ENTRIES_MAX),
                request.since,
                request.reverse,
            )
        ]

    def _refuses_history(self, request: client.HistoryRequest) -> ErrorReply | None:
        channel = request.channel
        reason = channels.refusal(channel)
        if reason is not None:
            return errors.because(errors.BAD_REQUEST, reason)
        options = self._policy.options(channel)
        if options is not None and not options.durable:
            return errors.NOT_AVAILABLE
        refused = self._policy.refuses_history(
            channel, self.user, self._seat_in(channel)
        )
        if refused is not None:
            return refused
        since = request.since
        if since is not None:
            if not 0 <= since.offset <= limits.OFFSET_MAX:
                return errors.because(errors.BAD_REQUEST, "offset out of range")
            if request.reverse and since.offset == 0:
                return errors.because(errors.BAD_REQUEST, "nothing is before offset 0")
        return None

    def _answered(
        self, awaited: Publishing | SendingMessage | ReadingHistory, heard: Heard
    ) -> list[Effect]:
        command = awaited.command
        match heard, awaited:
            case fx.Refused(), _:
                return [_refusal(command, heard.error)]
            case fx.Committed(), SendingMessage(message=message):
                sent = _MessageSent(heard.offset, message, heard.at_ms)
                data = Raw(_json.encode(sent))
                return [fx.Send(Reply(command, rpc=client.RPCResult(data)))]
            case ((fx.Committed() | fx.Emitted()), _):
                return [fx.Send(Reply(command, publish=client.PublishResult()))]
            case fx.PageRead(), _:
                page = client.HistoryResult(
                    heard.publications, heard.epoch, heard.offset
                )
                return [fx.Send(Reply(command, history=page))]
            case _:
                raise AssertionError(f"not an answer to {awaited}: {heard}")

    # -- refresh ----------------------------------------------------------------------

    def _refresh(self, command: int, request: client.RefreshRequest) -> list[Effect]:
        if not request.token:
            return self._bad("refresh without a token")
        awaited = self._await(Refreshing(command))
        return [fx.VerifyConnectionToken(awaited, request.token)]

    def _refreshed(
        self, awaited: Refreshing, heard: Heard, now_s: float
    ) -> list[Effect]:
        match heard:
            case fx.TokenAccepted(claims=claims):
                if claims.user != self.user:
                    return self.close(
                        close_codes.INVALID_TOKEN.because("for another user")
                    )
                self.expires_at_s = claims.expire_at
                self.role = self._policy.role_of(claims)
                # A token that says nothing of it leaves what is shown.
                told = self._introduce_as(claims.info) if claims.info else []
                result = client.RefreshResult(
                    client=self.client_id, version=self._terms.version
                )
                if self.expires_at_s:
                    result.expires = True
                    result.ttl = _ttl(self.expires_at_s, now_s)
                return [fx.Send(Reply(awaited.command, refresh=result)), *told]
            case fx.TokenExpired():
                return self.close(close_codes.CONNECTION_EXPIRED)
            case fx.TokenRefused():
                return self.close(close_codes.INVALID_TOKEN.because(heard.reason))
            case fx.Refused():
                return [_refusal(awaited.command, heard.error)]
            case _:
                raise AssertionError(f"not an answer to a token check: {heard}")

    def _sub_refresh(
        self, command: int, request: client.SubRefreshRequest
    ) -> list[Effect]:
        if not request.token:
            return self._bad("sub_refresh without a token")
        # An early release of one SDK leaves the channel out; its token names it.
        if request.channel and request.channel not in self.subscriptions:
            return [
                _refusal(command, errors.because(errors.BAD_REQUEST, "not subscribed"))
            ]
        awaited = self._await(RefreshingSubscription(command, request.channel))
        return [fx.VerifySubscriptionToken(awaited, request.token)]

    def _subscription_refreshed(
        self, awaited: RefreshingSubscription, heard: Heard, now_s: float
    ) -> list[Effect]:
        match heard:
            case fx.SubscriptionTokenAccepted(claims=claims):
                channel = awaited.channel or claims.channel
                if claims.channel != channel or not self._own(claims):
                    return self.close(
                        close_codes.INVALID_TOKEN.because("for another subscription")
                    )
                sub = self.subscriptions.get(channel)
                if sub is None:
                    reason = errors.because(errors.BAD_REQUEST, "not subscribed")
                    return [_refusal(awaited.command, reason)]
                sub.expires_at_s = claims.expire_at
                # A token that says nothing of it leaves what is shown.
                told = (
                    self._introduce_in(channel, sub, claims.info) if claims.info else []
                )
                result = client.SubRefreshResult()
                if sub.expires_at_s:
                    result.expires = True
                    result.ttl = _ttl(sub.expires_at_s, now_s)
                return [fx.Send(Reply(awaited.command, sub_refresh=result)), *told]
            case fx.TokenExpired():
                return [_refusal(awaited.command, errors.TOKEN_EXPIRED)]
            case fx.TokenRefused():
                reason = errors.because(errors.PERMISSION_DENIED, heard.reason)
                return [_refusal(awaited.command, reason)]
            case fx.Refused():
                return [_refusal(awaited.command, heard.error)]
            case _:
                raise AssertionError(f"not an answer to a token check: {heard}")

    # -- Joining and leaving ----------------------------------------------------------

    def _join(self, channel: str, sub: Subscription) -> Effect:
        return fx.Join(channel, sub.hearing, self._present(channel, sub))

    def _present(self, channel: str, sub: Subscription) -> Joined | None:
        """What presence is told of this connection, where the channel has presence."""
        if not (sub.options.presence or sub.options.join_leave):
            return None
        return Joined(
            channel,
            self.client_id,
            self.user,
            self._conn_info,
            sub.chan_info,
            announce=sub.options.join_leave,
        )

    def _leave(self, channel: str, sub: Subscription, *, clean: bool) -> Effect:
        absent = None
        if sub.options.presence or sub.options.join_leave:
            absent = Left(channel, self.client_id, clean)
        return fx.Leave(channel, absent)

    # -- Small parts ------------------------------------------------------------------

    def _await(self, awaited: Awaited) -> int:
        self._last_id += 1
        self._awaited[self._last_id] = awaited
        return self._last_id

    def _bad(self, reason: str) -> list[Effect]:
        return self.close(close_codes.BAD_REQUEST.because(reason))

    def _oversized(self, oversized: OversizedCommand) -> list[Effect]:
        if self.state is not State.READY or not oversized.id:
            return self._bad(str(oversized))
        return [
            _refusal(oversized.id, errors.because(errors.TOO_LARGE, str(oversized)))
        ]

    def _info_in(self, channel: str) -> bytes:
        sub = self.subscriptions.get(channel)
        return sub.info if sub is not None and sub.info else self._info

    def _client_info(self, channel_info: bytes) -> bytes:
        return encode_info(
            client_info(self.user, self.client_id, self._conn_info, channel_info)
        )


def _refusal(command: int, error: ErrorReply) -> Effect:
    return fx.Send(Reply(command, error=error))


def _ttl(expires_at_s: float, now_s: float) -> int:
    return max(1, min(int(expires_at_s - now_s), limits.TTL_S_MAX))


def _over(expires_at_s: float, now_s: float) -> bool:
    return bool(expires_at_s) and now_s >= expires_at_s + REFRESH_GRACE_S
