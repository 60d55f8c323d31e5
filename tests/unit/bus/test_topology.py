"""What is declared is what both the oldest and the newest RabbitMQ take."""

import asyncio
from typing import Any, Final, cast

import pytest
from aiormq.abc import AbstractChannel

from chatmesh.bus import topology
from chatmesh.wire.topics import Topics

# Quorum queues take these in 3.10 as well as in 4.x; others are refused by one of them,
# or silently mean nothing.
TAKEN: Final = {
    "x-queue-type",
    "x-delivery-limit",
    "x-single-active-consumer",
    "x-dead-letter-exchange",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
}


class Declared:
    """A channel that notes what is declared on it."""

    def __init__(self) -> None:
        self.exchanges: dict[str, bool] = {}
        self.queues: dict[str, tuple[bool, dict[str, Any]]] = {}
        self.bound: set[str] = set()

    async def exchange_declare(
        self, exchange: str, *, exchange_type: str, durable: bool
    ) -> None:
        assert exchange_type in {"direct", "topic", "fanout"}
        self.exchanges[exchange] = durable

    async def queue_declare(
        self, queue: str, *, durable: bool = False, arguments: dict[str, Any]
    ) -> None:
        self.queues[queue] = durable, arguments

    async def queue_bind(
        self, queue: str, exchange: str, routing_key: str = ""
    ) -> None:
        del routing_key
        assert exchange in self.exchanges
        self.bound.add(queue)


@pytest.fixture
def declared() -> Declared:
    noted = Declared()

    async def declare() -> None:
        channel = cast("AbstractChannel", noted)
        topics = Topics("mesh")
        await topology.declare(channel, topics)
        await topology.declare_agent_messages(channel, topics)
        await topology.declare_tool_results(channel, topics)
        await topology.declare_tool_pool(channel, topics, "weather")

    asyncio.run(declare())
    return noted


def test_every_shared_queue_is_a_durable_quorum_queue(declared: Declared) -> None:
    """RabbitMQ 4 knows no mirrored classic queues and wants no shared transient ones."""
    assert len(declared.queues) > 32
    for queue, (durable, arguments) in declared.queues.items():
        assert durable, queue
        assert arguments["x-queue-type"] == "quorum", queue


def test_only_arguments_that_every_version_takes(declared: Declared) -> None:
    """An argument that one version refuses would keep the whole mesh from starting."""
    for queue, (_, arguments) in declared.queues.items():
        assert set(arguments) <= TAKEN, queue
        # The other ways to overflow are for classic queues.
        assert arguments.get("x-overflow", "reject-publish") == "reject-publish"


def test_work_is_never_delivered_for_ever(declared: Declared) -> None:
    """The limit is ours and not the version's: 3.10 has none, 4.x has twenty."""
    kept = {Topics("mesh").dead_letters}
    limited = {q for q, (_, a) in declared.queues.items() if "x-delivery-limit" in a}

    assert limited == set(declared.queues) - kept


def test_exchanges_outlive_the_broker_s_restart(declared: Declared) -> None:
    """And every queue but that of results, which is addressed by name, hears of one."""
    assert all(declared.exchanges.values())
    assert set(declared.queues) - declared.bound == {Topics("mesh").tool_results_queue}
