"""The built-in tools, served by the process that operators run."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from chatmesh.agent.tools.desk import ToolDesk
from chatmesh.bus.duplex import Delivery, Post, open_duplex
from chatmesh.runtime.clock import SystemClock
from chatmesh.wire import messages
from chatmesh.wire.messages import Entry, Page, Reads
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.instances import Corner
from support.tool_rig import WITHIN_S, a_call, offered, outcome_of

SAID = [
    ("ada", "The deploy is on Friday"),
    ("bob", "Friday suits me, the deploy needs a rehearsal"),
    ("ada", "Rehearsal tomorrow then"),
]


@pytest.fixture
async def builtin(corner: Corner, free_port: int) -> AsyncIterator[int]:
    """`python -m chatmesh.agent.tools.worker`; the port of its health."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chatmesh.agent.tools.worker",
        f"--port={free_port}",
        env={
            "PATH": os.environ["PATH"],
            "CHATMESH_AMQP_URL": corner.url,
            "CHATMESH_PREFIX": corner.prefix,
        },
    )
    yield free_port
    process.terminate()
    assert await process.wait() == 0


@asynccontextmanager
async def a_history(corner: Corner) -> AsyncGenerator[None]:
    """Answers reads of `room:lab` with what was said, two entries a page."""
    topics = Topics(corner.prefix)
    answering: set[asyncio.Task[None]] = set()
    async with open_duplex(
        corner.url, name="history", topics=topics, clock=SystemClock()
    ) as link:

        async def answer(delivery: Delivery) -> None:
            asked = messages.decode_history_request(delivery.body)
            assert isinstance(asked, Reads)
            (read,) = asked.reads
            assert read.channel == "room:lab"
            below = read.since or len(SAID) + 1
            offsets = range(below - 1, 0, -1)[:2]
            page = Page(read.request, read.channel, "e", len(SAID), 0, entries(offsets))
            await link.publish(post(asked.reply_to, messages.encode(page)))
            await link.ack(delivery)

        def hear(delivery: Delivery) -> None:
            task = asyncio.get_running_loop().create_task(answer(delivery))
            answering.add(task)

        await link.consume(topics.history_rpc_queue, hear, prefetch=10)
        yield


def entries(offsets: range) -> list[Entry]:
    return [
        Entry(
            offset,
            f"m{offset}",
            json.dumps({"type": "message", "text": SAID[offset - 1][1]}).encode(),
            json.dumps({"user": SAID[offset - 1][0]}).encode(),
            1_700_000_000_000 + offset,
        )
        for offset in offsets
    ]


def post(queue: str, body: bytes) -> Post:
    return Post("", queue, body, content_type=messages.CONTENT_TYPE)


async def test_the_built_in_tools_work(
    desk: ToolDesk, corner: Corner, builtin: int
) -> None:
    """Each does what it says, and the process says that it is well."""
    names = ("calculator", "current_time", "room_search", "room_summary", "fetch_page")
    await offered(desk, *names, "run_python")
    async with httpx.AsyncClient() as client:

        async def ready() -> bool:
            answer = await client.get(f"http://127.0.0.1:{builtin}/readyz")
            return answer.status_code == 200

        await eventually(ready, within_s=WITHIN_S)
    outcome = await outcome_of(desk, a_call("calculator", expression="6*7"))
    assert outcome.content == "42"
    outcome = await outcome_of(desk, a_call("current_time", zone="Europe/Berlin"))
    assert outcome.content.split()[-1] in {"CET", "CEST"}
    page = a_call("fetch_page", url="http://169.254.169.254/latest/meta-data/")
    outcome = await outcome_of(desk, page)
    assert (outcome.state, "public" in outcome.content) == ("failed", True)
    (python,) = await desk.bus.offers(["run_python"])
    assert python.needs_approval
    async with a_history(corner):
        outcome = await outcome_of(desk, a_call("room_search", words="deploy friday"))
        found = json.loads(outcome.content)
        assert [(one["offset"], one["user"]) for one in found] == [
            (2, "bob"),
            (1, "ada"),
        ]
        outcome = await outcome_of(desk, a_call("room_summary"))
        told = json.loads(outcome.content)
        assert told["people"] == {"ada": 2, "bob": 1}
        assert [one["text"] for one in told["latest"]] == [text for _, text in SAID]
