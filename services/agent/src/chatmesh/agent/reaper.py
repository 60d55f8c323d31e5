"""Starts the reaper: `python -m chatmesh.agent.reaper`. It needs no model and no tool.

A process of its own, so that what has befallen the agents does not befall it; one of them
is enough for any number of agents.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import fastapi

from chatmesh.agent import agents, settings
from chatmesh.agent.adapters.postgres_runs import PostgresRuns
from chatmesh.agent.adapters.rabbit import RabbitLink, RabbitRoom
from chatmesh.agent.agents import AgentsFile, AgentsFileError, ScriptedModel
from chatmesh.agent.bootstrap import MIGRATIONS
from chatmesh.agent.conversation import ModelAsk
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.pacing import Windows
from chatmesh.agent.performance import Models, Stage
from chatmesh.agent.ports import ModelEvent, ModelFailed
from chatmesh.agent.reaping import Reaping
from chatmesh.agent.settings import SECTION, Settings
from chatmesh.agent.tools.port import (
    BusUnavailable,
    ToolCall,
    ToolOffer,
    ToolOutcome,
    ToolProgress,
)
from chatmesh.bus.lives import Lives
from chatmesh.bus.outgoing import LinkLost
from chatmesh.bus.work_link import LinkOptions
from chatmesh.postgres.database import Connection, Pool
from chatmesh.postgres.preparation import run_service, until_prepared
from chatmesh.runtime.failures import sole
from chatmesh.runtime.health import BROKER, DATABASE, Health
from chatmesh.runtime.http import HttpServer, operations
from chatmesh.runtime.replica import new_replica
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.topics import Topics

_log = logging.getLogger(__name__)

_SESSIONS: Final = 3
_STOP_S: Final = 5.0


class NoModel:
    """`ports.Model` of runs that are only ended."""

    name = ""
    scripted = False

    def answer(
        self, ask: ModelAsk, *, step: int
    ) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        del ask, step
        raise ModelFailed("there is no model here", passing=False)


class NoTools:
    """`ToolBus` of runs that are only ended; their open calls end by deadlines of their own."""

    async def offers(self, names: Sequence[str]) -> Sequence[ToolOffer]:
        del names
        return ()

    def call(self, call: ToolCall) -> AsyncIterator[ToolProgress | ToolOutcome]:
        raise BusUnavailable(f"no tool is called here, {call.name} neither")

    async def cancel_run(self, run: str) -> None:
        del run

    async def read(self, reference: str, offset: int, limit: int) -> str:
        del offset, limit
        raise BusUnavailable(f"no result is read here, {reference} neither")


class Reaper:
    """One process that ends what nobody goes on with."""

    def __init__(self, own: Settings, stopping: Stopping) -> None:
        self._settings = own
        self._stopping = stopping
        self.metrics: Final = Metrics()
        self._own = new_replica(own, SECTION, self.metrics.registry, DATABASE, BROKER)
        self._sessions = [Connection.of(own, SECTION) for _ in range(_SESSIONS)]
        placing, leasing, working = self._sessions
        self._book = PostgresRuns(
            self._own.me,
            working=Pool([working]),
            placing=placing,
            leasing=leasing,
            lease_s=own.run_lease_s,
        )
        topics = Topics(own.prefix)
        self._room = RabbitRoom(
            self._own.me,
            events=topics.events,
            control=topics.control,
            rpc=topics.rpc,
            clock=self._own.clock,
            commit_s=own.commit_timeout_s,
            read_s=own.read_timeout_s,
        )
        self._file = AgentsFile(agents={})
        self._lives = Lives(self._own, self._new_life)

    @property
    def health(self) -> Health:
        return self._own.health

    async def serve(self) -> int:
        """Serve until asked to stop; the exit code. Raises CannotStart."""
        own = self._settings
        self._file = await asyncio.to_thread(self._read)
        app = fastapi.FastAPI(title="chatmesh reaper", docs_url=None, redoc_url=None)
        app.include_router(operations(self.health, self.metrics.registry))
        server = HttpServer(app, own.host, own.port)
        await server.start()
        tasks = Tasks(self._failed)
        try:
            if await until_prepared(MIGRATIONS, own, self._own, self._stopping):
                tasks.spawn(self._new_reaping().run(), name="end runs")
                await self._lives.run(self._stopping)
        finally:
            await tasks.stop(_STOP_S)
            await server.stop()
            for session in self._sessions:
                session.drop()
            self._own.tracing.shut_down()
        return 0

    def _read(self) -> AgentsFile:
        """Titles and pictures, as they stood at the start; without them names will do."""
        path = self._settings.agents_file
        try:
            if not path:
                return agents.shipped()
            return agents.parse(Path(path).read_text(encoding="utf-8"), name=path)
        except (AgentsFileError, OSError, UnicodeDecodeError) as error:
            _log.warning("no agents are known by title", extra={"cause": str(error)})
            return AgentsFile(agents={})

    def _failed(self, task: str, failure: BaseException) -> None:
        self.health.set(BROKER, ok=False, reason=f"{task} failed: {failure!r}")
        self._stopping.request(f"{task} failed")

    def _new_reaping(self) -> Reaping:
        own = self._settings
        models = Models(NoModel(), ScriptedModel(kind="scripted"))
        stage = Stage(
            book=self._book,
            room=self._room,
            tools=NoTools(),
            models=lambda _: models,
            clock=self._own.clock,
            chance=self._own.chance,
            checkpoint=self._own.checkpoint,
            metrics=self.metrics,
            tracing=self._own.tracing,
            windows=Windows(own.window_ms, own.window_ms_max),
            lag_s=lambda: 0.0,
            crashes_max=own.crashes_max,
        )
        return Reaping(
            stage,
            lambda: self._file,
            after_s=own.reap_after_s,
            lease_s=own.run_lease_s,
            every_s=own.sweep_s,
            state=lambda why: self.health.set(DATABASE, ok=not why, reason=why),
        )

    def _new_life(self, number: int) -> "Life":
        tasks = Tasks()
        link = RabbitLink(
            LinkOptions.of(self._settings, prefetch=1),
            life=f"{self._own.me}.{number}",
            hear=lambda _tag, _event: None,
            call=lambda _call: None,
            news=lambda _word: None,
            answered=self._room.settle,
            shown=self._room.settle_shown,
            resync=lambda _partitions: None,
            tasks=tasks,
            clock=self._own.clock,
            state=lambda why: self.health.set(BROKER, ok=not why, reason=why),
            serving=False,
        )
        return Life(link, self._room, self.health, tasks)


class Life:
    """One life of the broker link, by which rooms are told."""

    def __init__(
        self, link: RabbitLink, room: RabbitRoom, health: Health, tasks: Tasks
    ) -> None:
        self._link = link
        self._room = room
        self._health = health
        self._tasks = tasks

    async def run(self, stopping: Stopping) -> None:
        """Live until the link is lost or somebody asks to stop. Raises LinkLost."""
        try:
            await self._link.open()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._link.run())
                self._room.use(self._link)
                self._health.set(BROKER, ok=True)
                _log.info("broker link up")
                await stopping.wait()
                self._health.drain()
                await self._link.flush()
                self._link.lose("stopping")
        except BaseExceptionGroup as failures:
            raise sole(failures, LinkLost) from None
        finally:
            self._room.use(None)
            await self._tasks.stop(_STOP_S)
            await self._link.close()


async def _serve(own: Settings, stopping: Stopping) -> int:
    return await Reaper(own, stopping).serve()


if __name__ == "__main__":
    run_service(SECTION, settings.load, _serve, MIGRATIONS)
