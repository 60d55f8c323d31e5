"""What is heard is recorded in few statements, and holds up nothing else meanwhile."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import cast

from chatmesh.agent.agents import Agent, AgentsFile
from chatmesh.agent.hearing import Hearing
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.ports import NewRun, Placed, Room, RunBook, Standing
from chatmesh.runtime import checkpoints
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.messages import Entry, LogEvent
from support.manual_clock import ManualClock

EVENTS = 20


class Book:
    """Records runs, and how many at a time."""

    def __init__(self) -> None:
        self.placed: list[int] = []

    async def place(self, runs: Sequence[NewRun]) -> list[Placed]:
        await asyncio.sleep(0)
        self.placed.append(len(runs))
        return [Placed(one.run, fresh=False, status=Standing.QUEUED) for one in runs]


class Link:
    """Takes acknowledgements."""

    def __init__(self) -> None:
        self.acked: list[int] = []

    def ack(self, tags: Sequence[int]) -> None:
        self.acked += tags


async def test_the_loop_turns_between_two_events() -> None:
    """However much has come at once, it is one statement, and others have their turns."""
    book, link = Book(), Link()
    hearing = Hearing(
        book=cast("RunBook", book),
        room=cast("Room", None),
        link=link,
        agents=lambda: AgentsFile(agents={"owl": Agent()}),
        wake=lambda: None,
        clock=ManualClock(),
        chance=random.Random(1),
        checkpoint=checkpoints.ignore,
        metrics=Metrics(),
        answer_within_s=60,
    )
    for tag in range(EVENTS):
        body = json.dumps({"type": "message", "text": "@owl hello"}).encode()
        info = json.dumps({"user": "ada"}).encode()
        entry = Entry(tag + 1, f"m{tag}", body, info)
        hearing.hear(tag, LogEvent("room:a", "e", [entry]))
    tasks = Tasks()
    tasks.spawn(hearing.run(), name="hear")
    turns = 0
    while not link.acked:
        turns += 1
        await asyncio.sleep(0)
    assert (book.placed, link.acked) == ([EVENTS], list(range(EVENTS)))
    assert turns >= EVENTS
    await hearing.settle()
    await tasks.stop(1.0)
