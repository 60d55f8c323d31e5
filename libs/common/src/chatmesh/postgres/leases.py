"""Membership and partitions in PostgreSQL, by its clock alone.

A service that uses it has two tables, made by its own migrations: `<service>_replicas`
(`id text PRIMARY KEY, lease_until timestamptz, joined_at timestamptz`) and
`<service>_partitions` (`partition integer PRIMARY KEY, owner text, since timestamptz`),
the latter with one row per partition.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from chatmesh.postgres.database import Connection, Refused, Unavailable
from chatmesh.postgres.queries import query
from chatmesh.runtime.assignment import View
from chatmesh.runtime.shares import LeasesUnavailable

_ONE_TRY: Final = 0.4
"""Share of the lease's time that one try at the database may take."""
_COME_BACK: Final = 0.5
"""Share of the lease's time that holders are given to renew after the database was away:
more than one try and a tick."""


class PostgresLeases:
    """`runtime.shares.Leases` of one replica."""

    def __init__(
        self, connection: Connection, service: str, me: str, *, lease_s: float
    ) -> None:
        self._connection = connection
        self._service = service
        self._me = me
        self._lease_s = lease_s

    async def renew(self) -> View:
        await self._fetch("renew", self._me, self._lease_s)
        rows = await self._fetch("view")
        replicas, lease_ends, partitions, owners = rows[0]
        return View(
            dict(zip(replicas, lease_ends, strict=True)),
            dict(zip(partitions, owners, strict=True)),
        )

    async def claim(self, partitions: Sequence[int]) -> list[int]:
        come_back_s = self._lease_s * _COME_BACK
        rows = await self._fetch(
            "claim", self._me, list(partitions), self._lease_s, come_back_s
        )
        return sorted(row[0] for row in rows)

    async def release(self, partitions: Sequence[int]) -> None:
        await self._fetch("release", self._me, list(partitions))

    async def lapse(self) -> None:
        await self._fetch("lapse", self._me)

    async def leave(self) -> None:
        await self._fetch("leave", self._me)

    async def _fetch(self, name: str, *args: object) -> list[Any]:
        # Connecting included: after one that got no answer there is time for another.
        within_s = self._lease_s * _ONE_TRY
        try:
            async with asyncio.timeout(within_s):
                return await self._connection.fetch(
                    query(name, self._service), *args, within_s=within_s
                )
        except (Unavailable, Refused) as error:
            raise LeasesUnavailable(str(error)) from error
        except TimeoutError as error:
            raise LeasesUnavailable("the database did not answer in time") from error
