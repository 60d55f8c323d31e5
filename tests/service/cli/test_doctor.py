"""`chatmesh doctor`: each illness is found, named, and comes with what to do."""

import asyncio
import json
from collections.abc import AsyncIterator

import aio_pika
import asyncpg
import pytest
from aiormq.abc import AbstractChannel

from chatmesh.bus import topology
from chatmesh.cli import examination
from chatmesh.cli.examination import Finding
from chatmesh.cli.room import Access
from chatmesh.local import ports
from chatmesh.runtime.clock import SystemClock
from chatmesh.wire.topics import Topics
from support.instances import Corner

NOBODY = f"127.0.0.1:{ports.free_port()}"


class Ahead(SystemClock):
    """A machine whose clock is a minute slow, so that everybody seems ahead."""

    def unix_ms(self) -> int:
        return super().unix_ms() - 60_000


def texts(findings: list[Finding], check: str, *, ok: bool) -> str:
    return "\n".join(f.text for f in findings if f.check == check and f.ok == ok)


async def test_a_broker_that_is_not_there() -> None:
    """Says so, and which setting to look at."""
    found = await examination.examine_broker(f"amqp://{NOBODY}/", Topics())

    assert [finding.ok for finding in found] == [False]
    assert "check amqp_url" in found[0].text


async def test_a_broker_that_no_mesh_has_used(corner: Corner) -> None:
    """A wrong prefix or virtual host looks like this."""
    found = await examination.examine_broker(corner.url, Topics("nobody"))

    assert "there is no queue nobody.history" in texts(
        found, examination.CONSUMERS, ok=False
    )


@pytest.fixture
async def declared(corner: Corner) -> AsyncIterator[tuple[Topics, AbstractChannel]]:
    """A broker with our queues, and nobody who takes from them."""
    topics = Topics(corner.prefix)
    async with await aio_pika.connect(corner.url) as connection:
        channel = await connection.channel()
        raw = await channel.get_underlay_channel()
        await topology.declare(raw, topics)
        yield topics, raw


async def test_queues_without_consumers(
    corner: Corner, declared: tuple[Topics, AbstractChannel]
) -> None:
    """A service that is not running at all, and one that has lost a partition."""
    topics, channel = declared

    async def take(_: object) -> None:
        await asyncio.sleep(0)

    taken = [
        topics.command_queue(partition) for partition in range(16) if partition != 7
    ]
    for queue in (*taken, topics.history_rpc_queue):
        await channel.basic_consume(queue, take)

    found = await examination.examine_broker(corner.url, topics)

    wrong = texts(found, examination.CONSUMERS, ok=False)
    assert f"nobody takes from {topics.command_queue(7)}:" in wrong
    assert "no presence is running; start one" in wrong
    assert texts(found, examination.BROKER, ok=True) == "answers"
    assert texts(found, examination.DEAD, ok=True) == "none"


async def test_agents_and_tools_without_consumers(
    corner: Corner, declared: tuple[Topics, AbstractChannel]
) -> None:
    """A mesh without agents is well; one that had them and lost them is not."""
    topics, channel = declared
    pools = (examination.BUILTIN, "weather")
    before = await examination.examine_broker(corner.url, topics, pools)
    assert "agent" not in "".join(f.text for f in before)

    await topology.declare_agent_messages(channel, topics)
    for pool in pools:
        await topology.declare_tool_pool(channel, topics, pool)

    async def take(_: object) -> None:
        await asyncio.sleep(0)

    await channel.basic_consume(topics.tool_pool_queue("weather"), take)
    gone = await examination.examine_broker(corner.url, topics, pools)
    wrong = texts(gone, examination.CONSUMERS, ok=False)
    assert "no agent is running; start one" in wrong
    assert f"no worker takes from {topics.tool_pool_queue('builtin')}," in wrong
    assert "weather" not in wrong

    await channel.basic_consume(topics.agent_messages_queue, take)
    half = await examination.examine_broker(corner.url, topics, pools)
    assert f"nobody takes from {topics.agent_rpc_queue}:" in texts(
        half, examination.CONSUMERS, ok=False
    )


async def test_dead_letters_that_wait(
    corner: Corner, declared: tuple[Topics, AbstractChannel]
) -> None:
    """Somebody has to look at them."""
    topics, channel = declared
    await channel.basic_publish(b"x", exchange=topics.dead, routing_key="")

    found = await examination.examine_broker(corner.url, topics)

    assert "1 wait for a decision" in texts(found, examination.DEAD, ok=False)


async def test_a_database_that_is_not_there() -> None:
    """Says so, and which setting to look at."""
    url = f"postgresql://chatmesh@{NOBODY}/chatmesh"
    found = await examination.examine_database(url, SystemClock())

    assert [finding.ok for finding in found] == [False]
    assert "check database_url" in found[0].text


async def test_a_sound_database(database_url: str) -> None:
    """Writable, current, and of our time."""
    found = await examination.examine_database(database_url, SystemClock())

    assert [finding for finding in found if not finding.ok] == []
    assert "history is current" in texts(found, examination.MIGRATIONS, ok=True)


async def test_a_database_with_old_empty_or_foreign_tables(database_url: str) -> None:
    """Which service lacks what, and the command that brings it."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("DROP TABLE presence_migrations")
        await connection.execute("DELETE FROM history_migrations WHERE number > 1")
        lacking = await examination.examine_database(database_url, SystemClock())
        await connection.execute("UPDATE history_migrations SET checksum = 'other'")
        changed = await examination.examine_database(database_url, SystemClock())
    finally:
        await connection.close()

    wrong = texts(lacking, examination.MIGRATIONS, ok=False)
    assert "history lacks 0002" in wrong
    assert "presence has never made its tables here" in wrong
    assert "was changed after it was applied" in texts(
        changed, examination.MIGRATIONS, ok=False
    )


async def test_a_database_that_takes_no_writes(database_url: str) -> None:
    """A standby after a failover answers, and is of no use."""
    connection = await asyncpg.connect(database_url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(
            f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        )
    finally:
        await connection.close()

    found = await examination.examine_database(database_url, SystemClock())

    assert "takes no writes" in texts(found, examination.DATABASE, ok=False)


async def test_clocks_that_disagree(database_url: str) -> None:
    """A skewed clock makes every latency a fiction, so it is said by how much."""
    found = await examination.examine_database(database_url, Ahead())

    assert "60.0 s ahead of this machine" in texts(found, examination.CLOCK, ok=False)


async def test_a_process_that_is_not_there_not_ready_or_not_ours() -> None:
    """Not answering, answering no with its reasons, and somebody else's port."""
    answers = {
        "/sick/readyz": (
            503,
            {"checks": {"broker": {"ok": False, "reason": "link lost"}}},
        ),
        "/well/readyz": (200, {"ready": True}),
    }

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        status, body = answers.get(path, (404, {}))
        text = json.dumps(body)
        writer.write(
            f"HTTP/1.1 {status} x\r\ncontent-length: {len(text)}\r\n"
            f"connection: close\r\n\r\n{text}".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        clock = SystemClock()
        sick = await examination.examine_process(f"{url}/sick", clock)
        well = await examination.examine_process(f"{url}/well/", clock)
        other = await examination.examine_process(f"{url}/other", clock)
    gone = await examination.examine_process(f"http://{NOBODY}", clock)

    assert "is not ready: broker (link lost)" in sick[0].text
    assert [finding.ok for finding in well] == [True]
    assert "answers 404; is it one of ours?" in other[0].text
    assert "does not answer" in gone[0].text


async def test_a_gateway_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message cannot even be sent, and why is said."""
    monkeypatch.setattr(examination, "CANARY_WITHIN_S", 1.0)
    access = Access(f"ws://{NOBODY}/connection/websocket", token="x", direct=True)

    found = await examination.examine_delivery([access], "room:doctor")

    assert [finding.ok for finding in found] == [False]
    assert "cannot connect" in found[0].text
