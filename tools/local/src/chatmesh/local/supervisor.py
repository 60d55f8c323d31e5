"""Start in stages, restart what crashes, stop in reverse."""

import asyncio
import random
import signal
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from chatmesh.local.process import Process
from chatmesh.local.trouble import Trouble
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock, SystemClock
from chatmesh.runtime.failures import sole
from chatmesh.runtime.tasks import Tasks

RESTART_BASE_S: Final = 0.5
RESTART_CAP_S: Final = 10.0
STABLE_S: Final = 30.0
"""Whoever ran this long and then crashed starts again with the shortest pause."""
WATCHERS_STOP_S: Final = 2.0

Say = Callable[[str], None]


class Startable(Protocol):
    """A process, or several that count as one."""

    @property
    def name(self) -> str: ...

    @property
    def process(self) -> Process:
        """The one whose end means: it has crashed."""
        ...

    async def start(self) -> None:
        """Start it, or start it again, and return when it is ready.

        Raises:
            Trouble: it did not come up.
        """
        ...

    async def stop(self) -> None:
        """End it within its grace; harmless when it is not running."""
        ...


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


class Supervisor:
    """Owns what it started, and nothing else on the machine."""

    def __init__(self, say: Say, *, restarts: bool, clock: Clock | None = None) -> None:
        self._say = say
        self._restarts = restarts
        self._clock = clock or SystemClock()
        self._tasks = Tasks()
        self._stages: list[list[Startable]] = []
        self._stopping = False

    async def start(self, *stages: Sequence[Startable]) -> None:
        """Start all of these at once, and return when all are ready.

        They will be stopped stage by stage, the last one first.

        Raises:
            Trouble: one of them did not come up. `stop` ends the others.
        """
        self._stages += [list(stage) for stage in stages]
        services = [service for stage in stages for service in stage]
        try:
            async with asyncio.TaskGroup() as group:
                for service in services:
                    group.create_task(service.start())
        except BaseExceptionGroup as failures:
            raise sole(failures, Trouble) from None
        if self._restarts:
            for service in services:
                self._tasks.spawn(self._keep(service), name=f"keep {service.name}")

    async def stop(self) -> None:
        """The last stage first; within a stage all at once."""
        self._stopping = True
        await self._tasks.stop(WATCHERS_STOP_S)
        for stage in reversed(self._stages):
            async with asyncio.TaskGroup() as group:
                for service in stage:
                    group.create_task(service.stop())
        self._stages.clear()

    def kill(self) -> None:
        """No more patience: everything ends now."""
        for stage in self._stages:
            for service in stage:
                service.process.kill()

    async def _keep(self, service: Startable) -> None:
        chance = random.Random()  # noqa: S311 - spreads restarts, guards nothing
        backoff = Backoff(RESTART_BASE_S, RESTART_CAP_S, chance)
        while True:
            started_s = self._clock.monotonic_s()
            code = await service.process.wait()
            if self._stopping:
                return
            if self._clock.monotonic_s() - started_s > STABLE_S:
                backoff.reset()
            await self._start_again(service, how_it_ended(code), backoff)

    async def _start_again(
        self, service: Startable, reason: str, backoff: Backoff
    ) -> None:
        while True:
            pause_s = backoff.next_s()
            self._say(f"{service.name} {reason}; starting it again in {pause_s:.1f} s")
            await self._clock.sleep(pause_s)
            try:
                await service.start()
            except Trouble as trouble:
                reason = f"did not start ({trouble})"
            else:
                self._say(f"{service.name} is back")
                return
