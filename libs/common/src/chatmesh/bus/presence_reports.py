"""What a process tells presence of those it holds: changes in order, and one lease for all.

Facts first: who is where, by partition. Changes gather while the report before them is on
its way; after anything that may have lost a report, the facts of the partition are told
anew as a snapshot.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing
from chatmesh.wire import limits
from chatmesh.wire.presence import (
    Active,
    Change,
    Joined,
    Left,
    PresenceLease,
    PresenceReport,
)
from chatmesh.wire.topics import partition_of

_log = logging.getLogger(__name__)

WAITING_MAX: Final = 100_000
RETRY_S: Final = 1.0
"""A snapshot follows a report of unknown fate after this long."""
_SNAPSHOT: Final = None
"""In the queue of a partition: tell everything anew, here."""


class Way(Protocol):
    """How reports get to presence. Sending raises PublishFailed."""

    @property
    def connected(self) -> bool: ...

    @property
    def reply_to(self) -> str:
        """The queue on which presence asks for snapshots."""
        ...

    async def send_report(self, report: PresenceReport) -> None:
        """Durable, to a queue that is there, confirmed."""
        ...

    async def send_lease(self, lease: PresenceLease) -> None: ...


class Facts:
    """Who is where by way of this process, for channels that have presence."""

    def __init__(self) -> None:
        self._channels: dict[str, dict[str, Joined]] = {}
        self._partitions: dict[int, set[str]] = defaultdict(set)

    def join(self, joined: Joined) -> None:
        self._channels.setdefault(joined.channel, {})[joined.client] = joined
        self._partitions[partition_of(joined.channel)].add(joined.channel)

    def leave(self, left: Left) -> None:
        members = self._channels.get(left.channel)
        if members is None:
            return
        members.pop(left.client, None)
        if not members:
            del self._channels[left.channel]
            self._partitions[partition_of(left.channel)].discard(left.channel)

    def know_of(self, channel: str) -> bool:
        """Whether anybody is in a channel by way of this process."""
        return channel in self._channels

    def of_channel(self, channel: str) -> list[Joined]:
        return list(self._channels.get(channel, {}).values())

    def of_partition(self, partition: int) -> list[Joined]:
        channels = self._partitions.get(partition, ())
        return [one for channel in channels for one in self._channels[channel].values()]


class PresenceReports:
    """The facts of one process, told and kept alive. Call `tend` every so often."""

    def __init__(
        self,
        way: Way,
        *,
        origin: str,
        clock: Clock,
        tasks: Tasks,
        tracing: Tracing = OFF,
    ) -> None:
        """`origin` names this process, unlike any other life of any process."""
        self._way = way
        self._origin = origin
        self._clock = clock
        self._tasks = tasks
        self._tracing = tracing
        self.facts: Final = Facts()
        self._sequences = [0] * limits.PARTITIONS
        self._renewed_s = 0.0
        self._ended = False
        self._reports = [
            Gatherer[Change | None](
                _Reporter(self, partition),
                tasks=tasks,
                name=f"presence {partition}",
                batch_max=limits.PRESENCE_CHANGES_PER_REPORT_MAX,
                waiting_max=WAITING_MAX,
            )
            for partition in range(limits.PARTITIONS)
        ]

    # -- Told -------------------------------------------------------------------------

    def joined(self, joined: Joined, traceparent: str = "") -> None:
        """Tell of somebody in a channel, or of other infos of theirs.

        `traceparent` is that of the cause; it is not part of the fact.
        """
        self.facts.join(joined)
        if traceparent:
            joined = msgspec.structs.replace(joined, traceparent=traceparent)
        self.tell(joined)

    def left(self, left: Left, traceparent: str = "") -> None:
        self.facts.leave(left)
        if traceparent:
            left = msgspec.structs.replace(left, traceparent=traceparent)
        self.tell(left)

    def tell(self, change: Change) -> None:
        """Tell a change that is no lasting fact, such as somebody typing."""
        if not self._way.connected:
            return  # The next line begins with a snapshot.
        self._put(partition_of(change.channel), change)

    def link_up(self) -> None:
        """What was told to the line before may not have arrived: tell it anew."""
        self._renewed_s = 0.0
        self.resync(range(limits.PARTITIONS))

    def link_down(self) -> None:
        for reports in self._reports:
            reports.clear()

    def resync(self, partitions: Iterable[int]) -> None:
        """Tell everything of these partitions anew."""
        for partition in partitions:
            told_before = self._sequences[partition] > 0
            if told_before or self.facts.of_partition(partition):
                self._put(partition, _SNAPSHOT)

    def _put(self, partition: int, change: Change | None) -> None:
        reports = self._reports[partition]
        if not reports.put(change):
            # The facts are kept all the same, and replace whatever waits.
            reports.clear()
            reports.put(_SNAPSHOT)

    # -- The lease --------------------------------------------------------------------

    def tend(self) -> None:
        """Renew the lease when it is time."""
        if self._ended or not self._way.connected or not any(self._sequences):
            return
        now_s = self._clock.monotonic_s()
        if now_s - self._renewed_s >= limits.PRESENCE_RENEW_S:
            self._renewed_s = now_s
            self._tasks.spawn(self._renew(ended=False), name="presence lease")

    async def end(self) -> None:
        """This process is leaving for good: what it has not reported is lost now."""
        self._ended = True
        if self._way.connected and any(self._sequences):
            await self._renew(ended=True)

    async def _renew(self, *, ended: bool) -> None:
        lease = PresenceLease(
            self._origin, self._way.reply_to, list(self._sequences), ended
        )
        try:
            await self._way.send_lease(lease)
        except PublishFailed as failed:
            _log.warning("presence lease not renewed", extra={"reason": str(failed)})

    # -- Sent in batches --------------------------------------------------------------

    async def report(self, partition: int, changes: list[Change | None]) -> None:
        """Send one batch; whatever stands before the last snapshot in it is in there."""
        news = [change for change in changes if change is not None]
        if len(news) < len(changes):
            # Facts that changed while they waited are in the snapshot already, and a
            # change that is told twice is the same fact.
            sent = await self._send_snapshot(partition)
        else:
            sent = await self._send(partition, news)
        if not sent and self._way.connected:
            # Nobody knows what arrived, so it is all told anew.
            await self._clock.sleep(RETRY_S)
            self._put(partition, _SNAPSHOT)

    async def _send_snapshot(self, partition: int) -> bool:
        facts: list[Change] = list(self.facts.of_partition(partition))
        size = limits.PRESENCE_CHANGES_PER_REPORT_MAX
        parts = [facts[at : at + size] for at in range(0, len(facts), size)] or [[]]
        for number, part in enumerate(parts, start=1):
            if not await self._send(partition, part, number, len(parts)):
                return False
        return True

    async def _send(
        self, partition: int, changes: list[Change], part: int = 0, parts: int = 0
    ) -> bool:
        self._sequences[partition] += 1
        spans = self._tracing.begin_batch(
            trace_names.SEND_REPORT,
            (_traceparent(one) for one in changes) if self._tracing.on else (),
            kind=SpanKind.PRODUCER,
        )
        if spans:
            spans.set({trace_names.MESSAGE_COUNT: len(changes)})
            changes = [_followed(one, spans) for one in changes]
        report = PresenceReport(
            self._origin,
            partition,
            self._sequences[partition],
            self._way.reply_to,
            changes,
            part,
            parts,
        )
        try:
            with spans:
                await self._way.send_report(report)
        except PublishFailed as failed:
            _log.info("presence report failed", extra={"reason": str(failed)})
            return False
        return True


def _traceparent(change: Change) -> str:
    # Somebody types for seconds on end; nobody traces that.
    return "" if isinstance(change, Active) else change.traceparent


def _followed(change: Change, spans: Span) -> Change:
    if isinstance(change, Active) or not change.traceparent:
        return change
    traceparent = spans.follow(change.traceparent)
    return msgspec.structs.replace(change, traceparent=traceparent)


@dataclass(frozen=True, slots=True)
class _Reporter:
    """What a partition's gatherer calls with each batch."""

    reports: PresenceReports
    partition: int

    async def __call__(self, changes: list[Change | None]) -> None:
        await self.reports.report(self.partition, changes)
