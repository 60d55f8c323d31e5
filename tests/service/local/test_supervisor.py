"""Stages, restarts, and an end in reverse order."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from chatmesh.local.process import Command, Process
from chatmesh.local.supervisor import Supervisor, how_it_ended
from chatmesh.local.trouble import Trouble
from support.eventually import eventually


class Sleeper:
    """A service without a port: ready as soon as it runs."""

    def __init__(self, name: str, diary: list[str], *, fails: bool = False) -> None:
        self.name = name
        self._diary = diary
        self._fails = fails
        self._process: Process | None = None
        self.starts = 0

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self._fails:
            raise Trouble(f"{self.name} has no wish to start")
        command = Command(
            name=self.name, words=("sleep", "300"), environ={"PATH": os.defpath}
        )
        self._process = Process(command)
        self.starts += 1
        self._diary.append(f"start {self.name}")

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._diary.append(f"stop {self.name}")


@asynccontextmanager
async def supervised(said: list[str], *, restarts: bool) -> AsyncGenerator[Supervisor]:
    supervisor = Supervisor(said.append, restarts=restarts)
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def test_stages_end_in_reverse() -> None:
    """Whoever uses a neighbour goes before it."""
    diary: list[str] = []
    async with supervised([], restarts=False) as supervisor:
        await supervisor.start([Sleeper("database", diary)])
        await supervisor.start([Sleeper("history", diary)], [Sleeper("gateway", diary)])

    assert diary[0] == "start database"
    assert diary[3:] == ["stop gateway", "stop history", "stop database"]


async def test_a_crash_is_said_and_mended() -> None:
    """One line when it ends, one when it is back."""
    said: list[str] = []
    sleeper = Sleeper("history", [])
    async with supervised(said, restarts=True) as supervisor:
        await supervisor.start([sleeper])

        sleeper.process.kill()

        await eventually(lambda: sleeper.starts == 2 and len(said) == 2)
    assert said[0].startswith("history was ended by SIGKILL; starting it again in 0.")
    assert said[1] == "history is back"


async def test_in_a_test_a_crash_stays_a_crash() -> None:
    """Scenarios decide themselves when something comes back."""
    sleeper = Sleeper("history", [])
    async with supervised([], restarts=False) as supervisor:
        await supervisor.start([sleeper])

        sleeper.process.kill()
        await sleeper.process.wait()

        assert sleeper.starts == 1


async def test_one_that_does_not_start_ends_the_others() -> None:
    """And its sentence is the one that is heard."""
    diary: list[str] = []
    async with supervised([], restarts=True) as supervisor:
        with pytest.raises(Trouble, match="ghost has no wish to start"):
            await supervisor.start(
                [Sleeper("history", diary), Sleeper("ghost", diary, fails=True)]
            )

    assert "stop history" in diary


def test_ends_are_told_in_words() -> None:
    """Exit codes of signals are named."""
    assert how_it_ended(3) == "ended with exit code 3"
    assert how_it_ended(-9) == "was ended by SIGKILL"
