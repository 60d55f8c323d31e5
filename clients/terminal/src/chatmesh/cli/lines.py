"""How things read in a terminal: one message, one line, and nothing that acts up.

Everything that came from somebody else passes `plain`: control characters would move
the cursor or change colours, and direction marks can make a name read as another.
"""

import json
import unicodedata
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, cast

from chatmesh.wire.runs import AGENT_USER_PREFIX

_BETWEEN_LINES: Final = "\n    "
_DATA_CHARS_MAX: Final = 400
_TAB: Final = "    "

# Cc: control; Cf: format (direction marks, zero width); Cs, Co: surrogates, private;
# Zl, Zp: other ways to break a line. The joiner inside emoji is kept.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_FAILED: Final = ("failed", "interrupted")
_KEPT: Final = "\u200d\ufe0f"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as somebody in the room sees it."""

    user: str
    text: str
    at_ms: int
    """When it was committed, Unix time; 0 for what never was."""
    agent: bool = False
    """Written by a program that takes part in the room."""
    run: str = ""
    """The run it is the answer of; empty when it is none."""
    foot: str = ""
    """How the answer came about, in words."""
    name: str = ""
    """Of the agent whose answer it is, as one writes it after the at sign."""
    failed: bool = False
    """The answer came to no good end, and may be asked for once more."""
    retry_of: str = ""
    """The run that was done again by this one."""


def plain(text: str) -> str:
    """The text without anything that is not simply shown."""
    return "".join(
        char
        if char in _KEPT or unicodedata.category(char) not in _UNPRINTABLE
        else "\ufffd"
        for char in text
    )


def message_of(data: object, user: str, at_ms: int) -> Message | None:
    """Read a publication's data; None when it is nothing to show in a conversation.

    What is no chat message at all but was published here is shown as it is: it may be
    the very thing somebody is looking for.
    """
    if not isinstance(data, dict):
        return Message(user, _data(data), at_ms)
    fields = cast("dict[str, object]", data)
    text, kind = fields.get("text"), fields.get("type")
    if kind is None:
        return Message(user, _data(fields), at_ms)
    if kind != "message" or not isinstance(text, str):
        return None
    if user.startswith(AGENT_USER_PREFIX):
        return _answer(fields, user.removeprefix(AGENT_USER_PREFIX), text, at_ms)
    return Message(user, text, at_ms, agent=fields.get("agent") is True)


def _answer(fields: dict[str, object], name: str, text: str, at_ms: int) -> Message:
    """What an agent has said for good; anybody else's claims are not believed."""
    title = _within(fields, "agent").get("title")
    run = _within(fields, "run")
    id_, retry_of = run.get("id"), run.get("retryOf")
    return Message(
        title if isinstance(title, str) and title else name,
        text,
        at_ms,
        agent=True,
        run=id_ if isinstance(id_, str) else "",
        foot=_foot(run),
        name=name,
        failed=run.get("outcome") in _FAILED,
        retry_of=retry_of if isinstance(retry_of, str) else "",
    )


def _foot(run: dict[str, object]) -> str:
    """`fake-1, 2.3 s, 120 tokens`; what ended badly says so first."""
    outcome, reason = run.get("outcome"), run.get("reason")
    facts: list[str] = []
    if isinstance(outcome, str) and outcome != "completed":
        facts.append(f"{outcome}: {reason}" if isinstance(reason, str) else outcome)
    scripted, model = run.get("scripted") is True, run.get("model")
    if scripted or isinstance(model, str):
        facts.append("scripted, no model" if scripted else str(model))
    duration_ms = run.get("durationMs")
    if isinstance(duration_ms, int):
        facts.append(f"{duration_ms / 1000:.1f} s")
    usage = _within(run, "usage")
    tokens = sum(
        number
        for name in ("inputTokens", "outputTokens")
        if isinstance(number := usage.get(name), int)
    )
    if tokens:
        facts.append(count(tokens, "token"))
    return ", ".join(fact for fact in facts if fact)


def _within(fields: dict[str, object], name: str) -> dict[str, object]:
    value = fields.get(name)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def who(message: Message) -> str:
    """The author, as one writes it before the colon."""
    name = plain(message.user) or "anonymous"
    return f"{name} (agent)" if message.agent else name


def body(message: Message) -> str:
    """The text; further lines are indented so that none of them passes for a message."""
    lines = message.text.replace("\r\n", "\n").replace("\t", _TAB).split("\n")
    return _BETWEEN_LINES.join(plain(line) for line in lines)


def clock_time(at_ms: int, zone: tzinfo | None = None) -> str:
    """`12:30`, in the reader's time zone."""
    return f"{_moment(at_ms, zone):%H:%M}"


def day(at_ms: int, zone: tzinfo | None = None) -> str:
    """`Sunday, 22 November 2026`, in the reader's time zone."""
    moment = _moment(at_ms, zone)
    return f"{moment:%A}, {moment.day} {moment:%B %Y}"


def line(message: Message, zone: tzinfo | None = None) -> str:
    """One message without colours: `12:30 ada: good morning`."""
    return f"{clock_time(message.at_ms, zone)} {who(message)}: {body(message)}"


def count(number: int, noun: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _moment(at_ms: int, zone: tzinfo | None) -> datetime:
    try:
        return datetime.fromtimestamp(at_ms / 1000, zone)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, zone)


def shortened(text: str, chars: int = 60) -> str:
    """The beginning of a text, as a reminder of which one is meant."""
    return text if len(text) <= chars else f"{text[:chars]}…"


def _data(data: object) -> str:
    return shortened(json.dumps(data, ensure_ascii=False), _DATA_CHARS_MAX)
