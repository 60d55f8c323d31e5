"""Puts the service together: which adapter stands behind which port."""

import asyncio
import logging
from typing import Final

from chatmesh.bus.lives import Lives
from chatmesh.bus.outgoing import LinkLost
from chatmesh.bus.work_link import LinkOptions
from chatmesh.postgres.database import Connection, Pool
from chatmesh.postgres.leases import PostgresLeases
from chatmesh.postgres.migrations import Migrations
from chatmesh.postgres.preparation import until_prepared
from chatmesh.presence.adapters import http_api
from chatmesh.presence.adapters.postgres_book import PostgresBook, PostgresDirectory
from chatmesh.presence.adapters.rabbit import RabbitLink
from chatmesh.presence.answers import Answerer, told_status
from chatmesh.presence.keeper import Delivery, Keeper, Periods
from chatmesh.presence.metrics import Metrics
from chatmesh.presence.rulebook import Rulebook
from chatmesh.presence.settings import SECTION, Settings
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.failures import sole
from chatmesh.runtime.health import BROKER, DATABASE, Health
from chatmesh.runtime.http import HttpServer, operations
from chatmesh.runtime.replica import new_replica
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.shares import PARTITIONS, Shares
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.presence import PresenceAsks, PresenceLease

_log = logging.getLogger(__name__)

MIGRATIONS: Final = Migrations(SECTION, "chatmesh.presence.migrations")
_STORE_RETRY_BASE_S: Final = 0.05
_STORE_RETRY_CAP_S: Final = 1.0
_TASKS_STOP_S: Final = 5.0

# What is told is told anew after a crash of the database, so its disk need not be waited for.
_SESSION: Final = {"synchronous_commit": "off"}


class Presence:
    """One replica of the presence service."""

    def __init__(self, settings: Settings, stopping: Stopping) -> None:
        self._settings = settings
        self._stopping = stopping
        self.metrics: Final = Metrics()
        self._own = new_replica(
            settings, SECTION, self.metrics.registry, DATABASE, BROKER, PARTITIONS
        )
        self._lives = Lives(self._own, self._new_life)
        self._keeping = self._connection()
        self._leasing = self._connection()
        self._reading = Pool([self._connection() for _ in range(settings.pool_size)])
        self._directory = PostgresDirectory(
            self._reading, within_s=settings.read_timeout_s
        )
        self._shares = Shares(
            self._own.me,
            PostgresLeases(
                self._leasing, SECTION, self._own.me, lease_s=settings.lease_s
            ),
            clock=self._own.clock,
            health=self.health,
            lease_s=settings.lease_s,
            tick_s=settings.tick_s,
            seen=self.metrics.saw_lease,
            took_over=self.metrics.takeovers.inc,
        )
        channels = Rulebook(
            settings.namespaces,
            grace_s=settings.grace_s,
            large_above=settings.large_above,
        )
        self._rules = channels.of

    async def serve(self) -> int:
        """Serve until asked to stop; the exit code."""
        settings = self._settings
        app = http_api.application(
            directory=self._directory,
            tell_status=self._tell_status,
            access=http_api.Access(settings.opening_keys, settings.host),
            operations=operations(self.health, self.metrics.registry),
        )
        server = HttpServer(app, settings.host, settings.port)
        await server.start()
        try:
            if await until_prepared([MIGRATIONS], settings, self._own, self._stopping):
                await self._lives.run(self._stopping)
                await self._shares.leave()
        finally:
            await server.stop()
            self._keeping.drop()
            self._leasing.drop()
            self._reading.drop()
            self._own.tracing.shut_down()
        return 0

    async def _tell_status(self, user: str) -> None:
        """Publish a status that was set over HTTP, if there is a link to do it with."""
        news = await told_status(self._directory, user)
        life = self._lives.now
        try:
            if life is not None and news:
                await life.link.tell(news)
        except LinkLost as lost:
            # The status is kept; who looks finds it.
            _log.info("status change not told", extra={"cause": str(lost)})

    @property
    def health(self) -> Health:
        return self._own.health

    def _connection(self) -> Connection:
        return Connection.of(self._settings, SECTION, _SESSION)

    def _new_life(self, number: int) -> "Life":
        settings = self._settings
        life = Life(
            health=self.health,
            metrics=self.metrics,
            shares=self._shares,
            drain_s=settings.drain_s,
        )
        life.link = RabbitLink(
            LinkOptions.of(settings, prefetch=settings.prefetch),
            life=f"{self._own.me}.{number}",
            hear=life.hear,
            pulse=life.pulse,
            ask=life.ask,
            tasks=life.tasks,
            clock=self._own.clock,
            metrics=self.metrics,
        )
        life.keeper = Keeper(
            book=PostgresBook(self._keeping, self._own.me),
            link=life.link,
            rules=self._rules,
            periods=Periods(
                process_lease_ms=int(settings.process_lease_s * 1000),
                settle_ms=int(settings.settle_s * 1000),
                beat_s=settings.beat_s,
            ),
            health=self.health,
            metrics=self.metrics,
            clock=self._own.clock,
            backoff=Backoff(_STORE_RETRY_BASE_S, _STORE_RETRY_CAP_S, self._own.chance),
            checkpoint=self._own.checkpoint,
            batch_changes_max=settings.batch_changes_max,
            tracing=self._own.tracing,
        )
        life.answerer = Answerer(
            directory=self._directory,
            link=life.link,
            tasks=life.tasks,
            metrics=self.metrics,
            clock=self._own.clock,
            timeout_s=settings.read_timeout_s,
            tracing=self._own.tracing,
        )
        return life


class Life:
    """One life of the broker link, and everything that lives and dies with it."""

    link: RabbitLink
    keeper: Keeper
    answerer: Answerer

    def __init__(
        self, *, health: Health, metrics: Metrics, shares: Shares, drain_s: float
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._shares = shares
        self._drain_s = drain_s
        self.tasks = Tasks(self._failed)

    # -- What arrives --------------------------------------------------------------------

    def hear(self, delivery: Delivery) -> None:
        self.keeper.hear(delivery)

    def pulse(self, lease: PresenceLease) -> None:
        self.keeper.pulse(lease)

    def ask(self, asks: PresenceAsks, expires_in_s: float) -> None:
        self.answerer.hear(asks, expires_in_s)

    # -- shares.Consumption --------------------------------------------------------------

    @property
    def consuming(self) -> frozenset[int]:
        return self.link.consuming

    async def consume(self, partition: int) -> None:
        await self.keeper.adopt(partition)
        await self.link.consume(partition)

    async def give_up(self, partition: int) -> None:
        await self.link.stop_consuming(partition)
        await self.keeper.settle(partition)

    def lose(self, reason: str) -> None:
        self.link.lose(reason)

    # -- Life ----------------------------------------------------------------------------

    async def run(self, stopping: Stopping) -> None:
        """Live until the link is lost or somebody asks to stop. Raises LinkLost."""
        try:
            await self.link.open()
            self._metrics.links.inc()
            self._health.set(BROKER, ok=True)
            _log.info("broker link up")
            async with asyncio.TaskGroup() as group:
                group.create_task(self.link.run())
                sharing = group.create_task(self._shares.keep(self))
                keeping = group.create_task(self.keeper.run())
                await stopping.wait()
                sharing.cancel()
                await self._drain()
                keeping.cancel()
                self.link.lose("stopping")
        except BaseExceptionGroup as failures:
            raise sole(failures, LinkLost) from None
        finally:
            await self.tasks.stop(_TASKS_STOP_S)
            await self.link.close()

    async def _drain(self) -> None:
        """Take nothing new, finish what has arrived, within the limit."""
        self._health.drain()
        try:
            async with asyncio.timeout(self._drain_s):
                for partition in sorted(self.link.consuming):
                    await self.give_up(partition)
        except TimeoutError:
            _log.warning("not everything was finished in time; it is delivered again")

    def _failed(self, task: str, failure: BaseException) -> None:
        self.link.lose(f"{task} failed: {failure!r}")
