"""What happened in one scenario, as everybody tells it: senders, members, the log.

Written by the clients while things break, read by the checker afterwards. All times are
seconds of one monotonic clock, so "answered before it was sent" has a meaning across
clients.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Outcome(enum.Enum):
    """What a sender was told about one attempt."""

    COMMITTED = "committed"
    """An offset came back: from now on the message must be in the log, there."""
    REFUSED = "refused"
    """A final refusal: this attempt did not put anything into the log."""
    UNKNOWN = "unknown"
    """No answer, a temporary error, or a lost connection: it may be in the log."""


@dataclass(slots=True)
class Attempt:
    """One time that a message was handed to a gateway."""

    gateway: str
    sent_s: float
    outcome: Outcome = Outcome.UNKNOWN
    answered_s: float | None = None
    offset: int = 0
    code: int = 0
    """Error code of the answer; 0 when there was none."""


@dataclass(slots=True)
class Message:
    """One message its author wants in a channel, however often it has to be sent."""

    channel: str
    id: str
    author: str
    text: str
    attempts: list[Attempt] = field(default_factory=list[Attempt])

    @property
    def committed(self) -> bool:
        return any(one.outcome is Outcome.COMMITTED for one in self.attempts)

    @property
    def first_sent_s(self) -> float | None:
        return self.attempts[0].sent_s if self.attempts else None


class How(enum.Enum):
    """How a publication reached a member."""

    LIVE = "live"
    RECOVERED = "recovered"
    """In the subscribe reply of a member that came back."""
    PAGED = "paged"
    """Read from history, because the reply said not recovered."""


class Seen(NamedTuple):
    """One publication as one member was given it."""

    offset: int
    id: str
    author: str
    text: str
    at_s: float
    how: How


@dataclass(slots=True)
class Life:
    """One subscription, from its reply to its end, and all it was given in order."""

    gateway: str
    epoch: str
    start: int
    """The offset that the member knew or was told to be at: the next one is due first."""
    recovering: bool = False
    """The member asked to continue where its last life ended."""
    recovered: bool = False
    """The reply said that nothing was missed."""
    began_s: float = 0.0
    seen: list[Seen] = field(default_factory=list[Seen])


@dataclass(slots=True)
class Member:
    """One client in one channel, over all its connections."""

    client: str
    channel: str
    lives: list[Life] = field(default_factory=list[Life])
    stays: bool = True
    """It was there at the end, so it has to have seen everything."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A connection that ended, as its client was told."""

    client: str
    code: int
    reason: str
    at_s: float
    final: bool
    """The code tells every SDK to stay away for good."""


class LogEntry(NamedTuple):
    offset: int
    id: str
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Log:
    """A channel's log, read from the database after everything has calmed down."""

    channel: str
    epoch: str
    entries: list[LogEntry]
    floor: int = 0
    """Highest offset that retention has removed."""
    top: int | None = None
    """Where the log says it ends; None: where its entries end."""


@dataclass(slots=True)
class Chronicle:
    """Everything the checker is told."""

    messages: dict[tuple[str, str], Message] = field(
        default_factory=dict[tuple[str, str], Message]
    )
    """By channel and id."""
    members: list[Member] = field(default_factory=list[Member])
    goodbyes: list[Goodbye] = field(default_factory=list[Goodbye])
    logs: dict[str, Log] = field(default_factory=dict[str, Log])
    due: dict[str, int] = field(default_factory=dict[str, int])
    """By channel, how far members had to come; what is not here, to the end of its log.

    A log may go on when its members have left: with what a sender did not wait for."""
    troubles: list[str] = field(default_factory=list[str])
    """What a client was told and nobody may be told, in words."""

    def message(self, message: Message) -> Message:
        """Note a message before its first attempt."""
        self.messages[message.channel, message.id] = message
        return message

    def join(self, client: str, channel: str) -> Member:
        """Note that a client wants to follow a channel."""
        member = Member(client, channel)
        self.members.append(member)
        return member

    @property
    def channels(self) -> list[str]:
        names = {member.channel for member in self.members}
        names |= {channel for channel, _ in self.messages}
        return sorted(names)

    def deliveries(self) -> int:
        return sum(len(life.seen) for life in self.lives())

    def lives(self) -> Iterable[Life]:
        for member in self.members:
            yield from member.lives
