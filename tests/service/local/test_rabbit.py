"""Private RabbitMQ nodes beside whatever else runs on the machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest

from chatmesh.local.instances import private_folder
from chatmesh.local.rabbit import Rabbit, is_installed
from support.eventually import eventually

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="rabbitmq-server is not installed"),
    pytest.mark.timeout(120),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = private_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def names(data: Path) -> list[Path]:
    """Where the node lists its quorum queues on disk."""
    return list(data.glob("*/quorum/*/names.dets"))


async def test_messages_survive_a_kill(folder: Path) -> None:
    """Same address, and what was confirmed is there."""
    rabbit = Rabbit(folder / "rabbitmq")
    try:
        await rabbit.start()
        async with await aio_pika.connect(rabbit.url) as connection:
            channel = await connection.channel()
            await channel.declare_queue(
                "kept", durable=True, arguments={"x-queue-type": "quorum"}
            )
            await channel.default_exchange.publish(
                aio_pika.Message(b"x", delivery_mode=2), routing_key="kept"
            )

        # RabbitMQ 3.10 forgets a quorum queue if it is shot within a second of its
        # declaration: the directory of such queues is written late.
        data = rabbit.nodes[0].folder / "data"
        await eventually(lambda: any(b"kept" in f.read_bytes() for f in names(data)))
        rabbit.process.kill()
        await rabbit.process.wait()
        await rabbit.start()

        async with await aio_pika.connect(rabbit.url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue("kept")
            message = await queue.get(timeout=10)
            assert message is not None
            assert message.body == b"x"
            await message.ack()
    finally:
        await rabbit.stop()


async def test_three_nodes_become_a_cluster(folder: Path) -> None:
    """By themselves, from one configuration."""
    rabbit = Rabbit(folder / "rabbitmq", nodes=3)
    try:
        await rabbit.start()
        async with await aio_pika.connect(rabbit.urls[2]) as connection:
            channel = await connection.channel()
            await channel.declare_queue("seen by all", durable=True)
        async with await aio_pika.connect(rabbit.urls[0]) as connection:
            channel = await connection.channel()
            await channel.get_queue("seen by all")
    finally:
        await rabbit.stop()
