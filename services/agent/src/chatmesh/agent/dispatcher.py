"""Takes runs as there is room for them, keeps their lease, and lets go when it leaves.

Every replica does the same: it takes what waits in fair order, and it takes what an owner
has left behind. So whoever is left finishes what anybody has begun.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from chatmesh.agent.agents import AgentsFile
from chatmesh.agent.attendance import Doing, Where
from chatmesh.agent.draft import Shown
from chatmesh.agent.fairness import Waiting, in_turn, unblocked
from chatmesh.agent.news import AgentControl, Say
from chatmesh.agent.performance import Halt, Performance, Stage
from chatmesh.agent.ports import (
    UNKNOWN_AGENT_S,
    Claimed,
    RunBookUnavailable,
    Standing,
)
from chatmesh.agent.queue_news import told_positions
from chatmesh.runtime.tasks import Tasks, heed_cancellation
from chatmesh.wire.runs import RunStatus

_log = logging.getLogger(__name__)

WAITING_LOOKED_AT_MAX: Final = 1000
ENDS_TOGETHER_MAX: Final = 50
"""Runs that only have to be ended, taken at once beyond all caps."""
_TICK_S: Final = 0.1
_LAG_SMOOTHING: Final = 0.3
_CANDIDATES_PER_PLACE: Final = 4
"""Other replicas take some of the candidates meanwhile; so more are offered."""
_OVERFLOW: Final = 2
"""So many times `runs_max` are performed at most, where others have left theirs behind."""
_STOP_S: Final = 5.0
_PERFORMED: Final = (
    RunStatus.THINKING,
    RunStatus.TOOL,
    RunStatus.STREAMING,
    RunStatus.APPROVAL,
)


class Lag:
    """How far the event loop is behind, smoothed, in seconds."""

    def __init__(self) -> None:
        self.s = 0.0

    def saw(self, late_s: float) -> None:
        self.s += _LAG_SMOOTHING * (max(0.0, late_s) - self.s)


class Dispatcher:
    """The runs of one replica."""

    def __init__(
        self,
        stage: Stage,
        agents: Callable[[], AgentsFile],
        *,
        lag: Lag,
        runs_max: int,
        lease_s: float,
        renew_s: float,
        sweep_s: float,
        checkpoint_s: float,
        state: Callable[[str], None],
    ) -> None:
        """`state` hears, with each look, why the book cannot be used; empty: it can."""
        self._stage = stage
        self._agents = agents
        self._lag = lag
        self._runs_max = runs_max
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._sweep_s = sweep_s
        self._checkpoint_s = checkpoint_s
        self._state = state
        self._live: dict[str, Performance] = {}
        self._wake = asyncio.Event()
        self._leaving = False
        self._renewed_s = 0.0
        self._tasks = Tasks()

    # -- From outside --------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something to take."""
        self._wake.set()

    def hear(self, word: AgentControl) -> None:
        """News of another replica, or of this one."""
        match word.say:
            case Say.WAKE:
                self.wake()
            case Say.STOP:
                if any(run in self._live for run in word.runs):
                    # Why it is stopped stands in the database.
                    self._tasks.spawn(self._renew(), name="look at stopped runs")
            case Say.SHOW:
                shown = [
                    seen
                    for one in self._live.values()
                    if one.claimed.channel == word.channel
                    and (seen := one.shown()) is not None
                ]
                if shown:
                    self._stage.room.show(word, shown)

    def shown(self, run: str) -> Shown | None:
        """What is seen of a run now, if it is performed here."""
        performance = self._live.get(run)
        return performance.shown() if performance is not None else None

    def doings(self) -> dict[Where, Doing]:
        """What agents do whose runs are performed here."""
        return {
            Where(one.claimed.channel, one.claimed.agent): one.doing
            for one in self._live.values()
            if one.claimed.status is not Standing.ENDING
        }

    @property
    def live(self) -> int:
        return len(self._live)

    async def run(self) -> None:
        """Take and keep runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweeping())
            group.create_task(self._renewing())
            group.create_task(self._checkpointing())
            group.create_task(self._ticking())

    async def park(self, within_s: float) -> None:
        """Take nothing more; let runs end for a while, and hand the others on."""
        self._leaving = True
        await self._until_idle(within_s)
        for performance in list(self._live.values()):
            performance.halt(Halt.PARK)
        await self._until_idle(_STOP_S)
        self._stage.room.say(AgentControl(Say.WAKE))
        await self._tasks.stop(_STOP_S)

    async def _until_idle(self, within_s: float) -> None:
        deadline_s = self._stage.clock.monotonic_s() + within_s
        while self._live and self._stage.clock.monotonic_s() < deadline_s:
            await self._stage.clock.sleep(_TICK_S)

    # -- Taking --------------------------------------------------------------------------

    async def _sweeping(self) -> None:
        while True:
            heed_cancellation()
            self._wake.clear()
            try:
                await self._take()
                self._state("")
            except RunBookUnavailable as error:
                self._state(str(error))
                _log.warning("cannot take runs", extra={"cause": str(error)})
            try:
                async with asyncio.timeout(self._sweep_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _take(self) -> None:
        book = self._stage.book
        if self._leaving or not self._stage.room.reachable:
            return
        # The cap is for what is begun. What somebody has left behind, a room watches: it
        # goes on at once where there is anybody, and before anything new.
        able = self._runs_max * _OVERFLOW - len(self._live)
        before_s = self._stage.clock.monotonic_s()
        adopted = await book.adopt(
            able if able > 0 else ENDS_TOGETHER_MAX,
            performing=able > 0,
            crashes_max=self._stage.crashes_max,
            known=list(self._agents().agents),
        )
        for claimed in adopted:
            self._stage.metrics.takeovers.inc()
            self._begin(claimed, before_s)
        waiting, performed = await book.waiting(WAITING_LOOKED_AT_MAX)
        self._stage.metrics.runs.labels(RunStatus.QUEUED).set(len(waiting))
        free = self._runs_max - len(self._live)
        if not waiting:
            return
        turn = in_turn(waiting, performed)
        taken: list[Claimed] = []
        if free > 0 and not self._leaving:
            known = list(self._agents().agents.values())
            before_s = self._stage.clock.monotonic_s()
            ours = [one for one in turn if self._may_take(one)]
            able = unblocked(
                ours, performed, {one.name: one.concurrency for one in known}
            )
            candidates = [one.run for one in able[: free * _CANDIDATES_PER_PLACE]]
            taken = await book.claim(candidates, known, free)
        ages = {one.run: one.created_ms for one in waiting}
        for claimed in taken:
            waited_s = (claimed.now_ms - ages[claimed.run]) / 1000
            self._stage.metrics.wait_seconds.observe(max(0.0, waited_s))
            self._begin(claimed, before_s)
        gone = {claimed.run for claimed in taken}
        left = [one for one in turn if one.run not in gone]
        await told_positions(left, self._agents(), book, self._stage.room)

    def _may_take(self, one: Waiting) -> bool:
        """Whether we know the agent, or nobody who does has come for so long."""
        waited_s = self._stage.clock.unix_ms() / 1000 - one.created_ms / 1000
        return one.agent in self._agents().agents or waited_s >= UNKNOWN_AGENT_S

    def _begin(self, claimed: Claimed, asked_s: float) -> None:
        self._stage.checkpoint("agent.run_claimed")
        known = self._agents().agents.get(claimed.agent)
        if (stale := self._live.get(claimed.run)) is not None:
            # We were too slow to renew, and have taken it over from ourselves.
            stale.halt(Halt.LOST)
        performance = Performance(
            claimed, known, self._stage, lease_ends_s=asked_s + self._lease_s
        )
        self._live[claimed.run] = performance
        self._tasks.spawn(self._perform(performance), name="perform a run")

    async def _perform(self, performance: Performance) -> None:
        try:
            await performance.perform()
        finally:
            if self._live.get(performance.run_id) is performance:
                del self._live[performance.run_id]
            self.wake()

    # -- Keeping -------------------------------------------------------------------------

    async def _renewing(self) -> None:
        while True:
            heed_cancellation()
            await self._stage.clock.sleep(self._renew_s)
            await self._renew()

    async def _renew(self) -> None:
        """Renew the lease of everything performed here; hear who wants what stopped."""
        mine = dict(self._live)
        if not mine:
            self._renewed_s = self._stage.clock.monotonic_s()
            return
        asked_s = self._stage.clock.monotonic_s()
        try:
            renewed = await self._stage.book.renew(list(mine))
        except RunBookUnavailable as error:
            _log.warning("leases not renewed", extra={"cause": str(error)})
            for performance in mine.values():
                if self._stage.clock.monotonic_s() >= performance.lease_ends_s:
                    performance.halt(Halt.LOST)
            return
        self._renewed_s = asked_s
        kept = {one.run: one for one in renewed}
        for run, performance in mine.items():
            one = kept.get(run)
            if one is None or one.epoch != performance.claimed.epoch:
                # Ended just now, or somebody else's: in both cases not ours to go on with.
                performance.halt(Halt.LOST)
                continue
            performance.lease_ends_s = asked_s + self._lease_s
            if one.stop_by is not None:
                interrupt = one.stop_reason == Halt.INTERRUPT.value
                performance.halt(
                    Halt.INTERRUPT if interrupt else Halt.STOP, one.stop_by
                )

    async def _checkpointing(self) -> None:
        """Store what is seen of live runs, all in one statement, as often as is useful."""
        while True:
            heed_cancellation()
            await self._stage.clock.sleep(self._checkpoint_s)
            dirty = [one for one in self._live.values() if one.dirty]
            shown = [(one, seen) for one in dirty if (seen := one.shown()) is not None]
            for one in dirty:
                one.dirty = False
            if not shown:
                continue
            try:
                await self._stage.book.checkpoint([seen for _, seen in shown])
            except RunBookUnavailable as error:
                for one, _ in shown:
                    one.dirty = True
                _log.warning("no checkpoint stored", extra={"cause": str(error)})

    async def _ticking(self) -> None:
        """Measure how far the loop is behind, and give signs of life."""
        clock = self._stage.clock
        while True:
            heed_cancellation()
            before_s = clock.monotonic_s()
            await clock.sleep(_TICK_S)
            now_s = clock.monotonic_s()
            self._lag.saw(now_s - before_s - _TICK_S)
            self._stage.metrics.loop_lag_seconds.set(self._lag.s)
            for performance in list(self._live.values()):
                performance.beat(now_s)
            self._count()

    def _count(self) -> None:
        busy = Counter(one.status for one in self._live.values())
        for status in _PERFORMED:
            self._stage.metrics.runs.labels(status).set(busy[status])
        age_s = self._stage.clock.monotonic_s() - self._renewed_s if self._live else 0.0
        self._stage.metrics.lease_age_seconds.set(age_s)
