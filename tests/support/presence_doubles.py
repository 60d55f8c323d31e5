"""Doubles of what presence needs: a book and a directory in memory, a link on paper."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from chatmesh.bus.outgoing import LinkLost
from chatmesh.presence.ports import (
    BookRefused,
    BookUnavailable,
    ChannelCounts,
    Kept,
    Stored,
    Totals,
    User,
)
from chatmesh.presence.roster import Connection, Counts, Diff, News
from chatmesh.wire.presence import Member, PresenceAnswer
from chatmesh.wire.topics import partition_of

DATABASE_AHEAD_MS = 1_700_000_000_000


class HandClock:
    """Time that a test moves; who sleeps waits for it."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return DATABASE_AHEAD_MS + int(self.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + seconds, woken))
        await woken

    async def pass_(self, seconds: float, step_s: float = 0.25) -> None:
        """Let time pass in steps, each with all that follows from it."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + step_s)
            due = [woken for at_s, woken in self._sleepers if at_s <= self.now_s]
            self._sleepers = [s for s in self._sleepers if s[0] > self.now_s]
            for woken in due:
                if not woken.done():
                    woken.set_result(None)
            await settled()


async def settled() -> None:
    """Let everything run that can run now."""
    for _ in range(30):
        await asyncio.sleep(0)


class BookDouble:
    """`ports.Book` in dictionaries."""

    def __init__(self, clock: HandClock) -> None:
        self._clock = clock
        self.connections: dict[tuple[str, str], Connection] = {}
        self.sequences: dict[tuple[str, int], int] = {}
        self.untold: list[News] = []
        self.stores = 0
        self.away = False
        self.refuses = False
        self.held = True

    async def load(self, partition: int) -> Kept:
        self._look()
        await asyncio.sleep(0)
        rows = [c for c in self.connections.values() if _in(c.channel, partition)]
        untold = [news for news in self.untold if _in(news.channel, partition)]
        return Kept(
            connections=sorted(rows, key=lambda c: c.joined_us),
            faces=[],
            sequences=[
                (o, s) for (o, p), s in self.sequences.items() if p == partition
            ],
            number=max((news.number for news in untold), default=0),
            untold=untold,
            now_ms=self._now_ms(),
        )

    async def store(
        self, partitions: Sequence[int], diff: Diff, told: Mapping[int, int]
    ) -> Stored:
        self._look()
        await asyncio.sleep(0)
        if self.refuses:
            raise BookRefused("unfit")
        if not self.held:
            return Stored(held=False, now_ms=self._now_ms())
        self.stores += 1
        for key, connection in diff.connections.items():
            self.connections.pop(key, None)
            if connection is not None:
                self.connections[key] = connection
        self.sequences.update(diff.sequences)
        self.untold = [
            news
            for news in [*self.untold, *(n for n in diff.news if n.number)]
            if news.number > told.get(partition_of(news.channel), 0)
        ]
        assert set(told) <= set(partitions)
        return Stored(held=True, now_ms=self._now_ms())

    def _now_ms(self) -> int:
        return self._clock.unix_ms()

    def _look(self) -> None:
        if self.away:
            raise BookUnavailable("away")


def _in(channel: str, partition: int) -> bool:
    return partition_of(channel) == partition


class LinkDouble:
    """`ports.Link` that remembers what went out."""

    def __init__(self) -> None:
        self.told: list[News] = []
        self.answers: list[tuple[str, PresenceAnswer]] = []
        self.acked: list[int] = []
        self.buried: list[str] = []
        self.lost = ""
        self.broken = False

    async def tell(self, news: Iterable[News]) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise LinkLost("broken")
        self.told += news

    async def answer(self, reply_to: str, message: PresenceAnswer) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise LinkLost("broken")
        self.answers.append((reply_to, message))

    def ack(self, tags: Sequence[int]) -> None:
        self.acked += tags

    async def bury(self, partition: int, body: bytes, cause: str) -> None:
        await asyncio.sleep(0)
        self.buried.append(f"{partition}: {cause}: {body.decode()}")

    def lose(self, reason: str) -> None:
        self.lost = reason


class DirectoryDouble:
    """`ports.Directory` of one room."""

    def __init__(self, rooms: Mapping[str, Sequence[Member]] | None = None) -> None:
        self.rooms = dict(rooms or {})
        self.statuses: dict[str, tuple[str, bool]] = {}
        self.away = False

    async def members(self, channel: str, after: str, limit: int) -> list[Member]:
        await self._look()
        there = sorted(self.rooms.get(channel, ()), key=lambda m: m.client)
        return [member for member in there if member.client > after][:limit]

    async def people(
        self, channel: str, after: str, limit: int
    ) -> list[tuple[str, Member]]:
        await self._look()
        there = {member.user: member for member in self.rooms.get(channel, ())}
        return [(user, there[user]) for user in sorted(there) if user > after][:limit]

    async def counts(self, channels: Sequence[str]) -> list[Counts]:
        await self._look()
        rooms = [self.rooms.get(channel, ()) for channel in channels]
        return [Counts(len(room), len({m.user for m in room})) for room in rooms]

    async def user(self, user: str) -> User:
        await self._look()
        where = [c for c, room in self.rooms.items() if user in {m.user for m in room}]
        text, quiet = self.statuses.get(user, ("", False))
        return User(sorted(where), len(where), 0, text, quiet)

    async def set_status(self, user: str, text: str, *, do_not_disturb: bool) -> None:
        await self._look()
        self.statuses[user] = (text, do_not_disturb)

    async def channels(
        self, after: str, prefix: str, limit: int
    ) -> list[ChannelCounts]:
        await self._look()
        names = [n for n in sorted(self.rooms) if n > after and n.startswith(prefix)]
        counts = await self.counts(names[:limit])
        return [ChannelCounts(n, c) for n, c in zip(names, counts, strict=False)]

    async def totals(self) -> Totals:
        await self._look()
        everyone = [member for room in self.rooms.values() for member in room]
        users = len({member.user for member in everyone})
        return Totals(len(self.rooms), len(everyone), users)

    async def _look(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise BookUnavailable("away")
