"""The channels this gateway hears: bound, compared, filled, and ready for subscribers.

Everything about one channel happens once, however many clients ask: one binding, one
read in flight, one tail. A waiter is called back at the instant when all its channels
can be joined, and joins without a pause in between, so that nothing slips past it.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.effects import Want
from chatmesh.gateway.hub import Hub
from chatmesh.gateway.ledger import Ledger
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.ports import Bus
from chatmesh.gateway.publications import Committed
from chatmesh.gateway.reads import Reads
from chatmesh.gateway.stream import KEEP_ALL, EpochChanged, Kept, State, Stream
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.messages import (
    HeadsPage,
    LiveEvent,
    LivePublication,
    LogEvent,
    Page,
    Read,
)

log = logging.getLogger(__name__)

BINDINGS_PER_BATCH_MAX: Final = 1000
UNBINDINGS_PER_BATCH_MAX: Final = 200
"""Who wants one of these channels while they are unbound waits for the batch."""
UNBINDINGS_WAITING_MAX: Final = 20_000
"""Beyond it, idle channels stay until there is room: no binding is ever forgotten."""
HEADS_PER_REQUEST_MAX: Final = 2000
COMPARE_EVERY_S: Final = 30.0
"""Also with a good link: an event lost without a trace is missed until the next one."""
WAITING_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a channel stands at the instant when it can be joined."""

    channel: str
    epoch: str = ""
    top: int = 0
    recovered: bool = False
    missed: Sequence[Committed] = ()


@dataclass(slots=True, eq=False)
class Waiter:
    """Someone who joins several channels at one instant, or is told why not."""

    wants: tuple[Want, ...]
    ready: Callable[[list[Standing]], None]
    failed: Callable[[errors.ErrorReply], None]
    deadline_s: float
    verified: bool = False
    """History was asked since it came: what it claims to have seen is there, or is not."""
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class _AskedHeads:
    names: list[str]
    since_s: float


@dataclass(slots=True, eq=False)
class _Channel:
    name: str
    stream: Stream | None
    """None for a channel of ephemeral publications only."""
    bound: bool = False
    reading: bool = False
    """A read is in flight; there is never more than one."""
    deepening: bool = False
    comparing: bool = False
    """Its head is asked for: whether there is anything to read is not known yet."""
    resting: bool = False
    """A read brought nothing although something is missing: not again at once."""
    asked_at: int = 0
    """Where the stream stood when the read in flight was asked."""
    waiters: dict[Waiter, None] = field(default_factory=dict[Waiter, None])
    verifying: tuple[Waiter, ...] = ()
    """Those whose claim to be ahead of us the read in flight decides."""
    idle_since_s: float = 0.0
    told: int = 0
    """Number of the newest join or leave: presence may tell one again after a crash."""


class Feed:
    """Owns every channel's stream on this gateway; lives in one thread, never blocks."""

    def __init__(
        self,
        bus: Bus,
        hub: Hub,
        reads: Reads,
        *,
        lost: Callable[[str], None],
        filled: Callable[[str, Sequence[Committed]], None],
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        ledger: Ledger | None = None,
        kept: Callable[[str], Kept] = lambda _: KEEP_ALL,
        ready_within_s: float,
        linger_s: float,
        tails_bytes_max: int,
    ) -> None:
        self._bus = bus
        self._hub = hub
        self._lost = lost
        self._filled = filled
        self._clock = clock
        self._metrics = metrics
        self._ledger = ledger or Ledger(clock=clock, metrics=metrics)
        self._kept = kept
        self._ready_within_s = ready_within_s
        self._linger_s = linger_s
        self._tails_bytes_max = tails_bytes_max
        self._channels: dict[str, _Channel] = {}
        self._reads = reads
        self._heads: dict[int, _AskedHeads] = {}
        self._last_heads = 0
        self._compared_s = clock.monotonic_s()
        self._bindings = Gatherer[str](
            self._bind,
            tasks=tasks,
            name="bindings",
            batch_max=BINDINGS_PER_BATCH_MAX,
            waiting_max=WAITING_MAX,
        )
        self._unwanted: dict[str, None] = {}
        """Bound, and wanted by nobody: forgotten once the broker has dissolved them."""
        self._unbinding: frozenset[str] = frozenset()
        """Those of them in the batch that is under way."""
        self._binding: frozenset[str] = frozenset()
        self._binding_all = False
        self._tasks = tasks

    def __len__(self) -> int:
        return len(self._channels)

    def hears(self, channel: str) -> bool:
        """Whether events of this channel reach us and are let through in order."""
        found = self._channels.get(channel)
        return found is not None and found.bound and self._bus.connected

    def position(self, channel: str) -> tuple[str, int] | None:
        """Epoch and top of a channel that is live here."""
        found = self._channels.get(channel)
        if found is None or found.stream is None or not self._serves_at_all(found):
            return None
        return found.stream.epoch, found.stream.top

    def page(self, channel: str, offset: int) -> list[Committed] | None:
        """Entries behind an offset, if the tail reaches back to it; else None."""
        found = self._channels.get(channel)
        if found is None or found.stream is None or not self._serves_at_all(found):
            return None
        stream = found.stream
        stream.expire(self._clock.unix_ms())
        return stream.after(offset) if offset >= stream.tail_first - 1 else None

    # -- Asked by connections ---------------------------------------------------------

    def want(
        self,
        wants: tuple[Want, ...],
        ready: Callable[[list[Standing]], None],
        failed: Callable[[errors.ErrorReply], None],
        *,
        traceparent: str = "",
    ) -> None:
        """Get channels ready and call back once, perhaps before this returns."""
        deadline_s = self._clock.monotonic_s() + self._ready_within_s
        waiter = Waiter(wants, ready, failed, deadline_s, traceparent=traceparent)
        found = [self._channel(want) for want in wants]
        if self._serves_all(waiter):
            self._call(waiter)
            return
        for channel in found:
            channel.waiters[waiter] = None
        for channel in found:
            self._advance(channel)

    def left(self, name: str) -> None:
        """The last local subscriber left: the binding is kept a while, then given up."""
        channel = self._channels.get(name)
        if channel is not None:
            channel.idle_since_s = self._clock.monotonic_s()

    def forget_tail(self, name: str) -> None:
        """The channel's history was removed: what is still held is not shown again."""
        channel = self._channels.get(name)
        if channel is not None and channel.stream is not None:
            channel.stream.forget_tail()

    # -- Heard from the broker --------------------------------------------------------

    def hear(self, event: LogEvent) -> None:
        """Committed entries of one channel, perhaps late, early or again."""
        channel = self._channels.get(event.channel)
        if channel is None or channel.stream is None:
            return
        self._let_through(
            channel, lambda stream: stream.hear(event.epoch, event.entries)
        )

    def hear_live(self, event: LiveEvent) -> None:
        channel = self._channels.get(event.channel)
        if channel is None:
            return
        fresh = [one for one in event.publications if _is_news(channel, one)]
        if fresh:
            self._hub.publish_live(event.channel, fresh)

    def _read_answered(
        self, channel: _Channel, stream: Stream, page: Page | None
    ) -> None:
        """One of our reads came back, or came to nothing."""
        if channel.stream is not stream:
            return  # The channel has begun again since.
        channel.reading = False
        if page is None or page.error_code:
            return  # `tend` asks again while someone still needs it.
        if stream.state is State.COLD:
            channel.deepening = False
            self._let_through(channel, lambda s: s.open(page))
        elif channel.deepening:
            channel.deepening = False
            self._let_through(channel, lambda s: _nothing(s.deepen(page)))
        else:
            for waiter in channel.verifying:
                waiter.verified = True
            self._metrics.gaps.inc(bool(page.entries))
            self._let_through(channel, lambda s: self._fill(channel, s, page))

    def hear_heads(self, page: HeadsPage) -> None:
        """Where channels stand after a silence."""
        if page.error_code or page.request not in self._heads:
            return  # `tend` asks again; or this answer came twice.
        names = self._heads.pop(page.request).names
        for name, (epoch, top) in zip(names, page.heads, strict=True):
            channel = self._channels.get(name)
            if channel is None or channel.stream is None:
                continue
            channel.comparing = False
            if channel.stream.state is not State.COLD:
                self._let_through(
                    channel, lambda s, e=epoch, t=top: _nothing(s.compare(e, t))
                )

    async def link_up(self) -> None:
        """A new line stands: bind every channel again, then compare. Raises PublishFailed."""
        self._heads.clear()
        self._unwanted.clear()
        kept = [c for c in self._channels.values() if self._needed(c)]
        self._channels = {channel.name: channel for channel in kept}
        await self._bind_all([channel.name for channel in kept])
        for channel in kept:
            channel.bound = True
            if self._channels.get(channel.name) is not channel:
                # It was let go before its turn came.
                self._unwanted[channel.name] = None
        silent = [
            c.name
            for c in kept
            if c.stream is not None and c.stream.state is not State.COLD
        ]
        for name in silent:
            if name in self._channels:
                self._channels[name].comparing = True
        self._ask_heads(silent)
        for channel in list(self._channels.values()):
            self._advance(channel)

    def link_down(self) -> None:
        """Nothing is heard any more: every stream is in doubt until it is compared."""
        self._bindings.clear()
        self._unwanted.clear()  # The bindings went with their queue.
        self._heads.clear()
        for channel in self._channels.values():
            channel.bound = False
            channel.comparing = False
            if channel.stream is not None:
                channel.stream.doubt()

    # -- Tended from time to time -----------------------------------------------------

    def tend(self) -> None:
        """Give up waiters past their deadline, ask again, unbind what is idle."""
        now_s = self._clock.monotonic_s()
        self._ask_again_for_heads(now_s)
        self._compare_all(now_s)
        idle: list[str] = []
        for channel in list(self._channels.values()):
            for waiter in [w for w in channel.waiters if now_s >= w.deadline_s]:
                self._forget(waiter)
                waiter.failed(errors.INTERNAL)
            if not self._needed(channel):
                if not channel.idle_since_s:
                    channel.idle_since_s = now_s
                elif (
                    now_s - channel.idle_since_s > self._linger_s
                    and channel.name not in self._binding
                ):
                    idle.append(channel.name)
                continue
            channel.idle_since_s = 0.0
            channel.resting = False
            self._advance(channel)
        room = max(0, UNBINDINGS_WAITING_MAX - len(self._unwanted))
        for name in idle[:room]:
            del self._channels[name]
            self._unwanted[name] = None
        self._unbind()
        self._save_memory()

    # -- One channel ------------------------------------------------------------------

    def _channel(self, want: Want) -> _Channel:
        channel = self._channels.get(want.channel)
        if channel is None:
            stream = Stream(self._kept(want.channel)) if want.durable else None
            channel = _Channel(want.channel, stream)
            self._channels[want.channel] = channel
        channel.idle_since_s = 0.0
        return channel

    def _advance(self, channel: _Channel) -> None:
        """Ask for whatever this channel is missing; call back who can be served."""
        if not self._bus.connected:
            return
        if not channel.bound:
            self._bindings.put(channel.name)
            return
        if channel.stream is not None and not channel.reading:
            self._read_what_is_missing(channel, channel.stream)
        for waiter in list(channel.waiters):
            if waiter in channel.waiters and self._serves_all(waiter):
                self._forget(waiter)
                self._call(waiter)

    def _read_what_is_missing(self, channel: _Channel, stream: Stream) -> None:
        if stream.state is State.COLD:
            deep = self._someone_returns(channel)
            self._read_back(channel, stream, since=0, deep=deep)
        elif stream.hole:
            if not (channel.comparing or channel.resting):
                self._read_on(channel, stream)
        elif any(not self._serves(w) for w in self._wants_of(channel)):
            channel.deepening = True
            first = stream.tail_first
            self._read_back(channel, stream, since=first, deep=True)
        elif ahead := self._ahead(channel, stream):
            self._read_on(channel, stream, ahead)

    def _let_through(
        self, channel: _Channel, step: Callable[[Stream], list[Committed]]
    ) -> None:
        """Take one step of a stream and deliver what it lets through."""
        stream = channel.stream
        assert stream is not None, "only durable channels have steps"
        had = stream.duplicates
        try:
            news = step(stream)
        except EpochChanged as change:
            log.warning("a channel's log cannot be continued: %s", change)
            self._metrics.gaps_unfilled.inc()
            self._begin_again(channel)
            return
        if stream.duplicates != had:
            self._metrics.duplicates.inc(stream.duplicates - had)
        if news:
            # Counted before: a listener that is too slow leaves while it is served.
            receivers = self._hub.count(channel.name)
            self._hub.publish(channel.name, news)
            self._ledger.let_through(news, receivers)
        if channel.waiters or stream.hole:
            self._advance(channel)

    def _fill(self, channel: _Channel, stream: Stream, page: Page) -> list[Committed]:
        news = stream.fill(page)
        channel.resting = stream.hole and stream.top == channel.asked_at
        self._filled(channel.name, news)
        return news

    def _begin_again(self, channel: _Channel) -> None:
        channel.stream = Stream(self._kept(channel.name))
        channel.reading = False
        channel.deepening = False
        channel.comparing = False
        channel.resting = False
        self._lost(channel.name)
        self._advance(channel)

    def _ahead(self, channel: _Channel, stream: Stream) -> tuple[Waiter, ...]:
        """Who comes from a gateway that has heard more than we have, or says so."""
        return tuple(
            waiter
            for waiter in channel.waiters
            if not waiter.verified
            and any(
                want.channel == channel.name
                and want.since is not None
                and stream.is_ahead(want.since)
                for want in waiter.wants
            )
        )

    def _read_on(
        self, channel: _Channel, stream: Stream, verifying: tuple[Waiter, ...] = ()
    ) -> None:
        channel.deepening = False
        self._ask(
            channel,
            stream,
            Read(
                0,
                channel.name,
                since=stream.top,
                limit=limits.PAGE_ENTRIES_MAX,
                bytes_max=limits.PAGE_BYTES_MAX,
                whole=True,
            ),
        )
        channel.verifying = verifying

    def _read_back(
        self, channel: _Channel, stream: Stream, *, since: int, deep: bool
    ) -> None:
        self._ask(
            channel,
            stream,
            Read(
                0,
                channel.name,
                since=since,
                limit=limits.PAGE_ENTRIES_MAX if deep else 0,
                reverse=True,
                bytes_max=limits.RECOVERY_BYTES_MAX,
            ),
        )

    def _ask(self, channel: _Channel, stream: Stream, read: Read) -> None:
        channel.reading = True
        channel.verifying = ()
        channel.asked_at = stream.top
        self._reads.ask(
            read,
            lambda page: self._read_answered(channel, stream, page),
            traceparents=[waiter.traceparent for waiter in channel.waiters],
        )

    def _ask_heads(self, names: list[str]) -> None:
        for start in range(0, len(names), HEADS_PER_REQUEST_MAX):
            part = names[start : start + HEADS_PER_REQUEST_MAX]
            self._last_heads += 1
            self._heads[self._last_heads] = _AskedHeads(part, self._clock.monotonic_s())
            self._tasks.spawn(
                self._send_heads(self._last_heads, part), name="compare heads"
            )

    def _compare_all(self, now_s: float) -> None:
        if now_s - self._compared_s < COMPARE_EVERY_S or not self._bus.connected:
            return
        self._compared_s = now_s
        self._ask_heads(
            [
                channel.name
                for channel in self._channels.values()
                if channel.stream is not None
                and channel.stream.state is State.LIVE
                and self._needed(channel)
            ]
        )

    def _ask_again_for_heads(self, now_s: float) -> None:
        late = [
            request
            for request, asked in self._heads.items()
            if now_s - asked.since_s > self._reads.within_s
        ]
        for request in late:
            names = self._heads.pop(request).names
            self._ask_heads(
                [
                    n
                    for n in names
                    if n in self._channels and self._channels[n].comparing
                ]
            )

    # -- Who can be served ------------------------------------------------------------

    def _needed(self, channel: _Channel) -> bool:
        return bool(channel.waiters) or channel.name in self._hub

    def _wants_of(self, channel: _Channel) -> Iterable[Want]:
        for waiter in channel.waiters:
            for want in waiter.wants:
                if want.channel == channel.name:
                    yield want

    def _someone_returns(self, channel: _Channel) -> bool:
        return any(w.since is not None for w in self._wants_of(channel))

    def _serves_at_all(self, channel: _Channel) -> bool:
        if not channel.bound:
            return False
        return channel.stream is None or channel.stream.state is State.LIVE

    def _serves(self, want: Want) -> bool:
        channel = self._channels.get(want.channel)
        if channel is None or not self._serves_at_all(channel):
            return False
        if channel.stream is None or want.since is None:
            return True
        channel.stream.expire(self._clock.unix_ms())
        if want.newest_only:
            return bool(channel.stream.tail) or channel.stream.deepest
        return channel.stream.can_recover(want.since)

    def _serves_all(self, waiter: Waiter) -> bool:
        return all(
            self._serves(want) and (waiter.verified or not self._is_ahead(want))
            for want in waiter.wants
        )

    def _is_ahead(self, want: Want) -> bool:
        stream = self._channels[want.channel].stream
        return (
            stream is not None
            and want.since is not None
            and stream.is_ahead(want.since)
        )

    def _forget(self, waiter: Waiter) -> None:
        for want in waiter.wants:
            channel = self._channels.get(want.channel)
            if channel is not None:
                channel.waiters.pop(waiter, None)

    def _call(self, waiter: Waiter) -> None:
        waiter.ready([self._snapshot(want) for want in waiter.wants])

    def _snapshot(self, want: Want) -> Standing:
        channel = self._channels[want.channel]
        # Moved to the end: the front of the dict is what was used least recently.
        self._channels[want.channel] = self._channels.pop(want.channel)
        stream = channel.stream
        if stream is None:
            return Standing(want.channel)
        if want.since is None:
            return Standing(want.channel, stream.epoch, stream.top)
        recovery = stream.recover(want.since, newest_only=want.newest_only)
        outcome = "recovered" if recovery.recovered else "refused"
        self._metrics.resumes.labels(outcome).inc()
        return Standing(
            want.channel,
            stream.epoch,
            stream.top,
            recovery.recovered,
            recovery.publications,
        )

    def _save_memory(self) -> None:
        tails = [c for c in self._channels.values() if c.stream is not None]
        total = sum(c.stream.tail_bytes for c in tails if c.stream is not None)
        for channel in tails:
            if total <= self._tails_bytes_max:
                break
            if channel.stream is not None:
                total -= channel.stream.forget_tail()
        self._metrics.tail_bytes.set(total)
        self._metrics.channels.set(len(self._channels))

    # -- Sent in batches --------------------------------------------------------------

    async def _bind(self, names: list[str]) -> None:
        """Bind what is wanted by now, but for what is just being unbound."""
        wanted: list[_Channel] = []
        for name in dict.fromkeys(names):
            channel = self._channels.get(name)
            # Nothing keeps a bind and an unbind apart but this: who is being unbound is
            # advanced again after it.
            if channel and not channel.bound and name not in self._unbinding:
                wanted.append(channel)
        # Nor is any of these given up, and unbound, before it is known to be bound.
        self._binding = frozenset(channel.name for channel in wanted)
        try:
            await self._bus.watch([channel.name for channel in wanted])
        except PublishFailed as failed:
            log.info("binding failed: %s", failed)
            return  # `tend` and the next line try again.
        finally:
            self._binding = frozenset()
        for channel in wanted:
            if self._channels.get(channel.name) is channel:
                channel.bound = True
                self._advance(channel)

    async def _bind_all(self, names: list[str]) -> None:
        """Bind on a new line, a batch at a time; nothing is unbound meanwhile."""
        self._binding_all = True
        try:
            for start in range(0, len(names), BINDINGS_PER_BATCH_MAX):
                await self._bus.watch(names[start : start + BINDINGS_PER_BATCH_MAX])
        finally:
            self._binding_all = False

    def _unbind(self) -> None:
        """Dissolve what nobody wants, beside the binds: subscribers never wait for it."""
        if self._binding_all or self._unbinding or not self._bus.connected:
            return
        if self._unwanted:
            self._tasks.spawn(self._unbind_all(), name="unbind")

    async def _unbind_all(self) -> None:
        while self._unwanted and not self._unbinding:
            batch = list(islice(self._unwanted, UNBINDINGS_PER_BATCH_MAX))
            wanted_again = [name for name in batch if name in self._channels]
            for name in wanted_again:
                del self._unwanted[name]
            self._unbinding = frozenset(batch).difference(wanted_again)
            try:
                await self._bus.unwatch(list(self._unbinding))
            except PublishFailed as failed:
                log.info("unbinding failed: %s", failed)
                return  # Remembered: `tend` tries again.
            else:
                for name in self._unbinding:
                    self._unwanted.pop(name, None)
            finally:
                unbound, self._unbinding = self._unbinding, frozenset[str]()
                for name in unbound:
                    if channel := self._channels.get(name):
                        self._advance(channel)

    async def _send_heads(self, request: int, names: list[str]) -> None:
        try:
            await self._bus.ask_heads(request, names)
        except PublishFailed as failed:
            log.info("comparing heads failed: %s", failed)


def _is_news(channel: _Channel, publication: LivePublication) -> bool:
    """Whether a numbered publication is new to this channel; note that it came."""
    if not publication.number:
        return True
    if publication.number <= channel.told:
        return False
    channel.told = publication.number
    return True


def _nothing(_: None) -> list[Committed]:
    return []
