"""All wires of a stage, in a process of their own.

Clients are played by one busy process. Were the wires in it as well, everything would
seem slow whenever the clients have much to hear.

    python -m chaos.wires        first line of input: which wires; then: what to do to them
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from chaos.proxy import Wire

TESTS: Final = Path(__file__).parents[1]
START_WITHIN_S: Final = 20.0
END_WITHIN_S: Final = 5.0


class FarWire:
    """A wire in the other process. Commands are carried out in order, soon."""

    def __init__(self, name: str, port: int, wires: "FarWires") -> None:
        self.name = name
        self.port = port
        self._wires = wires

    def reset(self) -> None:
        self._wires.tell(self.name, "reset")

    def cut(self) -> None:
        self._wires.tell(self.name, "cut")

    def stall(self) -> None:
        self._wires.tell(self.name, "stall")

    def mend(self) -> None:
        self._wires.tell(self.name, "mend")

    def delay(self, seconds: float) -> None:
        self._wires.tell(self.name, "delay", seconds)


class FarWires:
    """The process and its wires, by name."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._by_name: dict[str, FarWire] = {}

    def __getitem__(self, name: str) -> FarWire:
        return self._by_name[name]

    async def start(self, wanted: dict[str, Sequence[tuple[str, int]]]) -> None:
        """Lay wires by name, each to the first of its targets that answers."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos.wires"),
            cwd=TESTS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        async with asyncio.timeout(START_WITHIN_S):
            ports: dict[str, int] = json.loads(await self._process.stdout.readline())
        self._by_name = {
            name: FarWire(name, port, self) for name, port in ports.items()
        }

    def tell(self, name: str, what: str, *arguments: float) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        order = json.dumps([name, what, *arguments])
        self._process.stdin.write(order.encode() + b"\n")

    async def stop(self) -> None:
        """The process ends with its input."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def serve() -> None:
    """Lay the wires that the first line names, and do as the others say."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    wanted: dict[str, list[list[Any]]] = json.loads(await reader.readline())
    wires: dict[str, Wire] = {}
    for name, targets in wanted.items():
        wires[name] = Wire(name, [(host, port) for host, port in targets])
        await wires[name].start()
    sys.stdout.write(json.dumps({name: w.port for name, w in wires.items()}) + "\n")
    sys.stdout.flush()
    async for line in reader:
        name, what, *arguments = json.loads(line)
        getattr(wires[name], what)(*arguments)
    for wire in wires.values():
        await wire.stop()


if __name__ == "__main__":
    uvloop.run(serve())
