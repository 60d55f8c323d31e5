"""What presence costs in rooms of 100, 1,000 and 10,000 members.

Straight onto its queues, no gateway: a room is filled, then some of its members go and
come, then all of them move to another gateway. Says what one change costs each process,
and what the room hears of it. Everything runs on this machine: presence, the broker, the
database and this feeder share its cores.
"""

import argparse
import asyncio
import itertools
import os
import shutil
import statistics
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import aiormq
import psutil
import uvloop
from aiormq.abc import DeliveredMessage
from pamqp import commands as spec

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
SIZES: Final = (100, 1_000, 10_000)
CHANGES: Final = 10_000
PER_REPORT: Final = 20
INFO: Final = b'{"name":"Ada Lovelace","avatar":"/pictures/ada.png"}'
PROGRAMS: Final = {"postgres": "database", "beam.smp": "broker"}
WITHIN_S: Final = 120.0
ASKED_TIMES: Final = 50
SEEN_EVERY_S: Final = 0.005


@dataclass(frozen=True)
class Phase:
    """One thing done to a room, and what it cost."""

    name: str
    members: int
    changes: int
    seconds: float
    cpu_s: dict[str, float]
    heard: int
    """Messages the room got; each goes to every member."""

    def line(self) -> str:
        costs = ", ".join(
            f"{name} {spent / self.changes * 1e6:.0f}"
            for name, spent in self.cpu_s.items()
        )
        return (
            f"{self.name:14} {self.members:6,} members {self.changes / self.seconds:8,.0f}"
            f" changes/s  heard {self.heard:6,}  microseconds of CPU each: {costs}"
        )


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
        loop = asyncio.get_running_loop()
        answered = self._answers[number] = loop.create_future()
        ask: PresenceAsk = kind(number, room)
        started = loop.time()
        await self._publish(
            NAMES.rpc,
            topics.PRESENCE_SERVICE,
            messages.encode(PresenceAsks(self._queue, [ask])),
        )
        async with asyncio.timeout(WITHIN_S):
            await answered
        del self._answers[number]
        return loop.time() - started

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


class Bench:
    """Measures phases against one running service."""

    def __init__(self, service: Service, gateway: Gateway) -> None:
        self._service = service
        self._gateway = gateway

    async def room(self, members: int) -> list[Phase]:
        room = f"room:{members}"
        people = [(f"c{n}", f"u{n}") for n in range(members)]
        gateway = self._gateway

        async def fill() -> None:
            await gateway.tell(
                f"g-{members}", room, [Joined(room, c, u, INFO) for c, u in people]
            )

        async def come_and_go() -> None:
            changes: list[Change] = []
            for number in range(CHANGES // 2):
                client, user = people[number % members]
                changes += [
                    Left(room, client, clean=True),
                    Joined(room, client, user, INFO),
                ]
            await gateway.tell(f"g-{members}", room, changes)

        async def move() -> None:
            await gateway.tell(
                f"h-{members}",
                room,
                [Joined(room, f"{c}'", u, INFO) for c, u in people],
            )
            await gateway.tell(f"g-{members}", room, [Left(room, c) for c, _ in people])

        return [
            await self._phase("fill", members, members, fill(), room),
            await self._phase("come and go", members, CHANGES, come_and_go(), room),
            await self._phase("all move", members, 2 * members, move(), room),
        ]

    async def questions(self, members: int) -> str:
        room = f"room:{members}"
        counts = [await self._gateway.ask(CountsAsk, room) for _ in range(ASKED_TIMES)]
        lists = [
            await self._gateway.ask(MembersAsk, room) for _ in range(ASKED_TIMES // 10)
        ]
        return (
            f"{'questions':14} {members:6,} members  counts"
            f" {statistics.median(counts) * 1000:.1f} ms, everyone"
            f" {statistics.median(lists) * 1000:.1f} ms (medians)"
        )

    async def _phase(
        self,
        name: str,
        members: int,
        changes: int,
        done: Coroutine[object, object, None],
        room: str,
    ) -> Phase:
        before, heard = cpu_by_name(self._service.pid), self._gateway.heard
        loop = asyncio.get_running_loop()
        started = loop.time()
        await done
        # Reports of a room are heard in order: the last member to be counted says so.
        marker = Joined(room, "marker", "marker")
        await self._gateway.tell("marker", room, [marker])
        await self._gateway.until(room, members + 1)
        seconds = loop.time() - started
        after = cpu_by_name(self._service.pid)
        await self._gateway.tell("marker", room, [Left(room, "marker", clean=True)])
        await self._gateway.until(room, members)
        cpu_s = {key: after[key] - before[key] for key in after}
        return Phase(
            name, members, changes, seconds, cpu_s, self._gateway.heard - heard
        )


def cpu_by_name(presence: int) -> dict[str, float]:
    """User and system seconds so far of everything that was started for this."""
    own = psutil.Process()
    spent = {"presence": 0.0, "database": 0.0, "broker": 0.0, "feeder": 0.0}
    for process in (own, *own.children(recursive=True)):
        if process.pid == presence:
            name = "presence"
        else:
            name = PROGRAMS.get(process.name(), "feeder")
        times = process.cpu_times()
        spent[name] += times.user + times.system
    return spent


async def measure(instances: Instances, folder: Path) -> None:
    port = free_port()
    environ = {
        **inherited(None),
        "CHATMESH_AMQP_URL": instances.amqp_url,
        "CHATMESH_DATABASE_URL": instances.database_url,
        "CHATMESH_NAMESPACES": NAMESPACES,
        "CHATMESH_PRESENCE_PORT": str(port),
    }
    command = Command("presence", (sys.executable, "-m", "chatmesh.presence"), environ)
    service = Service(command, http_port=port, log=folder / "presence.log")
    await service.start()
    try:
        async with await aiormq.connect(instances.amqp_url) as connection:
            channel = await connection.channel(publisher_confirms=False)
            declared = await channel.queue_declare(exclusive=True)
            queue = declared.queue or ""
            gateway = Gateway(cast("aiormq.Channel", channel), queue)
            await channel.queue_bind(queue, NAMES.events, "#")
            await channel.basic_consume(queue, gateway.on_message, no_ack=True)
            renewing = asyncio.get_running_loop().create_task(gateway.renew())
            bench = Bench(service, gateway)
            for members in SIZES:
                for phase in await bench.room(members):
                    say(phase.line())
                say(await bench.questions(members))
            renewing.cancel()
    finally:
        await service.stop()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main() -> None:
    folder = private_folder()
    try:
        async with private_instances(os.environ, folder, mode="dev") as instances:
            say(instances.described)
            await measure(instances, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(main())
