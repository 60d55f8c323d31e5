"""One service of the mesh as a process of its own, ready when its /readyz says so."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chatmesh.local import http_probe, ports
from chatmesh.local.process import Command, Process, Sink
from chatmesh.local.supervisor import how_it_ended
from chatmesh.local.trouble import Trouble

READY_WITHIN_S: Final = 90.0
"""A machine that does much else takes its time to import what an agent needs."""
PROBE_EVERY_S: Final = 0.05
EXIT_CANNOT_START: Final = 2
"""What a service of ours ends with after one sentence about its settings or ports."""


class Service:
    """A process with an HTTP port that may be killed, frozen and started again."""

    def __init__(
        self,
        command: Command,
        *,
        http_port: int,
        log: Path,
        sink: Callable[[str], Sink] | None = None,
    ) -> None:
        """`sink` gives the name's place for lines; without it they go to `log` only."""
        self.command = command
        self.http_port = http_port
        self.log = log
        self._sink = sink(command.name) if sink is not None else None
        self._process: Process | None = None

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def process(self) -> Process:
        if self._process is None:
            raise Trouble(f"{self.name} is not running")
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def http_url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.http_port}"

    def launch(self) -> None:
        """Start the process; `until_ready` waits for it."""
        self._process = Process(self.command, log=self.log, sink=self._sink)

    async def start(self) -> None:
        self.launch()
        await self.until_ready()

    async def until_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Wait for /readyz.

        Raises:
            Trouble: it ended, or was not ready in time; then it says what is missing.
        """
        try:
            async with asyncio.timeout(within_s):
                while not await http_probe.is_ready(ports.LOOPBACK, self.http_port):
                    await asyncio.sleep(PROBE_EVERY_S)
                    if not self.process.running:
                        raise Trouble(self._last_words())
        except TimeoutError:
            answer = await http_probe.get(ports.LOOPBACK, self.http_port, "/readyz")
            state = answer[1] if answer is not None else "its HTTP port is silent"
            raise Trouble(
                f"{self.name} was not ready within {within_s:.0f} s: {state}; "
                f"its log is {self.log}"
            ) from None

    async def stop(self) -> None:
        """As an operator would: SIGTERM, and SIGKILL after the grace."""
        if self._process is not None:
            await self._process.stop()

    def kill(self) -> None:
        self.process.kill()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    async def restart(self) -> None:
        """Stop if it runs, then start it on the same ports."""
        await self.stop()
        await self.start()

    def _last_words(self) -> str:
        lines = self.process.last_lines()
        code = self.process.exit_code
        if code == EXIT_CANNOT_START and lines:
            return lines.splitlines()[-1]
        ended = how_it_ended(code or 0)
        if self._sink is not None:
            return f"{self.name} {ended}; its lines above say why"
        return f"{self.name} {ended}:\n{lines}"
