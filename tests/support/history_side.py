"""History as the gateways see it: commands in, events, outcomes and pages out."""

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import aiormq
import httpx
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp import commands as spec

from chatmesh.bus import topology
from chatmesh.local.service import Service
from chatmesh.wire import dead_letters, messages, topics
from chatmesh.wire.messages import (
    CommandBatch,
    Entry,
    Heads,
    HeadsPage,
    LogEvent,
    Outcome,
    Outcomes,
    Page,
    PublishCommand,
    Read,
    Reads,
)
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.service_process import NOTHING, service_process

ANSWER_WITHIN_S = 10.0


def history_service(
    *,
    amqp_url: str,
    database_url: str,
    prefix: str,
    folder: Path,
    name: str = "history",
    settings: Mapping[str, str] = NOTHING,
) -> Service:
    """A replica that can be started, killed, frozen and started again."""
    return service_process(
        "history",
        amqp_url=amqp_url,
        database_url=database_url,
        prefix=prefix,
        folder=folder,
        name=name,
        settings=settings,
    )


async def readiness(service: Service) -> dict[str, object]:
    """What /readyz says; empty when nobody answers."""
    try:
        async with httpx.AsyncClient(timeout=2) as client:
            return (await client.get(f"{service.http_url}/readyz")).json()
    except httpx.HTTPError:
        return {}


async def metric(service: Service, name: str) -> float:
    """The value of one sample of /metrics."""
    async with httpx.AsyncClient(timeout=5) as client:
        text = (await client.get(f"{service.http_url}/metrics")).text
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    raise AssertionError(f"no metric {name}")


class GatewaySide:
    """One gateway's connection: asks history for things and remembers what it hears."""

    def __init__(
        self, connection: AbstractConnection, channel: AbstractChannel, names: Topics
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._numbers = itertools.count(1)
        self.topics = names
        self.queue = ""
        self.events: list[LogEvent] = []
        self.outcomes: dict[int, Outcome] = {}
        self.pages: dict[int, Page | HeadsPage] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, prefix: str) -> AsyncGenerator[Self]:
        connection = await aiormq.connect(url)
        try:
            channel = await connection.channel(on_return_raises=True)
            side = cls(connection, channel, Topics(prefix))
            await topology.declare(channel, side.topics)
            declared = await channel.queue_declare(exclusive=True)
            side.queue = declared.queue or ""
            await channel.basic_consume(side.queue, side._on_message, no_ack=True)
            yield side
        finally:
            await connection.close()

    async def hear(self, *channels: str) -> None:
        """Bind, as for a first subscriber."""
        for channel in channels:
            await self._channel.queue_bind(
                self.queue, self.topics.events, topics.channel_binding(channel)
            )

    async def full_queue(self, channel: str) -> str:
        """A queue that hears a channel and refuses every message; its name."""
        declared = await self._channel.queue_declare(
            exclusive=True,
            arguments={"x-max-length": 0, "x-overflow": "reject-publish"},
        )
        queue = declared.queue or ""
        await self._channel.queue_bind(
            queue, self.topics.events, topics.channel_binding(channel)
        )
        return queue

    async def delete_queue(self, queue: str) -> None:
        await self._channel.queue_delete(queue)

    async def publish(self, exchange: str, key: str, body: bytes) -> None:
        """Put a message on an exchange, durable and confirmed."""
        await self._channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=key,
            mandatory=True,
            properties=spec.Basic.Properties(delivery_mode=2),
        )

    async def bury(self, body: bytes, exchange: str, key: str) -> None:
        """Put a letter among the dead ones, as history does."""
        await self._channel.basic_publish(
            body,
            exchange=self.topics.dead,
            routing_key=key,
            properties=spec.Basic.Properties(
                delivery_mode=2,
                headers={
                    dead_letters.CAUSE: "a bug, mended since",
                    dead_letters.ORIGIN_EXCHANGE: exchange,
                    dead_letters.ORIGIN_ROUTING_KEY: key,
                },
            ),
        )

    async def send(self, *rows: tuple[str, str, str], user: str = "ada") -> list[int]:
        """Send commands (channel, id, text), batched by partition; their numbers."""
        by_partition: dict[int, list[PublishCommand]] = {}
        numbers: list[int] = []
        for channel, key, text in rows:
            number = next(self._numbers)
            numbers.append(number)
            by_partition.setdefault(topics.partition_of(channel), []).append(
                PublishCommand(channel, key, text.encode(), b"", user, number)
            )
        for partition, commands in by_partition.items():
            batch = CommandBatch("side", self.queue, commands)
            await self.publish(
                self.topics.commands,
                topics.partition_key(partition),
                messages.encode(batch),
            )
        return numbers

    async def answers(
        self, numbers: Sequence[int], *, within_s: float = ANSWER_WITHIN_S
    ) -> list[Outcome]:
        """Wait for the outcomes of commands."""
        await eventually(
            lambda: all(n in self.outcomes for n in numbers),
            within_s=within_s,
            reason="every command is answered",
        )
        return [self.outcomes[n] for n in numbers]

    async def post(self, *rows: tuple[str, str, str]) -> list[Outcome]:
        """Send and wait."""
        return await self.answers(await self.send(*rows))

    async def read(self, read: Read) -> Page:
        """Ask for a page and wait for it."""
        self.pages.pop(read.request, None)
        await self.publish(
            self.topics.rpc,
            topics.HISTORY_SERVICE,
            messages.encode(Reads(self.queue, [read])),
        )
        await eventually(lambda: read.request in self.pages, within_s=ANSWER_WITHIN_S)
        page = self.pages[read.request]
        assert isinstance(page, Page)
        return page

    async def heads(self, request: int, *channels: str) -> HeadsPage:
        await self.publish(
            self.topics.rpc,
            topics.HISTORY_SERVICE,
            messages.encode(Heads(request, self.queue, list(channels))),
        )
        await eventually(lambda: request in self.pages, within_s=ANSWER_WITHIN_S)
        page = self.pages[request]
        assert isinstance(page, HeadsPage)
        return page

    def heard(self, channel: str) -> list[Entry]:
        """Entries of a channel as a gateway delivers them: by offset, repeats dropped."""
        seen: dict[int, Entry] = {}
        for event in self.events:
            if event.channel == channel:
                for entry in event.entries:
                    seen.setdefault(entry.offset, entry)
        return [seen[offset] for offset in sorted(seen)]

    async def _on_message(self, message: DeliveredMessage) -> None:
        match messages.decode_gateway_inbound(message.body):
            case LogEvent() as event:
                self.events.append(event)
            case Outcomes(outcomes=outcomes):
                self.outcomes.update((o.request, o) for o in outcomes)
            case (Page() | HeadsPage()) as page:
                self.pages[page.request] = page
            case _:
                raise AssertionError("nothing else goes to this queue")
