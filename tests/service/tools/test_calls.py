"""Calls of tools: what agents get back, whatever tools do."""

import asyncio
import json
from dataclasses import dataclass, replace

from chatmesh.agent.tools.desk import ToolDesk
from chatmesh.tools import RetryLater, ToolContext, ToolFailed, tool
from chatmesh.wire import limits
from support.eventually import eventually
from support.instances import Corner
from support.tool_rig import (
    Heard,
    a_call,
    offered,
    outcome_of,
    running_desk,
    running_worker,
)


@tool(read_only=True)
def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    return a + b


@tool(read_only=True)
async def count(to: int, context: ToolContext) -> str:
    """Counts, and says how far it is."""
    for number in range(to):
        context.progress((number + 1) / to, f"at {number + 1}")
        await asyncio.sleep(0.05)
    return f"counted for {context.requester} in {context.room}"


@tool(read_only=True)
def refuse(why: str) -> str:
    """Always fails."""
    raise ToolFailed(why)


@tool(read_only=True, timeout_s=0.3)
async def dawdle() -> None:
    """Takes longer than it may."""
    await asyncio.sleep(60)


@tool(timeout_s=0.3)
async def dawdle_with_effect() -> None:
    """Takes longer than it may, and may have done something."""
    await asyncio.sleep(60)


@tool(read_only=True)
def lots(characters: int) -> str:
    """Text of any length."""
    return "é" * characters


TOOLS = (add, count, refuse, dawdle, dawdle_with_effect, lots)


async def test_a_typed_function_is_called_over_the_bus(
    desk: ToolDesk, corner: Corner
) -> None:
    """An agent sees a function's name, text and schema, and gets its result."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "add")
        (offer,) = await desk.bus.offers(["add"])
        assert offer.description == "The sum of two numbers."
        assert offer.parameters["required"] == ["a", "b"]
        assert offer.result == {"type": "number"}
        call, heard = a_call("add", a=1, b=2.5), Heard()
        outcome = await outcome_of(desk, call, heard)
        assert (outcome.state, outcome.content) == ("done", "3.5")
        # However fast the result is, whoever calls hears first that the call went out.
        assert heard.kinds() == ["sent"]
        joined = Heard()
        again = await outcome_of(desk, call, joined)
        assert (again, joined.kinds()) == (outcome, [])
        events = [row.event for row in await desk.ledger.audit(call.key)]
        assert events == ["asked", "sent", "settled"]


async def test_a_replica_that_has_just_come_knows_the_tools(
    corner: Corner, tools_database_url: str
) -> None:
    """The first question waits for the workers that are there, and misses none."""
    async with (
        running_worker(corner.url, corner.prefix, add, pool="one"),
        running_worker(corner.url, corner.prefix, count, pool="two"),
        running_desk(corner.url, corner.prefix, tools_database_url) as fresh,
    ):
        assert {one.name for one in await fresh.bus.offers(["add", "count"])} == {
            "add",
            "count",
        }


async def test_what_is_not_offered_any_more_is_joined_and_not_made(
    desk: ToolDesk, corner: Corner
) -> None:
    """Who takes a run over goes on with its calls, and makes none in another's name."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "add")
        made = a_call("add", a=1, b=2)
        before = await outcome_of(desk, made)
        assert await outcome_of(desk, replace(made, join_only=True)) == before
        other = replace(a_call("add", a=1, b=2), join_only=True)
        outcome = await outcome_of(desk, other)
        assert outcome.state == "failed"
        assert [row.event for row in await desk.ledger.audit(other.key)] == ["refused"]


async def test_a_tool_says_how_far_it_is(desk: ToolDesk, corner: Corner) -> None:
    """Progress arrives while the tool runs, and who asked is known to it."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "count")
        heard = Heard()
        outcome = await outcome_of(desk, a_call("count", to=15), heard)
        assert outcome.content == "counted for ada in room:lab"
        shares = [one.progress or 0 for one in heard.progress if one.kind == "progress"]
        assert shares
        assert shares == sorted(shares)


@dataclass(frozen=True)
class Wrong:
    """Something that goes wrong, and what the model is told."""

    name: str
    arguments: dict[str, object]
    state: str
    words: str


WRONGS = [
    Wrong("add", {"a": 1}, "failed", "'b' is a required property"),
    Wrong("add", {"a": 1, "b": 2, "c": 3}, "failed", "unexpected"),
    Wrong("add", {"a": "x" * limits.TOOL_ARGUMENTS_BYTES_MAX}, "failed", "over"),
    Wrong("nothing", {}, "failed", "nobody serves a tool 'nothing'"),
    Wrong("refuse", {"why": "not today"}, "failed", "not today"),
    Wrong("dawdle", {}, "timeout", "0.3 s"),
    Wrong("dawdle_with_effect", {}, "unknown", "may or may not"),
    Wrong("lots", {"characters": limits.TOOL_RESULT_BYTES_MAX}, "failed", "over"),
]


async def test_what_goes_wrong_is_a_result(desk: ToolDesk, corner: Corner) -> None:
    """The model reads why a call came to nothing; nothing is raised, nothing hangs."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "add")
        for wrong in WRONGS:
            call = replace(a_call(wrong.name), arguments=wrong.arguments)
            outcome = await outcome_of(desk, call)
            assert (wrong.name, outcome.state) == (wrong.name, wrong.state)
            assert wrong.words in outcome.content


async def test_the_same_key_with_other_arguments_is_refused(
    desk: ToolDesk, corner: Corner
) -> None:
    """A key is one call for ever; what it was asked with cannot be changed later."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "add")
        call = a_call("add", a=1, b=2)
        await outcome_of(desk, call)
        other = replace(call, arguments={"a": 1, "b": 3})
        outcome = await outcome_of(desk, other)
        assert outcome.state == "failed"
        assert "other arguments" in outcome.content
        events = [row.event for row in await desk.ledger.audit(call.key)]
        assert events[-1] == "refused"


async def test_a_large_result_is_passed_by_reference(
    desk: ToolDesk, corner: Corner
) -> None:
    """Over 256 KiB the model gets the beginning, and a reference to read on with."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "lots")
        characters = limits.TOOL_INLINE_BYTES_MAX
        outcome = await outcome_of(desk, a_call("lots", characters=characters))
        assert outcome.state == "done"
        assert outcome.reference
        assert json.loads(outcome.content)["characters"] == characters
        part = await desk.bus.read(outcome.reference, characters - 3, 10)
        assert part == "é" * 3
        more = a_call("read_result", reference=outcome.reference, offset=2, limit=4)
        assert (await outcome_of(desk, more)).content == "é" * 4
        elsewhere = replace(more, room="room:other")
        assert (await outcome_of(desk, elsewhere)).state == "failed"


async def test_a_failure_before_anything_happened_is_tried_again(
    desk: ToolDesk, corner: Corner
) -> None:
    """A worker that says so is asked again, also when the tool has side effects."""
    tries: list[str] = []

    @tool
    def flaky(context: ToolContext) -> str:
        """Works the second time."""
        tries.append(context.key)
        if len(tries) == 1:
            raise RetryLater("not yet")
        return "there"

    async with running_worker(corner.url, corner.prefix, flaky):
        await offered(desk, "flaky")
        outcome = await outcome_of(desk, a_call("flaky"))
        assert (outcome.state, outcome.content) == ("done", "there")
        assert len(set(tries)) == 1
        assert len(tries) == 2


async def test_a_call_can_be_cancelled(desk: ToolDesk, corner: Corner) -> None:
    """The tool is stopped where it runs; a side effect is then not known."""
    started: list[str] = []
    ended: list[str] = []

    async def wait(context: ToolContext) -> None:
        started.append(context.key)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(context.key)

    reader = tool(name="reader", read_only=True)(wait)
    writer = tool(name="writer")(wait)
    async with running_worker(corner.url, corner.prefix, reader, writer):
        await offered(desk, "reader", "writer")
        for name, state in (("reader", "cancelled"), ("writer", "unknown")):
            call = a_call(name)
            waiting = asyncio.create_task(outcome_of(desk, call))
            await eventually(lambda: call.key in started, within_s=20)  # noqa: B023
            await desk.bus.cancel_run(call.run)
            outcome = await waiting
            assert outcome.state == state
            await eventually(lambda: call.key in ended, within_s=20)  # noqa: B023


async def test_a_worker_that_leaves_is_not_offered_any_more(
    desk: ToolDesk, corner: Corner
) -> None:
    """Leaving says so at once; a call then is told that nobody serves the tool."""
    async with running_worker(corner.url, corner.prefix, *TOOLS):
        await offered(desk, "add")

    async def gone() -> bool:
        return not await desk.bus.offers(["add"])

    await eventually(gone, within_s=20)
    outcome = await outcome_of(desk, a_call("add", a=1, b=2))
    assert outcome.state == "failed"
