"""What presence needs from others, and what it may rely on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from chatmesh.presence.roster import Connection, Counts, Diff, Face, News
from chatmesh.wire.presence import Member, PresenceAnswer


class BookUnavailable(Exception):
    """The database did not answer, or asked for patience: try the same again later."""


class BookRefused(Exception):
    """The database finds something wrong with the data of this diff."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One partition as it was stored."""

    connections: list[Connection]
    """In the order they joined."""
    faces: list[tuple[str, str, Face]]
    sequences: list[tuple[str, int]]
    number: int
    """Of the newest join or leave."""
    untold: list[News]
    """Joins and leaves nobody may have told."""
    now_ms: int
    """The database's time."""


class Stored(NamedTuple):
    held: bool
    """Whether the partitions were still mine; if not, nothing was stored."""
    now_ms: int


class Book(Protocol):
    """Where the partitions of this replica are kept."""

    async def load(self, partition: int) -> Kept:
        """Read a partition. Raises BookUnavailable."""
        ...

    async def store(
        self, partitions: Sequence[int], diff: Diff, told: Mapping[int, int]
    ) -> Stored:
        """Store a diff, all or nothing, and forget news told up to a number each.

        Running it again is harmless. Raises BookUnavailable (the outcome is unknown, run
        it again) and BookRefused (nothing was stored).
        """
        ...


class User(NamedTuple):
    """What is known of a user."""

    channels: list[str]
    connections: int
    last_seen_ms: int
    status_text: str
    do_not_disturb: bool


class ChannelCounts(NamedTuple):
    channel: str
    counts: Counts


class Totals(NamedTuple):
    channels: int
    connections: int
    users: int


class Directory(Protocol):
    """What anyone may ask, of any partition. Everything raises BookUnavailable."""

    async def members(self, channel: str, after: str, limit: int) -> list[Member]:
        """Connections in a channel with a client id above `after`, by client id."""
        ...

    async def people(
        self, channel: str, after: str, limit: int
    ) -> list[tuple[str, Member]]:
        """People in a channel, each with its cursor, which are above `after`."""
        ...

    async def counts(self, channels: Sequence[str]) -> list[Counts]:
        """How many are in these channels, in the order asked."""
        ...

    async def user(self, user: str) -> User: ...

    async def set_status(
        self, user: str, text: str, *, do_not_disturb: bool
    ) -> None: ...

    async def channels(
        self, after: str, prefix: str, limit: int
    ) -> list[ChannelCounts]:
        """Channels somebody is in, in name order."""
        ...

    async def totals(self) -> Totals: ...


class Link(Protocol):
    """One life of the broker link."""

    async def tell(self, news: Iterable[News]) -> None:
        """Publish in order; returns when the broker has it all. Raises LinkLost."""
        ...

    async def answer(self, reply_to: str, message: PresenceAnswer) -> None:
        """Send to a process's queue; returns when the broker has it. Raises LinkLost."""
        ...

    def ack(self, tags: Sequence[int]) -> None:
        """Let the broker forget these deliveries. Does nothing once the link is lost."""
        ...

    async def bury(self, partition: int, body: bytes, cause: str) -> None:
        """Put a report among the dead letters. Raises LinkLost."""
        ...

    def lose(self, reason: str) -> None:
        """End the link: what it has not acknowledged goes back to the broker."""
        ...
