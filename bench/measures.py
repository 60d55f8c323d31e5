"""What is measured, each as one function of a running mesh and its parameters."""

import asyncio
import itertools
import json
import os
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.load import LoadClient, message, open_clients
from bench.sending import DRAIN_WITHIN_S, TEXT, Senders
from chatmesh.local.mesh import Mesh

SETTLE_S: Final = 0.5
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_run: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: its parameters, and what came out, with units in the names."""

    name: str
    parameters: dict[str, float]
    results: dict[str, float]


def _name(prefix: str) -> str:
    return f"{prefix}-{os.getpid()}-{next(_run)}"


def _urls(mesh: Mesh) -> list[str]:
    return [gateway.ws_url for gateway in mesh.gateways]


def cpu_s(pids: list[int]) -> float:
    """User and system time of processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS_PER_S


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


async def fan_out(mesh: Mesh, *, members: int, messages: int, batch: int) -> Figures:
    """Everyone in one room over all gateways; messages as fast as they go through."""
    room = f"room:{_name('fan')}"
    clients = await open_clients(_urls(mesh), members)
    await _subscribe(clients, room)
    (sender,) = await open_clients(_urls(mesh), 1)
    await sender.subscribe(room)
    await asyncio.sleep(SETTLE_S)
    pids = [gateway.pid for gateway in mesh.gateways]
    before_cpu, before = cpu_s(pids), time.perf_counter()
    for start in range(0, messages, batch):
        await _send_batch(sender, room, start, min(batch, messages - start))
    expected = members * messages
    await _until(lambda: sum(client.pushes for client in clients) >= expected)
    taken_s = time.perf_counter() - before
    used_s = cpu_s(pids) - before_cpu
    got = sum(client.pushes for client in clients)
    for client in [*clients, sender]:
        client.close()
    return Figures(
        "fan_out",
        {"members": members, "messages": messages, "messages_per_frame": batch},
        {
            "deliveries_per_s": got / taken_s,
            "gateway_cpu_us_per_delivery": used_s / got * 1e6,
            "missing": expected - got,
        },
    )


async def latency(
    mesh: Mesh, *, members: int, rate_per_s: int, seconds: float
) -> Figures:
    """From sending to the committed reply, and to being seen on the other gateway."""
    room = f"room:{_name('lat')}"
    clients = await open_clients(_urls(mesh), members)
    await _subscribe(clients, room)
    # Clients alternate between gateways: the first sends, the second is elsewhere.
    sender, watcher = clients[0], clients[1]
    watcher.seen = deque()
    sent: list[float] = []
    replied: list[float] = []
    pending: list[asyncio.Future[bytes]] = []

    def note(begun: float, _: "asyncio.Future[bytes]") -> None:
        replied.append(time.perf_counter() - begun)

    start = time.perf_counter()
    for number in range(int(rate_per_s * seconds)):
        due = start + number / rate_per_s
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        command, waiting = sender.expect()
        request = message(room, f"{room}.{number}", TEXT)
        begun = time.perf_counter()
        sent.append(begun)
        sender.write(json.dumps({"id": command, **request}).encode())
        waiting.add_done_callback(lambda done, at=begun: note(at, done))
        pending.append(waiting)
    await asyncio.wait(pending, timeout=DRAIN_WITHIN_S)
    await _until(lambda: len(watcher.seen or ()) >= len(sent))
    seen = [at - begun for begun, (_, at) in zip(sent, watcher.seen, strict=False)]
    for client in clients:
        client.close()
    return Figures(
        "latency",
        {"members": members, "rate_per_s": rate_per_s, "seconds": seconds},
        {
            "reply_ms_median": statistics.median(replied) * 1e3,
            "reply_ms_p99": _p99(replied) * 1e3,
            "seen_ms_median": statistics.median(seen) * 1e3,
            "seen_ms_p99": _p99(seen) * 1e3,
        },
    )


async def sends(
    mesh: Mesh, *, rooms: int, senders: int, seconds: float, window: int
) -> Figures:
    """Durable messages over many rooms, each sender keeping a window on its way."""
    clients = await Senders.open(mesh, rooms=rooms, senders=senders)
    taken = await clients.send_for(seconds=seconds, window=window)
    clients.close()
    return Figures(
        "sends",
        {"rooms": rooms, "senders": senders, "seconds": seconds, "window": window},
        {
            "durable_sends_per_s": taken.sent / taken.seconds,
            "mesh_cpu_us_per_send": taken.cpu_us_per_send,
        },
    )


async def idle(mesh: Mesh, *, connections: int) -> Figures:
    """Memory of a gateway per connection that is subscribed and says nothing."""
    gateway = mesh.gateways[0]
    room = f"room:{_name('idle')}"
    warm = await open_clients([gateway.ws_url], 100)
    await _subscribe(warm, room)
    await asyncio.sleep(SETTLE_S)
    before = resident_bytes(gateway.pid)
    clients = await open_clients([gateway.ws_url], connections)
    await _subscribe(clients, room)
    await asyncio.sleep(SETTLE_S)
    grown = resident_bytes(gateway.pid) - before
    for client in [*warm, *clients]:
        client.close()
    return Figures(
        "idle",
        {"connections": connections},
        {"bytes_per_connection": grown / connections},
    )


async def _subscribe(clients: list[LoadClient], room: str) -> None:
    for start in range(0, len(clients), 100):
        async with asyncio.TaskGroup() as group:
            for client in clients[start : start + 100]:
                group.create_task(client.subscribe(room))


async def _send_batch(sender: LoadClient, room: str, first: int, count: int) -> None:
    waiting: list[asyncio.Future[bytes]] = []
    lines: list[bytes] = []
    for number in range(first, first + count):
        command, future = sender.expect()
        request = message(room, f"{room}.{number}", TEXT)
        lines.append(json.dumps({"id": command, **request}).encode())
        waiting.append(future)
    sender.write(b"\n".join(lines))
    await asyncio.wait(waiting, timeout=DRAIN_WITHIN_S)


async def _until(done: Callable[[], bool]) -> None:
    deadline = time.perf_counter() + DRAIN_WITHIN_S
    # Polled: an event per push would be part of what is measured.
    while not done() and time.perf_counter() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
