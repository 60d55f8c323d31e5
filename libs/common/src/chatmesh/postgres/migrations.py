"""Brings a service's tables up to date: numbered SQL files, each run once, in order.

Changes are expand/contract: a migration never takes away what the version before still
uses, so that both versions run side by side. That is also why migrations this
version does not know (a newer one ran) are no reason not to start.
"""

import asyncio
import hashlib
import logging
import re
import zlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, NamedTuple

import asyncpg

from chatmesh.postgres.database import connect
from chatmesh.runtime.startup import CannotStart

_NAME: Final = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK_WAIT_S: Final = 120.0
"""For whoever migrates already: it may be at work on a large table."""
_LOOK_WITHIN_S: Final = 120.0
_NO_LIMIT: Final = 0.0
"""A migration of a large table takes its time; whoever started it sets the deadline."""

_log = logging.getLogger(__name__)


class Unreachable(CannotStart):
    """The database does not answer; it may later."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.blake2b(self.sql.encode(), digest_size=16).hexdigest()


def shipped(package: str) -> list[Migration]:
    """The migrations in a package, in order; numbered from 1 without gaps."""
    found: list[Migration] = []
    for file in files(package).iterdir():
        if match := _NAME.match(file.name):
            text = file.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), file.name, text))
    found.sort()
    assert [m.number for m in found] == list(range(1, len(found) + 1))
    return found


def pending(shipped: list[Migration], applied: dict[int, str]) -> list[Migration]:
    """What is left to run. Raises CannotStart if an applied one was changed later."""
    for migration in shipped:
        known = applied.get(migration.number)
        if known is not None and known != migration.checksum:
            raise CannotStart(
                f"migration {migration.name} was changed after it was applied to this"
                " database; restore the file, or use a new migration for the change"
            )
    return [migration for migration in shipped if migration.number not in applied]


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one service, on record in its table `<service>_migrations`."""

    service: str
    """A plain word: it becomes part of table names."""
    package: str
    """Where the SQL files are."""

    async def run(self, dsn: str, *, connect_s: float) -> list[str]:
        """Run what is pending; say what was run. Raises CannotStart, or Unreachable."""
        ours = await asyncio.to_thread(shipped, self.package)
        connection = await self._connect(dsn, connect_s, statement_s=_NO_LIMIT)
        try:
            await self._take_turn(connection)
            await connection.execute(self._table)
            todo = pending(ours, await self._applied(connection))
            for migration in todo:
                async with connection.transaction():
                    await connection.execute(migration.sql)
                    await connection.execute(
                        f"INSERT INTO {self.service}_migrations"  # noqa: S608 - our own word
                        " (number, name, checksum) VALUES ($1, $2, $3)",
                        migration.number,
                        migration.name,
                        migration.checksum,
                    )
                _log.info("migration applied", extra={"migration": migration.name})
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            kind = Unreachable if _may_pass(error) else CannotStart
            raise kind(f"cannot migrate the database: {error}") from error
        finally:
            connection.terminate()
        return [migration.name for migration in todo]

    async def require_current(self, dsn: str, *, connect_s: float) -> None:
        """Raises CannotStart when a migration of this version has not been run.

        Raises Unreachable when the database does not answer.
        """
        ours = await asyncio.to_thread(shipped, self.package)
        connection = await self._connect(dsn, connect_s, statement_s=_LOOK_WITHIN_S)
        try:
            await connection.execute(self._table)
            todo = pending(ours, await self._applied(connection))
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise Unreachable(f"cannot look at the database: {error}") from error
        finally:
            connection.terminate()
        if todo:
            raise CannotStart(
                f"the database lacks {todo[0].name};"
                f" run `python -m chatmesh.{self.service} migrate`"
            )

    @property
    def _lock(self) -> int:
        """Advisory lock of everybody who migrates these tables."""
        return zlib.crc32(f"chatmesh {self.service} migrations".encode())

    @property
    def _table(self) -> str:
        return (
            f"CREATE TABLE IF NOT EXISTS {self.service}_migrations ("
            " number integer PRIMARY KEY,"
            " name text NOT NULL,"
            " checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )

    async def _applied(self, connection: "asyncpg.Connection[Any]") -> dict[int, str]:
        rows = await connection.fetch(
            f"SELECT number, checksum FROM {self.service}_migrations"  # noqa: S608 - our own word
        )
        return {row[0]: row[1] for row in rows}

    async def _take_turn(self, connection: "asyncpg.Connection[Any]") -> None:
        """Hold the lock for as long as the connection lasts. Raises TimeoutError."""
        try:
            await connection.execute(
                "SELECT pg_advisory_lock($1)", self._lock, timeout=_LOCK_WAIT_S
            )
        except TimeoutError as error:
            raise TimeoutError(
                f"somebody else has been migrating for {_LOCK_WAIT_S:g} s"
            ) from error

    async def _connect(
        self, dsn: str, connect_s: float, *, statement_s: float
    ) -> "asyncpg.Connection[Any]":
        try:
            return await connect(
                dsn,
                application=f"chatmesh-{self.service}",
                connect_s=connect_s,
                statement_s=statement_s,
            )
        except (asyncpg.PostgresError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(
                f"cannot reach the database: {error or 'no answer in time'};"
                " check database_url"
            ) from error


def _may_pass(error: BaseException) -> bool:
    """Whether waiting may help: the connection went, rather than a statement being wrong."""
    if isinstance(error, asyncpg.PostgresError):
        kinds = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
        return isinstance(error, kinds)
    return True
