"""A history in memory behind a real broker: answers until the test says otherwise."""

from dataclasses import dataclass, field
from typing import Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq import Channel

from chatmesh.bus.topology import declare
from chatmesh.wire import messages, topics
from chatmesh.wire.messages import (
    Entry,
    Heads,
    HeadsPage,
    LogEvent,
    Outcome,
    Outcomes,
    Reads,
)
from chatmesh.wire.topics import Topics
from support.fake_bus import FakeLog


@dataclass
class ScriptedHistory:
    """Commits, announces and answers like history, one log per channel."""

    url: str
    names: Topics
    logs: dict[str, FakeLog] = field(default_factory=dict[str, FakeLog])
    reads: list[messages.Read] = field(default_factory=list[messages.Read])
    silent: bool = False
    """Takes what comes and says nothing."""

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect(self.url)
        self._channel: AbstractChannel = await self._connection.channel()
        underlay = await self._channel.get_underlay_channel()
        assert isinstance(underlay, Channel)
        await declare(underlay, self.names)
        self._events = await self._channel.get_exchange(self.names.events)
        for partition in range(16):
            name = self.names.command_queue(partition)
            queue = await self._channel.get_queue(name)
            await queue.consume(self._on_commands, no_ack=True)
        queue = await self._channel.get_queue(self.names.history_rpc_queue)
        await queue.consume(self._on_request, no_ack=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    def log(self, channel: str) -> FakeLog:
        return self.logs.setdefault(channel, FakeLog.of(0, channel))

    async def say(self, channel: str, count: int = 1, **more: object) -> None:
        """Commit entries of nobody's and announce them."""
        log = self.log(channel)
        await self._announce(channel, [log.append(**more) for _ in range(count)])

    async def publish(self, routing_key: str, body: bytes) -> None:
        """Any bytes on the events exchange."""
        await self._events.publish(aio_pika.Message(body), routing_key)

    async def _announce(self, channel: str, entries: list[Entry]) -> None:
        event = LogEvent(channel, self.log(channel).epoch, entries)
        await self.publish(topics.log_key(channel), messages.encode(event))

    async def _on_commands(self, message: AbstractIncomingMessage) -> None:
        if self.silent:
            return
        batch = messages.decode_command_batch(message.body)
        for command in batch.commands:
            log = self.log(command.channel)
            known = next((one for one in log.entries if one.id == command.id), None)
            if known is None:
                committed = log.append(
                    id=command.id,
                    data=command.data,
                    info=command.info,
                    origin=batch.origin,
                    request=command.request,
                )
                await self._announce(command.channel, [committed])
            if known is not None or not command.hears:
                place = known or log.entries[-1]
                outcome = Outcome(
                    command.request,
                    command.channel,
                    command.id,
                    place.offset,
                    log.epoch,
                )
                await self._reply(batch.reply_to, Outcomes([outcome]))

    async def _on_request(self, message: AbstractIncomingMessage) -> None:
        if self.silent:
            return
        asked = messages.decode_history_request(message.body)
        if isinstance(asked, Reads):
            self.reads += asked.reads
            for read in asked.reads:
                await self._reply(asked.reply_to, self.log(read.channel).page(read))
        elif isinstance(asked, Heads):
            logs = [self.log(channel) for channel in asked.channels]
            heads = [(log.epoch, log.top) for log in logs]
            await self._reply(asked.reply_to, HeadsPage(asked.request, heads))

    async def _reply(
        self, queue: str, message: messages.Page | HeadsPage | Outcomes
    ) -> None:
        body = messages.encode(message)
        await self._channel.default_exchange.publish(aio_pika.Message(body), queue)
