"""Puts the service together: which adapter stands behind which port."""

import asyncio
import logging
from typing import Final

from starlette.types import ASGIApp

from chatmesh.agent.adapters import http_api
from chatmesh.agent.adapters.agents_source import AgentsSource
from chatmesh.agent.adapters.postgres_runs import PostgresRuns
from chatmesh.agent.adapters.rabbit import RabbitLink, RabbitPresence, RabbitRoom
from chatmesh.agent.attendance import Attendance
from chatmesh.agent.calls import Calls
from chatmesh.agent.dispatcher import Dispatcher, Lag
from chatmesh.agent.forgetting import Forgetting
from chatmesh.agent.hearing import Hearing
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.news import AgentControl
from chatmesh.agent.pacing import Windows
from chatmesh.agent.performance import Stage
from chatmesh.agent.settings import SECTION, Settings
from chatmesh.agent.tools import tables
from chatmesh.agent.tools.desk import DeskOptions, ToolDesk
from chatmesh.bus.lives import Lives
from chatmesh.bus.outgoing import LinkLost
from chatmesh.bus.presence_reports import PresenceReports
from chatmesh.bus.work_link import LinkOptions
from chatmesh.postgres.database import Connection, Pool
from chatmesh.postgres.migrations import Migrations
from chatmesh.postgres.preparation import until_prepared
from chatmesh.runtime.failures import sole
from chatmesh.runtime.health import BROKER, DATABASE, Health
from chatmesh.runtime.http import HttpServer, operations
from chatmesh.runtime.replica import new_replica
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.messages import LogEvent
from chatmesh.wire.topics import Topics

_log = logging.getLogger(__name__)

MIGRATIONS: Final = (
    Migrations(SECTION, "chatmesh.agent.migrations"),
    tables.MIGRATIONS,
)
"""Runs and tools keep tables of their own, in one database."""
_TASKS_STOP_S: Final = 5.0
_SETTLE_S: Final = 2.0


class AgentService:
    """One replica of the agent service."""

    def __init__(self, settings: Settings, stopping: Stopping) -> None:
        self._settings = settings
        self._stopping = stopping
        self.metrics: Final = Metrics()
        self._own = new_replica(
            settings, SECTION, self.metrics.registry, DATABASE, BROKER
        )
        self._sessions = [
            Connection.of(settings, SECTION) for _ in range(settings.pool_size + 2)
        ]
        placing, leasing, *working = self._sessions
        self._book = PostgresRuns(
            self._own.me,
            working=Pool(working),
            placing=placing,
            leasing=leasing,
            lease_s=settings.run_lease_s,
        )
        topics = Topics(settings.prefix)
        self._room = RabbitRoom(
            self._own.me,
            events=topics.events,
            control=topics.control,
            rpc=topics.rpc,
            clock=self._own.clock,
            commit_s=settings.commit_timeout_s,
            read_s=settings.read_timeout_s,
        )
        self._presence = RabbitPresence()
        self._lag = Lag()
        self._windows = Windows(settings.window_ms, settings.window_ms_max)
        self._agents = AgentsSource(
            settings.agents_file,
            keys={
                name: key.get_secret_value()
                for name, key in settings.model_keys.items()
            },
            # The tick in which text is told is the one in which it is taken.
            window_s=lambda: self._windows.under(self._lag.s) / 1000,
            clock=self._own.clock,
            check_s=settings.agents_file_check_s,
        )
        self._desk = self._new_desk()
        self._dispatcher = self._new_dispatcher()
        self.app: Final = self._new_app()
        self._tasks = Tasks(self._failed)
        self._reports = PresenceReports(
            self._presence,
            origin=self._own.me,
            clock=self._own.clock,
            tasks=self._tasks,
        )
        self._lives = Lives(self._own, self._new_life)

    # -- Life ----------------------------------------------------------------------------

    async def serve(self) -> int:
        """Serve until asked to stop; the exit code. Raises CannotStart."""
        settings = self._settings
        await self._agents.load()
        server = HttpServer(self.app, settings.host, settings.port)
        await server.start()
        try:
            if await until_prepared(MIGRATIONS, settings, self._own, self._stopping):
                self._tasks.spawn(self._agents.run(), name="follow the agents file")
                self._tasks.spawn(self._desk.run(), name="tools")
                self._tasks.spawn(self._dispatcher.run(), name="runs")
                self._tasks.spawn(self._new_attendance().run(), name="attendance")
                self._tasks.spawn(self._new_forgetting().run(), name="forget old runs")
                await self._lives.run(self._stopping)
                # Without a link nobody could be told; the runs are let go all the same.
                await self._dispatcher.park(0.0)
        finally:
            await self._tasks.stop(_TASKS_STOP_S)
            await server.stop()
            self._desk.close()
            for session in self._sessions:
                session.drop()
            self._own.tracing.shut_down()
        return 0

    @property
    def health(self) -> Health:
        return self._own.health

    def _failed(self, task: str, failure: BaseException) -> None:
        # Half a service is worse than none: whoever supervises starts it anew.
        self.health.set(BROKER, ok=False, reason=f"{task} failed: {failure!r}")
        self._stopping.request(f"{task} failed")

    # -- Parts ---------------------------------------------------------------------------

    def _new_app(self) -> ASGIApp:
        settings = self._settings
        return http_api.application(
            book=self._book,
            room=self._room,
            agents=self._agents,
            trouble=lambda: self._agents.trouble,
            access=http_api.Access(settings.opening_keys, settings.host),
            operations=operations(self.health, self.metrics.registry),
        )

    def _new_desk(self) -> ToolDesk:
        settings = self._settings
        return ToolDesk(
            DeskOptions(
                amqp_url=settings.amqp_url,
                database_url=settings.database_url,
                prefix=settings.prefix,
                connect_timeout_s=settings.connect_timeout_s,
                statement_timeout_s=settings.statement_timeout_s,
                approval_timeout_s=settings.approval_timeout_s,
            ),
            clock=self._own.clock,
            registry=self.metrics.registry,
        )

    def _new_attendance(self) -> Attendance:
        return Attendance(
            self._book,
            self._reports,
            me=self._own.me,
            agents=lambda: self._agents().agents,
            here=self._dispatcher.doings,
            clock=self._own.clock,
            linger_s=self._settings.present_s,
        )

    def _new_forgetting(self) -> Forgetting:
        return Forgetting(
            self._book,
            clock=self._own.clock,
            metrics=self.metrics,
            kept_days=self._settings.journals_kept_days,
            every_s=self._settings.forget_every_s,
        )

    def _new_dispatcher(self) -> Dispatcher:
        settings = self._settings
        stage = Stage(
            book=self._book,
            room=self._room,
            tools=self._desk.bus,
            models=self._agents.models,
            clock=self._own.clock,
            chance=self._own.chance,
            checkpoint=self._own.checkpoint,
            metrics=self.metrics,
            tracing=self._own.tracing,
            windows=self._windows,
            lag_s=lambda: self._lag.s,
            crashes_max=settings.crashes_max,
        )
        return Dispatcher(
            stage,
            self._agents,
            lag=self._lag,
            runs_max=settings.runs_max,
            lease_s=settings.run_lease_s,
            renew_s=settings.run_renew_s,
            sweep_s=settings.sweep_s,
            checkpoint_s=settings.checkpoint_s,
            state=lambda why: self.health.set(DATABASE, ok=not why, reason=why),
        )

    def _new_life(self, number: int) -> "Life":
        settings = self._settings
        life = Life(
            health=self.health,
            metrics=self.metrics,
            room=self._room,
            dispatcher=self._dispatcher,
            presence=self._presence,
            reports=self._reports,
            park_s=settings.park_s,
        )
        life.link = RabbitLink(
            LinkOptions.of(settings, prefetch=settings.prefetch),
            life=f"{self._own.me}.{number}",
            hear=life.hear,
            call=life.call,
            news=life.news,
            answered=self._room.settle,
            shown=self._room.settle_shown,
            resync=self._reports.resync,
            tasks=life.tasks,
            clock=self._own.clock,
            state=life.state,
        )
        life.hearing = Hearing(
            book=self._book,
            room=self._room,
            link=life.link,
            agents=self._agents,
            wake=self._dispatcher.wake,
            clock=self._own.clock,
            chance=self._own.chance,
            checkpoint=self._own.checkpoint,
            metrics=self.metrics,
            answer_within_s=settings.answer_within_s,
        )
        life.calls = Calls(
            book=self._book,
            room=self._room,
            link=life.link,
            agents=self._agents,
            shown=self._dispatcher.shown,
            wake=self._dispatcher.wake,
            others={
                "approval.answer": self._desk.answer_approval,
                "tools.list": self._desk.list_tools,
            },
            tasks=life.tasks,
            clock=self._own.clock,
            metrics=self.metrics,
        )
        return life


class Life:
    """One life of the broker link, and what lives and dies with it. Runs do not."""

    link: RabbitLink
    hearing: Hearing
    calls: Calls

    def __init__(
        self,
        *,
        health: Health,
        metrics: Metrics,
        room: RabbitRoom,
        dispatcher: Dispatcher,
        presence: RabbitPresence,
        reports: PresenceReports,
        park_s: float,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._room = room
        self._dispatcher = dispatcher
        self._presence = presence
        self._reports = reports
        self._park_s = park_s
        self.tasks = Tasks(self._failed)

    # -- What arrives --------------------------------------------------------------------

    def hear(self, tag: int, event: LogEvent) -> None:
        self.hearing.hear(tag, event)

    def call(self, call: ServiceCall) -> None:
        self.calls.hear(call)

    def news(self, word: AgentControl) -> None:
        self._dispatcher.hear(word)

    def state(self, reason: str) -> None:
        self._health.set(BROKER, ok=not reason, reason=reason)

    # -- Life ----------------------------------------------------------------------------

    async def run(self, stopping: Stopping) -> None:
        """Live until the link is lost or somebody asks to stop. Raises LinkLost."""
        try:
            await self.link.open()
            self._metrics.links.inc()
            async with asyncio.TaskGroup() as group:
                group.create_task(self.link.run())
                hearing = group.create_task(self.hearing.run())
                self._room.use(self.link)
                self._presence.use(self.link)
                self._reports.link_up()
                await self.link.listen()
                self._health.set(BROKER, ok=True)
                _log.info("broker link up")
                self._dispatcher.wake()
                await stopping.wait()
                await self._leave()
                hearing.cancel()
                self.link.lose("stopping")
        except BaseExceptionGroup as failures:
            raise sole(failures, LinkLost) from None
        finally:
            self._room.use(None)
            self._presence.use(None)
            self._reports.link_down()
            await self.tasks.stop(_TASKS_STOP_S)
            await self.link.close()

    async def _leave(self) -> None:
        """Take nothing new, hand on what is not finished."""
        self._health.drain()
        await self.link.stop_listening()
        try:
            async with asyncio.timeout(_SETTLE_S):
                await self.hearing.settle()
        except TimeoutError:
            _log.warning("not everything was recorded in time; it is delivered again")
        await self._dispatcher.park(self._park_s)
        await self._reports.end()
        await self.link.flush()

    def _failed(self, task: str, failure: BaseException) -> None:
        self.link.lose(f"{task} failed: {failure!r}")
