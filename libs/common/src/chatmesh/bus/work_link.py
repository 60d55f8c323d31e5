"""One life of a service's broker link: consumers of its queues, answers, supervision.

For services whose work is shared out in partitions, each a queue with a single active
consumer, and that answer requests from one queue. Nothing of a link outlives its
connection: delivery tags, consumers and confirms belong to one life, and after its end
everything it had not acknowledged is delivered anew, to whomever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, cast

from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.channel import Channel as AmqpChannel
from faststream import AckPolicy
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitExchange,
    RabbitQueue,
)
from pamqp import commands as spec
from pamqp.common import FieldValue
from yarl import URL

from chatmesh.bus import topology
from chatmesh.bus.acks import AckWindow
from chatmesh.bus.brokers import one_of
from chatmesh.bus.losses import losses_as, losses_ignored, told
from chatmesh.bus.one_life import (
    OneLifeBroker,
    OneLifeConnection,
    RawSubscriber,
    Sink,
    when_closed,
)
from chatmesh.bus.outgoing import LinkLost, Outbound, Outgoing
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.failures import sole
from chatmesh.runtime.service_settings import ServiceSettings
from chatmesh.runtime.tasks import heed_cancellation
from chatmesh.wire import dead_letters
from chatmesh.wire.messages import CONTENT_TYPE
from chatmesh.wire.topics import Topics

_log = logging.getLogger(__name__)

_REQUESTS_PREFETCH: Final = 200
_CLOSE_S: Final = 3.0
_SEND_S: Final = 10.0
_BLOCKED_S: Final = 0.05
"""A connection that is not blocked says so at once."""

Documented: TypeAlias = Callable[..., Awaitable[None]]
"""Never called: its annotations tell AsyncAPI what arrives."""


class Source(NamedTuple):
    """A queue to consume, and how it is fed."""

    queue: str
    exchange: str
    exchange_type: ExchangeType
    routing_key: str
    title: str
    documented_by: Documented


@dataclass(frozen=True, slots=True)
class LinkOptions:
    url: str
    """Of the broker, or of several, of which each link takes one."""
    topics: Topics
    prefetch: int
    """Unacknowledged deliveries per partition."""
    heartbeat_s: int
    connect_timeout_s: float
    publish_timeout_s: float
    check_s: float
    """How often consumers and the link are looked after."""

    @classmethod
    def of(cls, settings: ServiceSettings, *, prefetch: int) -> "LinkOptions":
        """The link that a service's settings describe."""
        return cls(
            url=settings.amqp_url,
            topics=Topics(settings.prefix),
            prefetch=prefetch,
            heartbeat_s=settings.heartbeat_s,
            connect_timeout_s=settings.connect_timeout_s,
            publish_timeout_s=settings.publish_timeout_s,
            check_s=settings.link_check_s,
        )


class WorkLink:
    """The link of one replica. Open once, close once.

    `hear` gets each delivery of a partition with its tag, `ask` each request. Both are
    called in order of arrival; deliveries are acknowledged by `ack`, requests on arrival
    (who asked asks again, and an old answer is worth nothing).
    """

    def __init__(
        self,
        options: LinkOptions,
        *,
        partition_source: Callable[[int], Source],
        requests: Source | None,
        hear: Callable[[int, DeliveredMessage], None],
        ask: Callable[[DeliveredMessage], None],
        clock: Clock,
        state: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """`state` hears, with each look, why the link does not serve; empty: it does.

        Without `requests` nobody is answered, and this link takes no one's turn.
        """
        self._options = options
        self._state = state
        self._partition_source = partition_source
        self._requests = requests
        self._hear = hear
        self._ask = ask
        self._clock = clock
        self._window = AckWindow()
        self._requests_window = AckWindow()
        self._partitions: dict[int, RawSubscriber] = {}
        self._answering: RawSubscriber | None = None
        self._work_channel = Channel(
            prefetch_count=options.prefetch, publisher_confirms=False
        )
        self._requests_channel = Channel(
            prefetch_count=_REQUESTS_PREFETCH, publisher_confirms=False
        )
        self._broker = OneLifeBroker(
            with_heartbeat(one_of(options.url), options.heartbeat_s),
            timeout=options.connect_timeout_s,
            default_channel=self._work_channel,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=None,
        )
        self._work_number = 0
        self._outgoing: Outgoing | None = None
        self._amqp: AbstractConnection | None = None
        self._control: AbstractChannel | None = None
        self._careful: AbstractChannel | None = None
        self._private: set[str] = set()
        self._lost = asyncio.Event()
        self._reason = ""

    # -- Life ------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, declare, answer requests. Raises LinkLost with the cause."""
        with losses_as(_lost):
            async with asyncio.timeout(self._options.connect_timeout_s):
                connection = cast("OneLifeConnection", await self._broker.connect())
                self._amqp = connection.amqp
                when_closed(self._amqp, self._closed)
                work = await self._broker.default_channel()
                self._work_number = work.number
                self._control = await self._amqp.channel(publisher_confirms=False)
                await topology.declare(self._control, self._options.topics)
                self._careful = await self._amqp.channel(on_return_raises=True)
                publishing = await self._amqp.channel(on_return_raises=False)
                self._outgoing = Outgoing(self._amqp, cast("AmqpChannel", publishing))
                for channel in (work, self._control, self._careful, publishing):
                    when_closed(channel, self._closed)
                if self._requests is not None:
                    self._answering = self._subscriber(
                        self._requests, self._on_request, self._requests_channel
                    )
                    await self._answering.start()

    async def run(self) -> None:
        """Serve until the link ends. Raises LinkLost with the cause, always."""
        assert self._outgoing is not None, "a link runs once it is open"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._outgoing.run())
                group.create_task(self._watch())
                group.create_task(self._until_lost())
        except BaseExceptionGroup as failures:
            lost = sole(failures, LinkLost)
            self.lose(str(lost))
            if isinstance(lost, LinkLost):
                raise LinkLost(self._reason) from None
            raise lost from None

    async def _until_lost(self) -> None:
        await self._lost.wait()
        raise LinkLost(self._reason)

    def lose(self, reason: str) -> None:
        """End this life: whoever notices first says why."""
        if not self._lost.is_set():
            self._reason = reason
            self._lost.set()
        if self._outgoing is not None:
            self._outgoing.lose(reason)

    async def close(self) -> None:
        """Leave nothing behind; what was not acknowledged goes back to the broker."""
        self.lose("link closed")
        with losses_ignored():
            async with asyncio.timeout(_CLOSE_S):
                if self._amqp is not None and not self._amqp.is_closed:
                    await self._amqp.close()

    def _closed(self, error: BaseException | None) -> None:
        self.lose(f"closed: {told(error)}" if error else "closed")

    # -- Queues ----------------------------------------------------------------------

    @property
    def consuming(self) -> frozenset[int]:
        return frozenset(self._partitions)

    async def consume(self, partition: int) -> None:
        """Start consuming a partition. Raises LinkLost."""

        async def on_work(message: DeliveredMessage) -> None:  # noqa: RUF029 - a consumer
            self._hear(partition, message)

        subscriber = self._subscriber(
            self._partition_source(partition), on_work, self._work_channel
        )
        with losses_as(self._ended_by):
            await subscriber.start()
        # From now on it is looked after.
        self._partitions[partition] = subscriber

    async def stop_consuming(self, partition: int) -> None:
        """Let no more of a partition arrive; what arrived stays to be settled.

        Nothing happens when it is not consumed. Raises LinkLost.
        """
        subscriber = self._partitions.pop(partition, None)
        if subscriber is None:
            return
        with losses_as(self._ended_by):
            await subscriber.stop()

    async def declare(
        self, declare: Callable[[AbstractChannel, Topics], Awaitable[None]]
    ) -> None:
        """Declare what only this service has, before consuming it. Raises LinkLost."""
        assert self._control is not None, "a link declares once it is open"
        with losses_as(self._ended_by):
            async with asyncio.timeout(self._options.connect_timeout_s):
                await declare(self._control, self._options.topics)

    async def listen(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        heard: Callable[[bytes], None],
    ) -> None:
        """Hear everything of one routing key on a queue of this life's own, unacknowledged.

        Raises LinkLost.
        """
        assert self._control is not None, "a link listens once it is open"

        async def on_message(message: DeliveredMessage) -> None:  # noqa: RUF029 - a consumer
            heard(message.body)

        control, within_s = self._control, self._options.connect_timeout_s
        with losses_as(self._ended_by):
            await control.queue_declare(
                queue, exclusive=True, auto_delete=True, timeout=within_s
            )
            await control.queue_bind(queue, exchange, routing_key, timeout=within_s)
            await control.basic_consume(
                queue, on_message, no_ack=True, exclusive=True, timeout=within_s
            )
        self._private.add(queue)

    async def take_answers(self, heard: Callable[[bytes], None]) -> str:
        """Consume a queue of this life's own for answers; its name. Raises LinkLost."""
        assert self._control is not None, "a link listens once it is open"

        async def on_message(message: DeliveredMessage) -> None:  # noqa: RUF029 - a consumer
            heard(message.body)

        within_s = self._options.connect_timeout_s
        with losses_as(self._ended_by):
            declared = await self._control.queue_declare(
                exclusive=True, auto_delete=True, timeout=within_s
            )
            queue = declared.queue or ""
            await self._control.basic_consume(
                queue, on_message, no_ack=True, timeout=within_s
            )
        self._private.add(queue)
        return queue

    def _subscriber(
        self,
        source: Source,
        sink: Sink,
        channel: Channel,
    ) -> RawSubscriber:
        return self._broker.raw_subscriber(
            RabbitQueue(
                source.queue,
                queue_type=QueueType.QUORUM,
                declare=False,
                routing_key=source.routing_key,
            ),
            RabbitExchange(source.exchange, source.exchange_type, declare=False),
            sink,
            channel=channel,
            title=source.title,
            documented_by=source.documented_by,
        )

    async def _on_request(self, message: DeliveredMessage) -> None:
        covered = self._requests_window.finish((message.delivery_tag or 0,))
        if covered is not None and self._outgoing is not None:
            self._outgoing.ack(message.channel.number, covered)
        self._ask(message)

    # -- What goes out ---------------------------------------------------------------

    def ack(self, tags: Sequence[int]) -> None:
        """Let the broker forget these deliveries. Does nothing once the link is lost."""
        covered = self._window.finish(tags)
        if covered is not None and self._outgoing is not None:
            self._outgoing.ack(self._work_number, covered)

    def publish(self, messages: Iterable[Outbound]) -> "asyncio.Future[None]":
        """Send transient messages in order, now; done when all are confirmed.

        The future raises LinkLost when the broker refused one, or went. A refusal ends
        the link: a queue of somebody who hears may have died with its node, and what was
        not told is delivered, and told, again on the next link.
        """
        assert self._outgoing is not None, "a link publishes once it is open"
        confirmed = self._outgoing.publish(messages)
        confirmed.add_done_callback(self._lose_if_refused)
        return confirmed

    def _lose_if_refused(self, confirmed: "asyncio.Future[None]") -> None:
        if not confirmed.cancelled() and (error := confirmed.exception()):
            self.lose(str(error))

    async def bury(
        self, body: bytes, *, exchange: str, routing_key: str, queue: str, cause: str
    ) -> None:
        """Put a message among the dead letters, with its cause. Raises LinkLost."""
        await self.send(
            body,
            exchange=self._options.topics.dead,
            routing_key=routing_key,
            headers={
                dead_letters.CAUSE: cause[: dead_letters.CAUSE_CHARS_MAX],
                dead_letters.ORIGIN_EXCHANGE: exchange,
                dead_letters.ORIGIN_ROUTING_KEY: routing_key,
                dead_letters.ORIGIN_QUEUE: queue,
                dead_letters.DIED_MS: self._clock.unix_ms(),
            },
        )

    async def send(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        headers: dict[str, FieldValue] | None = None,
    ) -> None:
        """Publish one durable message that has to reach a queue. Raises LinkLost."""
        assert self._careful is not None, "a link publishes once it is open"
        with losses_as(self._ended_by):
            await self._careful.basic_publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                mandatory=True,
                timeout=_SEND_S,
                properties=spec.Basic.Properties(
                    content_type=CONTENT_TYPE, delivery_mode=2, headers=headers
                ),
            )

    async def flush(self) -> None:
        """Return once everything so far, acknowledgements too, is on its way."""
        if self._outgoing is not None:
            await self._outgoing.flush()

    # -- Supervision -----------------------------------------------------------------

    async def _watch(self) -> None:
        """Look after link and consumers; consumers vanish more often than one thinks."""
        assert self._amqp is not None
        assert self._control is not None
        assert self._outgoing is not None
        while True:
            heed_cancellation()
            await self._clock.sleep(self._options.check_s)
            for partition, subscriber in list(self._partitions.items()):
                if not subscriber.consuming:
                    raise LinkLost(f"the consumer of partition {partition} is gone")
            if self._answering is not None and not self._answering.consuming:
                raise LinkLost("the consumer of requests is gone")
            if await _is_blocked(self._amqp):
                # Nothing to mend by a new link: it would be blocked like this one, and
                # every redelivery brings a message nearer to its delivery limit.
                self._state("the broker blocks publishers (alarm)")
                self._outgoing.wait_anew()
                continue
            if self._outgoing.unconfirmed_s > self._options.publish_timeout_s:
                raise LinkLost("the broker does not confirm")
            await self._count_consumers(self._control)
            self._state("")

    async def _count_consumers(self, control: AbstractChannel) -> None:
        async def count(queue: str) -> int:
            seen = await control.queue_declare(
                queue, passive=True, timeout=self._options.publish_timeout_s
            )
            return seen.consumer_count or 0

        with losses_as(_lost):
            shared = () if self._requests is None else (self._requests.queue,)
            for queue in (*shared, *self._private):
                if not await count(queue):
                    raise LinkLost(f"the broker knows no consumer of {queue}")
            for partition, subscriber in list(self._partitions.items()):
                queue = self._partition_source(partition).queue
                consumers = await count(queue)
                # One that was handed over meanwhile is not missed.
                held = self._partitions.get(partition) is subscriber
                if held and not consumers:
                    raise LinkLost(f"the broker knows no consumer of {queue}")

    def _ended_by(self, error: Exception) -> LinkLost:
        self.lose(told(error))
        return _lost(error)


async def _is_blocked(amqp: AbstractConnection) -> bool:
    try:
        async with asyncio.timeout(_BLOCKED_S):
            await amqp.ready()
    except TimeoutError:
        return True
    return False


def expires_in_s(message: DeliveredMessage) -> float:
    """How long the asker waits for an answer; 0 when it does not say."""
    expiration = message.header.properties.expiration
    return int(expiration) / 1000 if expiration and expiration.isdigit() else 0.0


def with_heartbeat(url: str, heartbeat_s: int) -> str:
    """The URL with our heartbeat, unless it names one."""
    parsed = URL(url)
    if "heartbeat" in parsed.query:
        return url
    return str(parsed.update_query(heartbeat=heartbeat_s))


def _lost(error: Exception) -> LinkLost:
    return LinkLost(told(error))
