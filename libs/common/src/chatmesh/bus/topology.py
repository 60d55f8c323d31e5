"""Declares every exchange and durable queue; safe to run by any process at any time.

Arguments are chosen so that the same declaration is accepted by RabbitMQ 3.10 and 4.x:
quorum queues, no transient shared queues, a delivery limit and a dead-letter target on
every queue that holds work.
"""

from typing import Any

from aiormq.abc import AbstractChannel

from chatmesh.wire import limits
from chatmesh.wire.topics import (
    AGENT_SERVICE,
    HISTORY_SERVICE,
    PRESENCE_SERVICE,
    ROOM_LOG_BINDING,
    Topics,
    partition_key,
    report_key,
    tool_call_key,
)

_DIRECT = "direct"
_TOPIC = "topic"
_FANOUT = "fanout"


async def declare(channel: AbstractChannel, topics: Topics) -> None:
    """Declare the whole topology. Raises aiormq's channel errors on a mismatch."""
    for exchange, kind in (
        (topics.commands, _DIRECT),
        (topics.events, _TOPIC),
        (topics.rpc, _DIRECT),
        (topics.presence, _TOPIC),
        (topics.control, _TOPIC),
        (topics.tools, _TOPIC),
        (topics.dead, _FANOUT),
    ):
        await channel.exchange_declare(exchange, exchange_type=kind, durable=True)
    await channel.queue_declare(
        topics.dead_letters, durable=True, arguments={"x-queue-type": "quorum"}
    )
    await channel.queue_bind(topics.dead_letters, topics.dead)
    for partition in range(limits.PARTITIONS):
        await _work_queue(
            channel,
            topics.command_queue(partition),
            exchange=topics.commands,
            routing_key=partition_key(partition),
            arguments={
                "x-single-active-consumer": True,
                "x-dead-letter-exchange": topics.dead,
            },
        )
        # Bounded, oldest out first: without a presence service nobody reads it, and a
        # report that is gone is made good by a snapshot.
        await _work_queue(
            channel,
            topics.presence_reports_queue(partition),
            exchange=topics.presence,
            routing_key=report_key(partition),
            arguments={
                "x-single-active-consumer": True,
                "x-max-length-bytes": limits.PRESENCE_QUEUE_BYTES_MAX,
            },
        )
    # No dead letters here: an expired request is one whose asker has given up.
    for queue, service in (
        (topics.history_rpc_queue, HISTORY_SERVICE),
        (topics.presence_rpc_queue, PRESENCE_SERVICE),
        (topics.agent_rpc_queue, AGENT_SERVICE),
    ):
        await _work_queue(
            channel, queue, exchange=topics.rpc, routing_key=service, arguments={}
        )


async def declare_agent_messages(channel: AbstractChannel, topics: Topics) -> None:
    """Declare the queue in which what is said in rooms waits for agents to hear it."""
    await _work_queue(
        channel,
        topics.agent_messages_queue,
        exchange=topics.events,
        routing_key=ROOM_LOG_BINDING,
        arguments={"x-dead-letter-exchange": topics.dead},
    )


async def declare_tool_results(channel: AbstractChannel, topics: Topics) -> None:
    """Declare the queue that agents' tool results wait in, whoever asked for them."""
    await _durable_queue(
        channel,
        topics.tool_results_queue,
        arguments={"x-dead-letter-exchange": topics.dead},
    )


async def declare_tool_pool(
    channel: AbstractChannel, topics: Topics, pool: str
) -> None:
    """Declare the queue of one pool of tools; a full one refuses further calls."""
    queue = topics.tool_pool_queue(pool)
    await _durable_queue(
        channel,
        queue,
        arguments={
            "x-dead-letter-exchange": topics.dead,
            "x-max-length": limits.TOOL_CALLS_WAITING_MAX,
            "x-overflow": "reject-publish",
        },
    )
    await channel.queue_bind(queue, topics.tools, tool_call_key(pool))


async def _work_queue(
    channel: AbstractChannel,
    queue: str,
    *,
    exchange: str,
    routing_key: str,
    arguments: dict[str, Any],
) -> None:
    await _durable_queue(channel, queue, arguments=arguments)
    await channel.queue_bind(queue, exchange, routing_key)


async def _durable_queue(
    channel: AbstractChannel, queue: str, *, arguments: dict[str, Any]
) -> None:
    await channel.queue_declare(
        queue,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": limits.DELIVERY_LIMIT,
            **arguments,
        },
    )
