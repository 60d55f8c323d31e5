"""The log in PostgreSQL: one statement per batch, per group of pages, per look."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

from chatmesh.history.adapters.queries import query
from chatmesh.history.ports import (
    Columns,
    LogRefused,
    LogUnavailable,
    PageRead,
    Placed,
    ReadSpec,
    RetentionRule,
    Standing,
    Totals,
)
from chatmesh.postgres.database import Connection, Pool, Refused, Unavailable
from chatmesh.wire import limits
from chatmesh.wire.messages import Entry

_TRUNCATE_STEP: Final = 5000
"""Entries emptied in one transaction."""

_tags = msgspec.json.Decoder(dict[str, str])


class PostgresLog:
    """`ports.Log`, `Catalogue`, `Retention`, `Attempts`; appends have their connection."""

    def __init__(
        self,
        writer: Connection,
        readers: Pool,
        *,
        read_within_s: float,
        kept: Sequence[RetentionRule] = (),
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._read_within_s = read_within_s
        self._kept = (
            [rule.namespace for rule in kept],
            [rule.size for rule in kept],
            [float(rule.age_s) for rule in kept],
        )

    async def append(self, columns: Columns) -> list[Placed]:
        arguments: list[list[Any]] = [
            columns.channels,
            columns.ids,
            columns.digests,
            columns.authors,
            columns.payloads,
            columns.infos,
            columns.tags,
        ]
        statement = "append"
        if columns.fences:
            statement = "append_fenced"
            fences = [columns.fences.get(row) for row in range(len(columns))]
            arguments.append([fence and fence.name for fence in fences])
            arguments.append([fence and fence.epoch for fence in fences])
        rows = await _fetch(self._writer, statement, *arguments)
        # Rows come in no particular order, each with the number of its input.
        placed: list[Placed | None] = [None] * len(columns)
        for n, offset, at_ms, epoch, digest, info, tags, kept in rows:
            placed[n - 1] = (
                Placed(offset, at_ms, epoch, None)
                if digest is None
                else Placed(
                    offset,
                    at_ms,
                    epoch,
                    digest,
                    info or b"",
                    _tags.decode(tags) if tags else None,
                    kept,
                )
            )
        complete = [place for place in placed if place is not None]
        assert len(complete) == len(columns), "the statement answers for every input"
        return complete

    async def read(self, specs: Sequence[ReadSpec]) -> list[PageRead]:
        rows = await _fetch(
            self._readers,
            "read",
            [spec.channel for spec in specs],
            [spec.since for spec in specs],
            [spec.limit for spec in specs],
            [spec.reverse for spec in specs],
            [spec.bytes_max for spec in specs],
            [spec.whole for spec in specs],
            *self._kept,
            within_s=self._read_within_s,
        )
        pages: dict[int, PageRead] = {}
        for n, epoch, top, floor, offset, id_, data, info, tags, at_ms in rows:
            if n not in pages:
                pages[n] = PageRead(Standing(epoch, top, floor), [])
            if offset is not None:
                pages[n].entries.append(
                    Entry(
                        offset,
                        id_,
                        data,
                        info or b"",
                        at_ms,
                        _tags.decode(tags) if tags else {},
                    )
                )
        # Rows come in the order of the reads, and every read has at least one.
        return list(pages.values())

    async def heads(self, channels: Sequence[str]) -> list[Standing]:
        rows = await _fetch(
            self._readers, "heads", list(channels), within_s=self._read_within_s
        )
        return [Standing(epoch, top, floor) for epoch, top, floor in rows]

    async def truncate(self, channel: str) -> Standing:
        upto = limits.OFFSET_MAX
        while True:
            rows = await _fetch(
                self._readers, "truncate", channel, upto, _TRUNCATE_STEP
            )
            standing = Standing(*rows[0])
            upto = min(upto, standing.top)
            if standing.floor >= upto:
                return standing

    async def channels(
        self, after: str, prefix: str, limit: int
    ) -> list[tuple[str, Standing]]:
        rows = await _fetch(
            self._readers,
            "channels",
            after,
            prefix,
            limit,
            within_s=self._read_within_s,
        )
        return [(row[0], Standing(row[1], row[2], row[3])) for row in rows]

    async def counts(self) -> Totals:
        rows = await _fetch(self._readers, "counts", within_s=self._read_within_s)
        return Totals(*rows[0])

    async def retain(
        self, rules: Sequence[RetentionRule], after: str, *, channels: int, entries: int
    ) -> tuple[int, str | None]:
        rows = await _fetch(
            self._readers,
            "retain",
            after,
            channels,
            entries,
            [rule.namespace for rule in rules],
            [rule.size for rule in rules],
            [float(rule.age_s) for rule in rules],
        )
        emptied, last = rows[0]
        return emptied, last

    async def begin(self, channel: str, id: str) -> int:  # noqa: A002 - as in the port
        rows = await _fetch(self._writer, "attempt", channel, id)
        return int(rows[0][0])

    async def end(self, channel: str, id: str) -> None:  # noqa: A002 - as in the port
        await _fetch(self._writer, "attempt_end", channel, id)

    def close(self) -> None:
        """Close the connections; the next statement would open new ones."""
        self._writer.drop()
        self._readers.drop()


async def _fetch(
    through: Connection | Pool, name: str, *args: object, within_s: float | None = None
) -> list[asyncpg.Record]:
    """Run a statement of ours. Raises LogUnavailable and LogRefused."""
    try:
        return await through.fetch(query(name), *args, within_s=within_s)
    except Unavailable as error:
        raise LogUnavailable(str(error)) from error
    except Refused as error:
        raise LogRefused(str(error)) from error
