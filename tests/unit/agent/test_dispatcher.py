"""Which of the runs that wait a replica offers to take."""

import asyncio
import random
from collections.abc import Sequence
from typing import cast

from chatmesh.agent.agents import Agent, AgentsFile
from chatmesh.agent.dispatcher import Dispatcher, Lag
from chatmesh.agent.fairness import Running, Waiting
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.pacing import Windows
from chatmesh.agent.performance import Stage
from chatmesh.agent.ports import UNKNOWN_AGENT_S, Claimed, Room, RunBook
from chatmesh.agent.tools.port import ToolBus
from chatmesh.runtime import checkpoints
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import Tracing
from support.manual_clock import ManualClock, settle


class Book:
    """Runs that wait for ever; what is offered is written down."""

    def __init__(self, waiting: list[Waiting]) -> None:
        self.queue = waiting
        self.offered: list[list[str]] = []

    async def adopt(self, most: int, **_: object) -> list[Claimed]:
        await asyncio.sleep(0)
        return []

    async def waiting(self, limit: int) -> tuple[list[Waiting], list[Running]]:
        await asyncio.sleep(0)
        return self.queue, []

    async def claim(
        self, candidates: Sequence[str], agents: Sequence[Agent], most: int
    ) -> list[Claimed]:
        await asyncio.sleep(0)
        self.offered.append(list(candidates))
        return []

    async def positions(
        self, places: Sequence[tuple[str, int]]
    ) -> list[tuple[str, int, int]]:
        await asyncio.sleep(0)
        return []


class TheRoom:
    """There is a link."""

    reachable = True


async def test_a_run_of_an_agent_nobody_knows_here_is_left_to_others() -> None:
    """Until so much time has passed that nobody knows it."""
    clock = ManualClock()
    now_ms = clock.unix_ms()
    book = Book(
        [
            Waiting("r1", "fox", "room:a", "ada", now_ms),
            Waiting("r2", "owl", "room:b", "ada", now_ms),
        ]
    )
    stage = Stage(
        book=cast("RunBook", book),
        room=cast("Room", TheRoom()),
        tools=cast("ToolBus", None),
        models=lambda _: (_ for _ in ()).throw(AssertionError),
        clock=clock,
        chance=random.Random(1),
        checkpoint=checkpoints.ignore,
        metrics=Metrics(),
        tracing=Tracing(),
        windows=Windows(40, 200),
        lag_s=lambda: 0.0,
        crashes_max=3,
    )
    file = AgentsFile(agents={"owl": Agent()})
    dispatcher = Dispatcher(
        stage,
        lambda: file,
        lag=Lag(),
        runs_max=5,
        lease_s=10,
        renew_s=3,
        sweep_s=60,
        checkpoint_s=1,
        state=lambda _: None,
    )
    tasks = Tasks()
    tasks.spawn(dispatcher.run(), name="dispatch")
    await settle()
    clock.pass_time(UNKNOWN_AGENT_S)
    dispatcher.wake()
    await settle()
    assert book.offered == [["r2"], ["r1", "r2"]]
    await tasks.stop(1.0)
