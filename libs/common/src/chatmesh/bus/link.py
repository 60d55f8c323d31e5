"""A process's link to the broker: supervised, and rebuilt whole rather than repaired.

A client library that heals a connection in place can come back with channels but
without consumers. So nothing is healed here: when any part of a link fails, all of it is
thrown away and a new one is built from nothing, with a new name for the exclusive
queue, and the owner is told to bind, compare and fill.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from typing import Protocol, cast
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import aiormq
import aiormq.abc
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import DeliveryError, PublishError
from pamqp import commands as amqp
from pamqp.common import FieldValue

from chatmesh.bus.losses import is_loss, losses_as, losses_ignored, told
from chatmesh.bus.topology import declare
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.failures import sole
from chatmesh.wire import messages
from chatmesh.wire.topics import Topics

log = logging.getLogger(__name__)

CONNECT_WITHIN_S = 10.0
DECLARE_WITHIN_S = 20.0
BIND_WITHIN_S = 20.0
"""For one batch of bindings; however many there are, each batch has its own."""
UNBINDING_CHANNELS = 4
"""As many bindings are dissolved at once: a channel answers one question at a time."""
CLOSE_WITHIN_S = 2.0
HEARTBEAT_S = 10
RETRY_BASE_S = 0.2
RETRY_CAP_S = 3.0
_TRANSIENT = 1
_PERSISTENT = 2

Receive = Callable[[bytes], None]


class PublishFailed(Exception):
    """The broker did not take a message: its fate is unknown unless `unroutable`."""

    def __init__(self, reason: str, *, unroutable: bool = False) -> None:
        super().__init__(reason)
        self.unroutable = unroutable


class LinkOwner(Protocol):
    """Who a link works for, and what it is told."""

    async def link_up(self, line: "Line") -> None:
        """A new line stands: bind what is needed. An error here drops the line.

        It takes as long as it takes; what it asks of the line has deadlines.
        """
        ...

    def link_down(self, reason: str) -> None:
        """The line is gone; every call on it fails. Called once per `link_up`."""
        ...


class Line:
    """One life of a link: a connection, its channels, and its exclusive queue."""

    def __init__(
        self,
        *,
        queue: str,
        publishing: aiormq.Channel,
        consuming: aiormq.Channel,
        unbinding: Sequence[aiormq.Channel],
    ) -> None:
        self.queue = queue
        """The exclusive queue of this line; replies are addressed to it."""
        self._publishing = publishing
        self._consuming = consuming
        self._unbinding = unbinding
        self._published = 0

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        within_s: float,
        mandatory: bool = False,
        persistent: bool = False,
        expires_ms: int = 0,
        headers: dict[str, FieldValue] | None = None,
    ) -> None:
        """Publish and wait for the broker's confirm. Raises PublishFailed."""
        self._published += 1
        properties = amqp.Basic.Properties(
            # The client library makes a UUID where there is none; a number will do.
            message_id=str(self._published),
            content_type=messages.CONTENT_TYPE,
            delivery_mode=_PERSISTENT if persistent else _TRANSIENT,
            expiration=str(expires_ms) if expires_ms else None,
            headers=headers,
        )
        with failures_told():
            await self._publishing.basic_publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                properties=properties,
                mandatory=mandatory,
                timeout=within_s,
                wait=False,
            )

    async def bind(self, exchange: str, routing_keys: Sequence[str]) -> None:
        """Bind the exclusive queue; all bindings stand when this returns.

        A batch has a deadline, so it has to have a bound. Raises PublishFailed.
        """
        if not routing_keys:
            return
        # Only the last one asks for an answer: a channel is served in order, so its
        # answer speaks for all before it, and a thousand rooms cost one round trip.
        *quietly, last = routing_keys
        bind = self._consuming.queue_bind
        with failures_told():
            async with asyncio.timeout(BIND_WITHIN_S):
                for routing_key in quietly:
                    await bind(self.queue, exchange, routing_key, nowait=True)
                await bind(self.queue, exchange, last)

    async def unbind(self, exchange: str, routing_keys: Sequence[str]) -> None:
        """Dissolve bindings, while others may be made. Raises PublishFailed.

        Nothing keeps it apart from a `bind` of the same key that is under way.
        """
        # Each needs an answer of its own: the protocol has no quiet way to unbind. So
        # they share a few channels, and never the one that binds.
        keys = iter(routing_keys)

        async def dissolve(channel: aiormq.Channel) -> None:
            with failures_told():
                for routing_key in keys:
                    await channel.queue_unbind(
                        self.queue, exchange, routing_key, timeout=BIND_WITHIN_S
                    )

        try:
            async with asyncio.TaskGroup() as group:
                for channel in self._unbinding:
                    group.create_task(dissolve(channel))
        except BaseExceptionGroup as failures:
            raise sole(failures, PublishFailed) from None


class Link:
    """Keeps one `Line` to the broker standing, and tells its owner of every change.

    `urls` are tried in turn. `receive` is called, in order, with each message's body
    from the exclusive queue; an exception from it is a bug and drops the line.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        name: str,
        topics: Topics,
        owner: LinkOwner,
        receive: Receive,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._urls = [with_heartbeat(url) for url in urls]
        self._name = name
        self._topics = topics
        self._owner = owner
        self._receive = receive
        self._clock = clock
        self._backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, chance)
        self._generation = 0
        self._failed: asyncio.Future[str] | None = None
        self.line: Line | None = None

    def fail(self, reason: str) -> None:
        """Drop the line that stands, because someone knows that it no longer works."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(reason)

    async def run(self) -> None:
        """Keep a line standing until cancelled."""
        while True:
            url = self._urls[self._generation % len(self._urls)]
            self._generation += 1
            reason = await self._one_line(url)
            delay_s = self._backoff.next_s()
            log.warning(
                "broker link down", extra={"reason": reason, "retry_in_s": delay_s}
            )
            await self._clock.sleep(delay_s)

    async def _one_line(self, url: str) -> str:
        """Build a line and watch it until it fails; says why it failed."""
        self._failed = asyncio.get_running_loop().create_future()
        connection: AbstractConnection | None = None
        owner_knows = False
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                connection = await aio_pika.connect(
                    url, client_properties={"connection_name": self._name}
                )
            async with asyncio.timeout(DECLARE_WITHIN_S):
                line = await self._open(connection)
            owner_knows = True
            await self._tell_up(line, self._failed)
            self.line = line
            self._backoff.reset()
            log.info("broker link up", extra={"generation": self._generation})
            return await self._failed
        except TimeoutError:
            return "no answer from the broker in time"
        except PublishFailed as failed:
            return str(failed)
        except Exception as error:
            if is_loss(error):
                return told(error)
            raise
        finally:
            self.line = None
            if owner_knows:
                self._owner.link_down("broker link lost")
            if connection is not None:
                await _close_quietly(connection)

    async def _tell_up(self, line: Line, failed: asyncio.Future[str]) -> None:
        """Let the owner bind, for as long as it takes while the line stands.

        Who has many rooms has many batches to bind, each with a deadline of its own.
        """

        async def give_up() -> None:
            raise PublishFailed(await asyncio.shield(failed))

        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(give_up())
                await self._owner.link_up(line)
                watching.cancel()
        except BaseExceptionGroup as failures:
            raise sole(failures, Exception) from None

    async def _open(self, connection: AbstractConnection) -> Line:
        connection.close_callbacks.add(self._on_close)
        consuming = await self._channel(connection, confirms=False)
        publishing = await self._channel(connection, confirms=True)
        await declare(consuming, self._topics)
        queue = self._topics.gateway_queue(f"{self._name}.{self._generation}")
        await consuming.queue_declare(queue, exclusive=True, auto_delete=True)
        consuming.on_consumer_cancel_callbacks.add(self._on_cancel)
        await consuming.basic_consume(
            queue, self._on_message, no_ack=True, exclusive=True
        )
        unbinding = [
            await self._channel(connection, confirms=False)
            for _ in range(UNBINDING_CHANNELS)
        ]
        return Line(
            queue=queue,
            publishing=publishing,
            consuming=consuming,
            unbinding=unbinding,
        )

    async def _channel(
        self, connection: AbstractConnection, *, confirms: bool
    ) -> aiormq.Channel:
        channel = connection.channel(
            publisher_confirms=confirms, on_return_raises=confirms
        )
        await channel.initialize()
        channel.close_callbacks.add(self._on_close)
        return cast("aiormq.Channel", await channel.get_underlay_channel())

    def _on_close(self, closed: object, cause: BaseException | None) -> None:
        self.fail(f"{type(closed).__name__} closed: {type(cause).__name__}")

    def _on_cancel(self, _: object) -> None:
        # The queue is gone, perhaps with the node it lived on; the channel lives on.
        self.fail("consumer cancelled by the broker")

    async def _on_message(self, message: aiormq.abc.DeliveredMessage) -> None:
        try:
            self._receive(message.body)
        except Exception:
            log.exception("a message from the broker met a bug; dropping the line")
            self.fail("receiver failed")
            raise


def with_heartbeat(url: str) -> str:
    """The URL with a heartbeat that notices a dead peer in seconds, not minutes."""
    parts = urlsplit(url)
    if "heartbeat=" in parts.query:
        return url
    query = f"{parts.query}&" if parts.query else ""
    return urlunsplit(parts._replace(query=f"{query}heartbeat={HEARTBEAT_S}"))


def failures_told(
    refused: type[PublishFailed] = PublishFailed,
) -> contextlib.AbstractContextManager[None]:
    """Turn what the client library raises into the one exception callers know.

    `refused` is raised where the broker says that it does not take the message.
    """

    def tell(error: Exception) -> PublishFailed:
        match error:
            case PublishError():
                return PublishFailed("no queue is bound", unroutable=True)
            case DeliveryError():
                return refused("refused by the broker")
            case TimeoutError():
                return PublishFailed("no answer from the broker in time")
            case _:
                return PublishFailed(f"link lost: {type(error).__name__}")

    return losses_as(tell)


async def _close_quietly(connection: AbstractConnection) -> None:
    with losses_ignored():
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await connection.close()
