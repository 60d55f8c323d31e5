"""Connections to PostgreSQL that never wait for ever, and what their errors mean."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from chatmesh.runtime.service_settings import ServiceSettings


class Unavailable(Exception):
    """The database did not answer, or asked for patience: try the same again later."""


class Refused(Exception):
    """The database finds something wrong with the data, whoever sends it."""


# Data that no repetition makes right. Everything else may pass by itself: a restart, a
# full disk, a lock, another committer that was faster, a table not there yet.
_REFUSALS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
_FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)


class Connection:
    """One connection, opened when needed, thrown away when in doubt, used by one at a time."""

    def __init__(
        self,
        dsn: str,
        *,
        application: str,
        connect_s: float,
        statement_s: float,
        session: Mapping[str, str] | None = None,
    ) -> None:
        """`session` holds settings of the database session beyond our own."""
        self._dsn = dsn
        self._application = application
        self._session = session or {}
        self._connect_s = connect_s
        self._statement_s = statement_s
        self._open: asyncpg.Connection[asyncpg.Record] | None = None
        self._turn = asyncio.Lock()

    @classmethod
    def of(
        cls,
        settings: ServiceSettings,
        service: str,
        session: Mapping[str, str] | None = None,
    ) -> "Connection":
        """A connection to the database that a service's settings name."""
        return cls(
            settings.database_url,
            application=f"chatmesh-{service}",
            connect_s=settings.connect_timeout_s,
            statement_s=settings.statement_timeout_s,
            session=session,
        )

    async def fetch(
        self, sql: str, *args: object, within_s: float | None = None
    ) -> list[asyncpg.Record]:
        """Run one statement, prepared the first time. Raises Unavailable, Refused.

        After Unavailable it is unknown whether the statement took effect.
        """
        deadline_s = within_s or self._statement_s
        try:
            async with asyncio.timeout(deadline_s + self._connect_s), self._turn:
                connection = await self._connected()
                return await connection.fetch(sql, *args, timeout=deadline_s)
        except asyncpg.UniqueViolationError as error:
            raise Unavailable("another committer was faster") from error
        except _REFUSALS as error:
            raise Refused(str(error)) from error
        except _FAILURES as error:
            self.drop()
            raise Unavailable(_reason(error)) from error
        except asyncio.CancelledError:
            # A statement cut off in the middle leaves the connection in between.
            self.drop()
            raise

    def drop(self) -> None:
        """Throw the connection away; the next statement opens a new one."""
        connection, self._open = self._open, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._open is None or self._open.is_closed():
            self._open = await connect(
                self._dsn,
                application=self._application,
                connect_s=self._connect_s,
                statement_s=self._statement_s,
                session=self._session,
            )
        return self._open


class Pool:
    """A few connections; each statement takes whichever has the shortest queue."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = list(connections)
        self._busy = [0] * len(self._connections)

    async def fetch(
        self, sql: str, *args: object, within_s: float | None = None
    ) -> list[asyncpg.Record]:
        """As `Connection.fetch`."""
        index = min(range(len(self._busy)), key=self._busy.__getitem__)
        self._busy[index] += 1
        try:
            return await self._connections[index].fetch(sql, *args, within_s=within_s)
        finally:
            self._busy[index] -= 1

    def drop(self) -> None:
        for connection in self._connections:
            connection.drop()


async def connect(
    dsn: str,
    *,
    application: str,
    connect_s: float,
    statement_s: float,
    session: Mapping[str, str] | None = None,
) -> "asyncpg.Connection[asyncpg.Record]":
    """Open one connection with our session settings. Raises what asyncpg raises.

    With `statement_s` 0 a statement takes as long as it takes.
    """
    return await asyncpg.connect(
        dsn,
        timeout=connect_s,
        command_timeout=statement_s or None,
        server_settings={
            "application_name": application,
            # Plans do not depend on the sizes of a batch, and planning costs as much
            # as committing a few rows.
            "plan_cache_mode": "force_generic_plan",
            # A plan is made once, when tables may be empty, and one that reads them from
            # end to end would do so until they are analyzed. Ours find things by keys.
            "enable_seqscan": "off",
            "jit": "off",
            # A statement nobody waits for any more ends by itself.
            "statement_timeout": str(int(statement_s * 1000)),
            "idle_in_transaction_session_timeout": str(int(statement_s * 1000)),
            **(session or {}),
        },
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the database did not answer in time"
    return f"{type(error).__name__}: {error}"
