"""One life of a broker link that consumes with acknowledgements and publishes with care.

For work in small numbers, where each message counts and carries properties of its own.
As everywhere here nothing is healed: when any part of it fails, all of it is thrown away,
what was not acknowledged is delivered again, and the owner opens the next one.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec
from pamqp.common import FieldValue

from chatmesh.bus import topology
from chatmesh.bus.brokers import one_of
from chatmesh.bus.link import PublishFailed, failures_told, with_heartbeat
from chatmesh.bus.losses import losses_as, losses_ignored, told
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime.clock import Clock
from chatmesh.wire import dead_letters
from chatmesh.wire.topics import Topics

_log = logging.getLogger(__name__)

CONNECT_S: Final = 10.0
DECLARE_S: Final = 20.0
PUBLISH_S: Final = 10.0
CLOSE_S: Final = 2.0
CHECK_S: Final = 5.0
"""How often consumers are looked after."""
_TRANSIENT: Final = 1
_PERSISTENT: Final = 2


class PublishRefused(PublishFailed):
    """The broker does not have the message, for sure: the queue is full."""


class Post(NamedTuple):
    """One message to publish."""

    exchange: str
    routing_key: str
    body: bytes
    type: str = ""
    content_type: str = "application/json"
    message_id: str = ""
    correlation_id: str = ""
    reply_to: str = ""
    expires_ms: int = 0
    persistent: bool = False
    mandatory: bool = False
    headers: dict[str, FieldValue] | None = None


class Delivery(NamedTuple):
    """One message as it arrived on one life of a link."""

    body: bytes
    exchange: str
    routing_key: str
    type: str
    message_id: str
    correlation_id: str
    reply_to: str
    redelivered: bool
    headers: dict[str, Any]
    tag: int
    channel: aiormq.Channel


Sink = Callable[[Delivery], None]


class Duplex:
    """An open link. Made by `open_duplex`."""

    def __init__(
        self,
        connection: AbstractConnection,
        topics: Topics,
        publishing: aiormq.Channel,
        declaring: aiormq.Channel,
        clock: Clock,
    ) -> None:
        self.topics = topics
        self._connection = connection
        self._publishing = publishing
        self.declaring = declaring
        """A channel to declare things on."""
        self._clock = clock
        self._published = 0
        self._consumers: dict[str, tuple[aiormq.Channel, str]] = {}
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def lost(self) -> bool:
        return self._lost.done()

    def lose(self, reason: str) -> None:
        """End this life: whoever notices first says why."""
        if not self._lost.done():
            self._lost.set_result(reason)

    async def run(self) -> None:
        """Watch over the link until it ends. Raises LinkLost with the cause, always."""
        while True:
            done, _ = await asyncio.wait({self._lost}, timeout=CHECK_S)
            if done:
                raise LinkLost(self._lost.result())
            for queue, (channel, tag) in self._consumers.items():
                if tag not in channel.consumers:
                    raise LinkLost(f"the consumer of {queue} is gone")
            with _losses_told():
                for queue in self._consumers:
                    seen = await self.declaring.queue_declare(
                        queue, passive=True, timeout=DECLARE_S
                    )
                    if not seen.consumer_count:
                        raise LinkLost(f"the broker knows no consumer of {queue}")

    async def consume(self, queue: str, sink: Sink, *, prefetch: int) -> None:
        """Hand what arrives to `sink`, unacknowledged. Raises LinkLost."""
        with _losses_told():
            channel = await _channel(self._connection, self._closed, confirms=False)
            await channel.basic_qos(prefetch_count=prefetch, timeout=DECLARE_S)
            await self._start(channel, queue, sink, no_ack=False)

    async def hear(
        self, queue: str, exchange: str, routing_keys: Sequence[str], sink: Sink
    ) -> None:
        """Declare and bind an exclusive queue; what arrives counts as taken.

        Raises LinkLost.
        """
        with _losses_told():
            channel = await _channel(self._connection, self._closed, confirms=False)
            await channel.queue_declare(
                queue, exclusive=True, auto_delete=True, timeout=DECLARE_S
            )
            for routing_key in routing_keys:
                await channel.queue_bind(
                    queue, exchange, routing_key, timeout=DECLARE_S
                )
            await self._start(channel, queue, sink, no_ack=True)

    async def stop_consuming(self, queue: str) -> None:
        """Nothing more arrives from a queue; what has arrived can be acknowledged."""
        channel, tag = self._consumers.pop(queue, (None, ""))
        if channel is not None:
            with _losses_told():
                await channel.basic_cancel(tag, timeout=DECLARE_S)

    async def publish(self, post: Post) -> None:
        """Publish and wait for the broker's confirm. Raises PublishFailed."""
        self._published += 1
        properties = spec.Basic.Properties(
            content_type=post.content_type,
            delivery_mode=_PERSISTENT if post.persistent else _TRANSIENT,
            # What comes back as unroutable is told apart by this.
            message_id=post.message_id or str(self._published),
            correlation_id=post.correlation_id or None,
            message_type=post.type or None,
            reply_to=post.reply_to or None,
            expiration=str(post.expires_ms) if post.expires_ms else None,
            headers=post.headers,
        )
        with failures_told(refused=PublishRefused):
            await self._publishing.basic_publish(
                post.body,
                exchange=post.exchange,
                routing_key=post.routing_key,
                properties=properties,
                mandatory=post.mandatory,
                timeout=PUBLISH_S,
                wait=False,
            )

    async def ack(self, delivery: Delivery) -> None:
        """A delivery is done with. Raises LinkLost; it then comes again."""
        with _losses_told():
            await delivery.channel.basic_ack(delivery.tag)

    async def bury(self, delivery: Delivery, queue: str, cause: str) -> None:
        """Put a delivery nobody can process among the dead letters, then acknowledge it.

        Raises PublishFailed, LinkLost; it then comes again.
        """
        post = Post(
            self.topics.dead,
            "",
            delivery.body,
            mandatory=True,
            persistent=True,
            message_id=delivery.message_id,
            correlation_id=delivery.correlation_id,
            headers={
                dead_letters.CAUSE: cause[: dead_letters.CAUSE_CHARS_MAX],
                dead_letters.DIED_MS: self._clock.unix_ms(),
                dead_letters.ORIGIN_EXCHANGE: delivery.exchange,
                dead_letters.ORIGIN_ROUTING_KEY: delivery.routing_key,
                dead_letters.ORIGIN_QUEUE: queue,
            },
        )
        await self.publish(post)
        await self.ack(delivery)

    async def _start(
        self, channel: aiormq.Channel, queue: str, sink: Sink, *, no_ack: bool
    ) -> None:
        async def on_message(message: DeliveredMessage) -> None:  # noqa: RUF029 - a consumer
            try:
                sink(_delivery(message, channel))
            except Exception:
                _log.exception("a message from the broker met a bug; dropping the link")
                self.lose("receiver failed")
                raise

        channel.on_consumer_cancel_callbacks.add(self._cancelled)
        answer = await channel.basic_consume(
            queue, on_message, no_ack=no_ack, timeout=DECLARE_S
        )
        self._consumers[queue] = (channel, str(answer.consumer_tag))

    def _closed(self, closed: object, cause: BaseException | None) -> None:
        self.lose(f"{type(closed).__name__} closed: {type(cause).__name__}")

    def _cancelled(self, _: object) -> None:
        self.lose("consumer cancelled by the broker")


@asynccontextmanager
async def open_duplex(
    url: str, *, name: str, topics: Topics, clock: Clock
) -> AsyncGenerator[Duplex]:
    """Connect to one of the brokers and declare the topology; closed at the end.

    Raises LinkLost.
    """
    connection: AbstractConnection | None = None
    try:
        with _losses_told():
            async with asyncio.timeout(CONNECT_S):
                connection = await aio_pika.connect(
                    with_heartbeat(one_of(url)),
                    client_properties={"connection_name": name},
                )
            early: list[str] = []
            link: list[Duplex] = []

            def closed(closing: object, cause: BaseException | None) -> None:
                early.append(f"{type(closing).__name__} closed: {cause!r}")
                for one in link:
                    one.lose(early[0])

            async with asyncio.timeout(DECLARE_S):
                connection.close_callbacks.add(closed)
                declaring = await _channel(connection, closed, confirms=False)
                publishing = await _channel(connection, closed, confirms=True)
                await topology.declare(declaring, topics)
            duplex = Duplex(connection, topics, publishing, declaring, clock)
            link.append(duplex)
            if early:
                raise LinkLost(early[0])
        yield duplex
    finally:
        if connection is not None:
            with losses_ignored():
                async with asyncio.timeout(CLOSE_S):
                    await connection.close()


async def _channel(
    connection: AbstractConnection,
    closed: Callable[[object, BaseException | None], None],
    *,
    confirms: bool,
) -> aiormq.Channel:
    channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    await channel.initialize()
    channel.close_callbacks.add(closed)
    return cast("aiormq.Channel", await channel.get_underlay_channel())


def _delivery(message: DeliveredMessage, channel: aiormq.Channel) -> Delivery:
    properties = message.header.properties
    return Delivery(
        body=message.body,
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        type=properties.message_type or "",
        message_id=properties.message_id or "",
        correlation_id=properties.correlation_id or "",
        reply_to=properties.reply_to or "",
        redelivered=bool(message.redelivered),
        headers=cast("dict[str, Any]", properties.headers or {}),
        tag=message.delivery_tag or 0,
        channel=channel,
    )


def _losses_told() -> contextlib.AbstractContextManager[None]:
    return losses_as(lambda error: LinkLost(told(error)))
