"""One RabbitMQ and one PostgreSQL per test run; a place of its own in them per test."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import asyncpg
import pytest
from aiormq.abc import AbstractChannel

from chatmesh.bus import topology
from chatmesh.local import amqp, mesh
from chatmesh.local.instances import Instances
from chatmesh.local.trouble import Trouble
from chatmesh.wire.topics import Topics

START_WITHIN_S = 180.0


@dataclass(frozen=True)
class Corner:
    """A test's own place in the broker."""

    url: str
    prefix: str


@contextmanager
def running_instances() -> Generator[Instances]:
    """As a process of its own: its end closes everything, however ours comes."""
    if os.environ.get("TESTS_USE") == "containers":
        from support.containers import running_containers  # noqa: PLC0415

        with running_containers() as instances:
            yield instances
        return
    words = [sys.executable, "-m", "chatmesh.local", "instances"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answer: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
        if "amqp_url" not in answer:
            trouble = answer.get("trouble", "no answer")
            raise Trouble(f"no instances to test against: {trouble}")
        try:
            yield Instances(**answer)
        finally:
            process.stdin.close()
            process.wait(timeout=30)


@pytest.fixture(scope="session")
def instances() -> Iterator[Instances]:
    """The broker and the database of this test run, started when first asked for."""
    with running_instances() as started:
        yield started


@asynccontextmanager
async def corner_of(instances: Instances) -> AsyncGenerator[Corner]:
    """A virtual host of its own; where none can be made, names with a prefix."""
    name = f"test-{secrets.token_hex(6)}"
    if instances.management_url is None:
        yield Corner(url=instances.amqp_url, prefix=name)
        await _remove_names(instances.amqp_url, name)
        return
    management = amqp.Management(instances.management_url)
    await asyncio.to_thread(management.make_virtual_host, name)
    try:
        url = amqp.with_virtual_host(instances.amqp_url, name)
        yield Corner(url=url, prefix="chatmesh")
    finally:
        await asyncio.to_thread(management.remove_virtual_host, name)
        management.close()


@pytest.fixture
async def corner(instances: Instances) -> AsyncIterator[Corner]:
    """A test's own place in the broker."""
    async with corner_of(instances) as place:
        yield place


@pytest.fixture
def broker_url(corner: Corner) -> str:
    """AMQP address of a broker in which nobody else has the names `prefix`."""
    return corner.url


@pytest.fixture
def prefix(corner: Corner) -> str:
    """Beginning of every exchange and queue of this test; unique where it has to be."""
    return corner.prefix


@pytest.fixture(scope="session")
def migrated_template(instances: Instances) -> Iterator[str]:
    """Name of a database with all tables, from which others are copied in no time.

    A new one per test process: several may share a server that was given to them.
    """
    name = f"test_template_{secrets.token_hex(6)}"
    asyncio.run(_make_template(instances.database_url, name))
    yield name
    asyncio.run(_execute(instances.database_url, f'drop database "{name}"'))


@pytest.fixture
async def empty_database_url(instances: Instances) -> AsyncIterator[str]:
    """A database of this test's own, without tables."""
    async with database_of(instances.database_url, "template1") as url:
        yield url


@pytest.fixture
async def database_url(
    instances: Instances, migrated_template: str
) -> AsyncIterator[str]:
    """A database of this test's own, with the tables of all services."""
    async with database_of(instances.database_url, migrated_template) as url:
        yield url


def _at(database_url: str, name: str) -> str:
    return urlunsplit(urlsplit(database_url)._replace(path=f"/{name}"))


@asynccontextmanager
async def database_of(admin_url: str, template: str) -> AsyncGenerator[str]:
    """A database made from a template, gone afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    await _execute(admin_url, f'create database "{name}" template "{template}"')
    try:
        yield _at(admin_url, name)
    finally:
        await _execute(admin_url, f'drop database "{name}" with (force)')


async def _make_template(admin_url: str, name: str) -> None:
    await _execute(admin_url, f'create database "{name}" template template1')
    await mesh.migrate(_at(admin_url, name))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _remove_names(url: str, prefix: str) -> None:
    """What a prefix leaves behind; with a virtual host there is nothing to do."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        names = _Recorder()
        await topology.declare(cast(AbstractChannel, names), Topics(prefix))
        for queue in names.queues:
            await channel.queue_delete(queue)
        for exchange in names.exchanges:
            await channel.exchange_delete(exchange)


class _Recorder:
    """Stands in for a channel to learn which names a topology has."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.exchanges: list[str] = []

    async def exchange_declare(self, exchange: str, **_options: object) -> None:
        await asyncio.sleep(0)
        self.exchanges.append(exchange)

    async def queue_declare(self, queue: str, **_options: object) -> None:
        await asyncio.sleep(0)
        self.queues.append(queue)

    async def queue_bind(self, *_names: str) -> None:
        await asyncio.sleep(0)
