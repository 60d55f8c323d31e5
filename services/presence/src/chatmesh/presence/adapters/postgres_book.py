"""`ports.Book` and `ports.Directory` on PostgreSQL."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import starmap
from typing import Any

from chatmesh.postgres.database import Connection as Session
from chatmesh.postgres.database import Pool, Refused, Unavailable
from chatmesh.presence.adapters.queries import query
from chatmesh.presence.ports import (
    BookRefused,
    BookUnavailable,
    ChannelCounts,
    Kept,
    Stored,
    Totals,
    User,
)
from chatmesh.presence.roster import Connection, Counts, Diff, Face, News
from chatmesh.wire.presence import Member
from chatmesh.wire.topics import partition_of


class PostgresBook:
    """`ports.Book` of one replica, on one connection: what it stores keeps its order."""

    def __init__(self, session: Session, me: str) -> None:
        self._session = session
        self._me = me

    async def load(self, partition: int) -> Kept:
        with _failures_told():
            # The number first: what is told meanwhile has a higher one.
            (known,) = await self._session.fetch(query("load_partition"), partition)
            connections = await self._session.fetch(
                query("load_connections"), partition
            )
            faces = await self._session.fetch(query("load_faces"), partition)
            untold = await self._session.fetch(query("load_news"), partition)
        return Kept(
            connections=list(starmap(Connection, connections)),
            faces=[(row[0], row[1], Face(row[2], row[3], row[4])) for row in faces],
            sequences=list(zip(known["origins"], known["sequences"], strict=True)),
            number=known["number"],
            untold=list(starmap(News, untold)),
            now_ms=known["now_ms"],
        )

    async def store(
        self, partitions: Sequence[int], diff: Diff, told: Mapping[int, int]
    ) -> Stored:
        joined = [c for c in diff.connections.values() if c is not None]
        gone = [key for key, c in diff.connections.items() if c is None]
        faces = [(*key, f) for key, f in diff.faces.items() if f is not None]
        faceless = [key for key, f in diff.faces.items() if f is None]
        news = [n for n in diff.news if n.number]
        with _failures_told():
            (row,) = await self._session.fetch(
                query("store"),
                self._me,
                list(partitions),
                *_columns(11, map(_connection_row, joined)),
                *_columns(2, gone),
                *_columns(
                    6,
                    (
                        (channel, user, partition_of(channel), *face)
                        for channel, user, face in faces
                    ),
                ),
                *_columns(2, faceless),
                *_columns(
                    4,
                    (
                        (channel, partition_of(channel), *counts)
                        for channel, counts in diff.counts.items()
                    ),
                ),
                *_columns(
                    3,
                    (
                        (partition, origin, sequence)
                        for (origin, partition), sequence in diff.sequences.items()
                    ),
                ),
                *_columns(
                    5,
                    (
                        (partition_of(n.channel), n.number, n.channel, n.kind, n.body)
                        for n in news
                    ),
                ),
                *_columns(2, told.items()),
                *_columns(2, diff.seen_ms.items()),
            )
        return Stored(row["held"], row["now_ms"])


def _connection_row(connection: Connection) -> tuple[object, ...]:
    return (
        connection.channel,
        connection.client,
        partition_of(connection.channel),
        connection.person,
        connection.user,
        connection.conn_info,
        connection.chan_info,
        connection.origin,
        connection.joined_us,
        connection.lost_until_ms,
        connection.announce,
    )


class PostgresDirectory:
    """`ports.Directory` on a few connections."""

    def __init__(self, pool: Pool, *, within_s: float) -> None:
        self._pool = pool
        self._within_s = within_s

    async def members(self, channel: str, after: str, limit: int) -> list[Member]:
        rows = await self._fetch("members", channel, after, limit)
        return [
            Member(
                row["client"],
                row["user_id"],
                row["conn_info"],
                row["chan_info"],
                row["origin"],
                lost=row["lost_until_ms"] > 0,
            )
            for row in rows
        ]

    async def people(
        self, channel: str, after: str, limit: int
    ) -> list[tuple[str, Member]]:
        rows = await self._fetch("people", channel, after, limit)
        return [
            (
                row["person"],
                Member(
                    row["client"],
                    row["user_id"],
                    row["conn_info"],
                    row["chan_info"],
                    lost=row["lost"],
                    connections=row["connections"],
                    status_text=row["status_text"],
                    do_not_disturb=row["do_not_disturb"],
                ),
            )
            for row in rows
        ]

    async def counts(self, channels: Sequence[str]) -> list[Counts]:
        return list(starmap(Counts, await self._fetch("counts", list(channels))))

    async def user(self, user: str) -> User:
        (row,) = await self._fetch("user", user)
        return User(*row)

    async def set_status(self, user: str, text: str, *, do_not_disturb: bool) -> None:
        await self._fetch("set_status", user, text, do_not_disturb)

    async def channels(
        self, after: str, prefix: str, limit: int
    ) -> list[ChannelCounts]:
        rows = await self._fetch("channels", after, prefix, limit)
        return [ChannelCounts(row[0], Counts(row[1], row[2])) for row in rows]

    async def totals(self) -> Totals:
        (row,) = await self._fetch("totals")
        return Totals(*row)

    async def _fetch(self, name: str, *args: object) -> list[Any]:
        with _failures_told():
            return await self._pool.fetch(query(name), *args, within_s=self._within_s)


@contextmanager
def _failures_told() -> Generator[None]:
    try:
        yield
    except Unavailable as error:
        raise BookUnavailable(str(error)) from error
    except Refused as error:
        raise BookRefused(str(error)) from error


def _columns(width: int, rows: Iterable[Sequence[object]]) -> list[list[object]]:
    """Rows as columns, of which there are `width` even without a row."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]
