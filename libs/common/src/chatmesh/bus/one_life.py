"""FastStream's broker without four habits that cost us messages or time.

It reconnects by itself and revives its consumers behind our back; a connection of ours
has one life, and whoever owns it builds the next one. Its subscriber, when stopped,
drops what still arrives before it cancels the consumer, which would leave deliveries
unacknowledged on a living channel; ours cancels first. It wraps every message in
middlewares, which doubles the cost of a small command batch; ours hands over raw bytes.
And the library below it waits for three heartbeats and more before it believes that a
silent line is dead; ours for two.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import aio_pika
import aiormq
from aio_pika.abc import AbstractExchange, AbstractQueue, UnderlayConnection
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.channel import Channel as AmqpChannel
from faststream import AckPolicy
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.rabbit import Channel, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.broker.registrator import RabbitRegistrator
from faststream.rabbit.configs import RabbitBrokerConfig
from faststream.rabbit.subscriber.config import (
    RabbitSubscriberConfig,
    RabbitSubscriberSpecificationConfig,
)
from faststream.rabbit.subscriber.specification import RabbitSubscriberSpecification
from faststream.rabbit.subscriber.usecase import RabbitSubscriber
from yarl import URL

Sink = Callable[[DeliveredMessage], Coroutine[Any, Any, None]]

_CONSUME_S: Final = 5.0
"""Until the broker has to have answered to a consumer that comes or goes."""


class OneLifeBroker(RabbitBroker):
    """A RabbitBroker whose connection, once lost, stays lost."""

    async def _connect(self) -> Any:  # noqa: ANN401 - promised is a robust one
        kwargs = dict(self._connection_kwargs)
        # Parameters of the reconnecting connection.
        kwargs.pop("fail_fast", None)
        kwargs.pop("reconnect_interval", None)
        connection = await aio_pika.connect(
            **kwargs, connection_class=OneLifeConnection
        )
        if self._channel is None:
            self.config.connect(cast("Any", connection))
            self._channel = await self.config.channel_manager.get_channel()
        return connection

    async def default_channel(self) -> AbstractChannel:
        """The library's channel of subscribers that name none. Connect first."""
        assert self._channel is not None, "the broker is connected"
        return await self._channel.get_underlay_channel()

    def raw_subscriber(
        self,
        queue: RabbitQueue,
        exchange: RabbitExchange,
        sink: Sink,
        *,
        channel: Channel,
        title: str,
        documented_by: Callable[..., Awaitable[None]],
    ) -> "RawSubscriber":
        """A subscriber that hands raw messages to `sink` and never acknowledges.

        `documented_by` is never called: its annotations tell AsyncAPI what arrives.
        """
        config = cast("RabbitBrokerConfig", self.config)
        calls = CallsCollection[Any]()
        subscriber = RawSubscriber(
            config=RabbitSubscriberConfig(
                no_reply=True,
                channel=channel,
                queue=queue,
                exchange=exchange,
                _ack_policy=AckPolicy.MANUAL,
                _outer_config=config,
            ),
            specification=RabbitSubscriberSpecification(
                _outer_config=config,
                specification_config=RabbitSubscriberSpecificationConfig(
                    title_=title,
                    description_=None,
                    include_in_schema=True,
                    queue=queue,
                    exchange=exchange,
                ),
                calls=calls,
            ),
            calls=calls,
        )
        subscriber.sink = sink
        # Past RabbitRegistrator.subscriber, which makes the subscriber itself.
        super(RabbitRegistrator, self).subscriber(subscriber)
        subscriber(documented_by)
        return subscriber


class RawSubscriber(RabbitSubscriber):
    """Consumes one queue without FastStream's message pipeline."""

    sink: Sink
    amqp: AmqpChannel | None = None
    consumer_tag: str | None = None

    async def start(self) -> None:
        # Past RabbitSubscriber.start, which would register the pipeline as consumer.
        await super(RabbitSubscriber, self).start()
        queue = await self._outer_config.declarer.declare_queue(
            self.queue, channel=self.channel
        )
        self.amqp = cast("AmqpChannel", await queue.channel.get_underlay_channel())
        answer = await self.amqp.basic_consume(
            queue.name, self.sink, timeout=_CONSUME_S
        )
        self.consumer_tag = answer.consumer_tag
        self._post_start()

    async def stop(self) -> None:
        """Cancel the consumer; when this returns nothing more arrives."""
        amqp, tag = self.amqp, self.consumer_tag
        self.amqp = self.consumer_tag = None
        if amqp is not None and tag is not None and not amqp.is_closed:
            await amqp.basic_cancel(tag, timeout=_CONSUME_S)
        self.running = False

    @property
    def consuming(self) -> bool:
        """Whether, as far as this process knows, the consumer is there."""
        return (
            self.amqp is not None
            and not self.amqp.is_closed
            and self.consumer_tag in self.amqp.consumers
        )


class _OneLifeChannel(aio_pika.Channel):
    """A plain channel that takes the arguments FastStream has for robust ones."""

    async def declare_queue(
        self,
        name: str | None = None,
        *,
        robust: bool = True,
        **kwargs: Any,  # noqa: ANN401 - handed on
    ) -> AbstractQueue:
        del robust
        return await super().declare_queue(name, **kwargs)

    async def declare_exchange(
        self,
        name: str,
        *args: Any,  # noqa: ANN401 - handed on
        robust: bool = True,
        **kwargs: Any,  # noqa: ANN401 - handed on
    ) -> AbstractExchange:
        del robust
        return await super().declare_exchange(name, *args, **kwargs)


class _QuickToNotice(aiormq.Connection):
    """Notices a line that is open and silent in two heartbeats instead of three and more.

    The broker beats twice in each, so four beats were missed by then.
    """

    # Of the heartbeat and a second; a factor like any other, though declared an integer.
    HEARTBEAT_GRACE_MULTIPLIER = cast("int", 4 / 3)


class _QuickUnderlay(UnderlayConnection):
    @classmethod
    async def make_connection(
        cls,
        url: URL,
        timeout: float | None = None,  # noqa: ASYNC109 - as in the library
        **kwargs: Any,  # noqa: ANN401 - handed on
    ) -> AbstractConnection:
        """As the library's, but with a connection of ours."""
        connection = _QuickToNotice(url, **kwargs)
        async with asyncio.timeout(timeout):
            await connection.connect()  # pyright: ignore[reportUnknownMemberType] - untyped there
            await connection.ready()
        return connection


class OneLifeConnection(aio_pika.Connection):
    """A plain connection; nothing in it reconnects."""

    CHANNEL_CLASS = _OneLifeChannel

    async def connect(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as in the library
    ) -> None:
        """Connect once. Raises what the library raises."""
        closed = cast("Callable[..., Awaitable[Any]]", self._on_connection_close)  # pyright: ignore[reportUnknownMemberType] - untyped there
        self.transport = await _QuickUnderlay.connect(
            self.url, closed, timeout=timeout, **self.kwargs
        )
        await self._on_connected()

    @property
    def amqp(self) -> AbstractConnection:
        """The connection of the library below. Raises ConnectionError when closed."""
        transport: UnderlayConnection | None = self.transport
        if transport is None:
            raise ConnectionError("the broker link is closed")
        return transport.connection


def when_closed(
    what: AbstractConnection | AbstractChannel,
    tell: Callable[[BaseException | None], None],
) -> None:
    """Call `tell`, once, with the cause when a connection or channel has closed."""

    def closed(closing: "asyncio.Future[object]") -> None:
        tell(None if closing.cancelled() else closing.exception())

    what.closing.add_done_callback(closed)  # pyright: ignore[reportUnknownMemberType] - untyped there
