"""History while its database or its broker is away, frozen, or refuses to take more."""

import asyncio
import shutil
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import aio_pika
import asyncpg
import pytest

from chaos.proxy import Wire
from chatmesh.local import ports
from chatmesh.local.instances import private_folder
from chatmesh.local.postgres import Postgres
from chatmesh.local.rabbit import Rabbit, is_installed
from chatmesh.local.service import Service
from chatmesh.wire import errors
from chatmesh.wire.messages import Read
from support.eventually import eventually
from support.history_side import GatewaySide, history_service, metric, readiness
from support.instances import Corner

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(not is_installed(), reason="rabbitmq-server is not installed"),
]

HASTY = {
    "CHATMESH_HISTORY_STATEMENT_TIMEOUT_S": "1",
    "CHATMESH_HISTORY_CONNECT_TIMEOUT_S": "3",
    "CHATMESH_HISTORY_READ_TIMEOUT_S": "1",
    # Longer than anything here lasts: the link is kept, and everything with it.
    "CHATMESH_HISTORY_LEASE_S": "120",
}
PREFIX = "chatmesh"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = private_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    server = Postgres(folder / "postgres", "dev", binaries_near=folder)
    await server.start()
    yield server
    server.resume()
    await server.stop()


async def wire_to(url: str) -> Wire:
    """A line to where a URL leads, which can be broken."""
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    line = Wire("line", [(parts.hostname, parts.port)])
    await line.start()
    return line


def through(url: str, line: Wire) -> str:
    parts = urllib.parse.urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    netloc = f"{user}@{ports.LOOPBACK}:{line.port}"
    return urllib.parse.urlunsplit(parts._replace(netloc=netloc))


async def consumers(url: str, name: str) -> int:
    """How many consumers a queue has, by the broker's own count."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(name, passive=True)
        return queue.declaration_result.consumer_count or 0


async def unready_because(service: Service, check: str) -> str:
    """The reason of a failing check; empty while it is good or nobody answers."""
    report = await readiness(service)
    checks = cast("dict[str, dict[str, Any]] | None", report.get("checks"))
    assert checks is not None
    return "" if checks[check]["ok"] else str(checks[check]["reason"])


@pytest.fixture
async def beside_own_database(
    corner: Corner, postgres: Postgres, tmp_path: Path
) -> AsyncIterator[Service]:
    service = history_service(
        amqp_url=corner.url,
        database_url=postgres.url,
        prefix=corner.prefix,
        folder=tmp_path,
        settings=HASTY,
    )
    await service.start()
    yield service
    await service.stop()


async def test_a_stopped_database_costs_only_time(
    beside_own_database: Service, postgres: Postgres, corner: Corner
) -> None:
    """Nothing answered falsely, reads refused in time, order kept when it is back."""
    service = beside_own_database
    async with GatewaySide.open(corner.url, corner.prefix) as side:
        await side.hear("room:a")
        await side.post(("room:a", "0", "x"))
        await postgres.stop()
        numbers: list[int] = []
        for n in range(1, 50):
            numbers += await side.send(("room:a", str(n), "x"))

        page = await side.read(Read(1, "room:a", 0, 10))
        assert page.error_code == errors.INTERNAL.code
        assert await eventually(lambda: unready_because(service, "database"))
        assert not any(n in side.outcomes for n in numbers)

        await postgres.start()
        outcomes = await side.answers(numbers, within_s=20)

        assert [outcome.offset for outcome in outcomes] == list(range(2, 51))
        await eventually(lambda: len(side.heard("room:a")) == 50)
        assert [entry.id for entry in side.heard("room:a")] == [
            str(n) for n in range(50)
        ]
        await service.until_ready()
    assert await metric(service, "chatmesh_history_broker_links_total") == 1.0


async def test_a_frozen_database_is_noticed(
    beside_own_database: Service, postgres: Postgres, corner: Corner
) -> None:
    """It neither answers nor hangs up; statements have deadlines and are run again."""
    service = beside_own_database
    async with GatewaySide.open(corner.url, corner.prefix) as side:
        await side.hear("room:a")
        await side.post(("room:a", "0", "x"))
        postgres.pause()
        numbers = await side.send(*(("room:a", str(n), "x") for n in range(1, 20)))
        page = await side.read(Read(1, "room:a", 0, 10))
        assert page.error_code == errors.INTERNAL.code
        assert await eventually(lambda: unready_because(service, "database"))

        postgres.resume()
        outcomes = await side.answers(numbers, within_s=20)

        # What the frozen server had already been given may have been committed by it
        # when it thawed: the same commands again find their places.
        assert [outcome.offset for outcome in outcomes] == list(range(2, 21))
        await eventually(lambda: len(side.heard("room:a")) == 20)


async def test_who_cannot_reach_its_database_lets_go_of_its_queues(
    corner: Corner, database_url: str, tmp_path: Path
) -> None:
    """Others may be able to; when it can again it goes on where it was."""
    line = await wire_to(database_url)
    service = history_service(
        amqp_url=corner.url,
        database_url=through(database_url, line),
        prefix=corner.prefix,
        folder=tmp_path,
        settings={
            "CHATMESH_HISTORY_LEASE_S": "3",
            "CHATMESH_HISTORY_TICK_S": "0.5",
        },
    )
    await service.start()
    try:
        async with GatewaySide.open(corner.url, corner.prefix) as side:
            queue = side.topics.command_queue(3)
            await side.post(("room:a", "1", "x"))
            line.stall()
            numbers = await side.send(("room:a", "2", "x"))

            async def let_go() -> bool:
                return await consumers(corner.url, queue) == 0

            await eventually(let_go, within_s=30)
            line.mend()
            outcomes = await side.answers(numbers, within_s=30)
        assert [outcome.offset for outcome in outcomes] == [2]
        await service.until_ready()
    finally:
        await service.stop()
        await line.stop()


async def test_a_silent_line_to_the_broker_is_noticed_and_the_lease_given_up(
    corner: Corner, database_url: str, tmp_path: Path
) -> None:
    """Nobody waits for a lease whose holder cannot work."""
    line = await wire_to(corner.url)
    service = history_service(
        amqp_url=through(corner.url, line),
        database_url=database_url,
        prefix=corner.prefix,
        folder=tmp_path,
        # So long that it cannot have run out by itself.
        settings={"CHATMESH_HISTORY_LEASE_S": "600"},
    )
    await service.start()
    admin = await asyncpg.connect(database_url)
    try:
        line.stall()

        async def given_up() -> bool:
            living = "select count(*) from history_replicas where lease_until >= now()"
            return await admin.fetchval(living) == 0

        assert await eventually(lambda: unready_because(service, "broker"), within_s=30)
        await eventually(given_up, within_s=30)
        line.mend()
        await service.until_ready()
        assert await metric(service, "chatmesh_history_partitions") == 16.0
        async with GatewaySide.open(corner.url, corner.prefix) as side:
            outcomes = await side.post(("room:a", "1", "x"))
        assert [outcome.offset for outcome in outcomes] == [1]
    finally:
        await admin.close()
        await service.stop()
        await line.stop()


async def test_history_waits_for_a_database_that_comes_later(
    corner: Corner, postgres: Postgres, tmp_path: Path
) -> None:
    """It starts, says what it waits for, and serves once it is there."""
    await postgres.stop()
    service = history_service(
        amqp_url=corner.url,
        database_url=postgres.url,
        prefix=corner.prefix,
        folder=tmp_path,
        settings=HASTY,
    )
    service.launch()
    try:

        async def waits() -> bool:
            return "cannot reach" in await unready_because(service, "database")

        await eventually(waits, within_s=15)
        await postgres.start()
        await service.until_ready()
    finally:
        await service.stop()


async def test_a_broker_restart_is_survived(
    folder: Path, database_url: str, tmp_path: Path
) -> None:
    """History comes back by itself with all its consumers; what waited is committed."""
    rabbit = Rabbit(folder / "rabbitmq")
    await rabbit.start()
    service = history_service(
        amqp_url=rabbit.url,
        database_url=database_url,
        prefix=PREFIX,
        folder=tmp_path,
    )
    try:
        await service.start()
        async with GatewaySide.open(rabbit.url, PREFIX) as side:
            await side.post(("room:a", "1", "x"))
        await rabbit.stop()
        assert await eventually(lambda: unready_because(service, "broker"), within_s=10)

        await rabbit.start()
        await service.until_ready()
        async with GatewaySide.open(rabbit.url, PREFIX) as side:
            outcomes = await side.post(("room:a", "1", "x"), ("room:a", "2", "x"))

        assert [outcome.offset for outcome in outcomes] == [1, 2]
        assert await metric(service, "chatmesh_history_partitions") == 16.0
    finally:
        await service.stop()
        await rabbit.stop()


async def test_a_vanished_consumer_is_missed(
    corner: Corner, database_url: str, tmp_path: Path
) -> None:
    """Its queue is deleted under it: noticed, declared anew, consumed again."""
    service = history_service(
        amqp_url=corner.url,
        database_url=database_url,
        prefix=corner.prefix,
        folder=tmp_path,
    )
    await service.start()
    try:
        async with GatewaySide.open(corner.url, corner.prefix) as side:
            await side.delete_queue(side.topics.command_queue(3))

            async def rebuilt() -> bool:
                return (
                    await metric(service, "chatmesh_history_broker_links_total") == 2.0
                )

            await eventually(rebuilt, within_s=10)
            await service.until_ready()
            outcomes = await side.post(
                *((f"room:{n}", "1", "x") for n in range(32)),
            )
        assert {outcome.offset for outcome in outcomes} == {1}
    finally:
        await service.stop()


async def test_a_blocked_connection_is_told_and_outlived(
    folder: Path, database_url: str, tmp_path: Path
) -> None:
    """A memory alarm blocks publishers: not ready, same link, everything afterwards."""
    rabbit = Rabbit(folder / "rabbitmq")
    await rabbit.start()
    service = history_service(
        amqp_url=rabbit.url,
        database_url=database_url,
        prefix=PREFIX,
        folder=tmp_path,
        settings={
            "CHATMESH_HISTORY_PUBLISH_TIMEOUT_S": "5",
        },
    )
    try:
        await service.start()
        node = rabbit.nodes[0]
        async with GatewaySide.open(rabbit.url, PREFIX) as side:
            await side.hear("room:a")
            await side.post(("room:a", "0", "x"))
            admin = await asyncpg.connect(database_url)
            async with admin.transaction():
                # What is to be announced during the alarm is committed after it began.
                await admin.execute("select * from channels for update")
                numbers = await side.send(("room:a", "1", "x"), ("room:b", "1", "x"))
                await node.command("set_vm_memory_high_watermark", "0.0001")
            await admin.close()

            async def blocked() -> bool:
                return "blocks" in await unready_because(service, "broker")

            await eventually(blocked, within_s=15)
            # For longer than a confirm may take at other times.
            over = asyncio.get_running_loop().time() + 5.5
            while asyncio.get_running_loop().time() < over:
                await node.command("status")
            assert await blocked()
            await node.command("set_vm_memory_high_watermark", "0.6")
            await service.until_ready()
            await side.answers(numbers, within_s=20)
            assert len(side.heard("room:a")) == 2
        assert await metric(service, "chatmesh_history_broker_links_total") == 1.0
    finally:
        await service.stop()
        await rabbit.stop()
