"""One gateway: what its connections ask for, done; what the broker says, heard.

Sessions ask with effects, the broker answers with messages, and this is where the two
meet. Everything runs in one thread and nothing here waits, so between a snapshot and the
join that follows it nothing can happen.
"""

import functools
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, assert_never

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway import effects as fx
from chatmesh.gateway.codecs import ClientCodec
from chatmesh.gateway.commits import Commits, Result
from chatmesh.gateway.connection import Connection, Flusher
from chatmesh.gateway.effects import Effect, Want
from chatmesh.gateway.feed import Feed, Standing
from chatmesh.gateway.fences import Fences
from chatmesh.gateway.hearing import matches
from chatmesh.gateway.hub import Hub
from chatmesh.gateway.ledger import Ledger
from chatmesh.gateway.live import LivePublisher
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.outbox import Budget
from chatmesh.gateway.people import People
from chatmesh.gateway.ports import Bus, KeySet, Sink, Tokens
from chatmesh.gateway.presence import PresenceDesk
from chatmesh.gateway.publications import Committed
from chatmesh.gateway.reads import Reads
from chatmesh.gateway.service_desk import ServiceDesk
from chatmesh.gateway.session import Session
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.gateway.stream import KEEP_ALL, Kept
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import KeyUnknown, TokenExpired, TokenInvalid
from chatmesh.gateway.wheel import Wheel
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.health import Health
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, Tracing
from chatmesh.wire import close_codes, errors, limits, messages
from chatmesh.wire.calls import ServiceAnswer
from chatmesh.wire.control import (
    Ask,
    Beat,
    Bye,
    ControlMessage,
    Emulated,
    Told,
)
from chatmesh.wire.messages import (
    Canary,
    HeadsPage,
    LiveEvent,
    LivePublication,
    LogEvent,
    Outcomes,
    Page,
    PublishCommand,
    Read,
)
from chatmesh.wire.presence import (
    Joined,
    PresenceAnswer,
    PresenceCounts,
    PresencePage,
    PresenceResync,
    PresenceUser,
)

log = logging.getLogger(__name__)

TEND_S: Final = 0.25
DRAIN_TICK_S: Final = 0.025
DRAIN_HASTE: Final = 2
"""Clients that leave behind their turn may go at so many times the pace."""
CANARY_EVERY_S: Final = 2.0
CANARY_LATE_S: Final = 6.0
"""Without its canary for this long a gateway is not ready: it would deliver nothing."""
CANARY_LOST_S: Final = 15.0
"""After this long the line is given up and built anew."""
BROKER_CHECK: Final = "broker"
CANARY_CHECK: Final = "canary"


class _Counted(NamedTuple):
    """How far the counts of what knows no metrics have been given to them."""

    deliveries: int = 0
    gaps: int = 0
    repeats: int = 0
    hasty: int = 0


class Gateway:
    """Holds connections and everything they share. See the module for the big picture."""

    hear_control: Callable[[ControlMessage], None]
    """Who hears what other gateways say."""
    _subscribing = ""
    """The trace of the subscription that is answered at this moment, if it has one."""

    def __init__(
        self,
        bus: Bus,
        tokens: Tokens,
        key_set: KeySet | None,
        *,
        settings: GatewaySettings,
        terms: Terms,
        clock: Clock,
        chance: random.Random,
        tasks: Tasks,
        metrics: Metrics,
        health: Health,
        drop_line: Callable[[str], None],
        origin: str,
        new_client_id: Callable[[], str],
        tracing: Tracing = OFF,
    ) -> None:
        self._bus = bus
        self._tokens, self._key_set = tokens, key_set
        self._settings = settings
        self._terms = terms
        self._tracing = tracing
        self._clock = clock
        self._chance = chance
        self._tasks = tasks
        self._metrics, self._health = metrics, health
        self._drop_line = drop_line
        self._origin = origin
        self._new_client_id = new_client_id
        self.connections: dict[Connection, None] = {}
        self.people = People()
        self.hear_control = _unheard
        self.hub = Hub()
        self.wheel = Wheel(clock.monotonic_s())
        self._flusher = Flusher(metrics)
        self._budget = Budget(settings.outbox_bytes_max)
        self._counted = _Counted()
        self._canary_number = 0
        self._canary_sent_s = self._canary_heard_s = 0.0
        self._reads = Reads(
            bus,
            within_s=settings.read_within_s,
            clock=clock,
            tasks=tasks,
            metrics=metrics,
            tracing=tracing,
        )
        self._commits = Commits(
            bus,
            origin=origin,
            within_s=settings.reply_within_s,
            clock=clock,
            tasks=tasks,
            metrics=metrics,
            tracing=tracing,
        )
        self.feed = Feed(
            bus,
            self.hub,
            self._reads,
            lost=self._channel_lost,
            filled=self._channel_filled,
            clock=clock,
            tasks=tasks,
            metrics=metrics,
            ledger=Ledger(clock=clock, metrics=metrics, tracing=tracing),
            kept=self._kept,
            ready_within_s=settings.reply_within_s,
            linger_s=settings.channel_linger_s,
            tails_bytes_max=settings.tails_bytes_max,
        )
        self.presence = PresenceDesk(
            bus,
            origin=origin,
            within_s=settings.reply_within_s,
            clock=clock,
            tasks=tasks,
            tracing=tracing,
        )
        self.services = ServiceDesk(bus, clock=clock, tasks=tasks, metrics=metrics)
        self._fences = Fences()
        self._live = LivePublisher(bus, tasks, clock)

    # -- Connections ------------------------------------------------------------------

    def connect(
        self,
        codec: ClientCodec,
        sink: Sink,
        *,
        session_id: str = "",
        native_ping: bytes = b"",
    ) -> Connection:
        """A client's transport is open: begin its session.

        Over an HTTP fallback it has a secret `session_id`, by which its commands find
        it through `emulate`. With a `native_ping` the transport pings in its own way.
        """
        settings = self._settings
        connection = Connection(
            Session(
                self._terms,
                client_id=self._new_client_id(),
                session_id=session_id,
                says_pings=not native_ping,
            ),
            codec,
            sink,
            perform=self._perform,
            flusher=self._flusher,
            wheel=self.wheel,
            clock=self._clock,
            chance=self._chance,
            metrics=self._metrics,
            budget=self._budget,
            ping_interval_s=settings.ping_interval_s,
            pong_within_s=settings.pong_within_s,
            connect_within_s=settings.connect_within_s,
            native_ping=native_ping,
        )
        self.connections[connection] = None
        self.people.enter(connection)
        self._metrics.connections.set(len(self.connections))
        return connection

    def emulate(self, session_id: str, data: bytes) -> None:
        """Hear commands that came beside a client's stream; a stream gone hears none."""
        connection = self.people.stream(session_id)
        if connection is not None:
            connection.receive(data)

    def disconnected(self, connection: Connection) -> None:
        """A client's transport is gone."""
        connection.disconnected()
        self.connections.pop(connection, None)
        self.people.leave(connection)
        self._metrics.connections.set(len(self.connections))

    def _perform(  # noqa: C901, PLR0912 - a line for each thing that is asked for
        self, connection: Connection, effect: Effect
    ) -> None:
        match effect:
            case fx.Join(channel, hearing, present):
                self.hub.join(channel, connection, hearing)
                if present is not None:
                    self.presence.joined(present, self._subscribing)
            case fx.Leave(channel, absent):
                if self.hub.leave(channel, connection):
                    self.feed.left(channel)
                if absent is not None:
                    self.presence.left(absent)
            case fx.AskPresence(request, ask):
                self.presence.ask(
                    ask, functools.partial(self._presence_told, connection, request)
                )
            case fx.TellPresence(Joined() as present):
                self.presence.joined(present)
            case fx.TellPresence(change):
                self.presence.tell(change)
            case fx.AskService(request, service, call):
                self.services.ask(
                    service,
                    call,
                    functools.partial(_service_told, connection, request),
                )
            case fx.Watch(request, wants):
                self._watch(connection, request, wants)
            case fx.Commit(request, command):
                self._commits.commit(
                    command,
                    lambda result: connection.hear(_committed(request, result)),
                    hears=self.feed.hears(command.channel),
                )
            case fx.Emit():
                self._emit(connection, effect)
            case fx.ReadPage():
                self._read_page(connection, effect)
            case fx.VerifyConnectionToken() | fx.VerifySubscriptionToken():
                self._verify(connection, effect)
            case fx.Send() | fx.Tell() | fx.Close():
                raise AssertionError("a connection performs these itself")
            case _:
                assert_never(effect)

    def _presence_told(
        self, connection: Connection, request: int, answer: PresenceAnswer | None
    ) -> None:
        if answer is None:
            connection.hear(fx.Refused(request, errors.INTERNAL))
        else:
            connection.hear(fx.PresenceTold(request, answer))

    def _watch(
        self, connection: Connection, request: int, wants: tuple[Want, ...]
    ) -> None:
        span = self._tracing.begin_trace(trace_names.SUBSCRIBE)

        def ready(standings: Sequence[Standing]) -> None:
            if span:
                recovered = sum(len(standing.missed) for standing in standings)
                span.set({trace_names.MESSAGE_COUNT: recovered})
                back = [
                    s.recovered
                    for w, s in zip(wants, standings, strict=True)
                    if w.since
                ]
                span.set({trace_names.OUTCOME: _resumed(back)})
                span.end()
            # The joins that follow at once are part of the subscription's trace.
            self._subscribing = span.traceparent
            try:
                self._ready(connection, request, wants, standings)
            finally:
                self._subscribing = ""

        def failed(error: errors.ErrorReply) -> None:
            span.fail(str(error.code))
            span.end()
            connection.hear(fx.ChannelsFailed(request, error))

        self.feed.want(wants, ready, failed, traceparent=span.traceparent)

    def _ready(
        self,
        connection: Connection,
        request: int,
        wants: Sequence[Want],
        standings: Sequence[Standing],
    ) -> None:
        snapshots: list[fx.Snapshot] = []
        for want, standing in zip(wants, standings, strict=True):
            encode = connection.codec.publication
            if want.hearing.delta:
                encode = connection.codec.whole
            tags = want.hearing.tags
            missed = [
                encode(one)
                for one in standing.missed
                if tags is None or matches(tags, one.entry.tags)
            ]
            readable = [one for one in missed if one is not None]
            if len(readable) < len(missed):
                connection.cannot_read()
                return
            snapshots.append(
                fx.Snapshot(
                    standing.channel,
                    standing.epoch,
                    standing.top,
                    standing.recovered,
                    readable,
                )
            )
        connection.hear(fx.ChannelsReady(request, snapshots))

    def _emit(self, connection: Connection, effect: fx.Emit) -> None:
        def answer(error: errors.ErrorReply | None) -> None:
            heard = fx.Refused(effect.id, error) if error else fx.Emitted(effect.id)
            connection.hear(heard)

        self.emit(effect.channel, effect.publication, answer)

    def commit(self, command: PublishCommand, answer: Callable[[Result], None]) -> None:
        """Have a publication committed for the server API; `answer` hears its place.

        History answers it directly, even where the channel is heard: the answer has to
        name the epoch.
        """
        self._commits.commit(command, answer, hears=False)

    def read(self, read: Read, answer: Callable[[Page | None], None]) -> None:
        """Read a page of a channel's log; None when history does not answer in time."""
        self._reads.ask(read, answer)

    def expect_page(self, answer: Callable[[Page | None], None]) -> int:
        """Number a question to history whose answer is a page."""
        return self._reads.expect(answer)

    def _kept(self, channel: str) -> Kept:
        options = self._terms.policy.options(channel)
        if options is None:
            return KEEP_ALL
        return Kept(options.history_size, options.history_age_s)

    def emit(
        self,
        channel: str,
        publication: LivePublication,
        answer: Callable[[errors.ErrorReply | None], None],
    ) -> None:
        """Publish an ephemeral publication to every gateway; `answer` hears how it went."""
        self._live.publish(channel, publication, answer)

    def _read_page(self, connection: Connection, effect: fx.ReadPage) -> None:
        since = effect.since
        here = self.feed.position(effect.channel)
        if here is not None:
            epoch, top = here
            if since is not None and since.epoch and since.epoch != epoch:
                refused = fx.Refused(effect.id, errors.UNRECOVERABLE_POSITION)
                connection.hear(refused)
                return
            tail: list[Committed] | None = [] if not effect.limit else None
            if effect.limit and since is not None and not effect.reverse:
                tail = self.feed.page(effect.channel, since.offset)
            if tail is not None:
                self._page_read(connection, effect, tail[: effect.limit], epoch, top)
                return
        read = Read(
            0,
            effect.channel,
            since=since.offset if since is not None else 0,
            limit=effect.limit,
            reverse=effect.reverse,
        )
        self._reads.ask(
            read, lambda page: self._history_answered(connection, effect, page)
        )

    def _history_answered(
        self, connection: Connection, effect: fx.ReadPage, page: Page | None
    ) -> None:
        if page is None or page.error_code:
            connection.hear(fx.Refused(effect.id, errors.INTERNAL))
            return
        since = effect.since
        if since is not None and since.epoch and since.epoch != page.epoch:
            refused = fx.Refused(effect.id, errors.UNRECOVERABLE_POSITION)
            connection.hear(refused)
            return
        entries = [Committed(entry) for entry in page.entries]
        self._page_read(connection, effect, entries, page.epoch, page.top)

    def _page_read(
        self,
        connection: Connection,
        effect: fx.ReadPage,
        entries: Sequence[Committed],
        epoch: str,
        top: int,
    ) -> None:
        publications: list[msgspec.Raw] = []
        for entry in entries:
            publication = connection.codec.publication(entry)
            if publication is None:
                connection.cannot_read()
                return
            publications.append(publication)
        connection.hear(fx.PageRead(effect.id, publications, epoch, top))

    # -- Tokens -----------------------------------------------------------------------

    def _verify(
        self,
        connection: Connection,
        effect: fx.VerifyConnectionToken | fx.VerifySubscriptionToken,
    ) -> None:
        try:
            connection.hear(self._verdict(effect))
        except KeyUnknown:
            self._tasks.spawn(self._fetch_key(connection, effect), name="fetch keys")

    def _verdict(
        self, effect: fx.VerifyConnectionToken | fx.VerifySubscriptionToken
    ) -> fx.Heard:
        """Raises KeyUnknown."""
        now_s = self._clock.unix_ms() / 1000
        try:
            if isinstance(effect, fx.VerifyConnectionToken):
                claims = self._tokens.connection(effect.token, now_s)
                return fx.TokenAccepted(effect.id, claims)
            claims = self._tokens.subscription(effect.token, now_s)
            return fx.SubscriptionTokenAccepted(effect.id, claims)
        except TokenExpired:
            return fx.TokenExpired(effect.id)
        except TokenInvalid as invalid:
            return fx.TokenRefused(effect.id, str(invalid))

    async def _fetch_key(
        self,
        connection: Connection,
        effect: fx.VerifyConnectionToken | fx.VerifySubscriptionToken,
    ) -> None:
        assert self._key_set is not None, "only a key set leaves a key unknown"
        current = await self._key_set.refresh()
        try:
            heard = self._verdict(effect)
        except KeyUnknown as unknown:
            if current:
                heard = fx.TokenRefused(effect.id, str(unknown))
            else:
                # Nobody can say whether the key exists: let the client come back.
                heard = fx.Refused(effect.id, errors.INTERNAL)
        connection.hear(heard)

    # -- Heard from the broker --------------------------------------------------------

    def receive(  # noqa: C901, PLR0912 - a line a kind
        self, body: bytes
    ) -> None:
        """Hear one message from this gateway's queue."""
        try:
            message = messages.decode_gateway_inbound(body)
        except messages.Malformed as malformed:
            self._metrics.malformed.inc()
            self._tasks.spawn(self._bury(body, str(malformed)), name="bury message")
            return
        match message:
            case LogEvent():
                self._hear_log(message)
            case LiveEvent():
                self._hear_live(message)
            case Outcomes():
                for outcome in message.outcomes:
                    self._commits.heard_outcome(outcome)
            case Page():
                self._reads.hear(message)
            case HeadsPage():
                self.feed.hear_heads(message)
            case Canary():
                if message.sender == self._origin:
                    self._canary_heard_s = self._clock.monotonic_s()
            case PresencePage() | PresenceCounts() | PresenceUser() | PresenceResync():
                self.presence.hear(message)
            case ServiceAnswer():
                self.services.hear(message)
            case Ask() | Told() | Beat() | Bye() | Emulated():
                self.hear_control(message)
            case _:
                assert_never(message)

    def _hear_log(self, event: LogEvent) -> None:
        if not event.entries:
            return
        self._metrics.entries_per_event.observe(len(event.entries))
        for entry in event.entries:
            if entry.origin == self._origin:
                self._commits.heard_entry(entry, event.epoch)
        self.feed.hear(event)

    def _hear_live(self, event: LiveEvent) -> None:
        admitted = self._fences.admitted(event)
        if admitted is not event:
            late = len(event.publications) - len(admitted.publications)
            self._metrics.fenced_out.inc(late)
            if not admitted.publications:
                return
        self.feed.hear_live(admitted)

    async def _bury(self, body: bytes, cause: str) -> None:
        try:
            await self._bus.bury(body, cause)
        except PublishFailed as failed:
            log.warning("a malformed message is lost", extra={"reason": str(failed)})

    def _channel_lost(self, channel: str) -> None:
        """What subscribers of a channel hold cannot be continued: they start again."""
        for listener in self.hub.listeners(channel):
            assert isinstance(listener, Connection)
            listener.unsubscribe(channel, close_codes.RECOVER)

    def _channel_filled(self, channel: str, entries: Sequence[Committed]) -> None:
        """A hole was filled: callers may wait for something that was in it."""
        self._commits.heard_page(channel, [committed.entry for committed in entries])

    async def link_up(self) -> None:
        """A line to the broker stands. Raises PublishFailed when it is gone again."""
        self._health.set(BROKER_CHECK, ok=True)
        # As if one had just been sent: only one that was sent on this line counts.
        self._canary_heard_s = self._canary_sent_s = self._clock.monotonic_s()
        self._health.set(CANARY_CHECK, ok=False, reason="not heard yet on this line")
        await self.feed.link_up()
        self.presence.link_up()
        await self._send_canary()

    def link_down(self, reason: str) -> None:
        self._health.set(BROKER_CHECK, ok=False, reason=reason)
        self._health.set(CANARY_CHECK, ok=False, reason=reason)
        self._reads.link_down()
        self.presence.link_down()
        self.services.link_down()
        self.feed.link_down()

    # -- From time to time ------------------------------------------------------------

    async def tend(self) -> None:
        """Look after everything that depends on the clock, until cancelled."""
        self._metrics.subscriptions.set_function(lambda: self.hub.subscriptions)
        self._metrics.outbox_bytes.set_function(self._outbox_bytes)
        self._metrics.commands_waiting.set_function(lambda: len(self._commits))
        while True:
            slept_s = self._clock.monotonic_s()
            await self._clock.sleep(TEND_S)
            lag_s = self._clock.monotonic_s() - slept_s - TEND_S
            self._metrics.loop_lag_seconds.set(max(0.0, lag_s))
            # After a stall, timers come before sockets: what clients have long answered
            # is read first, so that nobody is judged for what we had no time to hear.
            await self._clock.sleep(0)
            self.wheel.turn(self._clock.monotonic_s())
            self._commits.give_up_overdue()
            self._reads.give_up_overdue()
            self.feed.tend()
            self.presence.tend()
            self.services.give_up_overdue()
            self._count()
            self._tend_canary()

    def _count(self) -> None:
        hub, hasty = self.hub, self._terms.paces.refused
        now = _Counted(hub.deliveries, hub.gaps, hub.repeats, hasty)
        then, self._counted = self._counted, now
        self._metrics.deliveries.inc(now.deliveries - then.deliveries)
        self._metrics.gaps_written.inc(now.gaps - then.gaps)
        self._metrics.duplicates_written.inc(now.repeats - then.repeats)
        self._metrics.hasty_commands.inc(now.hasty - then.hasty)

    def _outbox_bytes(self) -> int:
        return sum(connection.waiting_bytes for connection in self.connections)

    def _tend_canary(self) -> None:
        now_s = self._clock.monotonic_s()
        age_s = now_s - self._canary_heard_s
        self._metrics.canary_age_seconds.set(age_s)
        if not self._bus.connected:
            return
        heard_since_sent = self._canary_heard_s > self._canary_sent_s
        if age_s > CANARY_LATE_S:
            reason = f"own publication not heard for {age_s:.0f} s"
            self._health.set(CANARY_CHECK, ok=False, reason=reason)
        elif heard_since_sent:
            self._health.set(CANARY_CHECK, ok=True)
        if age_s > CANARY_LOST_S:
            self._canary_heard_s = now_s
            self._drop_line("own publication does not come back")
        elif now_s - self._canary_sent_s > CANARY_EVERY_S:
            # Not awaited: a broker that takes its time must not stop the clockwork.
            self._canary_sent_s = now_s
            self._tasks.spawn(self._send_canary(), name="canary")

    async def _send_canary(self) -> None:
        self._canary_number += 1
        self._canary_sent_s = self._clock.monotonic_s()
        try:
            await self._bus.send_canary(self._canary_number)
        except PublishFailed as failed:
            # Not fatal by itself: a canary that stays away turns readiness red.
            log.warning("canary not sent", extra={"reason": str(failed)})

    # -- The end ----------------------------------------------------------------------

    async def drain(self, window_s: float) -> None:
        """Send every client elsewhere, each at its turn, spread over the window.

        A client that waits for an answer hears it first, but is not put off until the
        end of everybody: all of those would come back in one storm. However many are
        answered at once, nobody is sent away at more than twice the pace.
        """
        waiting = list(self.connections)
        self._chance.shuffle(waiting)
        pause_s = window_s / max(1, len(waiting))
        due: deque[tuple[float, Connection]] = deque()
        debt_s = 0.0
        turns = 0
        for connection in waiting:
            patience_s = self._clock.monotonic_s() + self._settings.reply_within_s
            due.append((patience_s, connection))
            turns += 1
            # Pauses shorter than the loop can keep are saved up.
            debt_s += pause_s
            if debt_s >= DRAIN_TICK_S:
                self._send_away(due, DRAIN_HASTE * turns)
                await self._clock.sleep(debt_s)
                debt_s, turns = 0.0, 0
        credit = 1.0
        while due:
            credit -= self._send_away(due, int(credit))
            if due:
                await self._clock.sleep(DRAIN_TICK_S)
                more = DRAIN_HASTE * DRAIN_TICK_S / pause_s if pause_s else math.inf
                credit = min(credit + more, max(1.0, more), len(due))
        for connection in list(self.connections):
            connection.close(close_codes.SHUTDOWN)
        self._flusher.flush()
        await self.presence.end()

    def _send_away(self, due: deque[tuple[float, Connection]], at_most: int) -> int:
        """Close some whose turn has come; who waits for an answer stays in the queue."""
        now_s = self._clock.monotonic_s()
        closed = 0
        for _ in range(len(due)):
            patience_s, connection = due.popleft()
            if closed >= at_most or (connection.session.busy and now_s < patience_s):
                due.append((patience_s, connection))
            elif not connection.closed:
                connection.close(close_codes.SHUTDOWN)
                closed += 1
        return closed


def _unheard(_: ControlMessage) -> None:
    """A gateway that is asked nothing, as in tests of its other parts."""


def _service_told(
    connection: Connection, request: int, answer: bytes | errors.ErrorReply
) -> None:
    if isinstance(answer, errors.ErrorReply):
        connection.hear(fx.Refused(request, answer))
    else:
        connection.hear(fx.ServiceTold(request, msgspec.Raw(answer)))


def _resumed(recovered: Sequence[bool]) -> str:
    """What to call a subscription in its span, as the resumes are counted."""
    if not recovered:
        return "fresh"
    return "recovered" if all(recovered) else "refused"


def _committed(request: int, result: Result) -> fx.Heard:
    if result.error is not None:
        return fx.Refused(request, result.error)
    return fx.Committed(request, result.offset, result.at_ms)


assert CANARY_EVERY_S * 2 < CANARY_LATE_S < CANARY_LOST_S, "one lost canary is no alarm"
assert limits.PUBLICATION_BYTES_MAX <= limits.PAGE_BYTES_MAX
