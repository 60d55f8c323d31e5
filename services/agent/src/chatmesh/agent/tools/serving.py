"""A process that serves tools of ours: workers, and an HTTP port for those who run it."""

import argparse
import asyncio
import importlib.metadata
import logging as std_logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import fastapi
from prometheus_client import CollectorRegistry, Counter, Histogram

from chatmesh.runtime import logging
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.health import Health
from chatmesh.runtime.http import HttpServer, operations
from chatmesh.runtime.process_metrics import add_process_metrics
from chatmesh.runtime.service import Stopping, run
from chatmesh.runtime.settings import Shared
from chatmesh.runtime.tracing import to_collector
from chatmesh.tools import settings
from chatmesh.tools.declaration import Served
from chatmesh.tools.worker import CONCURRENCY, DRAIN_S, Worker

_log = std_logging.getLogger(__name__)

SERVICE: Final = "tools"
PORT: Final = 9060
BROKER: Final = "broker"
"""Name of the health check that says whether calls can arrive."""
LOOK_S: Final = 0.5
_PORT_MAX: Final = 65535
_DRAIN_S_MAX: Final = 3600
_ID_BYTES: Final = 4
_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class ToolProcess:
    """What the workers of one process have in common."""

    def __init__(
        self, shared: Shared, stopping: Stopping, *, drain_s: float = DRAIN_S
    ) -> None:
        self._drain_s = drain_s
        self.shared: Final = shared
        self.stopping: Final = stopping
        self.clock: Final = SystemClock()
        self.health: Final = Health(BROKER)
        self.registry: Final = CollectorRegistry()
        version = importlib.metadata.version("chatmesh-agent")
        add_process_metrics(
            self.registry, self.health, service=SERVICE, version=version
        )
        self.tracing: Final = to_collector(
            shared.trace_endpoint,
            ratio=shared.trace_ratio,
            service=SERVICE,
            instance=f"{socket.gethostname()}.{secrets.token_hex(_ID_BYTES)}",
            version=version,
        )
        self._calls = Counter(
            "chatmesh_tools_calls",
            "Calls that this process ran, by outcome: done, failed, timeout, cancelled,"
            " unknown.",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "chatmesh_tools_call_seconds",
            "From taking a call to its result.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._workers: list[Worker] = []

    def worker(
        self, pool: str, tools: Sequence[Served], concurrency: int = CONCURRENCY
    ) -> Worker:
        """A worker that counts what it does; the process is ready when all serve."""
        worker = Worker(
            tools,
            pool=pool,
            url=self.shared.amqp_url,
            prefix=self.shared.prefix,
            clock=self.clock,
            concurrency=concurrency,
            drain_s=self._drain_s,
            observe=self._observe,
            tracing=self.tracing,
        )
        self._workers.append(worker)
        return worker

    async def watch(self) -> None:
        """Keep the health check true, until cancelled."""
        while True:
            silent = [worker.pool for worker in self._workers if not worker.serving]
            reason = f"no link for {', '.join(silent)}" if silent else ""
            self.health.set(BROKER, ok=not silent, reason=reason)
            await self.clock.sleep(LOOK_S)

    def _observe(self, outcome: str, seconds: float) -> None:
        self._calls.labels(outcome).inc()
        self._seconds.observe(seconds)


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that every tool process has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--host", default="127.0.0.1", help="of the HTTP port; default: 127.0.0.1"
    )
    made.add_argument(
        "--port",
        type=int,
        default=PORT,
        choices=range(_PORT_MAX + 1),
        metavar="PORT",
        help=f"for /livez, /readyz, /metrics; default: {PORT}",
    )
    made.add_argument(
        "--drain-s",
        type=_seconds,
        default=DRAIN_S,
        metavar="SECONDS",
        help="until calls that run at SIGTERM have to be finished;"
        f" default: {DRAIN_S:g}",
    )
    return made


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _DRAIN_S_MAX:
        raise ValueError(text)
    return seconds


def run_process(
    arguments: argparse.Namespace, work: Callable[[ToolProcess], Awaitable[None]]
) -> None:
    """Run `work` beside the HTTP port until it ends, and leave the process."""

    async def main(stopping: Stopping) -> int:
        shared = settings.load()
        logging.configure(SERVICE, shared.log_level, shared.log_format)
        process = ToolProcess(shared, stopping, drain_s=arguments.drain_s)
        app = fastapi.FastAPI(title="chatmesh tools", docs_url=None, redoc_url=None)
        app.include_router(operations(process.health, process.registry))
        server = HttpServer(app, arguments.host, arguments.port)
        await server.start()
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(process.watch())
                draining = group.create_task(_drain(process))
                await work(process)
                watching.cancel()
                draining.cancel()
        finally:
            await server.stop()
            process.tracing.shut_down()
        return 0

    run(main, service=SERVICE)


async def _drain(process: ToolProcess) -> None:
    await process.stopping.wait()
    process.health.drain()
