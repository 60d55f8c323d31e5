"""What services tell each other over the broker: msgpack arrays, told apart by a tag.

Fields are appended, never reordered or removed: a decoder of version N-1 ignores what
it does not know and a decoder of version N fills in the default. Payloads stay the
bytes they were; nobody on the way parses them.

Units: offsets count a channel's durable publications from 1; `*_ms` are milliseconds
since the Unix epoch by the database's clock, unless a field says otherwise.
"""

from typing import Final

import msgspec

from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from chatmesh.wire.control import ControlMessage
from chatmesh.wire.presence import (
    PresenceAnswer,
    PresenceAsks,
    PresenceLease,
    PresenceReport,
)

CONTENT_TYPE: Final = "application/msgpack"
TRACE_TAG: Final = "trace"
"""Tag under which clients are shown the id of the trace that a message has left."""
_TRACE_ID: Final = slice(3, 35)
"""Where it stands in a W3C traceparent."""


class PublishCommand(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One durable publication somebody wants committed."""

    channel: str
    id: str
    """Unique in the channel for ever; the same id and body gets the same answer."""
    data: bytes
    """The publication's payload: JSON, or anything for binary clients."""
    info: bytes = b""
    """JSON of the author's ClientInfo, or empty for a server-side publication."""
    user: str = ""
    request: int = 0
    """The asking process's own number for the reply; 0 when nobody waits."""
    hears: bool = False
    """The asker hears this channel's events, so the event itself is the reply."""
    tags: dict[str, str] = {}
    traceparent: str = ""
    fence: str = ""
    """What this is part of (a run), when somebody else may take that over; else empty."""
    fence_epoch: int = 0
    """Grows with every takeover: in its channel, a lower one than seen is refused."""


class CommandBatch(msgspec.Struct, array_like=True, frozen=True, tag="cmd"):
    """What one process wants of one partition, in the order it was asked."""

    origin: str
    """Which process asks: with `request` it names one waiting caller."""
    reply_to: str
    """Queue for replies that do not ride on an event."""
    commands: list[PublishCommand]
    sent_ms: int = 0
    """When it was sent, by the sender's clock: for queue age only."""


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One committed publication: its place, its payload, and who waits for it."""

    offset: int
    id: str
    data: bytes
    info: bytes = b""
    at_ms: int = 0
    tags: dict[str, str] = {}
    origin: str = ""
    request: int = 0
    traceparent: str = ""

    @property
    def shown_tags(self) -> dict[str, str]:
        """Tags as clients see them: with the trace, where the way here left one."""
        if not self.traceparent:
            return self.tags
        return {**self.tags, TRACE_TAG: self.traceparent[_TRACE_ID]}


class LogEvent(msgspec.Struct, array_like=True, frozen=True, tag="log"):
    """Entries of one channel, committed together, offsets dense and ascending."""

    channel: str
    epoch: str
    entries: list[Entry]


PUBLICATION: Final = "pub"
JOIN: Final = "join"
LEAVE: Final = "leave"


class LivePublication(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One ephemeral publication: no offset, never stored."""

    data: bytes
    info: bytes = b""
    tags: dict[str, str] = {}
    kind: str = PUBLICATION
    """PUBLICATION, or JOIN and LEAVE, whose `info` is the member and `data` is empty."""
    number: int = 0
    """Of joins and leaves: ascends within a channel, and a number that came already is a
    repeat to be dropped. 0: not numbered."""
    fence: str = ""
    """What this is part of (a run), when somebody else may take that over; else empty."""
    fence_epoch: int = 0
    """Grows with every takeover; gateways drop what has a lower one than they have seen."""
    unfiltered: bool = False
    """About the channel itself: heard also by those who filter what is said there."""


class LiveEvent(msgspec.Struct, array_like=True, frozen=True, tag="live"):
    """Ephemeral publications of one channel, in the order they were published."""

    channel: str
    publications: list[LivePublication]


class Outcome(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The answer to one command: its place in the log, or why it was refused."""

    request: int
    channel: str
    id: str
    offset: int = 0
    epoch: str = ""
    at_ms: int = 0
    error_code: int = 0
    """0 when committed, now or by an earlier command with this id."""
    error_message: str = ""
    error_temporary: bool = False


class Outcomes(msgspec.Struct, array_like=True, frozen=True, tag="out"):
    """Answers for one asking process."""

    outcomes: list[Outcome]


class Read(msgspec.Struct, array_like=True, frozen=True):
    """Ask for a page of a channel's log.

    Forward: entries with offset > since, oldest first. Reverse: entries with
    offset < since (since 0: from the newest), newest first. `limit` 0 asks for the
    position only. A page ends at `limit` entries or `bytes_max` bytes of payloads, infos
    and tags, whichever comes first, and holds at least one entry if there is one.
    """

    request: int
    channel: str
    since: int = 0
    limit: int = 0
    reverse: bool = False
    bytes_max: int = 0
    """0 means the server's own limit."""
    traceparent: str = ""
    whole: bool = False
    """Also what its namespace keeps no longer, while it is there: live delivery goes on
    over a hole, whatever retention shows to those who come back."""


class Reads(msgspec.Struct, array_like=True, frozen=True, tag="read"):
    """Reads of one process; each is answered by a `Page` of its own."""

    reply_to: str
    reads: list[Read]


class Page(msgspec.Struct, array_like=True, frozen=True, tag="page"):
    """The answer to a `Read`: entries, and where the log stands."""

    request: int
    channel: str
    epoch: str = ""
    top: int = 0
    """Offset of the newest committed entry; 0 when there has been none."""
    floor: int = 0
    """Highest offset removed by retention; entries start at floor + 1."""
    entries: list[Entry] = []
    error_code: int = 0
    error_message: str = ""


class Heads(msgspec.Struct, array_like=True, frozen=True, tag="heads"):
    """Ask where many channels stand, after a broker link was lost."""

    request: int
    reply_to: str
    channels: list[str]


class HeadsPage(msgspec.Struct, array_like=True, frozen=True, tag="headp"):
    """Epoch and top of each channel asked for, in the order asked."""

    request: int
    heads: list[tuple[str, int]]
    error_code: int = 0


class Truncate(msgspec.Struct, array_like=True, frozen=True, tag="trunc"):
    """Remove a channel's history: payloads go, offsets, epoch and known ids stay.

    Answered by a `Page` without entries once the log starts behind what was its top.
    """

    request: int
    reply_to: str
    channel: str


class Canary(msgspec.Struct, array_like=True, frozen=True, tag="canary"):
    """A process's own publication; hearing it back proves the path through the broker."""

    sender: str
    number: int


GatewayInbound = (
    LogEvent
    | LiveEvent
    | Outcomes
    | Page
    | HeadsPage
    | Canary
    | PresenceAnswer
    | ServiceAnswer
    | ControlMessage
)
"""What arrives on a gateway's queue."""
HistoryRequest = Reads | Heads | Truncate
"""What arrives on history's request queue."""


class Malformed(ValueError):
    """Bytes that are no message of the expected kind; says what was wrong."""


_encoder = msgspec.msgpack.Encoder()
_gateway_inbound = msgspec.msgpack.Decoder(GatewayInbound)
_command_batch = msgspec.msgpack.Decoder(CommandBatch)
_history_request = msgspec.msgpack.Decoder(HistoryRequest)
_service_call = msgspec.msgpack.Decoder(ServiceCall)
_presence_report = msgspec.msgpack.Decoder(PresenceReport)
_presence_lease = msgspec.msgpack.Decoder(PresenceLease)
_presence_asks = msgspec.msgpack.Decoder(PresenceAsks)


def encode(message: msgspec.Struct) -> bytes:
    return _encoder.encode(message)


def decode_gateway_inbound(body: bytes) -> GatewayInbound:
    """Read one message from a gateway's queue. Raises Malformed."""
    try:
        return _gateway_inbound.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode_command_batch(body: bytes) -> CommandBatch:
    """Read one message from a command queue. Raises Malformed."""
    try:
        return _command_batch.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode_history_request(body: bytes) -> HistoryRequest:
    """Read one message from history's request queue. Raises Malformed."""
    try:
        return _history_request.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode_service_call(body: bytes) -> ServiceCall:
    """Read one call a gateway forwarded to a service. Raises Malformed."""
    try:
        return _service_call.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode_presence_report(body: bytes) -> PresenceReport:
    """Read one message from a queue of presence reports. Raises Malformed."""
    try:
        return _presence_report.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode_presence_lease(body: bytes) -> PresenceLease:
    """Read one heartbeat of a process that reports to presence. Raises Malformed."""
    try:
        return _presence_lease.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error


def decode_presence_asks(body: bytes) -> PresenceAsks:
    """Read one message from presence's request queue. Raises Malformed."""
    try:
        return _presence_asks.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error
