"""A broker and a history for one gateway, in memory and under the test's hand."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatmesh.bus.link import PublishFailed
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.messages import (
    CommandBatch,
    Entry,
    HeadsPage,
    LivePublication,
    LogEvent,
    Page,
    PublishCommand,
    Read,
)
from chatmesh.wire.presence import PresenceAsk, PresenceLease, PresenceReport


def entry(offset: int, **more: object) -> Entry:
    """An entry whose payload says its offset."""
    values: dict[str, object] = {
        "id": f"m{offset}",
        "data": b'{"n":%d}' % offset,
        **more,
    }
    return Entry(offset, **values)  # pyright: ignore[reportArgumentType]


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class FakeBus:
    """The gateway's `Bus`: records what is asked of it; fails when told to."""

    up: bool = True
    bound: set[str] = field(default_factory=set[str])
    watched: list[list[str]] = field(default_factory=list[list[str]])
    unwatched: list[list[str]] = field(default_factory=list[list[str]])
    batches: list[tuple[int, CommandBatch]] = field(
        default_factory=list[tuple[int, CommandBatch]]
    )
    reads: list[Read] = field(default_factory=list[Read])
    heads: list[tuple[int, list[str]]] = field(
        default_factory=list[tuple[int, list[str]]]
    )
    live: list[tuple[str, list[LivePublication]]] = field(
        default_factory=list[tuple[str, list[LivePublication]]]
    )
    canaries: list[int] = field(default_factory=list[int])
    buried: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])
    reports: list[PresenceReport] = field(default_factory=list[PresenceReport])
    leases: list[PresenceLease] = field(default_factory=list[PresenceLease])
    asks: list[PresenceAsk] = field(default_factory=list[PresenceAsk])
    calls: list[tuple[str, ServiceCall]] = field(
        default_factory=list[tuple[str, ServiceCall]]
    )
    failing: PublishFailed | None = None
    failing_unwatch: PublishFailed | None = None
    watching: asyncio.Event = field(default_factory=_set)
    """Cleared by a test: the broker takes its time over bindings."""
    unwatching: asyncio.Event = field(default_factory=_set)

    @property
    def connected(self) -> bool:
        return self.up

    @property
    def reply_to(self) -> str:
        return "queue"

    def _may_fail(self) -> None:
        if not self.up:
            raise PublishFailed("no link")
        if self.failing is not None:
            raise self.failing

    async def watch(self, channels: Sequence[str]) -> None:
        self._may_fail()
        if channels:
            self.watched.append(list(channels))
        await self.watching.wait()
        self.bound |= set(channels)

    async def unwatch(self, channels: Sequence[str]) -> None:
        self._may_fail()
        if self.failing_unwatch is not None:
            raise self.failing_unwatch
        if channels:
            self.unwatched.append(list(channels))
        await self.unwatching.wait()
        self.bound -= set(channels)

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        self._may_fail()
        self.batches.append((partition, batch))

    async def send_reads(self, reads: list[Read]) -> None:
        self._may_fail()
        self.reads += reads

    async def ask_heads(self, request: int, channels: list[str]) -> None:
        self._may_fail()
        self.heads.append((request, channels))

    async def publish_live(
        self, channel: str, publications: list[LivePublication]
    ) -> None:
        self._may_fail()
        self.live.append((channel, publications))

    async def send_canary(self, number: int) -> None:
        self._may_fail()
        self.canaries.append(number)

    async def send_report(self, report: PresenceReport) -> None:
        self._may_fail()
        self.reports.append(report)

    async def send_lease(self, lease: PresenceLease) -> None:
        self._may_fail()
        self.leases.append(lease)

    async def send_presence_asks(self, asks: list[PresenceAsk]) -> None:
        self._may_fail()
        self.asks += asks

    async def send_call(self, service: str, call: ServiceCall) -> None:
        self._may_fail()
        self.calls.append((service, call))

    async def bury(self, body: bytes, cause: str) -> None:
        self._may_fail()
        self.buried.append((body, cause))

    @property
    def commands(self) -> list[PublishCommand]:
        return [command for _, batch in self.batches for command in batch.commands]


@dataclass
class FakeLog:
    """One channel's log as history holds it: answers reads and heads."""

    channel: str = "room:a"
    epoch: str = "e1"
    floor: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])

    @classmethod
    def of(cls, top: int, channel: str = "room:a") -> "FakeLog":
        return cls(channel, entries=[entry(n) for n in range(1, top + 1)])

    @property
    def top(self) -> int:
        return self.entries[-1].offset if self.entries else self.floor

    def append(self, **more: object) -> Entry:
        new = entry(self.top + 1, **more)
        self.entries.append(new)
        return new

    def forget_until(self, floor: int) -> None:
        self.floor = floor
        self.entries = [one for one in self.entries if one.offset > floor]

    def event(self, *offsets: int) -> LogEvent:
        wanted = [one for one in self.entries if one.offset in offsets]
        return LogEvent(self.channel, self.epoch, wanted)

    def page(self, read: Read) -> Page:
        if read.reverse:
            found = [e for e in self.entries if not read.since or e.offset < read.since]
            found.reverse()
        else:
            found = [e for e in self.entries if e.offset > read.since]
        cut: list[Entry] = []
        size = 0
        for one in found[: read.limit]:
            size += len(one.data)
            if cut and read.bytes_max and size > read.bytes_max:
                break
            cut.append(one)
        return Page(read.request, read.channel, self.epoch, self.top, self.floor, cut)

    def head(self, request: int) -> HeadsPage:
        return HeadsPage(request, [(self.epoch, self.top)])
