"""What is said in rooms becomes runs: recorded first, then acknowledged.

A message that is delivered again finds its runs recorded, so it makes none.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from chatmesh.agent import triggers
from chatmesh.agent.agents import AgentsFile, when_busy
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.news import AgentControl, Say
from chatmesh.agent.ports import (
    NewRun,
    Placed,
    Room,
    RunBook,
    RunBookUnavailable,
    Standing,
)
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.checkpoints import Checkpoint
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import heed_cancellation
from chatmesh.wire.messages import LogEvent
from chatmesh.wire.runs import run_of

_log = logging.getLogger(__name__)

PLACED_TOGETHER_MAX: Final = 200
"""Runs recorded in one statement."""
_RETRY_BASE_S: Final = 0.05
_RETRY_CAP_S: Final = 1.0


class Acks(Protocol):
    """The link a message came by."""

    def ack(self, tags: Sequence[int]) -> None: ...


class Hearing:
    """Listens to rooms through one life of the broker link."""

    def __init__(
        self,
        *,
        book: RunBook,
        room: Room,
        link: Acks,
        agents: Callable[[], AgentsFile],
        wake: Callable[[], None],
        clock: Clock,
        chance: random.Random,
        checkpoint: Checkpoint,
        metrics: Metrics,
        answer_within_s: float,
    ) -> None:
        self._book = book
        self._room = room
        self._link = link
        self._agents = agents
        self._wake = wake
        self._clock = clock
        self._chance = chance
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._answer_within_ms = int(answer_within_s * 1000)
        # Bounded by the prefetch of the link.
        self._heard: deque[tuple[int, LogEvent]] = deque()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def hear(self, tag: int, event: LogEvent) -> None:
        self._heard.append((tag, event))
        self._idle.clear()
        self._more.set()

    async def run(self) -> None:
        """Record what has been heard, as it comes, until cancelled."""
        while True:
            heed_cancellation()
            await self._more.wait()
            self._more.clear()
            while self._heard:
                await self._take()
            self._idle.set()

    async def settle(self) -> None:
        """Return once everything heard so far is recorded."""
        await self._idle.wait()

    async def _take(self) -> None:
        """Everything that has arrived, in as few statements as it fits."""
        tags: list[int] = []
        runs: list[NewRun] = []
        while self._heard and len(runs) < PLACED_TOGETHER_MAX:
            tag, event = self._heard.popleft()
            tags.append(tag)
            runs += self._runs(event)
            # Texts are read here, and other rooms' streams go on between two of them.
            await asyncio.sleep(0)
        if runs:
            placed = await self._placed(runs)
            self._checkpoint("agent.run_inserted")
            self._tell(placed)
        self._link.ack(tags)

    def _runs(self, event: LogEvent) -> list[NewRun]:
        agents = self._agents().agents
        now_ms = self._clock.unix_ms()
        runs: list[NewRun] = []
        for entry in event.entries:
            self._metrics.messages.inc()
            said = triggers.read(event.channel, entry)
            if said is None:
                continue
            too_old = bool(said.at_ms) and now_ms - said.at_ms > self._answer_within_ms
            runs += [
                NewRun(
                    run_of(agent.name, said.channel, said.id),
                    agent.name,
                    said,
                    when_busy(agent, said.channel),
                    too_old,
                )
                for agent in triggers.called(agents.values(), said)
            ]
        return runs

    async def _placed(self, runs: list[NewRun]) -> list[Placed]:
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, self._chance)
        while True:
            heed_cancellation()
            try:
                return await self._book.place(runs)
            except RunBookUnavailable as error:
                _log.warning("waiting for the database", extra={"cause": str(error)})
                self._metrics.book_retries.inc()
            await self._clock.sleep(backoff.next_s())

    def _tell(self, placed: list[Placed]) -> None:
        fresh = [one for one in placed if one.fresh]
        for one in placed:
            became = one.status.value if one.fresh else "known"
            self._metrics.triggers.labels(became).inc()
        interrupted = [
            one.into for one in fresh if one.into and one.status is Standing.QUEUED
        ]
        if interrupted:
            self._room.say(AgentControl(Say.STOP, interrupted))
        if fresh:
            self._wake()
            self._room.say(AgentControl(Say.WAKE))
