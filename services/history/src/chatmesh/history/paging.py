"""Bounds of a page: what was asked, cut to what one message may hold."""

from collections.abc import Iterator
from typing import Final

from chatmesh.history.ports import PageRead, ReadSpec
from chatmesh.wire import channels, errors, limits
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import Entry, Page, Read

_GROUP_BYTES_MAX: Final = 8 * limits.PAGE_BYTES_MAX
"""Bytes of the pages read by one statement."""
_ESCAPE_BYTES_MAX: Final = len(r"\u0000")
"""What one character of a tag becomes in JSON, at worst."""
_ENTRY_BYTES_MAX: Final = (
    2 * limits.PUBLICATION_BYTES_MAX + _ESCAPE_BYTES_MAX * limits.TAGS_CHARS_MAX
)
"""Payload, author's info and tags."""


def refuse(read: Read) -> ErrorReply | None:
    """Why a read cannot be answered; None when it can."""
    if reason := channels.refusal(read.channel):
        return errors.because(errors.BAD_REQUEST, reason)
    if not 0 <= read.since <= limits.OFFSET_MAX:
        return errors.because(errors.BAD_REQUEST, "since is no offset")
    if read.limit < 0 or read.bytes_max < 0:
        return errors.because(errors.BAD_REQUEST, "a negative bound")
    return None


def bounded(read: Read) -> ReadSpec:
    """The page to fetch for a read that was not refused."""
    since = read.since
    if read.reverse and since == 0:
        since = limits.OFFSET_MAX + 1
    return ReadSpec(
        read.channel,
        since,
        min(read.limit, limits.PAGE_ENTRIES_MAX),
        read.reverse,
        min(read.bytes_max or limits.PAGE_BYTES_MAX, limits.PAGE_BYTES_MAX),
        read.whole,
    )


def weight_of(entry: Entry) -> int:
    """Bytes of an entry in a page or an event, but for what every entry has."""
    tags = sum(len(key) + len(value) for key, value in entry.tags.items())
    return len(entry.data) + len(entry.info) + tags


def answer(read: Read, found: PageRead) -> Page:
    standing = found.standing
    return Page(
        read.request,
        read.channel,
        standing.epoch,
        standing.top,
        standing.floor,
        found.entries,
    )


def next_since(read: Read, found: PageRead) -> int | None:
    """Where the next page in the same direction begins; None when there is none."""
    if not found.entries:
        return None
    last = found.entries[-1].offset
    if read.reverse:
        return last if last > found.standing.floor + 1 else None
    return last if last < found.standing.top else None


def refused(read: Read, error: ErrorReply) -> Page:
    return Page(
        read.request,
        read.channel,
        error_code=error.code,
        error_message=error.message,
    )


def groups(reads: list[tuple[str, Read]]) -> Iterator[list[tuple[str, Read]]]:
    """Split reads so that the pages of a group fit into memory together."""
    group: list[tuple[str, Read]] = []
    size = 0
    for reply_to, read in reads:
        # A page of few entries cannot come near its bound in bytes.
        largest = min(bounded(read).bytes_max, read.limit * _ENTRY_BYTES_MAX)
        if group and size + largest > _GROUP_BYTES_MAX:
            yield group
            group, size = [], 0
        group.append((reply_to, read))
        size += largest
    if group:
        yield group
