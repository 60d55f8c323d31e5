"""What the tests of history's handlers put in the place of broker and clock."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from chatmesh.bus.outgoing import LinkLost
from chatmesh.history.ports import Announcement
from chatmesh.wire.messages import (
    HeadsPage,
    LogEvent,
    Outcome,
    Page,
    PublishCommand,
)


class QuickClock:
    """Time passes when somebody waits for it, and only then."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return int(self.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass
class SendingDouble:
    events: "asyncio.Future[None]"
    outcomes: "asyncio.Future[None]"


class LinkDouble:
    """A broker link that remembers; it confirms at once, or when told to."""

    def __init__(self, *, confirms: bool = True) -> None:
        self.confirms = confirms
        self.events: list[LogEvent] = []
        self.outcomes: list[Outcome] = []
        self.acked: list[int] = []
        self.buried: list[tuple[PublishCommand, str]] = []
        self.replies: list[tuple[str, Page | HeadsPage]] = []
        self.unconfirmed: list[asyncio.Future[None]] = []

    def announce(self, announcement: Announcement) -> SendingDouble:
        self.events += announcement.events
        for listed in announcement.outcomes.values():
            self.outcomes += listed
        return SendingDouble(self._future(), self._future())

    def ack(self, tags: Sequence[int]) -> None:
        self.acked += tags

    async def bury(self, command: PublishCommand, reply_to: str, cause: str) -> None:
        del reply_to
        self.buried.append((command, cause))

    def reply(self, reply_to: str, message: Page | HeadsPage) -> "asyncio.Future[None]":
        self.replies.append((reply_to, message))
        return self._future()

    def confirm(self) -> None:
        waiting, self.unconfirmed = self.unconfirmed, []
        for future in waiting:
            future.set_result(None)

    def lose(self) -> None:
        waiting, self.unconfirmed = self.unconfirmed, []
        for future in waiting:
            future.set_exception(LinkLost("gone"))
            future.exception()

    @property
    def told(self) -> list[tuple[str, int]]:
        return [(e.channel, entry.offset) for e in self.events for entry in e.entries]

    def _future(self) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.confirms:
            future.set_result(None)
        else:
            self.unconfirmed.append(future)
        return future
