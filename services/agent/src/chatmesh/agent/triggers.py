"""Which agents a message calls, and which it does not.

A message calls an agent by naming it (`@name`), by one of its keywords, or by being said
in a room where the agent answers everything. What is quoted, what stands in code, and what
an agent said calls nobody: text that only passes through must not start anything.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from chatmesh.agent.agents import Agent
from chatmesh.wire.messages import Entry
from chatmesh.wire.runs import is_agent

MESSAGE: Final = "message"
"""`type` of the publications that can call an agent."""

_FENCE: Final = re.compile(r"^[ \t]*(```+|~~~+)")
_QUOTE: Final = re.compile(r"^[ \t]*>")
_BACKTICKS: Final = re.compile(r"`+")
_MENTION: Final = re.compile(r"(?<![\w@/.\-])@([A-Za-z0-9][A-Za-z0-9_-]{0,63})")


class Said(msgspec.Struct, frozen=True):
    """One committed message of a room, as far as triggers care."""

    channel: str
    id: str
    offset: int
    at_ms: int
    user: str
    """Empty for a server-side publication, or somebody anonymous."""
    text: str
    traceparent: str = ""


class _Body(msgspec.Struct):
    type: str
    text: str
    agent: object = None


class _Author(msgspec.Struct):
    user: str = ""
    conn_info: object = None


_body = msgspec.json.Decoder(_Body)
_author = msgspec.json.Decoder(_Author)


def read(channel: str, entry: Entry) -> Said | None:
    """Read a committed publication; None when it can call nobody."""
    try:
        body = _body.decode(entry.data)
        author = _author.decode(entry.info) if entry.info else _Author()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if body.type != MESSAGE or body.agent or _speaks_as_agent(author):
        return None
    return Said(
        channel,
        entry.id,
        entry.offset,
        entry.at_ms,
        author.user,
        body.text,
        entry.traceparent,
    )


def called(agents: Iterable[Agent], said: Said) -> list[Agent]:
    """The agents a message calls, in the order they are declared."""
    own = own_words(said.text)
    names = frozenset(mentions(own))
    return [agent for agent in agents if _calls(agent, said.channel, own, names)]


def mentions(text: str) -> list[str]:
    """Names after an at sign, in lower case, in order; no mail addresses, no paths."""
    return [match[1].lower().rstrip("-_") for match in _MENTION.finditer(text)]


def own_words(text: str) -> str:
    """The text without what is quoted and what is code."""
    kept: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            # A fence ends with at least as many of the same marks.
            if mark and mark[1].startswith(fence):
                fence = ""
            continue
        if mark:
            fence = mark[1]
            continue
        if not _QUOTE.match(line):
            kept.append(line)
    return _without_inline_code("\n".join(kept))


def _without_inline_code(text: str) -> str:
    """The text with a blank for each piece between two runs of as many backticks.

    Each run is looked at once: people can write any number of them, in any order.
    """
    runs = [match.span() for match in _BACKTICKS.finditer(text)]
    closing: list[int | None] = [None] * len(runs)
    next_of: dict[int, int] = {}
    for number in range(len(runs) - 1, -1, -1):
        start, end = runs[number]
        closing[number] = next_of.get(end - start)
        next_of[end - start] = number
    kept: list[str] = []
    number = after = 0
    while number < len(runs):
        closed_by = closing[number]
        if closed_by is None:
            number += 1  # It opens nothing: backticks like any other character.
            continue
        kept += (text[after : runs[number][0]], " ")
        after = runs[closed_by][1]
        number = closed_by + 1
    return "".join((*kept, text[after:]))


def _calls(agent: Agent, channel: str, own: str, names: frozenset[str]) -> bool:
    if not matches(channel, agent.rooms) or not own.strip():
        return False
    trigger = agent.trigger
    if trigger.mention and agent.name in names:
        return True
    if trigger.every_message or matches(channel, trigger.direct):
        return True
    lowered = own.lower()
    return any(_holds_word(lowered, word.lower()) for word in trigger.keywords)


def matches(channel: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns (`*` stands for anything) is this channel."""
    return any(fnmatchcase(channel, pattern) for pattern in patterns)


def _holds_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _speaks_as_agent(author: _Author) -> bool:
    shown = author.conn_info
    return is_agent(author.user) or (
        isinstance(shown, dict) and shown.get("agent") is True  # pyright: ignore[reportUnknownMemberType] - any JSON
    )
