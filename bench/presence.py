"""What presence costs in rooms of 100, 1,000 and 10,000 members.

Straight onto its queues, no gateway: a room is filled, then some of its members go and
come, then all of them move to another gateway. Says what one change costs each process,
and what the room hears of it. Everything runs on this machine: presence, the broker, the
database and this feeder share its cores.
"""

import asyncio
import itertools
import os
import shutil
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import aiormq
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

from bench.measures import Figures
from bench.processes import seconds_between, spent
from chatmesh.local.instances import Instances, private_folder, private_instances
from chatmesh.local.mesh import inherited
from chatmesh.local.ports import free_port
from chatmesh.local.process import Command
from chatmesh.local.service import Service
from chatmesh.wire import limits, messages, topics
from chatmesh.wire.messages import LiveEvent
from chatmesh.wire.presence import (
    Change,
    CountsAsk,
    Joined,
    Left,
    MembersAsk,
    PresenceAsk,
    PresenceAsks,
    PresenceCounts,
    PresenceLease,
    PresencePage,
    PresenceReport,
    PresenceResync,
)
from chatmesh.wire.topics import Topics

NAMES: Final = Topics()
NAMESPACES: Final = '{"room":{"presence":true,"join_leave":true}}'
CHANGES: Final = 10_000
PER_REPORT: Final = 20
INFO: Final = b'{"name":"Ada Lovelace","avatar":"/pictures/ada.png"}'
WITHIN_S: Final = 120.0
ASKED_TIMES: Final = 50
SEEN_EVERY_S: Final = 0.005
_rooms: Final = itertools.count()


@dataclass(frozen=True)
class Phase:
    """One thing done to a room, and what it cost."""

    changes: int
    seconds: float
    cpu_s: dict[str, float]
    heard: int
    """Messages the room got; each goes to every member."""

    def results(self, name: str = "") -> dict[str, float]:
        return {
            f"{name}changes_per_s": self.changes / self.seconds,
            **{
                f"{name}{part}_cpu_us_per_change": taken / self.changes * 1e6
                for part, taken in self.cpu_s.items()
            },
            f"{name}messages_heard": self.heard,
        }


class Gateway:
    """Reports as one gateway, and counts what a room hears."""

    def __init__(self, channel: aiormq.Channel, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._sequences: dict[str, list[int]] = {}
        self._requests = itertools.count(1)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self.counts: PresenceCounts | None = None
        self.heard = 0

    async def tell(self, origin: str, room: str, changes: list[Change]) -> None:
        partition = topics.partition_of(room)
        sequences = self._sequences.setdefault(origin, [0] * limits.PARTITIONS)
        for at in range(0, len(changes), PER_REPORT):
            sequences[partition] += 1
            report = PresenceReport(
                origin,
                partition,
                sequences[partition],
                self._queue,
                changes[at : at + PER_REPORT],
            )
            await self._publish(
                NAMES.presence, topics.report_key(partition), messages.encode(report)
            )

    async def renew(self) -> None:
        """Keep every gateway of this bench alive."""
        while True:
            for origin, sequences in list(self._sequences.items()):
                lease = PresenceLease(origin, self._queue, list(sequences))
                await self._publish(
                    NAMES.presence, topics.LEASE_KEY, messages.encode(lease)
                )
            await asyncio.sleep(1)

    async def ask(self, kind: type[CountsAsk] | type[MembersAsk], room: str) -> float:
        """Seconds until the whole answer was there."""
        number = next(self._requests)
        answered = self._answers[number] = asyncio.get_running_loop().create_future()
        ask: PresenceAsk = kind(number, room)
        # Not the loop's own time, which is in milliseconds.
        started = time.perf_counter()
        await self._publish(
            NAMES.rpc,
            topics.PRESENCE_SERVICE,
            messages.encode(PresenceAsks(self._queue, [ask])),
        )
        async with asyncio.timeout(WITHIN_S):
            await answered
        del self._answers[number]
        return time.perf_counter() - started

    async def until(self, room: str, members: int) -> None:
        """Wait until presence counts so many in a room."""
        async with asyncio.timeout(WITHIN_S):
            while self.counts is None or self.counts.num_clients != members:
                await self.ask(CountsAsk, room)
                await asyncio.sleep(SEEN_EVERY_S)
        self.counts = None

    async def on_message(self, message: DeliveredMessage) -> None:
        match messages.decode_gateway_inbound(message.body):
            case LiveEvent(publications=publications):
                self.heard += len(publications)
            case PresenceCounts() as counts:
                self.counts = counts
                self._answers[counts.request].set_result(None)
            case PresencePage(last=True) as page:
                self._answers[page.request].set_result(None)
            case PresencePage() | PresenceResync():
                return
            case other:
                raise AssertionError(other)

    async def _publish(self, exchange: str, key: str, body: bytes) -> None:
        await self._channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=key,
            properties=spec.Basic.Properties(delivery_mode=2),
            wait=False,
        )


class PresenceBench:
    """One running service, and what is done to it."""

    def __init__(self, service: Service, gateway: Gateway) -> None:
        self._service = service
        self._gateway = gateway

    async def measure(self, *, members: int) -> Figures:
        """Fill a room, let some go and come, move all, ask; and leave nobody behind."""
        number = next(_rooms)
        room, here, there = f"room:{number}", f"g-{number}", f"h-{number}"
        people = [(f"c{n}", f"u{n}") for n in range(members)]
        gateway = self._gateway

        async def fill() -> None:
            await gateway.tell(
                here, room, [Joined(room, c, u, INFO) for c, u in people]
            )

        async def come_and_go() -> None:
            changes: list[Change] = []
            for number in range(CHANGES // 2):
                client, user = people[number % members]
                changes += [
                    Left(room, client, clean=True),
                    Joined(room, client, user, INFO),
                ]
            await gateway.tell(here, room, changes)

        async def move() -> None:
            moved: list[Change] = [Joined(room, f"{c}'", u, INFO) for c, u in people]
            await gateway.tell(there, room, moved)
            await gateway.tell(here, room, [Left(room, c) for c, _ in people])

        filling = await self._phase(members, members, fill(), room)
        changing = await self._phase(members, CHANGES, come_and_go(), room)
        moving = await self._phase(members, 2 * members, move(), room)
        asked = await self._questions(room)
        gone: list[Change] = [Left(room, f"{c}'", clean=True) for c, _ in people]
        await gateway.tell(there, room, gone)
        await gateway.until(room, 0)
        return Figures(
            "presence_service",
            {
                "members": members,
                "changes": CHANGES,
                "changes_per_report": PER_REPORT,
            },
            {
                **changing.results(),
                **filling.results("filling_"),
                **moving.results("moving_"),
                **asked,
            },
        )

    async def _questions(self, room: str) -> dict[str, float]:
        counts = [await self._gateway.ask(CountsAsk, room) for _ in range(ASKED_TIMES)]
        lists = [
            await self._gateway.ask(MembersAsk, room) for _ in range(ASKED_TIMES // 10)
        ]
        return {
            "counts_ms_median": statistics.median(counts) * 1e3,
            "everyone_ms_median": statistics.median(lists) * 1e3,
        }

    async def _phase(
        self,
        members: int,
        changes: int,
        done: Coroutine[object, object, None],
        room: str,
    ) -> Phase:
        own = {"presence": [self._service.pid], "feeder": [os.getpid()]}
        before, heard = spent(own), self._gateway.heard
        started = time.perf_counter()
        await done
        # Reports of a room are heard in order: the last member to be counted says so.
        marker = Joined(room, "marker", "marker")
        await self._gateway.tell("marker", room, [marker])
        await self._gateway.until(room, members + 1)
        seconds = time.perf_counter() - started
        cpu_s = seconds_between(before, spent(own))
        await self._gateway.tell("marker", room, [Left(room, "marker", clean=True)])
        await self._gateway.until(room, members)
        return Phase(changes, seconds, cpu_s, self._gateway.heard - heard)


@asynccontextmanager
async def measured_service() -> AsyncGenerator[PresenceBench]:
    """A presence service with nobody but this feeder, on instances of its own."""
    folder = private_folder()
    try:
        async with private_instances(os.environ, folder, mode="dev") as instances:
            service = _service(instances, folder)
            await service.start()
            try:
                async with _feeding(instances) as gateway:
                    yield PresenceBench(service, gateway)
            finally:
                await service.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _service(instances: Instances, folder: Path) -> Service:
    port = free_port()
    environ = {
        **inherited(None),
        "CHATMESH_AMQP_URL": instances.amqp_url,
        "CHATMESH_DATABASE_URL": instances.database_url,
        "CHATMESH_NAMESPACES": NAMESPACES,
        "CHATMESH_PRESENCE_PORT": str(port),
    }
    command = Command("presence", (sys.executable, "-m", "chatmesh.presence"), environ)
    return Service(command, http_port=port, log=folder / "presence.log")


@asynccontextmanager
async def _feeding(instances: Instances) -> AsyncGenerator[Gateway]:
    async with await aiormq.connect(instances.amqp_url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        declared = await channel.queue_declare(exclusive=True)
        queue = declared.queue or ""
        gateway = Gateway(cast("aiormq.Channel", channel), queue)
        await channel.queue_bind(queue, NAMES.events, "#")
        await channel.basic_consume(queue, gateway.on_message, no_ack=True)
        renewing = asyncio.get_running_loop().create_task(gateway.renew())
        try:
            yield gateway
        finally:
            renewing.cancel()
