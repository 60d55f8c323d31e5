"""What was said in a room: search and summary over messages, newest first."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from chatmesh.wire.messages import Entry, Page

SCAN_ENTRIES_MAX: Final = 2000
"""How far back a search looks."""
PAGE_ENTRIES: Final = 500
FOUND_MAX: Final = 20
TEXT_CHARS_MAX: Final = 500
SUMMARY_MESSAGES_MAX: Final = 200
LATEST_SHOWN: Final = 30
WORDS_SHOWN: Final = 12
_WORD: Final = re.compile(r"\w{4,}")


class Said(NamedTuple):
    """One message."""

    offset: int
    user: str
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """One message as a model reads it."""

    offset: int
    user: str
    at: str
    text: str


class RoomReader(Protocol):
    """Reads a room's log."""

    async def page(self, channel: str, before: int, limit: int) -> Page:
        """Entries below an offset (0: the newest), newest first. Raises ToolFailed."""
        ...


class _Body(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Author(msgspec.Struct):
    user: str = ""


_bodies: Final = msgspec.json.Decoder(_Body)
_authors: Final = msgspec.json.Decoder(_Author)


def said(entry: Entry) -> Said | None:
    """A log entry as a message; None for anything else."""
    try:
        body = _bodies.decode(entry.data)
        author = _authors.decode(entry.info) if entry.info else _Author()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if body.type != "message" or not body.text:
        return None
    return Said(entry.offset, author.user, entry.at_ms, body.text)


async def latest(reader: RoomReader, channel: str, most: int) -> list[Said]:
    """The newest messages of a room, newest first."""
    found: list[Said] = []
    before = looked = 0
    while looked < most:
        page = await reader.page(channel, before, min(PAGE_ENTRIES, most - looked))
        if not page.entries:
            break
        looked += len(page.entries)
        before = page.entries[-1].offset
        found += [one for entry in page.entries if (one := said(entry)) is not None]
        if before <= page.floor + 1:
            break
    return found


def matching(messages: Iterable[Said], words: str) -> list[Found]:
    """Messages with all of the words, newest first."""
    wanted = words.casefold().split()
    hits = [one for one in messages if all(w in one.text.casefold() for w in wanted)]
    return [_shown(one) for one in hits[:FOUND_MAX]]


def summary(messages: Sequence[Said]) -> dict[str, Any]:
    """Facts about messages (newest first): who, when, about what, and the latest words."""
    people = Counter(one.user or "somebody" for one in messages)
    words: Counter[str] = Counter()
    for one in messages:
        words.update(set(_WORD.findall(one.text.casefold())))
    return {
        "messages": len(messages),
        "people": dict(people.most_common()),
        "from": _at(messages[-1].at_ms) if messages else None,
        "to": _at(messages[0].at_ms) if messages else None,
        "frequent_words": [word for word, _ in words.most_common(WORDS_SHOWN)],
        "latest": [_shown(one) for one in reversed(messages[:LATEST_SHOWN])],
    }


def _shown(one: Said) -> Found:
    return Found(one.offset, one.user, _at(one.at_ms), one.text[:TEXT_CHARS_MAX])


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")
