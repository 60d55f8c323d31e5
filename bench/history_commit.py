"""How fast history commits: command batches straight onto its queues, no gateway.

Says, for each shape of load, durable commands per second from the first publish to the
last answer, commands per commit, and what each process paid in CPU. Everything runs on
this machine: history, the broker, the database and this feeder share its cores.
"""

import argparse
import asyncio
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiormq
import psutil
import uvloop
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands as spec

from chatmesh.local import http_probe
from chatmesh.local.instances import Instances, private_folder, private_instances
from chatmesh.local.mesh import inherited
from chatmesh.local.ports import free_port
from chatmesh.local.process import Command
from chatmesh.local.service import Service
from chatmesh.wire import messages, topics
from chatmesh.wire.messages import CommandBatch, LogEvent, Outcomes, PublishCommand
from chatmesh.wire.topics import Topics

NAMES: Final = Topics()
PAYLOAD: Final = (
    b'{"type":"message","id":"abcdefgh","text":"hello, how are you today?"}'
)
INFO: Final = b'{"user":"ada","client":"0b6d3a4e"}'
PROGRAMS: Final = {"postgres": "database", "beam.smp": "broker"}
WITHIN_S: Final = 120.0


@dataclass(frozen=True)
class Shape:
    """A load: so many commands, so many per batch, over so many channels."""

    name: str
    commands: int
    per_batch: int
    channels: int
    in_flight: int
    """Batches published and not yet answered."""


SHAPES: Final = (
    Shape("one at a time", 1_000, 1, 1, 1),
    Shape("small batches, 100 rooms", 30_000, 3, 100, 200),
    Shape("medium batches, 100 rooms", 60_000, 10, 100, 200),
    Shape("large batches, 100 rooms", 100_000, 50, 100, 64),
    Shape("one hot room", 60_000, 20, 1, 32),
    Shape("5,000 rooms", 40_000, 10, 5_000, 200),
)


@dataclass(frozen=True)
class Result:
    shape: Shape
    seconds: float
    cpu_s: dict[str, float]

    def line(self) -> str:
        rate = self.shape.commands / self.seconds
        costs = ", ".join(
            f"{name} {spent / self.shape.commands * 1e6:.0f}"
            for name, spent in self.cpu_s.items()
        )
        return (
            f"{self.shape.name:28} {rate:9,.0f}/s   microseconds of CPU each: {costs}"
        )


class Feeder:
    """Publishes batches and counts the answers, as one very busy gateway would."""

    def __init__(self, publishing: AbstractChannel, queue: str) -> None:
        self._publishing = publishing
        self._queue = queue
        self._answered = 0
        self._wanted = 0
        self._progress = asyncio.Event()

    async def run(self, shape: Shape) -> float:
        """Seconds from the first publish to the last answer."""
        by_partition: dict[int, list[str]] = {}
        for number in range(shape.channels):
            channel = f"room:{shape.channels}-{number}"
            by_partition.setdefault(topics.partition_of(channel), []).append(channel)
        partitions = sorted(by_partition)
        turns = dict.fromkeys(partitions, 0)
        self._answered, self._wanted = 0, shape.commands
        loop = asyncio.get_running_loop()
        started = loop.time()
        sent = 0
        turn = 0
        while sent < shape.commands:
            while sent - self._answered >= shape.in_flight * shape.per_batch:
                await self._until_progress()
            partition = partitions[turn % len(partitions)]
            turn += 1
            rooms = by_partition[partition]
            commands: list[PublishCommand] = []
            for _ in range(min(shape.per_batch, shape.commands - sent)):
                channel = rooms[turns[partition] % len(rooms)]
                turns[partition] += 1
                sent += 1
                commands.append(
                    PublishCommand(
                        channel, uuid.uuid4().hex, PAYLOAD, INFO, "ada", sent
                    )
                )
            await self._publishing.basic_publish(
                messages.encode(CommandBatch("bench", self._queue, commands)),
                exchange=NAMES.commands,
                routing_key=topics.partition_key(partition),
                properties=spec.Basic.Properties(delivery_mode=2),
            )
        while self._answered < self._wanted:
            await self._until_progress()
        return loop.time() - started

    async def on_message(self, message: DeliveredMessage) -> None:
        match messages.decode_gateway_inbound(message.body):
            case Outcomes(outcomes=outcomes):
                assert not any(outcome.error_code for outcome in outcomes)
                self._answered += len(outcomes)
            case LogEvent():
                return
            case _:
                raise AssertionError("nothing else comes here")
        self._progress.set()

    async def _until_progress(self) -> None:
        self._progress.clear()
        async with asyncio.timeout(WITHIN_S):
            await self._progress.wait()


def cpu_by_name(history: int) -> dict[str, float]:
    """User and system seconds so far of everything that was started for this."""
    own = psutil.Process()
    spent = {"history": 0.0, "database": 0.0, "broker": 0.0, "feeder": 0.0}
    for process in (own, *own.children(recursive=True)):
        if process.pid == history:
            name = "history"
        else:
            name = PROGRAMS.get(process.name(), "feeder")
        times = process.cpu_times()
        spent[name] += times.user + times.system
    return spent


async def measure(
    instances: Instances, folder: Path, shapes: list[Shape], *, verbose: bool
) -> None:
    port = free_port()
    environ = {
        **inherited(None),
        "CHATMESH_AMQP_URL": instances.amqp_url,
        "CHATMESH_DATABASE_URL": instances.database_url,
        "CHATMESH_HISTORY_PORT": str(port),
    }
    command = Command("history", (sys.executable, "-m", "chatmesh.history"), environ)
    service = Service(command, http_port=port, log=folder / "history.log")
    await service.start()
    try:
        async with await _connect(instances.amqp_url) as connection:
            hearing = await connection.channel(publisher_confirms=False)
            declared = await hearing.queue_declare(exclusive=True)
            queue = declared.queue or ""
            publishing = await connection.channel(publisher_confirms=False)
            feeder = Feeder(publishing, queue)
            await hearing.queue_bind(queue, NAMES.events, "#")
            await hearing.basic_consume(queue, feeder.on_message, no_ack=True)
            for shape in shapes:
                before = cpu_by_name(service.pid)
                seconds = await feeder.run(shape)
                after = cpu_by_name(service.pid)
                cpu_s = {name: after[name] - before[name] for name in after}
                sys.stdout.write(Result(shape, seconds, cpu_s).line() + "\n")
                sys.stdout.flush()
            if verbose:
                answer = await http_probe.get("127.0.0.1", port, "/metrics")
                sys.stdout.write(answer[1] if answer else "")
    finally:
        await service.stop()


async def _connect(url: str) -> aiormq.Connection:
    return await aiormq.connect(url)


async def main(only: str, *, verbose: bool) -> None:
    folder = private_folder()
    try:
        async with private_instances(os.environ, folder, mode="dev") as instances:
            sys.stdout.write(f"{instances.described}; commits wait for the disk\n")
            shapes = [shape for shape in SHAPES if only in shape.name]
            await measure(instances, folder, shapes, verbose=verbose)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--metrics", action="store_true", help="print /metrics after")
    arguments = parser.parse_args()
    uvloop.run(main(arguments.only, verbose=arguments.metrics))
