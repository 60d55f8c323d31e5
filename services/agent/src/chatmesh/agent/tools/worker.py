"""Starts the worker of the built-in tools: `python -m chatmesh.agent.tools.worker`."""

import asyncio
from typing import Final

from chatmesh.agent.tools.builtin.history import HistoryReader
from chatmesh.agent.tools.builtin.offered import made_with
from chatmesh.agent.tools.serving import ToolProcess, parser, run_process
from chatmesh.wire.topics import Topics

POOL: Final = "builtin"


async def serve(process: ToolProcess) -> None:
    """Serve the built-in tools until asked to stop."""
    shared = process.shared
    reader = HistoryReader(shared.amqp_url, Topics(shared.prefix), process.clock)
    worker = process.worker(POOL, made_with(process.clock, reader))
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader.run())
        await worker.run(process.stopping)
        reading.cancel()


if __name__ == "__main__":
    arguments = parser("The worker of the tools that come with chatmesh.").parse_args()
    run_process(arguments, serve)
