"""A typed function becomes a tool: schemas, checks, and what cannot be one."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatmesh.tools import Tool, ToolContext, ToolFailed, tool
from chatmesh.tools.declaration import BadArguments, NotATool, tools_in
from chatmesh.tools.serving import pool_of
from chatmesh.wire.tools import Call


@dataclass
class Place:
    """Somewhere."""

    title: str
    east: float = 0.0


@tool(read_only=True, timeout_s=2)
def visit(
    place: Place, times: int = 1, context: ToolContext | None = None
) -> list[str]:
    """Goes there."""
    assert context is not None
    return [f"{context.requester} at {place.title}"] * times


@tool
async def shout(text: str) -> str:
    """Says it loudly."""
    await asyncio.sleep(0)
    return 7 if text == "lie" else text.upper()  # pyright: ignore[reportReturnType] - a lie


CONTEXT = ToolContext.of(
    Call(key="r:c", tool="visit", deadline_ms=1, requester="ada"), lambda _: None, ""
)


def test_types_become_schemas() -> None:
    """Parameters, defaults and results are described; the context is nobody's business."""
    about = visit.description
    assert about.parameters["required"] == ["place"]
    assert set(about.parameters["properties"]) == {"place", "times"}
    place = about.parameters["$defs"]["Place"]
    assert set(place["properties"]) == {"title", "east"}
    assert about.result == {"type": "array", "items": {"type": "string"}}
    assert (about.name, about.description) == ("visit", "Goes there.")
    assert (about.read_only, about.side_effect, about.timeout_ms) == (True, False, 2000)
    assert shout.description.side_effect


async def test_arguments_are_checked_and_converted() -> None:
    """JSON becomes what the function declares, or nothing is run."""
    with ThreadPoolExecutor(1) as threads:
        came = await visit.run({"place": {"title": "x"}, "times": 2}, CONTEXT, threads)
        assert came == ["ada at x", "ada at x"]
        assert await shout.run({"text": "a"}, CONTEXT, threads) == "A"
        with pytest.raises(BadArguments, match="place"):
            await visit.run({"times": 2}, CONTEXT, threads)
        with pytest.raises(BadArguments, match="Extra"):
            await shout.run({"text": "a", "more": 1}, CONTEXT, threads)
        with pytest.raises(ToolFailed, match="promises"):
            await shout.run({"text": "lie"}, CONTEXT, threads)


def test_what_cannot_be_a_tool_says_why() -> None:
    """Found when the script starts, not when somebody calls."""

    def untyped(a) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - the point
        del a

    def many(*a: int) -> None:
        del a

    for function, words in ((untyped, "no type"), (many, "needs a name")):
        with pytest.raises(NotATool, match=words):
            tool(function)  # pyright: ignore[reportArgumentType, reportUnknownArgumentType, reportCallIssue] - the point
    with pytest.raises(NotATool, match="letters"):
        tool(name="no name")(many_words)
    with pytest.raises(NotATool, match="read-only"):
        tool(read_only=True, side_effect=True)(many_words)


def many_words() -> None:
    """Nothing."""


def test_tools_of_a_module_are_found_by_kind() -> None:
    """No registry: what stands in the module is what is served."""
    found = tools_in(globals())
    assert [one.description.name for one in found] == ["visit", "shout"]
    assert all(isinstance(one, Tool) for one in found)


def test_a_pool_is_named_for_its_script() -> None:
    """Whatever the file is called, the name is one a pool may have."""
    assert pool_of(Path("my_tools.py")) == "my-tools"
    assert pool_of(Path("7 Things!.py")) == "tools-7-things"
