"""Durable sends over many rooms, by clients that stay for as many slices as one likes."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from bench.load import LoadClient, message, open_clients
from bench.processes import cpu_ns
from chatmesh.local.mesh import Mesh

TEXT: Final = "The quick brown fox jumps over the lazy dog, twice or more."
DRAIN_WITHIN_S: Final = 30.0
_run: Final = itertools.count()


class Slice(NamedTuple):
    """A stretch of sending."""

    sent: int
    """Messages that were committed and answered."""
    seconds: float
    cpu_us_per_send: float
    """User and system time of all processes of the mesh, all their threads."""


class Senders:
    """Clients of one mesh, each with rooms of its own, and a window on its way."""

    def __init__(self, mesh: Mesh, clients: list[LoadClient], rooms: int) -> None:
        name = f"send-{os.getpid()}-{next(_run)}"
        self._mesh = mesh
        self._clients = clients
        self._rooms = [
            [f"room:{name}-{number}" for number in range(index, rooms, len(clients))]
            for index in range(len(clients))
        ]
        self._numbers = itertools.count()

    @classmethod
    async def open(cls, mesh: Mesh, *, rooms: int, senders: int) -> "Senders":
        """Connect over all gateways and subscribe; wants a room for each sender."""
        urls = [gateway.ws_url for gateway in mesh.gateways]
        made = cls(mesh, await open_clients(urls, senders), rooms)
        for client, own in zip(made._clients, made._rooms, strict=True):
            for room in own:
                await client.subscribe(room)
        return made

    async def send(self, *, windows: int, window: int) -> Slice:
        """Each client sends so many windows of so many messages, one after the other."""
        return await self._measured(lambda: range(windows), window)

    async def send_for(self, *, seconds: float, window: int) -> Slice:
        """Each client sends windows of so many messages for so long."""
        stop = time.perf_counter() + seconds

        def until_then() -> Iterator[int]:
            return itertools.takewhile(
                lambda _: time.perf_counter() < stop, itertools.count()
            )

        return await self._measured(until_then, window)

    async def _measured(self, turns: Callable[[], Iterable[int]], window: int) -> Slice:
        pids = [service.pid for service in self._mesh.services]
        before_ns, start = cpu_ns(pids), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            sending = [
                group.create_task(self._send(client, own, turns(), window))
                for client, own in zip(self._clients, self._rooms, strict=True)
            ]
        seconds = time.perf_counter() - start
        used_ns = cpu_ns(pids) - before_ns
        sent = sum(one.result() for one in sending)
        return Slice(sent, seconds, used_ns / max(sent, 1) / 1000)

    async def _send(
        self, client: LoadClient, rooms: list[str], turns: Iterable[int], window: int
    ) -> int:
        sent = 0
        for _ in turns:
            waiting: list[asyncio.Future[bytes]] = []
            lines: list[bytes] = []
            for _, room in zip(range(window), itertools.cycle(rooms), strict=False):
                command, future = client.expect()
                request = message(room, str(next(self._numbers)), TEXT)
                lines.append(json.dumps({"id": command, **request}).encode())
                waiting.append(future)
            client.write(b"\n".join(lines))
            await asyncio.wait(waiting, timeout=DRAIN_WITHIN_S)
            sent += sum(f.done() and b'"error"' not in f.result() for f in waiting)
        return sent

    def close(self) -> None:
        for client in self._clients:
            client.close()
