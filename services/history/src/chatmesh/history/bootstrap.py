"""Puts the service together: which adapter stands behind which port."""

import asyncio
import logging
from typing import Final

from chatmesh.bus.lives import Lives
from chatmesh.bus.outgoing import LinkLost
from chatmesh.bus.work_link import LinkOptions
from chatmesh.history.adapters import http_api
from chatmesh.history.adapters.postgres_log import PostgresLog
from chatmesh.history.adapters.rabbit_link import RabbitLink
from chatmesh.history.batching import Delivery
from chatmesh.history.handlers import Committer, Reader
from chatmesh.history.metrics import Metrics
from chatmesh.history.publishing import CommandPublisher
from chatmesh.history.retention import Retainer, rules
from chatmesh.history.settings import SECTION, Settings
from chatmesh.postgres.database import Connection, Pool
from chatmesh.postgres.leases import PostgresLeases
from chatmesh.postgres.migrations import Migrations
from chatmesh.postgres.preparation import until_prepared
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.failures import sole
from chatmesh.runtime.health import BROKER, DATABASE, Health
from chatmesh.runtime.http import HttpServer, operations
from chatmesh.runtime.replica import new_replica
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.service_api import Access
from chatmesh.runtime.shares import PARTITIONS, Shares
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.messages import HistoryRequest

_log = logging.getLogger(__name__)

MIGRATIONS: Final = Migrations(SECTION, "chatmesh.history.migrations")
_COMMIT_RETRY_BASE_S: Final = 0.05
_COMMIT_RETRY_CAP_S: Final = 1.0
_LEAVE_S: Final = 2.0
"""Beyond draining: for handing the partitions over."""
_TASKS_STOP_S: Final = 5.0
_FIRST_PARTITION: Final = 0


class History:
    """One replica of the history service."""

    def __init__(self, settings: Settings, stopping: Stopping) -> None:
        self._settings = settings
        self._stopping = stopping
        self.metrics: Final = Metrics()
        self._own = new_replica(
            settings, SECTION, self.metrics.registry, DATABASE, BROKER, PARTITIONS
        )
        self.metrics.oldest_command_seconds.set_function(self._oldest_command_s)
        self._lives = Lives(self._own, self._life)
        self._writers = [
            Connection.of(settings, SECTION) for _ in range(settings.writers)
        ]
        self._readers = Pool(
            [Connection.of(settings, SECTION) for _ in range(settings.pool_size)]
        )
        self._lease_connection = Connection.of(settings, SECTION)
        self._logs = [
            PostgresLog(
                writer,
                self._readers,
                read_within_s=settings.read_timeout_s,
                kept=rules(settings.namespaces),
            )
            for writer in self._writers
        ]
        self._shares = Shares(
            self._own.me,
            PostgresLeases(
                self._lease_connection, SECTION, self._own.me, lease_s=settings.lease_s
            ),
            clock=self._own.clock,
            health=self.health,
            lease_s=settings.lease_s,
            tick_s=settings.tick_s,
            seen=self.metrics.saw_lease,
            took_over=self.metrics.takeovers.inc,
        )

        self._publisher = CommandPublisher(
            self._own.me, clock=self._own.clock, within_s=settings.publish_reply_s
        )

    async def serve(self) -> int:
        """Serve until asked to stop; the exit code."""
        settings = self._settings
        app = http_api.application(
            log=self._logs[0],
            catalogue=self._logs[0],
            publisher=self._publisher,
            namespaces=settings.namespaces,
            access=Access(settings.opening_keys, settings.host),
            operations=operations(self.health, self.metrics.registry),
        )
        server = HttpServer(app, settings.host, settings.port)
        await server.start()
        tasks = Tasks()
        try:
            working = tasks.spawn(self._work(), name="history")
            asked = tasks.spawn(self._stopping.wait(), name="history stop")
            tasks.spawn(self._shares.give_way(self._stopping), name="history gives way")
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                # Whatever it waits for, the broker, the database or its last commands.
                limit_s = settings.drain_s + _LEAVE_S
                await asyncio.wait({working}, timeout=limit_s)
            if working.done():
                working.result()
        finally:
            await tasks.stop(_TASKS_STOP_S)
            await server.stop()
            for connection in (*self._writers, self._lease_connection):
                connection.drop()
            self._readers.drop()
            self._own.tracing.shut_down()
        return 0

    @property
    def health(self) -> Health:
        return self._own.health

    async def _work(self) -> None:
        if await until_prepared(
            [MIGRATIONS], self._settings, self._own, self._stopping
        ):
            await self._lives.run(self._stopping)
            await self._shares.leave()

    def _oldest_command_s(self) -> float:
        """Seconds since the oldest uncommitted delivery arrived; 0 when there is none."""
        life = self._lives.now
        committers = life.committers if life is not None else []
        arrived = [c.oldest_received_s for c in committers]
        oldest = min((at_s for at_s in arrived if at_s is not None), default=None)
        return 0.0 if oldest is None else self._own.clock.monotonic_s() - oldest

    def _life(self, _number: int) -> "Life":
        settings = self._settings
        life = Life(
            clock=self._own.clock,
            health=self.health,
            metrics=self.metrics,
            shares=self._shares,
            publisher=self._publisher,
            drain_s=settings.drain_s,
        )
        link = RabbitLink(
            LinkOptions.of(settings, prefetch=settings.prefetch),
            hear=life.hear,
            ask=life.ask,
            settle=self._publisher.settle,
            state=lambda reason: self.health.set(BROKER, not reason, reason),
            tasks=life.tasks,
            clock=self._own.clock,
            metrics=self.metrics,
        )
        life.link = link
        life.committers = [self._committer(log, link, life) for log in self._logs]
        life.retainer = Retainer(
            self._logs[0],
            rules(settings.namespaces),
            # One replica does it for all: whoever has the first partition.
            my_turn=lambda: _FIRST_PARTITION in link.consuming,
            clock=self._own.clock,
            metrics=self.metrics,
            every_s=settings.retention_every_s,
            step=settings.retention_step,
        )
        life.reader = Reader(
            log=self._logs[0],
            answers=link,
            tasks=life.tasks,
            metrics=self.metrics,
            clock=self._own.clock,
            read_timeout_s=settings.read_timeout_s,
            tracing=self._own.tracing,
        )
        return life

    def _committer(self, log: PostgresLog, link: RabbitLink, life: "Life") -> Committer:
        settings = self._settings
        return Committer(
            log=log,
            attempts=log,
            link=link,
            tasks=life.tasks,
            health=self.health,
            metrics=self.metrics,
            clock=self._own.clock,
            backoff=Backoff(
                _COMMIT_RETRY_BASE_S, _COMMIT_RETRY_CAP_S, self._own.chance
            ),
            checkpoint=self._own.checkpoint,
            batch_commands_max=settings.batch_commands_max,
            batch_bytes_max=settings.batch_bytes_max,
            batches_in_flight_max=settings.batches_in_flight_max,
            attempts_max=settings.attempts_max,
            suspect_deliveries=settings.suspect_deliveries,
            tracing=self._own.tracing,
        )


class Life:
    """One life of the broker link, and everything that lives and dies with it."""

    link: RabbitLink
    reader: Reader
    retainer: Retainer

    def __init__(
        self,
        *,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        shares: Shares,
        publisher: CommandPublisher,
        drain_s: float,
    ) -> None:
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._shares = shares
        self._publisher = publisher
        self._drain_s = drain_s
        self.tasks = Tasks(self._failed)
        self.committers: list[Committer] = []

    # -- What arrives --------------------------------------------------------------------

    def hear(self, partition: int, delivery: Delivery) -> None:
        self._committer_of(partition).hear(delivery)

    def ask(self, request: HistoryRequest, expires_in_s: float) -> None:
        self.reader.ask(request, expires_in_s)

    # -- shares.Consumption --------------------------------------------------------------

    @property
    def consuming(self) -> frozenset[int]:
        return self.link.consuming

    async def consume(self, partition: int) -> None:
        await self.link.consume(partition)

    async def give_up(self, partition: int) -> None:
        await self.link.stop_consuming(partition)
        await self._committer_of(partition).idle()

    def lose(self, reason: str) -> None:
        self.link.lose(reason)

    # -- Life ----------------------------------------------------------------------------

    async def run(self, stopping: Stopping) -> None:
        """Live until the link is lost or somebody asks to stop. Raises LinkLost."""
        try:
            await self.link.open()
            self._metrics.links.inc()
            self._health.set(BROKER, ok=True)
            self._publisher.use(self.link)
            _log.info("broker link up")
            async with asyncio.TaskGroup() as group:
                working = [
                    group.create_task(self.link.run()),
                    group.create_task(self.retainer.run()),
                    *(group.create_task(c.run()) for c in self.committers),
                ]
                keeping = group.create_task(self._shares.keep(self))
                await stopping.wait()
                keeping.cancel()
                await asyncio.wait({keeping})
                await self._drain()
                for task in working:
                    task.cancel()
        except BaseExceptionGroup as failures:
            raise sole(failures, LinkLost) from None
        finally:
            self._publisher.use(None)
            await self.tasks.stop(_TASKS_STOP_S)
            await self.link.close()

    async def _drain(self) -> None:
        """Take nothing new, finish what has arrived, within the limit."""
        self._health.drain()
        try:
            async with asyncio.timeout(self._drain_s):
                for partition in sorted(self.link.consuming):
                    await self.link.stop_consuming(partition)
                for committer in self.committers:
                    await committer.idle()
                await self.link.flush()
        except TimeoutError:
            _log.warning("not everything was finished in time; it is delivered again")

    def _committer_of(self, partition: int) -> Committer:
        return self.committers[partition % len(self.committers)]

    def _failed(self, task: str, failure: BaseException) -> None:
        self.link.lose(f"{task} failed: {failure!r}")
