"""Keeps the rosters of this replica's partitions: store, tell, acknowledge, in turn.

What arrives while one batch is being stored gathers for the next. A report is
acknowledged when what followed from it is stored and told; until then it is delivered
again, to whoever holds the partition, and its number says whether it had been taken.
Joins and leaves are stored together with the facts, and forgotten when the broker has
confirmed them, so that a death in between neither loses nor invents one.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

import msgspec

from chatmesh.bus.outgoing import LinkLost
from chatmesh.presence.hearts import Hearts
from chatmesh.presence.metrics import Metrics
from chatmesh.presence.ports import Book, BookRefused, BookUnavailable, Link, Stored
from chatmesh.presence.reports import refuse
from chatmesh.presence.roster import Diff, Roster, Rules
from chatmesh.runtime import trace_names
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.checkpoints import Checkpoint
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.health import DATABASE, Health
from chatmesh.runtime.tasks import heed_cancellation
from chatmesh.runtime.tracing import NOTHING, OFF, Span, SpanKind, Tracing
from chatmesh.wire.presence import Active, PresenceLease, PresenceReport, PresenceResync
from chatmesh.wire.topics import partition_of

_log = logging.getLogger(__name__)

T = TypeVar("T")

STALL_S: Final = 1.0
"""A beat that comes so late says that this process did not listen for a while."""


class Delivery(NamedTuple):
    """One report from a queue of reports, as the broker delivered it."""

    tag: int
    """The broker's number of this delivery on its channel; ascends with arrival."""
    partition: int
    report: PresenceReport
    body: bytes
    received_s: float
    """When, on the monotonic clock."""


class Periods(NamedTuple):
    """The times a keeper goes by."""

    process_lease_ms: int
    settle_ms: int
    beat_s: float


class Keeper:
    """The rosters of one life of the broker link; a lost link loses them all.

    What was stored is loaded again by whoever takes the partitions next.
    """

    def __init__(
        self,
        *,
        book: Book,
        link: Link,
        rules: Callable[[str], Rules],
        periods: Periods,
        health: Health,
        metrics: Metrics,
        clock: Clock,
        backoff: Backoff,
        checkpoint: Checkpoint,
        batch_changes_max: int,
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._book = book
        self._link = link
        self._rules = rules
        self._periods = periods
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff
        self._checkpoint = checkpoint
        self._batch_changes_max = batch_changes_max
        self._rosters: dict[int, Roster] = {}
        self._hearts = Hearts(periods.process_lease_ms, self._heard_ms())
        self._waiting: deque[Delivery] = deque()
        self._pending: Counter[int] = Counter()
        self._told: dict[int, int] = {}
        self._missing: set[tuple[str, int]] = set()
        self._woken = asyncio.Event()
        self._turn_of = asyncio.Lock()
        self._beat_due = False
        self._database_ahead_ms = clock.unix_ms() - self._heard_ms()

    # -- Partitions ----------------------------------------------------------------------

    async def adopt(self, partition: int) -> None:
        """Take a partition as it was stored; call it before its reports arrive.

        Raises LinkLost.
        """
        kept = await self._patiently(lambda: self._book.load(partition))
        self._database_ahead_ms = kept.now_ms - self._heard_ms()
        roster = Roster.restored(
            partition,
            self._rules,
            connections=kept.connections,
            faces=kept.faces,
            sequences=kept.sequences,
            number=kept.number,
            settled_ms=kept.now_ms + self._periods.settle_ms,
        )
        if kept.untold:
            await self._link.tell(kept.untold)
            self._told[partition] = kept.untold[-1].number
        self._rosters[partition] = roster

    async def settle(self, partition: int) -> None:
        """Finish all that arrived of a partition, and drop it. Raises LinkLost."""
        while self._pending[partition]:
            await self._turn()
        # Once more, so that nobody tells again what has been told.
        await self._turn()
        self._rosters.pop(partition, None)
        self._told.pop(partition, None)

    # -- What arrives --------------------------------------------------------------------

    def hear(self, delivery: Delivery) -> None:
        """Take a report; it is acknowledged when everything it says is done."""
        self._checkpoint("presence.received")
        report = delivery.report
        self._hearts.touch(report.origin, report.reply_to, self._heard_ms())
        self._pending[delivery.partition] += 1
        self._waiting.append(delivery)
        self._woken.set()

    def pulse(self, lease: PresenceLease) -> None:
        """Take a heartbeat."""
        missing = self._hearts.hear(
            lease,
            self._heard_ms(),
            # Where reports wait here, more of them wait in the queue.
            [p for p in self._rosters if not self._pending[p]],
            lambda origin, partition: self._rosters[partition].sequence_of(origin),
        )
        if missing:
            self._missing.update((lease.origin, partition) for partition in missing)
            self._woken.set()

    # -- The work ------------------------------------------------------------------------

    async def run(self) -> None:
        """Work for ever. Raises LinkLost."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beat())
            group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._turn()
            heed_cancellation()
            if self._waiting:
                self._woken.set()

    async def _beat(self) -> None:
        while True:
            before_s = self._clock.monotonic_s()
            await self._clock.sleep(self._periods.beat_s)
            late_s = self._clock.monotonic_s() - before_s - self._periods.beat_s
            if late_s > STALL_S:
                _log.warning("stood still for a while", extra={"seconds": late_s})
                self._hearts.listens_again(self._heard_ms())
            self._beat_due = True
            self._woken.set()

    async def _turn(self) -> None:
        async with self._turn_of:
            deliveries = self._take()
            with self._taken(deliveries) as trail:
                await self._do(deliveries, trail)

    def _taken(self, deliveries: list[Delivery]) -> Span:
        """The spans of a batch: one for each sampled join and leave in it."""
        if not deliveries or not self._tracing.on:
            return NOTHING
        trail = self._tracing.begin_batch(
            trace_names.PROCESS_REPORTS,
            (
                change.traceparent
                for delivery in deliveries
                for change in delivery.report.changes
                if not isinstance(change, Active)
            ),
            kind=SpanKind.CONSUMER,
            ago_s=self._clock.monotonic_s() - deliveries[0].received_s,
        )
        if trail:
            changes = sum(len(delivery.report.changes) for delivery in deliveries)
            trail.set({trace_names.MESSAGE_COUNT: changes})
        return trail

    async def _do(self, deliveries: list[Delivery], trail: Span) -> None:
        now_ms = self._now_ms()
        diff = Diff()
        for delivery in deliveries:
            self._take_in(delivery, now_ms, diff)
        if self._beat_due:
            self._beat_due = False
            self._let_time_pass(now_ms, diff)
        diff.resync |= self._missing
        self._missing.clear()
        await self._store(deliveries, diff, trail)
        await self._tell(diff, trail)
        if deliveries:
            self._link.ack([delivery.tag for delivery in deliveries])
            self._checkpoint("presence.acked")
        for delivery in deliveries:
            self._pending[delivery.partition] -= 1

    def _take(self) -> list[Delivery]:
        taken: list[Delivery] = []
        changes = 0
        while self._waiting:
            changes += len(self._waiting[0].report.changes)
            if taken and changes > self._batch_changes_max:
                break
            taken.append(self._waiting.popleft())
        self._metrics.waiting.set(len(self._waiting))
        return taken

    def _take_in(self, delivery: Delivery, now_ms: int, diff: Diff) -> None:
        roster = self._rosters[delivery.partition]
        report = delivery.report
        reasons = [refuse(change, delivery.partition) for change in report.changes]
        sound = [
            change
            for change, reason in zip(report.changes, reasons, strict=True)
            if reason is None
        ]
        if len(sound) < len(reasons):
            _log.warning(
                "changes refused",
                extra={"causes": sorted({r for r in reasons if r is not None})},
            )
            report = msgspec.structs.replace(report, changes=sound)
        self._metrics.changes.labels("refused").inc(len(reasons) - len(sound))
        self._metrics.changes.labels("taken").inc(len(sound))
        taken = roster.hear(report, now_ms, diff)
        self._metrics.reports.labels("taken" if taken else "repeated").inc()

    def _let_time_pass(self, now_ms: int, diff: Diff) -> None:
        heard_ms = self._heard_ms()
        held = 0
        for roster in self._rosters.values():
            for origin in roster.origins:
                if self._hearts.is_gone(origin, heard_ms):
                    _log.info(
                        "process gone",
                        extra={"origin": origin, "partition": roster.partition},
                    )
                    self._metrics.processes_lost.inc()
                    roster.lose(origin, now_ms, diff)
            roster.tick(now_ms, diff)
            held += roster.size
        self._hearts.forget(heard_ms)
        self._metrics.connections.set(held)
        self._metrics.processes.set(len(self._hearts))

    async def _store(self, deliveries: list[Delivery], diff: Diff, trail: Span) -> None:
        if not diff.stores and not self._told:
            return
        told = dict(self._told)
        partitions = {partition for _, partition in diff.sequences}
        partitions |= {partition_of(channel) for channel, _ in diff.connections}
        partitions |= told.keys()
        started_s = self._clock.monotonic_s()
        try:
            with self._tracing.begin_below(
                trace_names.STORE_PRESENCE, trail, kind=SpanKind.CLIENT
            ):
                stored: Stored = await self._patiently(
                    lambda: self._book.store(sorted(partitions), diff, told)
                )
        except BookRefused as refused:
            # Nothing a process reports should come to this. What is buried is missed by
            # number and told anew; the rosters go with the link, and load what is true.
            _log.exception("reports refused by the database")
            for delivery in deliveries:
                await self._link.bury(delivery.partition, delivery.body, str(refused))
                self._metrics.reports.labels("buried").inc()
            self._link.ack([delivery.tag for delivery in deliveries])
            self._link.lose("the database refused what was reported")
            raise LinkLost("the database refused what was reported") from refused
        if not stored.held:
            self._link.lose("partitions were taken over")
            raise LinkLost("partitions were taken over")
        for partition in told:
            del self._told[partition]
        finished_s = self._clock.monotonic_s()
        self._database_ahead_ms = stored.now_ms - self._heard_ms()
        self._metrics.store_seconds.observe(finished_s - started_s)
        changes = sum(len(delivery.report.changes) for delivery in deliveries)
        if changes:
            self._metrics.batch_changes.observe(changes)
        self._checkpoint("presence.stored")

    async def _tell(self, diff: Diff, trail: Span) -> None:
        for origin, partitions in _by_origin(diff.resync).items():
            if reply_to := self._hearts.reply_to(origin):
                self._metrics.resyncs.inc(len(partitions))
                await self._link.answer(reply_to, PresenceResync(partitions))
        if not diff.news:
            return
        with self._tracing.begin_below(
            trace_names.SEND_EVENTS, trail, kind=SpanKind.PRODUCER
        ):
            await self._link.tell(diff.news)
        self._checkpoint("presence.told")
        for news in diff.news:
            self._metrics.told.labels(news.kind).inc()
            if news.number:
                self._told[partition_of(news.channel)] = news.number

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the database until it answers: the one place that retries."""
        while True:
            try:
                answer = await ask()
            except BookUnavailable as error:
                self._metrics.store_retries.inc()
                self._health.set(DATABASE, ok=False, reason=str(error))
                _log.warning("database unavailable", extra={"cause": str(error)})
                await self._clock.sleep(self._backoff.next_s())
                continue
            self._backoff.reset()
            self._health.set(DATABASE, ok=True)
            return answer

    # -- Time ----------------------------------------------------------------------------

    def _now_ms(self) -> int:
        """The database's time, as far as known: what is stored must mean the same to all."""
        return self._heard_ms() + self._database_ahead_ms

    def _heard_ms(self) -> int:
        """This replica's own time, which never jumps: for what it hears by itself."""
        return int(self._clock.monotonic_s() * 1000)


def _by_origin(resync: set[tuple[str, int]]) -> dict[str, list[int]]:
    partitions: dict[str, list[int]] = {}
    for origin, partition in sorted(resync):
        partitions.setdefault(origin, []).append(partition)
    return partitions
