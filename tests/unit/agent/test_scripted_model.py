"""The model that is none."""

import pytest

from chatmesh.agent.adapters.scripted_model import LABEL, ScriptedModel, script
from chatmesh.agent.conversation import (
    Call,
    ModelAsk,
    PersonSaid,
    Responded,
    Returned,
    Turn,
)
from chatmesh.agent.ports import Answered, StillThere, TextDelta
from chatmesh.agent.tools.port import ToolOffer
from chatmesh.runtime.clock import SystemClock


def offer(tool: str, *properties: str) -> ToolOffer:
    schema = {
        "properties": {name: {} for name in properties},
        "required": list(properties),
    }
    return ToolOffer(
        tool,
        "",
        schema,
        None,
        read_only=True,
        side_effect=False,
        needs_approval=False,
        timeout_s=1,
    )


TOOLS = [
    offer("calculator", "expression"),
    offer("time"),
    offer("room_search", "query"),
]


def ask(*turns: Turn, tools: list[ToolOffer] | None = None) -> ModelAsk:
    return ModelAsk("", turns, TOOLS if tools is None else tools, 100)


@pytest.mark.parametrize(
    ("prompt", "name", "arguments"),
    [
        ("@helper calculate 6*7", "calculator", '{"expression":"6*7"}'),
        ("What is 2 + 2?", "calculator", '{"expression":"2 + 2"}'),
        ("what time is it?", "time", "{}"),
        ("search for the plan.", "room_search", '{"query":"the plan"}'),
    ],
)
def test_it_calls_tools(prompt: str, name: str, arguments: str) -> None:
    """Words that ask for a tool that is offered."""
    text, calls = script(ask(PersonSaid("ada", prompt)), 3)
    assert calls == [Call("call-3", name, arguments)]
    assert text.startswith(LABEL)


def test_without_tools_it_says_what_it_is() -> None:
    """It never pretends."""
    text, calls = script(ask(PersonSaid("ada", "calculate 6*7"), tools=[]), 1)
    assert calls == []
    assert "I am a script" in text


def test_it_tells_results() -> None:
    """Also when there is none."""
    turns: list[Turn] = [
        PersonSaid("ada", "calculate 6*7"),
        Responded(1, "", [Call("call-1", "calculator", "")]),
    ]
    done = Returned(1, "call-1", "calculator", "done", "42")
    late = Returned(1, "call-1", "calculator", "timeout", "too late")
    assert script(ask(*turns, done), 2) == (f"{LABEL}calculator says: 42", [])
    assert "gave no result (timeout)" in script(ask(*turns, late), 2)[0]


def test_it_counts() -> None:
    """A long answer for whoever wants to see one."""
    text, _ = script(ask(PersonSaid("ada", "count to 12")), 1)
    assert text == LABEL + "1 2 3 4 5 6 7 8 9 10 11 12"


async def test_its_stream_is_its_text() -> None:
    """In pieces that are the whole, and always the same."""
    model = ScriptedModel(SystemClock(), 1e9)
    said, whole = "", ""
    async with model.answer(ask(PersonSaid("ada", "hello  you")), step=1) as events:
        async for event in events:
            match event:
                case TextDelta(text=text):
                    said += text
                case Answered(response=response):
                    whole = response.text
                case StillThere():
                    pass  # Nothing to show.
    assert said == whole == script(ask(PersonSaid("ada", "hello  you")), 1)[0]
