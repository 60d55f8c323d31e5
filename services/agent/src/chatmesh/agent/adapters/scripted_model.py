"""A model that is none: it answers by a script, calls tools, and labels every message.

It needs no key and no network, and it always answers the same to the same, so that a
mesh shows from its first minute what agents do, and tests know what must come out.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

import msgspec

from chatmesh.agent.conversation import (
    AgentSaid,
    Call,
    ModelAsk,
    PersonSaid,
    Responded,
    Returned,
    Turn,
    Usage,
)
from chatmesh.agent.ports import Answered, ModelEvent, TextDelta
from chatmesh.agent.tools.port import ToolOffer
from chatmesh.runtime.clock import Clock

LABEL: Final = "(scripted) "
"""Stands at the beginning of everything it says."""
_COUNT_MAX: Final = 2000
_QUOTED_CHARS_MAX: Final = 200
_CHARS_PER_TOKEN: Final = 4
_WORD: Final = re.compile(r"\S+\s*")
_MENTION: Final = re.compile(r"(?<!\w)@[\w-]+[:,]?\s*")
_SUM: Final = re.compile(
    r"(?:calculate|compute|what is|what's|how much is)\s+([-+*/%^().\d\s]*\d[-+*/%^().\d\s]*)",
    re.IGNORECASE,
)
_COUNT: Final = re.compile(r"count (?:up )?to (\d{1,6})", re.IGNORECASE)
_TIME: Final = re.compile(
    r"\b(what time|which day|what day|the time|date)\b", re.IGNORECASE
)
_SEARCH: Final = re.compile(
    r"\b(?:search|find|look for)\b(?: for)?\s+(.+)", re.IGNORECASE
)
_SUMMARY: Final = re.compile(
    r"\b(summar\w+|what happened|catch me up)\b", re.IGNORECASE
)
_URL: Final = re.compile(r"https?://[^\s<>\"')]+")
_CODE: Final = re.compile(r"```(?:python)?\n(.*?)```", re.DOTALL)


class _Wish(NamedTuple):
    """A tool the words ask for."""

    hint: str
    """Part of the tool's name."""
    argument: str | None


class ScriptedModel:
    """`ports.Model` by a script."""

    name = "scripted"
    scripted = True

    def __init__(self, clock: Clock, words_per_s: float) -> None:
        self._clock = clock
        self._pause_s = 1.0 / words_per_s

    @asynccontextmanager
    async def answer(
        self, ask: ModelAsk, *, step: int
    ) -> AsyncGenerator[AsyncIterator[ModelEvent]]:
        yield self._speak(ask, step)

    async def _speak(self, ask: ModelAsk, step: int) -> AsyncIterator[ModelEvent]:
        text, calls = script(ask, step)
        for word in _WORD.findall(text):
            yield TextDelta(word)
            await self._clock.sleep(self._pause_s)
        told = sum(len(_words(turn)) for turn in ask.turns) + len(ask.instructions)
        usage = Usage(told // _CHARS_PER_TOKEN, len(text) // _CHARS_PER_TOKEN + 1)
        finish = "tool_call" if calls else "stop"
        yield Answered(Responded(step, text, calls, usage), finish=finish)


def script(ask: ModelAsk, step: int) -> tuple[str, list[Call]]:
    """What it says to this, and the tools it calls."""
    after = _since_last_words(ask.turns)
    returned = [turn for turn in after if isinstance(turn, Returned)]
    prompt = _MENTION.sub("", _last_words(ask.turns)).strip()
    if returned:
        return LABEL + _of_results(returned), []
    if count := _COUNT.search(prompt):
        numbers = range(1, min(int(count[1]), _COUNT_MAX) + 1)
        return LABEL + " ".join(str(number) for number in numbers), []
    for wish in _wishes(prompt):
        offer = _offer(ask.tools, wish.hint)
        if offer is not None:
            arguments = _arguments(offer, wish.argument)
            call = Call(f"call-{step}", offer.name, arguments)
            return f"{LABEL}Let me ask {offer.name}. ", [call]
    shown = prompt[:_QUOTED_CHARS_MAX]
    return (
        f"{LABEL}I am a script, no model, and I can show what agents do here."
        f" You said: “{shown}”. Try “calculate 6*7”, “what time is it”,"
        " “search for something”, “count to 100”; or name a model in the agents file,"
        " and somebody with more to say will answer.",
        [],
    )


def _of_results(returned: list[Returned]) -> str:
    def line(one: Returned) -> str:
        if one.outcome == "done":
            return f"{one.name} says: {one.content}"
        return f"{one.name} gave no result ({one.outcome}): {one.content}"

    return "\n".join(line(one) for one in returned)


def _wishes(prompt: str) -> list[_Wish]:
    wishes: list[_Wish] = []
    if code := _CODE.search(prompt):
        wishes.append(_Wish("python", code[1]))
    if asked := _SUM.search(prompt):
        wishes.append(_Wish("calc", asked[1].strip().rstrip(".")))
    if url := _URL.search(prompt):
        wishes.append(_Wish("fetch", url[0].rstrip(".,")))
    if _SUMMARY.search(prompt):
        wishes.append(_Wish("summar", None))
    if sought := _SEARCH.search(prompt):
        wishes.append(_Wish("search", sought[1].strip().rstrip(".?!")))
    if _TIME.search(prompt):
        wishes.append(_Wish("time", None))
    return wishes


def _offer(tools: Sequence[ToolOffer], hint: str) -> ToolOffer | None:
    return next((tool for tool in tools if hint in tool.name.lower()), None)


def _arguments(offer: ToolOffer, value: str | None) -> str:
    """Arguments with the one text in the first property that is required, or is there."""
    properties = cast("dict[str, Any]", offer.parameters.get("properties") or {})
    required = cast("list[str]", offer.parameters.get("required") or [])
    names = required or list(properties)
    if value is None or not names:
        return "{}"
    return msgspec.json.encode({names[0]: value}).decode()


def _last_words(turns: Sequence[Turn]) -> str:
    people = [turn.text for turn in turns if isinstance(turn, PersonSaid)]
    return people[-1] if people else ""


def _since_last_words(turns: Sequence[Turn]) -> list[Turn]:
    last = max(
        (n for n, turn in enumerate(turns) if isinstance(turn, PersonSaid)), default=-1
    )
    return list(turns[last + 1 :])


def _words(turn: Turn) -> str:
    match turn:
        case PersonSaid(text=text) | AgentSaid(text=text) | Responded(text=text):
            return text
        case Returned(content=content):
            return content
