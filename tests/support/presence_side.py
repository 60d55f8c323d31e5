"""Presence as the gateways see it: reports, leases and requests in, news and answers out."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp import commands as spec

from chatmesh.bus import topology
from chatmesh.local.service import Service
from chatmesh.wire import limits, messages, topics
from chatmesh.wire.messages import LiveEvent, LivePublication
from chatmesh.wire.presence import (
    Active,
    Change,
    CountsAsk,
    Joined,
    Left,
    Member,
    MembersAsk,
    PresenceAsk,
    PresenceAsks,
    PresenceCounts,
    PresenceLease,
    PresencePage,
    PresenceReport,
    PresenceResync,
    PresenceUser,
    StatusSet,
    UserAsk,
)
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.service_process import NOTHING, service_process

JOIN_LEAVE = json.dumps(
    {
        "": {"presence": True, "join_leave": True},
        "room": {"presence": True, "join_leave": True},
        "quiet": {"presence": True},
    }
)
ANSWER_WITHIN_S = 10.0


def presence_service(
    *,
    amqp_url: str,
    database_url: str,
    prefix: str,
    folder: Path,
    name: str = "presence",
    settings: Mapping[str, str] = NOTHING,
) -> Service:
    """A replica that can be started, killed, frozen and started again."""
    return service_process(
        "presence",
        amqp_url=amqp_url,
        database_url=database_url,
        prefix=prefix,
        folder=folder,
        name=name,
        settings={"CHATMESH_NAMESPACES": JOIN_LEAVE, **settings},
    )


class ReporterSide:
    """One gateway's connection: tells presence facts, and remembers what it hears.

    As a gateway does, it numbers its reports, renews one lease for them all, answers the
    wish for a snapshot, and drops joins and leaves whose number it has seen.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        channel: AbstractChannel,
        names: Topics,
        origin: str,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._requests = itertools.count(1)
        self._numbers: dict[str, int] = {}
        self._answers: dict[
            int, list[PresencePage | PresenceCounts | PresenceUser]
        ] = {}
        self.topics = names
        self.origin = origin
        self.queue = ""
        self.sequences = [0] * limits.PARTITIONS
        self.facts: dict[tuple[str, str], Joined] = {}
        self.heard: list[tuple[str, LivePublication]] = []
        self.repeats = 0
        self.resyncs: list[list[int]] = []
        self._beating: asyncio.Task[None] | None = None
        self._snapshots: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, prefix: str, origin: str, *, beat_s: float = 0.2
    ) -> AsyncGenerator[Self]:
        connection = await aiormq.connect(url)
        try:
            channel = await connection.channel(on_return_raises=True)
            side = cls(connection, channel, Topics(prefix), origin)
            await topology.declare(channel, side.topics)
            declared = await channel.queue_declare(exclusive=True)
            side.queue = declared.queue or ""
            await channel.basic_consume(side.queue, side._on_message, no_ack=True)
            side._beating = asyncio.get_running_loop().create_task(side._beat(beat_s))
            yield side
        finally:
            if side := locals().get("side"):
                side.fall_silent()
            await connection.close()

    def fall_silent(self) -> None:
        """Stop renewing the lease, as if the process were killed or frozen."""
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None

    def speak_again(self, beat_s: float = 0.2) -> None:
        self._beating = asyncio.get_running_loop().create_task(self._beat(beat_s))

    async def hear(self, *channels: str) -> None:
        """Bind, as for a first subscriber."""
        for channel in channels:
            await self._channel.queue_bind(
                self.queue, self.topics.events, topics.channel_binding(channel)
            )

    # -- Facts -----------------------------------------------------------------------------

    async def join(
        self, channel: str, client: str, user: str = "", info: bytes = b""
    ) -> None:
        await self.tell(Joined(channel, client, user, info))

    async def leave(self, channel: str, client: str, *, clean: bool = False) -> None:
        await self.tell(Left(channel, client, clean))

    async def type(self, channel: str, user: str, *, active: bool = True) -> None:
        await self.tell(Active(channel, user, active))

    async def tell(self, *changes: Change) -> None:
        """Report changes, one report per partition, each confirmed by the broker."""
        by_partition: dict[int, list[Change]] = {}
        for change in changes:
            self._remember(change)
            partition = topics.partition_of(change.channel)
            by_partition.setdefault(partition, []).append(change)
        for partition, told in by_partition.items():
            await self.report(partition, told)

    async def report(
        self, partition: int, changes: Iterable[Change], part: int = 0, parts: int = 0
    ) -> None:
        self.sequences[partition] += 1
        await self.publish(
            self.topics.presence,
            topics.report_key(partition),
            messages.encode(
                PresenceReport(
                    self.origin,
                    partition,
                    self.sequences[partition],
                    self.queue,
                    list(changes),
                    part,
                    parts,
                )
            ),
        )

    async def snapshot(self, partition: int) -> None:
        """Tell all facts of a partition anew."""
        facts = [
            fact
            for fact in self.facts.values()
            if topics.partition_of(fact.channel) == partition
        ]
        await self.report(partition, facts, part=1, parts=1)

    async def renew(self, *, ended: bool = False) -> None:
        lease = PresenceLease(self.origin, self.queue, list(self.sequences), ended)
        await self._channel.basic_publish(
            messages.encode(lease),
            exchange=self.topics.presence,
            routing_key=topics.LEASE_KEY,
        )

    async def publish(self, exchange: str, key: str, body: bytes) -> None:
        """Put a message on an exchange, durable and confirmed."""
        await self._channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=key,
            mandatory=True,
            properties=spec.Basic.Properties(delivery_mode=2),
        )

    # -- News ------------------------------------------------------------------------------

    def news(self, channel: str) -> list[str]:
        """What subscribers of a channel have been shown so far, in words."""
        return [_in_words(one) for name, one in self.heard if name == channel]

    async def hears(self, channel: str, *words: str, within_s: float = 10.0) -> None:
        """Wait until exactly this has been heard."""
        await eventually(
            lambda: self.news(channel) == list(words),
            within_s=within_s,
            reason=f"hears {words}, heard {self.news(channel)}",
        )

    # -- Requests --------------------------------------------------------------------------

    async def pages(
        self, channel: str, *, after: str = "", limit: int = 0, merged: bool = False
    ) -> list[PresencePage]:
        """Ask until there is an answer: questions die with the process they went to."""
        asked: list[int] = []

        def answered() -> list[PresencePage]:
            for request in asked:
                pages = [
                    page
                    for page in self._answers.get(request, [])
                    if isinstance(page, PresencePage)
                ]
                if pages and pages[-1].last:
                    return pages
            return []

        for last_try in (False, False, True):
            asked.append(next(self._requests))
            await self.ask(MembersAsk(asked[-1], channel, after, limit, merged))
            try:
                return await eventually(answered, within_s=ANSWER_WITHIN_S)
            except AssertionError:
                if last_try:
                    raise
        raise AssertionError("the last try returns or raises")

    async def members(self, channel: str, *, merged: bool = False) -> list[Member]:
        pages = await self.pages(channel, merged=merged)
        return [member for page in pages for member in page.members]

    async def clients(self, channel: str) -> list[str]:
        return [member.client for member in await self.members(channel)]

    async def counts(self, channel: str) -> PresenceCounts:
        request = next(self._requests)
        answer = await self._answer(request, CountsAsk(request, channel))
        assert isinstance(answer, PresenceCounts)
        return answer

    async def user(self, user: str) -> PresenceUser:
        request = next(self._requests)
        answer = await self._answer(request, UserAsk(request, user))
        assert isinstance(answer, PresenceUser)
        return answer

    async def set_status(
        self, user: str, text: str, *, do_not_disturb: bool = False
    ) -> PresenceUser:
        request = next(self._requests)
        ask = StatusSet(request, user, text, do_not_disturb)
        answer = await self._answer(request, ask)
        assert isinstance(answer, PresenceUser)
        return answer

    async def ask(self, *asks: PresenceAsk) -> None:
        await self.publish(
            self.topics.rpc,
            topics.PRESENCE_SERVICE,
            messages.encode(PresenceAsks(self.queue, list(asks))),
        )

    async def _answer(
        self, request: int, ask: PresenceAsk
    ) -> PresencePage | PresenceCounts | PresenceUser:
        await self.ask(ask)
        await eventually(lambda: request in self._answers, within_s=ANSWER_WITHIN_S)
        return self._answers[request][0]

    async def dead_letters(self, wanted: int) -> list[str]:
        """The causes of the dead letters, once there are so many; else nothing."""
        seen = await self._channel.queue_declare(self.topics.dead_letters, passive=True)
        if (seen.message_count or 0) < wanted:
            return []
        causes: list[str] = []
        for _ in range(wanted):
            got = await self._channel.basic_get(self.topics.dead_letters, no_ack=True)
            causes.append(str((got.header.properties.headers or {})["cause"]))
        return causes

    # -- Inside ----------------------------------------------------------------------------

    def _remember(self, change: Change) -> None:
        match change:
            case Joined():
                self.facts[change.channel, change.client] = change
            case Left():
                self.facts.pop((change.channel, change.client), None)
            case Active():
                pass

    async def _beat(self, beat_s: float) -> None:
        while True:
            if any(self.sequences):
                await self.renew()
            await asyncio.sleep(beat_s)

    async def _on_message(self, message: DeliveredMessage) -> None:
        match messages.decode_gateway_inbound(message.body):
            case LiveEvent(channel=channel, publications=publications):
                for one in publications:
                    self._hear(channel, one)
            case PresenceResync(partitions=partitions):
                self.resyncs.append(partitions)
                # Not awaited here: this reader also reads the broker's confirms.
                task = asyncio.get_running_loop().create_task(self._resync(partitions))
                self._snapshots.add(task)
                task.add_done_callback(self._snapshots.discard)
            case (PresencePage() | PresenceCounts() | PresenceUser()) as answer:
                self._answers.setdefault(answer.request, []).append(answer)
            case _:
                raise AssertionError("nothing else goes to this queue")

    async def _resync(self, partitions: list[int]) -> None:
        with contextlib.suppress(aiormq.exceptions.AMQPError):
            for partition in partitions:
                await self.snapshot(partition)

    def _hear(self, channel: str, one: LivePublication) -> None:
        if one.number:
            if one.number <= self._numbers.get(channel, 0):
                self.repeats += 1
                return
            self._numbers[channel] = one.number
        self.heard.append((channel, one))


def _in_words(publication: LivePublication) -> str:
    if publication.kind != "pub":
        info = json.loads(publication.info)
        return f"{publication.kind} {info['user']}/{info['client']}"
    data = json.loads(publication.data)
    match data["type"]:
        case "presence":
            return f"{data['num_clients']} clients, {data['num_users']} users"
        case "typing":
            return f"{data['user']} types for {data['ttl_ms']}"
        case "status":
            return f"{data['user']} says {data['text']!r}"
        case other:
            raise AssertionError(other)
