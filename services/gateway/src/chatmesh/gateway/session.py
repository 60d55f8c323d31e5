"""The rules of one connection: what each command means, and what may come back.

A session hears frames of commands and the outcomes of what it asked for, and answers
with effects. It awaits nothing, reads no clock and knows no socket: time is an argument,
and whoever runs it performs the effects in order, without a pause between them.

What each command means stands in `rules`, a module for each kind; here is what is common
to all: order, haste, and who is asked.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from chatmesh.gateway.awaited import (
    AskingPresence,
    AskingService,
    Authenticating,
    CheckingSubscription,
    Connecting,
    OfSubscription,
    Publishing,
    ReadingHistory,
    Refreshing,
    RefreshingSubscription,
    SendingMessage,
    Subscribing,
    SubscribingForServer,
)
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.pace import Pace, Verdict
from chatmesh.gateway.rules import (
    calls,
    connect,
    grants,
    history,
    order,
    presence,
    publish,
    refresh,
    subscribe,
)
from chatmesh.gateway.rules.footing import (
    COMMANDS_WAITING_MAX,
    Footing,
    Received,
    State,
    refusal,
)
from chatmesh.gateway.subscriptions import Grant, Subscription
from chatmesh.gateway.terms import Terms
from chatmesh.wire import client, close_codes, errors, limits
from chatmesh.wire.client_json import OversizedCommand
from chatmesh.wire.close_codes import Unsubscribe
from chatmesh.wire.presence import CountsAsk, MembersAsk

WAITING_BYTES_MAX: Final = 4 * limits.COMMAND_BYTES_MAX
"""What the frames may weigh whose commands wait: SDKs send a connect and what follows."""


class Session(Footing):
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
        super().__init__(
            terms, client_id=client_id, session_id=session_id, says_pings=says_pings
        )
        self._pace = Pace(terms.paces.connection)
        self._held_bytes = 0

    # -- Heard from the client --------------------------------------------------------

    def receive(
        self, frame: Sequence[Received], now_s: float, size: int = 0
    ) -> list[Effect]:
        """Hear one frame's commands, in order. `now_s` is Unix time, `size` bytes."""
        if self.state is State.REFUSED:
            return self.close(close_codes.BAD_REQUEST.because("connect was refused"))
        effects: list[Effect] = []
        held = self.held
        if not held:
            self._held_bytes = 0
        for command in frame:
            self._receive_one(command, now_s, effects)
        if self.held > held:
            self._held_bytes += size
            if self._held_bytes > WAITING_BYTES_MAX:
                effects += self.close(close_codes.TOO_MANY_REQUESTS)
        return effects

    def malformed(self, reason: str) -> list[Effect]:
        """Hear that a frame could not be read."""
        return self.bad(reason)

    def _receive_one(  # noqa: PLR0911 - one line for each thing that may be wrong
        self, received: Received, now_s: float, effects: list[Effect]
    ) -> None:
        if self.state in {State.CLOSED, State.REFUSED}:
            return
        if self.state is State.CONNECTING:
            if self.held >= COMMANDS_WAITING_MAX:
                effects += self.close(close_codes.TOO_MANY_REQUESTS)
                return
            self.held += 1
            self.waiting.append(received)
            return
        if isinstance(received, OversizedCommand):
            effects += self._oversized(received)
            return
        request = client.request_of(received)
        if request is None:
            if received.id:
                effects += self.bad("no known request in the command")
            return  # An empty command is a pong; the wheel has noted it.
        if not received.id and not isinstance(request, client.SendRequest):
            effects += self.bad("command without an id")
            return
        if self.state is State.GREETING and not isinstance(
            request, client.ConnectRequest
        ):
            effects += self.bad("the first command must be connect")
            return
        hasty = self._judge(received.id, request, now_s)
        if hasty is None:
            hasty = self._in_order(received.id, request, now_s)
        effects += hasty

    def _oversized(self, oversized: OversizedCommand) -> list[Effect]:
        if self.state is not State.READY or not oversized.id:
            return self.bad(str(oversized))
        return [refusal(oversized.id, errors.because(errors.TOO_LARGE, str(oversized)))]

    def _judge(
        self, command: int, request: client.Request, now_s: float
    ) -> list[Effect] | None:
        """What too much haste costs, a refusal or the connection; None: let it pass."""
        if isinstance(request, client.ConnectRequest | client.SendRequest):
            return None  # The door has a rate of its own; the other is refused anyhow.
        paces = self.terms.paces
        verdict = self._pace.judge(now_s)
        if verdict is Verdict.GOODBYE:
            return self.close(close_codes.TOO_MANY_REQUESTS)
        if isinstance(request, client.UnsubscribeRequest):
            return None  # An SDK that is refused this gives up its connection.
        if (
            verdict is Verdict.REFUSED
            or len(self.awaited) + self.held >= self.terms.in_flight_max
            or not paces.admits(self.user, now_s)
        ):
            paces.refused += 1
            return [refusal(command, errors.TOO_MANY_REQUESTS)]
        return None

    def _in_order(
        self, command: int, request: client.Request, now_s: float
    ) -> list[Effect]:
        """Perform a command, or let it wait for the subscribe that decides on it."""
        before = order.waits_for(self, request) if self.deciding else None
        if before is not None:
            return self.wait_behind(before, command, request)
        return self._perform(command, request, now_s)

    def _perform(  # noqa: PLR0911, PLR0912, C901 - the protocol at a glance, a line a command
        self, command: int, request: client.Request, now_s: float
    ) -> list[Effect]:
        match request:
            case client.ConnectRequest():
                begun = connect.begin(self, command, request, now_s)
                return self._go_ahead(begun, now_s)
            case client.SubscribeRequest():
                return subscribe.begin(self, command, request)
            case client.UnsubscribeRequest():
                return subscribe.unsubscribe(self, command, request)
            case client.PublishRequest():
                return publish.publish(self, command, request, now_s)
            case client.HistoryRequest():
                return history.read(self, command, request)
            case client.RPCRequest():
                return calls.call(self, command, request, now_s)
            case client.RefreshRequest():
                return refresh.renew_connection(self, command, request)
            case client.SubRefreshRequest():
                return refresh.renew_subscription(self, command, request)
            case client.PresenceRequest():
                ask = MembersAsk(0, request.channel)
                return presence.ask_about(self, command, request.channel, ask)
            case client.PresenceStatsRequest():
                counts = CountsAsk(0, request.channel)
                return presence.ask_about(self, command, request.channel, counts)
            case client.PingRequest():
                return self.bad("ping is the server's to send")
            case client.SendRequest():
                return self.close(close_codes.NOT_AVAILABLE.because("send"))
            case _:
                assert_never(request)

    @property
    def busy(self) -> bool:
        """Whether a command waits for its answer."""
        return bool(self.awaited)

    # -- Heard back from what was asked for -------------------------------------------

    def hear(  # noqa: C901 - a line for each thing that is awaited
        self, heard: Heard, now_s: float
    ) -> list[Effect]:
        """Hear the outcome of an earlier effect. `now_s` is Unix time."""
        awaited = self.awaited.pop(heard.id, None)
        if awaited is None:
            return []  # Asked for before the goodbye.
        self.deciding -= isinstance(awaited, OfSubscription)
        match awaited:
            case Authenticating():
                effects = connect.authenticated(self, awaited, heard, now_s)
                effects = self._go_ahead(effects, now_s)
            case Connecting():
                effects = connect.connected(self, awaited, heard, now_s)
                effects = self._go_ahead(effects, now_s)
            case CheckingSubscription() | Subscribing() | SubscribingForServer():
                effects = self._hear_of_subscription(awaited, heard, now_s)
            case Publishing() | SendingMessage():
                effects = publish.published(awaited, heard)
            case ReadingHistory():
                effects = history.told(awaited, heard)
            case AskingPresence():
                effects = presence.told(awaited, heard)
            case AskingService():
                effects = calls.service_told(self, awaited, heard)
            case Refreshing():
                effects = refresh.connection_renewed(self, awaited, heard, now_s)
            case RefreshingSubscription():
                effects = refresh.subscription_renewed(self, awaited, heard, now_s)
            case _:
                assert_never(awaited)
        return effects

    def _hear_of_subscription(
        self,
        awaited: CheckingSubscription | Subscribing | SubscribingForServer,
        heard: Heard,
        now_s: float,
    ) -> list[Effect]:
        sub = self.subscriptions[awaited.channel]
        match awaited:
            case CheckingSubscription():
                effects = subscribe.checked(self, awaited, heard)
            case Subscribing():
                effects = subscribe.subscribed(self, awaited, heard, now_s)
            case SubscribingForServer():
                effects = grants.granted(self, awaited, heard)
        if sub.joined or self.subscriptions.get(awaited.channel) is not sub:
            effects += self._go_on(sub, now_s)
        return effects

    def _go_ahead(self, effects: list[Effect], now_s: float) -> list[Effect]:
        """Perform what waited for the connect, once that stands."""
        while self.waiting and self.state is State.READY:
            self._let_go(1)
            self._receive_one(self.waiting.popleft(), now_s, effects)
        return effects

    def _go_on(self, sub: Subscription, now_s: float) -> list[Effect]:
        """Perform what waited behind a subscribe, now that it is decided."""
        behind, sub.behind = sub.behind, []
        self._let_go(len(behind))
        effects: list[Effect] = []
        for command, request in behind:
            if self.state is not State.READY:
                break
            effects += self._in_order(command, request, now_s)
        return effects

    def _let_go(self, commands: int) -> None:
        """So many wait no longer; each weighs what they do on average."""
        if commands:
            self._held_bytes -= self._held_bytes * commands // self.held
            self.held -= commands

    # -- What the server wants ----------------------------------------------------------

    def subscribe(self, grant: Grant) -> list[Effect]:
        """The server subscribes this connection. Raises NotNow; see `rules.grants`."""
        return grants.grant(self, grant)

    def unsubscribe(self, channel: str, why: Unsubscribe) -> list[Effect]:
        """The server ends one subscription and tells the client why."""
        return grants.withdraw(self, channel, why)

    def refresh(
        self, expires_at_s: float, info: bytes | None, now_s: float
    ) -> list[Effect]:
        """The server gives the connection another expiry; one in the past ends it."""
        return refresh.by_server(self, expires_at_s, info, now_s)

    def next_expiry_s(self) -> float | None:
        """Unix time at which `expire` has something to do, or None."""
        return refresh.next_expiry_s(self)

    def expire(self, now_s: float) -> list[Effect]:
        """End what was not refreshed in time."""
        return refresh.expire(self, now_s)
