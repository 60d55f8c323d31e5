"""Starts the gateway to MCP servers: `python -m chatmesh.agent.tools.mcp servers.yaml`."""

import asyncio
import os
from pathlib import Path
from typing import Final

from chatmesh.agent.tools.mcp import servers_file
from chatmesh.agent.tools.mcp.connection import Connection
from chatmesh.agent.tools.serving import ToolProcess, parser, run_process
from chatmesh.runtime.startup import CannotStart

POOL_PREFIX: Final = "mcp-"


async def serve(process: ToolProcess, path: Path) -> None:
    """Hold the connections, and serve what they offer, until asked to stop."""
    environ = os.environ  # noqa: TID251 - the file names variables that hold secrets
    servers = await asyncio.to_thread(servers_file.read, path, environ)
    if not servers:
        raise CannotStart(f"{path} declares no servers")
    async with asyncio.TaskGroup() as group:
        connections: list[asyncio.Task[None]] = []
        workers: list[asyncio.Task[None]] = []
        for name, server in servers.items():
            worker = process.worker(f"{POOL_PREFIX}{name}", (), server.concurrency)
            connection = Connection(
                name, server, offer=worker.offer, clock=process.clock
            )
            connections.append(group.create_task(connection.run()))
            workers.append(group.create_task(worker.run(process.stopping)))
        await asyncio.wait(workers)
        for task in connections:
            task.cancel()


def main() -> None:
    made = parser("Serves the tools of MCP servers to agents.")
    made.add_argument("servers", type=Path, help="the file that declares the servers")
    arguments = made.parse_args()
    run_process(arguments, lambda process: serve(process, arguments.servers))


if __name__ == "__main__":
    main()
