"""Runs a worker as a process: `serve()`, from a script or for one."""

import importlib.metadata
import importlib.util
import re
import secrets
import socket
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from chatmesh.runtime import logging
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.service import Stopping, run
from chatmesh.runtime.startup import CannotStart
from chatmesh.runtime.tracing import to_collector
from chatmesh.tools import settings
from chatmesh.tools.declaration import Served, tools_in
from chatmesh.tools.worker import CONCURRENCY, Worker

_SERVICE: Final = "tools"
_ID_BYTES: Final = 4
_loading: Final = ContextVar("loading", default=False)
"""A script is being read for its tools; it shall not serve them itself."""


def serve(*tools: Served, pool: str = "", concurrency: int = CONCURRENCY) -> None:
    """Serve tools until SIGTERM or SIGINT, then leave the process.

    Without `tools`: those of the script that was started. `pool` names the queue, which all
    workers with the same tools share; by default it is named for the script.
    `concurrency` bounds how many calls run at once. In a script that `chatmesh tools serve`
    loads, this does nothing.
    """
    if _loading.get():
        return
    main = sys.modules["__main__"]
    chosen = list(tools) or list[Served](tools_in(vars(main)))
    script = Path(str(getattr(main, "__file__", None) or "tools"))
    run_worker(chosen, pool=pool or pool_of(script), concurrency=concurrency)


def run_worker(tools: Sequence[Served], *, pool: str, concurrency: int) -> None:
    """Be a worker of these tools, as the settings of the process say, and leave."""

    async def main(stopping: Stopping) -> int:
        shared = settings.load()
        logging.configure(_SERVICE, shared.log_level, shared.log_format)
        if not tools:
            raise CannotStart("there is no tool to serve: mark a function with @tool")
        tracing = to_collector(
            shared.trace_endpoint,
            ratio=shared.trace_ratio,
            service=_SERVICE,
            instance=f"{socket.gethostname()}.{secrets.token_hex(_ID_BYTES)}",
            version=importlib.metadata.version("chatmesh-tools"),
        )
        worker = Worker(
            tools,
            pool=pool,
            url=shared.amqp_url,
            prefix=shared.prefix,
            clock=SystemClock(),
            concurrency=concurrency,
            tracing=tracing,
        )
        try:
            await worker.run(stopping)
        finally:
            tracing.shut_down()
        return 0

    run(main, service=_SERVICE)


def tools_of_file(path: Path) -> list[Served]:
    """Import a script without running it as one; its tools. Raises CannotStart."""
    spec = importlib.util.spec_from_file_location(f"chatmesh_tools_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise CannotStart(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    token = _loading.set(True)
    try:
        spec.loader.exec_module(module)
    finally:
        _loading.reset(token)
    return list[Served](tools_in(vars(module)))


def pool_of(script: Path) -> str:
    """A pool name made of a script's name."""
    word = re.sub(r"[^a-z0-9]+", "-", script.stem.lower()).strip("-")[:40]
    return word if word[:1].isalpha() else f"tools-{word}"[:40].strip("-")
