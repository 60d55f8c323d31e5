"""Runs one session against one transport: read, hear, perform, write once per tick.

No task and no timer belongs to a connection. What it has to write is gathered and
flushed once per turn of the loop; what depends on the clock rides the shared wheel.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

from chatmesh.gateway import effects as fx
from chatmesh.gateway.codecs import BadCommands, ClientCodec
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.outbox import Budget, Chunk, Outbox, Verdict
from chatmesh.gateway.ports import Sink
from chatmesh.gateway.rules.footing import State
from chatmesh.gateway.session import Session
from chatmesh.gateway.subscriptions import Grant
from chatmesh.gateway.wheel import Wheel
from chatmesh.runtime.clock import Clock
from chatmesh.wire import close_codes, errors, limits
from chatmesh.wire.close_codes import Disconnect, Unsubscribe
from chatmesh.wire.errors import ErrorReply

log = logging.getLogger(__name__)

FRAME_PAYLOAD_BYTES_MAX: Final = 512 * limits.KIB
"""Messages gathered into one frame; a single larger message is a frame of its own."""

NOT_STANDING: Final = errors.because(
    errors.INTERNAL, "a subscription ended before it stood"
)

IDLE_LOOK_S: Final = 60.0
"""How often a connection without pings is looked at."""

Perform = Callable[["Connection", Effect], None]
Stands = Callable[[ErrorReply | None], None]
"""Hears once whether a subscription that was asked for stands; None when it does."""


class Flusher:
    """Writes what connections have gathered, once per turn of the loop.

    A frame whose messages are the same for many connections is serialised once.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._dirty: list[Connection] = []
        self._loop = asyncio.get_running_loop()

    def mark(self, connection: "Connection") -> None:
        if not self._dirty:
            self._loop.call_soon(self.flush)
        self._dirty.append(connection)

    def flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        frames: dict[tuple[int, ...], tuple[list[Chunk], bytes]] = {}
        written = 0
        count = 0
        for connection in dirty:
            connection.marked = False
            if connection.paused:
                continue
            try:
                for frame in connection.frames(frames):
                    connection.sink.write(frame)
                    written += len(frame)
                    count += 1
            except Exception:
                # A bug, and one client's: those behind it must not fall silent.
                log.exception("writing to a client failed; letting go of it")
                connection.sink.abort()
        self._metrics.frames_out.inc(count)
        self._metrics.bytes_out.inc(written)


class Connection:
    """One client. Everything it asks of the world goes through `perform`."""

    __slots__ = (
        "_budget",
        "_clock",
        "_flusher",
        "_granted",
        "_interval_s",
        "_metrics",
        "_native_ping",
        "_next_ping_s",
        "_outbox",
        "_perform",
        "_pong_due_s",
        "_pong_within_s",
        "_stale_s",
        "_wheel",
        "closed",
        "codec",
        "due_slot",
        "marked",
        "paused",
        "session",
        "sink",
    )

    def __init__(
        self,
        session: Session,
        codec: ClientCodec,
        sink: Sink,
        *,
        perform: Perform,
        flusher: Flusher,
        wheel: Wheel,
        clock: Clock,
        chance: random.Random,
        metrics: Metrics,
        budget: Budget,
        ping_interval_s: float,
        pong_within_s: float,
        connect_within_s: float,
        native_ping: bytes = b"",
    ) -> None:
        self.session = session
        self.codec = codec
        self.sink = sink
        self.closed = False
        self.paused = False
        """The transport holds as much as it should; the outbox keeps the rest."""
        self.marked = False
        self.due_slot = 0
        self._perform = perform
        self._flusher = flusher
        self._wheel = wheel
        self._clock = clock
        self._metrics = metrics
        self._budget = budget
        self._outbox = Outbox()
        self._interval_s = ping_interval_s
        self._native_ping = native_ping
        """A ping of the transport's own, where the client asked for that kind."""
        self._pong_within_s = pong_within_s
        now_s = clock.monotonic_s()
        self._stale_s = now_s + connect_within_s
        # The first ping comes at a random moment, so that a storm of connects is not
        # followed by a storm of pings.
        self._next_ping_s = now_s + ping_interval_s * chance.uniform(0.5, 1.0)
        self._pong_due_s = 0.0
        self._granted: list[tuple[str, Stands]] = []
        """Channels the server subscribes the client to, and who waits for that."""
        wheel.board(self, self._next_look_s(now_s))

    # -- Heard from the transport -----------------------------------------------------

    def receive(self, frame: bytes) -> None:
        """Hear one frame from the client."""
        if self.closed:
            return
        # Whatever it says, the client is there.
        self._pong_due_s = 0.0
        self._metrics.frames_in.inc()
        self._metrics.bytes_in.inc(len(frame))
        now_s = self._clock.unix_ms() / 1000
        try:
            commands = self.codec.commands(frame)
        except BadCommands as bad:
            if bad.before:
                self.perform(self.session.receive(bad.before, now_s, len(frame)))
            self.perform(self.session.malformed(str(bad)))
            return
        self.perform(self.session.receive(commands, now_s, len(frame)))
        self._board()

    def disconnected(self, *, clean: bool = False) -> None:
        """The transport is gone, or will be: forget everything about the client.

        `clean` says that the client wanted it; otherwise it may be back in a moment.
        """
        if self.closed:
            return
        self._metrics.closes.labels("client" if clean else "lost").inc()
        self._forget(clean=clean)

    def _forget(self, *, clean: bool) -> None:
        self.closed = True
        self._wheel.leave(self)
        self.session.state = State.CLOSED
        for effect in self.session.leave_all(clean=clean):
            self._perform(self, effect)
        self._outbox.take()
        # Who has left by themselves is nobody any more who has to be subscribed.
        self._settle(None)

    def heard_pong(self) -> None:
        """The client's transport answered a ping of its own kind."""
        self._pong_due_s = 0.0

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        if self._outbox and not self.marked:
            self.marked = True
            self._flusher.mark(self)

    # -- Heard from the gateway -------------------------------------------------------

    def hear(self, heard: Heard) -> None:
        """Hear the outcome of something the session asked for."""
        if self.closed:
            return
        self.perform(self.session.hear(heard, self._clock.unix_ms() / 1000))
        if self._granted:
            self._tell_who_stands()
        self._board()

    def unsubscribe(self, channel: str, why: Unsubscribe) -> None:
        if not self.closed:
            self.perform(self.session.unsubscribe(channel, why))

    def subscribe(self, grant: Grant, stands: Stands) -> None:
        """The server subscribes the client; `stands` hears how that ends.

        Raises NotNow, and then `stands` hears nothing.
        """
        if self.closed:
            stands(None)
            return
        effects = self.session.subscribe(grant)
        self._granted.append((grant.channel, stands))
        self.perform(effects)
        self._tell_who_stands()
        self._board()

    def _tell_who_stands(self) -> None:
        """Answer for every channel that is decided; others go on waiting."""
        if self.session.state is State.CONNECTING:
            return
        granted, self._granted = self._granted, []
        for channel, stands in granted:
            sub = self.session.subscriptions.get(channel)
            if sub is not None and not sub.joined:
                self._granted.append((channel, stands))
            else:
                stands(None if sub is not None else NOT_STANDING)

    def _settle(self, error: ErrorReply | None) -> None:
        """The connection ends: nobody waits for it any longer."""
        granted, self._granted = self._granted, []
        for _, stands in granted:
            stands(error)

    def refresh(self, expires_at_s: float, info: bytes | None) -> None:
        """The server gives the connection another expiry."""
        if not self.closed:
            now_s = self._clock.unix_ms() / 1000
            self.perform(self.session.refresh(expires_at_s, info, now_s))
            self._board()

    def close(self, disconnect: Disconnect) -> None:
        """Say goodbye for a reason the session does not know."""
        if not self.closed:
            self.perform(self.session.close(disconnect))

    # -- Performed --------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        """Perform effects in order; nothing else happens to the client in between."""
        for effect in effects:
            if self.closed and not isinstance(effect, fx.Leave):
                # Closed by an effect before: too slow for a reply, say. What would
                # make it part of anything now would never be undone.
                continue
            match effect:
                case fx.Send(reply):
                    self.deliver(self.codec.reply(reply))
                case fx.Tell(push):
                    self.deliver(self.codec.push(push))
                case fx.Close(disconnect):
                    self._goodbye(disconnect)
                case _:
                    self._perform(self, effect)

    def deliver(self, chunk: Chunk) -> None:
        """Take a chunk for the client; it is written at the end of this turn."""
        if self.closed:
            return
        if self.paused:
            self._deliver_slowly(chunk)
            return
        self._outbox.put(chunk)
        if not self.marked:
            self.marked = True
            self._flusher.mark(self)

    @property
    def waiting_bytes(self) -> int:
        """What waits for a client that does not read fast enough."""
        return self._outbox.bytes

    def cannot_read(self) -> None:
        """A binary payload on a channel of a client that speaks text."""
        self.close(close_codes.INAPPROPRIATE_PROTOCOL.because("binary payload"))

    def frames(
        self, shared: dict[tuple[int, ...], tuple[list[Chunk], bytes]]
    ) -> list[bytes]:
        """What waits, as frames; `shared` holds what was made for others this turn."""
        chunks = self._outbox.take()
        if len(chunks) == 1:
            (chunk,) = chunks
            if chunk.frame is None:
                chunk.frame = self.codec.frame(chunk.payload)
            return [chunk.frame]
        if not chunks:
            return []
        # The chunks are kept beside the frame: an id is only as good as its object.
        key = tuple(map(id, chunks))
        made = shared.get(key)
        if made is None:
            if sum(len(chunk.payload) for chunk in chunks) > FRAME_PAYLOAD_BYTES_MAX:
                return self._cut(chunks)
            payload = self.codec.join(chunks)
            made = chunks, self.codec.frame(payload)
            shared[key] = made
        return [made[1]]

    def _cut(self, chunks: list[Chunk]) -> list[bytes]:
        frames: list[bytes] = []
        part: list[Chunk] = []
        size = 0
        for chunk in chunks:
            if part and size + len(chunk.payload) > FRAME_PAYLOAD_BYTES_MAX:
                frames.append(self.codec.frame(self.codec.join(part)))
                part, size = [], 0
            part.append(chunk)
            size += len(chunk.payload)
        frames.append(self.codec.frame(self.codec.join(part)))
        return frames

    def _deliver_slowly(self, chunk: Chunk) -> None:
        dropped = self._outbox.dropped
        verdict = self._outbox.put_slow(chunk, self._budget)
        if self._outbox.dropped != dropped:
            self._metrics.slow_steps.labels("drop").inc()
        match verdict:
            case Verdict.FINE:
                return
            case Verdict.RECOVER:
                self._give_up_one_of(self._outbox.fullest()[:1])
            case Verdict.CLOSE:
                # Much may come at once, in one chunk: that is no step to be left out.
                while self._outbox.bytes > self._budget.bytes_max:
                    if not self._give_up_one_of(self._outbox.fullest()):
                        self._metrics.slow_steps.labels("close").inc()
                        self._outbox.take()
                        self.close(close_codes.SLOW)
                        return

    def _give_up_one_of(self, channels: list[str]) -> bool:
        """Drop the first subscription that its client can recover from the log."""
        for channel in channels:
            sub = self.session.subscriptions.get(channel)
            if sub is None or sub.server_side or not sub.options.recover:
                continue
            self._metrics.slow_steps.labels("recover").inc()
            self._outbox.drop(channel)
            self.unsubscribe(channel, close_codes.RECOVER)
            return True
        return False

    def _goodbye(self, disconnect: Disconnect) -> None:
        if self.closed:
            return
        self._metrics.closes.labels(str(disconnect.code)).inc()
        if not self.paused:
            for frame in self.frames({}):
                self.sink.write(frame)
        self._settle(NOT_STANDING)
        self._forget(clean=False)
        self.sink.close(disconnect)

    # -- The clock --------------------------------------------------------------------

    def turn(self, now_s: float) -> float | None:
        """Look at the clock: pings, missing pongs, missing connects, expiries."""
        if self.closed:
            return None
        if self.session.state is State.GREETING and now_s >= self._stale_s:
            self.close(close_codes.STALE)
            return None
        if self.session.state is State.REFUSED and now_s >= self._stale_s:
            # It was told why and should have gone; it may well come back.
            self.close(close_codes.CONNECTION_CLOSED)
            return None
        if self._pong_due_s and now_s >= self._pong_due_s:
            self._metrics.slow_steps.labels("no pong").inc()
            self.close(close_codes.NO_PONG)
            return None
        if self._interval_s and now_s >= self._next_ping_s:
            self._next_ping_s = now_s + self._interval_s
            if self.session.state is State.READY:
                self._ping()
                if self._pong_within_s and not self._pong_due_s:
                    self._pong_due_s = now_s + self._pong_within_s
        expiry_s = self._expiry_s(now_s)
        if expiry_s is not None and now_s >= expiry_s:
            self.perform(self.session.expire(self._clock.unix_ms() / 1000))
        return None if self.closed else self._next_look_s(now_s)

    def _ping(self) -> None:
        if not self._native_ping:
            self.deliver(self.codec.ping)
        elif not self.paused:
            self.sink.write(self._native_ping)

    def _board(self) -> None:
        """After hearing something: be turned to earlier, if need be."""
        if self.closed:
            return
        at_s = self._next_look_s(self._clock.monotonic_s())
        if int(at_s) < self.due_slot:
            self._wheel.board(self, at_s)

    def _next_look_s(self, now_s: float) -> float:
        times = [self._next_ping_s if self._interval_s else now_s + IDLE_LOOK_S]
        if self.session.state in {State.GREETING, State.REFUSED}:
            times.append(self._stale_s)
        if self._pong_due_s:
            times.append(self._pong_due_s)
        expiry_s = self._expiry_s(now_s)
        if expiry_s is not None:
            times.append(expiry_s)
        return min(times)

    def _expiry_s(self, now_s: float) -> float | None:
        """The next expiry on the monotonic clock, which is what the wheel turns by."""
        expiry_unix_s = self.session.next_expiry_s()
        if expiry_unix_s is None:
            return None
        return now_s + (expiry_unix_s - self._clock.unix_ms() / 1000)
