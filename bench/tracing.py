"""What traces cost: the same sends on equal meshes in turn, one of which traces.

In short turns and with CPU per message beside throughput, because the machine's own
mood changes more from minute to minute than tracing costs.
"""

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from bench.measures import Figures
from bench.mesh import Shape, measured_meshes
from bench.sending import Senders, Slice

RATIO: Final = 0.01
ROOMS: Final = 100
SENDERS: Final = 50
WINDOW: Final = 40
WINDOWS: Final = 2
ROUNDS: Final = 100
WARM_SLICES: Final = 5
SILENT: Final = "silent"
CONTROL: Final = "control"
TRACED: Final = "traced"
_HEAD_END: Final = b"\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class TracingBench:
    """Senders on meshes that differ in nothing but tracing, and where the spans go."""

    senders: dict[str, Senders]
    sink: "Sink"


class Sink:
    """A collector that counts requests and throws spans away."""

    def __init__(self) -> None:
        self.requests = 0

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while True:
                head = await reader.readuntil(_HEAD_END)
                lines = head.lower().split(b"\r\n")
                length = next(
                    int(one.partition(b":")[2])
                    for one in lines
                    if one.startswith(b"content-length:")
                )
                await reader.readexactly(length)
                self.requests += 1
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def measured_tracing() -> AsyncGenerator[TracingBench]:
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = {
        "CHATMESH_TRACE_ENDPOINT": f"http://127.0.0.1:{port}",
        "CHATMESH_TRACE_RATIO": str(RATIO),
    }
    shapes = [Shape(), Shape(), Shape(settings=settings)]
    async with server, measured_meshes(shapes) as meshes:
        opened = {
            name: await Senders.open(mesh, rooms=ROOMS, senders=SENDERS)
            for name, mesh in zip((SILENT, CONTROL, TRACED), meshes, strict=True)
        }
        # None is measured while it grows into its memory.
        for senders in opened.values():
            for _ in range(WARM_SLICES):
                await _slice(senders)
        yield TracingBench(opened, sink)
        for senders in opened.values():
            senders.close()


async def overhead(bench: TracingBench) -> Figures:
    """What a share of traces costs: CPU of a durable send, and sends per second.

    In short slices of the same work, each mesh in turn, another one first each time:
    whatever else the machine does in these seconds, it does to all. The lower quartile
    of a mesh's slices is told, because what disturbs only ever adds. `control` is a
    second mesh without traces: what it differs by is what two equal meshes differ by,
    and no figure here is better than that.
    """
    names = list(bench.senders)
    seen: dict[str, list[Slice]] = {name: [] for name in names}
    for round_ in range(ROUNDS):
        shift = round_ % len(names)
        for name in (*names[shift:], *names[:shift]):
            seen[name].append(await _slice(bench.senders[name]))

    def quartile(name: str, figure: Callable[[Slice], float]) -> float:
        return statistics.quantiles([figure(one) for one in seen[name]], n=4)[0]

    def more(name: str, figure: Callable[[Slice], float]) -> float:
        """Percent by which a mesh needs more than the silent one."""
        return (quartile(name, figure) / quartile(SILENT, figure) - 1) * 100

    return Figures(
        "tracing",
        {
            "ratio": RATIO,
            "rooms": ROOMS,
            "senders": SENDERS,
            "messages_per_slice": SENDERS * WINDOWS * WINDOW,
            "rounds": ROUNDS,
        },
        {
            "silent_cpu_us_per_send": quartile(SILENT, _cpu_us),
            "traced_cpu_us_per_send": quartile(TRACED, _cpu_us),
            "cpu_overhead_percent": more(TRACED, _cpu_us),
            "control_cpu_overhead_percent": more(CONTROL, _cpu_us),
            "time_overhead_percent": more(TRACED, _seconds),
            "control_time_overhead_percent": more(CONTROL, _seconds),
            "exports": float(bench.sink.requests),
        },
    )


async def _slice(senders: Senders) -> Slice:
    return await senders.send(windows=WINDOWS, window=WINDOW)


def _cpu_us(one: Slice) -> float:
    return one.cpu_us_per_send


def _seconds(one: Slice) -> float:
    return one.seconds
