"""What history needs from others, and what it may rely on."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from chatmesh.wire.messages import (
    Entry,
    HeadsPage,
    LogEvent,
    Outcome,
    Page,
    PublishCommand,
)


class LogUnavailable(Exception):
    """The database did not answer, or asked for patience: try the same again later."""


class LogRefused(Exception):
    """The database finds something wrong with the data of this batch, whoever sends it."""


class Standing(NamedTuple):
    """Where a channel's log stands."""

    epoch: str
    top: int
    """Offset of the newest entry; 0 when there has been none."""
    floor: int
    """Highest offset removed by retention; entries start right above."""


class Placed(NamedTuple):
    """Where one committed command stands in its channel's log."""

    offset: int
    at_ms: int
    epoch: str
    known_digest: bytes | None
    """None: stored by this very append. Else the digest of what holds this id."""
    info: bytes = b""
    """Of an entry known before: the info it was stored with."""
    tags: dict[str, str] | None = None
    kept: bool = True
    """Whether retention has left the payload in place."""

    @property
    def late(self) -> bool:
        """Not stored: a higher epoch of its fence has been seen."""
        return self.offset == 0


class Fence(NamedTuple):
    """Which work a row is part of, and how often that had been taken over."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch for the log, column by column; (channel, id) occurs once."""

    channels: list[str] = field(default_factory=list[str])
    ids: list[str] = field(default_factory=list[str])
    digests: list[bytes] = field(default_factory=list[bytes])
    authors: list[str] = field(default_factory=list[str])
    payloads: list[bytes] = field(default_factory=list[bytes])
    infos: list[bytes | None] = field(default_factory=list[bytes | None])
    tags: list[str | None] = field(default_factory=list[str | None])
    fences: dict[int, Fence] = field(default_factory=dict[int, Fence])
    """By row, for the few that have one."""

    def __len__(self) -> int:
        return len(self.channels)

    def rows(self, start: int, stop: int) -> "Columns":
        """Some of the rows, in the same order."""
        part = slice(start, stop)
        return Columns(
            self.channels[part],
            self.ids[part],
            self.digests[part],
            self.authors[part],
            self.payloads[part],
            self.infos[part],
            self.tags[part],
            {
                row - start: fence
                for row, fence in self.fences.items()
                if start <= row < stop
            },
        )


class ReadSpec(NamedTuple):
    """One bounded page; `paging.bounded` makes it from what was asked."""

    channel: str
    since: int
    limit: int
    reverse: bool
    bytes_max: int
    whole: bool = False
    """Also what its namespace keeps no longer, while it is there."""


class PageRead(NamedTuple):
    standing: Standing
    entries: list[Entry]


class Log(Protocol):
    """The one place that gives order.

    Entries of a channel are numbered 1, 2, 3 … without gaps, in the order in which they
    were appended. An id is stored once per channel and stays known for ever. A new id is
    not stored when its row's fence has been seen with a higher epoch in the channel.
    """

    async def append(self, columns: Columns) -> list[Placed]:
        """Commit a batch, all or nothing, and say for each input where it stands.

        Running it again is harmless: what is stored already comes back with its digest
        and first place. Raises LogUnavailable (the outcome is unknown, run it again) and
        LogRefused (nothing was stored).
        """
        ...

    async def read(self, specs: Sequence[ReadSpec]) -> list[PageRead]:
        """Read pages, each consistent with its standing. Raises LogUnavailable."""
        ...

    async def heads(self, channels: Sequence[str]) -> list[Standing]:
        """Where these channels stand, in the order asked. Raises LogUnavailable."""
        ...

    async def truncate(self, channel: str) -> Standing:
        """Empty all there is now; offsets, epoch and ids stay. Raises LogUnavailable.

        May have done part of it when it fails; running it again goes on.
        """
        ...


class Totals(NamedTuple):
    channels: int
    publications: int
    ids: int


class Catalogue(Protocol):
    """What there is, for those who operate it."""

    async def channels(
        self, after: str, prefix: str, limit: int
    ) -> list[tuple[str, Standing]]:
        """Channels behind `after` that begin with `prefix`. Raises LogUnavailable."""
        ...

    async def counts(self) -> Totals:
        """How much there is. Raises LogUnavailable."""
        ...


class RetentionRule(Protocol):
    """What a namespace keeps of each channel; 0 sets no bound."""

    @property
    def namespace(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def age_s(self) -> int: ...


class Retention(Protocol):
    """Empties what need not be kept. Ids stay known, and no hole opens above a floor."""

    async def retain(
        self, rules: Sequence[RetentionRule], after: str, *, channels: int, entries: int
    ) -> tuple[int, str | None]:
        """Look at the next channels in name order; empty at most so many entries or a few more.

        Returns how many were emptied and the last channel looked at, None at the end.
        Raises LogUnavailable and LogRefused.
        """
        ...


class OutcomeUnknown(Exception):
    """No answer in time: the command may be committed or not; send the same id again."""


class Publisher(Protocol):
    """Publishes on the path every command takes."""

    async def publish(self, command: PublishCommand) -> Outcome:
        """Send a command and wait for its outcome. Raises OutcomeUnknown.

        Raises LogUnavailable when it was certainly not sent.
        """
        ...


class Attempts(Protocol):
    """Remembers across deaths of the process how often a command has been begun."""

    async def begin(self, channel: str, id: str) -> int:  # noqa: A002 - the column's name
        """Record one more attempt before it is made; say which one it is, from 1."""
        ...

    async def end(self, channel: str, id: str) -> None:  # noqa: A002 - the column's name
        """Forget the command: it went through, or it is buried."""
        ...


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a committed batch has to say, and to whom."""

    events: list[LogEvent]
    """In the order in which they have to go out."""
    outcomes: dict[str, list[Outcome]]
    """By the queue to answer to."""


class Sending(Protocol):
    """An announcement on its way."""

    @property
    def events(self) -> Awaitable[None]:
        """Completes when the broker has confirmed the events. Raises LinkLost."""
        ...

    @property
    def outcomes(self) -> Awaitable[None]:
        """Completes when the broker has confirmed the answers. Raises LinkLost."""
        ...


class Link(Protocol):
    """One life of the broker link, as the committer sees it."""

    def announce(self, announcement: Announcement) -> Sending:
        """Send everything now, in order, and let the confirms come later."""
        ...

    def ack(self, tags: Sequence[int]) -> None:
        """Let the broker forget these deliveries. Does nothing once the link is lost."""
        ...

    async def bury(self, command: PublishCommand, reply_to: str, cause: str) -> None:
        """Put a command among the dead letters, confirmed. Raises LinkLost."""
        ...


class Answers(Protocol):
    """Where answers to reads go."""

    def reply(self, reply_to: str, message: Page | HeadsPage) -> Awaitable[None]:
        """Send an answer now; completes when the broker has it. Raises LinkLost."""
        ...
