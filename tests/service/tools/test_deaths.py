"""Who dies when: the caller, the worker, the broker; nothing is done twice unasked."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from chatmesh.agent.tools.arguments import digest
from chatmesh.agent.tools.desk import ToolDesk
from chatmesh.agent.tools.port import ToolOutcome
from chatmesh.bus.duplex import Post
from chatmesh.tools import ToolContext, tool
from support.eventually import eventually
from support.instances import Corner
from support.tool_rig import (
    WITHIN_S,
    a_call,
    offered,
    outcome_of,
    running_desk,
    running_worker,
)

WORKER = '''
import pathlib, time
from chatmesh.tools import serve, tool

def work(mark: str, path: str) -> str:
    """Leaves a mark each time it runs, then takes its time if told to."""
    with pathlib.Path(path).open("a") as marks:
        marks.write(mark)
    while pathlib.Path(path + ".hold").exists():
        time.sleep(0.01)
    return mark

reading = tool(name="reading", read_only=True)(work)
writing = tool(name="writing")(work)
serve(pool="deadly")
'''


@asynccontextmanager
async def worker_process(
    corner: Corner, folder: Path
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker as people run one: `python my_tools.py`."""
    script = folder / "deadly.py"
    script.write_text(WORKER)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        env={
            "PATH": os.environ["PATH"],
            "CHATMESH_AMQP_URL": corner.url,
            "CHATMESH_PREFIX": corner.prefix,
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_worker_costs_a_repetition_or_an_unknown(
    desk: ToolDesk, corner: Corner, tmp_path: Path
) -> None:
    """What is read-only runs again elsewhere; a side effect does not, and is unknown."""
    marks = {name: tmp_path / name for name in ("reading", "writing")}
    for path in marks.values():
        path.touch()
        path.with_name(f"{path.name}.hold").touch()
    async with worker_process(corner, tmp_path) as first:
        await offered(desk, "reading", "writing")
        waiting = {
            name: asyncio.create_task(
                outcome_of(desk, a_call(name, 50, mark="x", path=str(path)))
            )
            for name, path in marks.items()
        }
        for path in marks.values():
            await eventually(lambda: path.read_text() == "x", within_s=WITHIN_S)  # noqa: B023
        first.send_signal(signal.SIGKILL)
        await first.wait()
        for path in marks.values():
            path.with_name(f"{path.name}.hold").unlink()
        async with worker_process(corner, tmp_path):
            read = await waiting["reading"]
            wrote = await waiting["writing"]
    assert (read.state, read.content) == ("done", "x")
    assert marks["reading"].read_text() == "xx"
    assert wrote.state == "unknown"
    assert marks["writing"].read_text() == "x"


async def test_a_result_outlives_the_caller(
    corner: Corner, tools_database_url: str
) -> None:
    """Another replica takes the call up by its key, and the tool runs once."""
    ran: list[str] = []
    go_on = asyncio.Event()

    @tool
    async def effect(context: ToolContext) -> str:
        """Does something once."""
        ran.append(context.key)
        await go_on.wait()
        return "done it"

    call = a_call("effect", 50)
    here = (corner.url, corner.prefix, tools_database_url)
    async with running_worker(corner.url, corner.prefix, effect):
        async with running_desk(*here) as first:
            await offered(first, "effect")
            caller = asyncio.create_task(outcome_of(first, call))
            await eventually(lambda: ran, within_s=WITHIN_S)
            caller.cancel()
            await asyncio.wait({caller})
        # Nobody is there when the result comes: it waits in its queue.
        go_on.set()
        async with running_desk(*here) as second:
            outcome = await outcome_of(second, replace(call, epoch=2))
    assert outcome == ToolOutcome("done", "done it", size_bytes=7)
    assert ran == [call.key]


async def test_a_call_claimed_by_the_dead_is_not_made_twice(
    desk: ToolDesk, corner: Corner
) -> None:
    """Died between claim and publication: a side effect ends unknown, a reading runs."""
    ran: list[str] = []

    def act(context: ToolContext) -> str:
        ran.append(context.key)
        return "acted"

    reader = tool(name="reader", read_only=True)(act)
    writer = tool(name="writer")(act)
    async with running_worker(corner.url, corner.prefix, reader, writer):
        await offered(desk, "reader", "writer")
        for name, state in (("reader", "done"), ("writer", "unknown")):
            call = a_call(name, 3)
            made = desk.bus._new(
                call, (await desk.bus.offers([name]))[0], "{}", digest("{}")
            )
            await desk.ledger.open(made, 1)
            assert await desk.ledger.claim(call.key, 1, 0, 1)
            outcome = await outcome_of(desk, replace(call, epoch=2))
            assert outcome.state == state
    assert len(ran) == 1


async def test_a_link_that_breaks_under_a_call_changes_nothing(
    desk: ToolDesk, corner: Corner
) -> None:
    """The worker's and the caller's links go; the tool goes on, and its result comes."""
    ran: list[str] = []
    go_on = asyncio.Event()

    @tool(read_only=True)
    async def slow(context: ToolContext) -> str:
        """Goes on when told to."""
        ran.append(context.key)
        await go_on.wait()
        return "still here"

    async with running_worker(corner.url, corner.prefix, slow) as worker:
        await offered(desk, "slow")
        waiting = asyncio.create_task(outcome_of(desk, a_call("slow", 50)))
        await eventually(lambda: ran, within_s=WITHIN_S)
        for link in (worker._link, desk._wire._link):
            assert link is not None
            await link._connection.close()
        await eventually(lambda: not worker.serving, within_s=WITHIN_S)
        await eventually(lambda: worker.serving and desk.ready, within_s=WITHIN_S)
        go_on.set()
        outcome = await waiting
    assert (outcome.state, outcome.content) == ("done", "still here")
    assert len(ran) == 1


async def test_what_nobody_can_read_is_buried_and_told(
    desk: ToolDesk, corner: Corner
) -> None:
    """A malformed result ends its call, and lies among the dead letters."""
    link = desk._wire._link
    assert link is not None
    topics = link.topics
    await link.publish(
        Post("", topics.tool_results_queue, b"no json", correlation_id="nobody:c1")
    )

    async def buried() -> bool:
        seen = await link.declaring.queue_declare(topics.dead_letters, passive=True)
        return bool(seen.message_count)

    await eventually(buried, within_s=WITHIN_S)
