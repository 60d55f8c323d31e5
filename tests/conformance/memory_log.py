"""The log in memory: the twin of PostgreSQL's for tests, held to the same promises."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

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
from chatmesh.wire import channels
from chatmesh.wire.messages import Entry


@dataclass
class _Row:
    entry: Entry
    digest: bytes
    kept: bool = True


@dataclass
class _Channel:
    rows: list[_Row] = field(default_factory=list[_Row])
    by_id: dict[str, _Row] = field(default_factory=dict[str, _Row])
    floor: int = 0


class MemoryLog:
    """`ports.Log`, `Catalogue`, `Attempts` and `Retention`, with faults on demand."""

    def __init__(self, epoch: str = "memory") -> None:
        self.epoch = epoch
        self.now_ms = 1_000_000
        self.unavailable = 0
        """So many calls fail before they do anything."""
        self.lost_answers = 0
        """So many appends commit and then fail, as when the connection goes."""
        self.refused_ids: set[str] = set()
        """Ids that the log finds wrong, with everything beside them."""
        self.poison_ids: set[str] = set()
        """Ids on which an append fails with an error nobody expects."""
        self.appended: list[int] = []
        """Rows of each append that committed."""
        self.attempts: dict[tuple[str, str], int] = {}
        self._channels: dict[str, _Channel] = {}
        self._fences: dict[tuple[str, str], int] = {}

    async def append(self, columns: Columns) -> list[Placed]:
        self._fail_if_asked()
        for name, key in zip(columns.channels, columns.ids, strict=True):
            if key in self.poison_ids:
                raise ZeroDivisionError(key)
            if "\0" in name + key or key in self.refused_ids:
                raise LogRefused("not fit to be stored")
        self.now_ms += 1
        self._raise_fences(columns)
        placed = [self._place(columns, row) for row in range(len(columns))]
        self.appended.append(len(columns))
        if self.lost_answers:
            self.lost_answers -= 1
            raise LogUnavailable("the answer was lost")
        return placed

    async def read(self, specs: Sequence[ReadSpec]) -> list[PageRead]:
        self._fail_if_asked()
        return [self._page(spec) for spec in specs]

    async def heads(self, channels: Sequence[str]) -> list[Standing]:
        self._fail_if_asked()
        return [self._standing(channel) for channel in channels]

    async def truncate(self, channel: str) -> Standing:
        self._fail_if_asked()
        known = self._channels.get(channel, _Channel())
        known.floor = len(known.rows)
        for row in known.rows:
            row.kept = False
        return self._standing(channel)

    async def channels(
        self, after: str, prefix: str, limit: int
    ) -> list[tuple[str, Standing]]:
        self._fail_if_asked()
        names = sorted(
            name for name in self._channels if name > after and name.startswith(prefix)
        )
        return [(name, self._standing(name)) for name in names[:limit]]

    async def counts(self) -> Totals:
        self._fail_if_asked()
        known = [self._standing(name) for name in self._channels]
        return Totals(
            len(known), sum(s.top - s.floor for s in known), sum(s.top for s in known)
        )

    async def retain(
        self, rules: Sequence[RetentionRule], after: str, *, channels: int, entries: int
    ) -> tuple[int, str | None]:
        self._fail_if_asked()
        looked = sorted(name for name in self._channels if name > after)[:channels]
        emptied = 0
        by_namespace = {rule.namespace: rule for rule in rules}
        for name in looked:
            rule = by_namespace.get(namespace_of(name))
            if rule is not None and emptied < entries:
                emptied += self._retain(self._channels[name], rule, entries)
        return emptied, looked[-1] if looked else None

    async def begin(self, channel: str, id: str) -> int:  # noqa: A002 - as in the port
        self._fail_if_asked()
        count = self.attempts.get((channel, id), 0) + 1
        self.attempts[channel, id] = count
        return count

    async def end(self, channel: str, id: str) -> None:  # noqa: A002 - as in the port
        self._fail_if_asked()
        self.attempts.pop((channel, id), None)

    def _fail_if_asked(self) -> None:
        if self.unavailable:
            self.unavailable -= 1
            raise LogUnavailable("away")

    def _place(self, columns: Columns, row: int) -> Placed:
        channel = self._channels.setdefault(columns.channels[row], _Channel())
        known = channel.by_id.get(columns.ids[row])
        if known is not None:
            entry = known.entry
            return Placed(
                entry.offset,
                entry.at_ms,
                self.epoch,
                known.digest,
                entry.info,
                entry.tags or None,
                known.kept,
            )
        if self._is_late(columns, row):
            return Placed(0, 0, "", None, kept=False)
        tags = columns.tags[row]
        stored = _Row(
            Entry(
                len(channel.rows) + 1,
                columns.ids[row],
                columns.payloads[row],
                columns.infos[row] or b"",
                self.now_ms,
                json.loads(tags) if tags else {},
            ),
            columns.digests[row],
        )
        channel.rows.append(stored)
        channel.by_id[columns.ids[row]] = stored
        return Placed(stored.entry.offset, self.now_ms, self.epoch, None)

    def _is_late(self, columns: Columns, row: int) -> bool:
        fence = columns.fences.get(row)
        return (
            fence is not None
            and fence.epoch < self._fences[columns.channels[row], fence.name]
        )

    def _raise_fences(self, columns: Columns) -> None:
        for row, fence in columns.fences.items():
            key = columns.channels[row], fence.name
            self._fences[key] = max(self._fences.get(key, 0), fence.epoch)

    def _standing(self, channel: str) -> Standing:
        known = self._channels.get(channel, _Channel())
        return Standing(self.epoch, len(known.rows), known.floor)

    def _page(self, spec: ReadSpec) -> PageRead:
        channel = self._channels.get(spec.channel, _Channel())
        rows = [row.entry for row in channel.rows[channel.floor :]]
        if spec.reverse:
            wanted = [e for e in reversed(rows) if e.offset < spec.since]
        else:
            wanted = [e for e in rows if e.offset > spec.since]
        page: list[Entry] = []
        size = 0
        for entry in wanted[: spec.limit]:
            size += len(entry.data) + len(entry.info) + len(str(entry.tags or ""))
            if page and size > spec.bytes_max:
                break
            page.append(entry)
        return PageRead(self._standing(spec.channel), page)

    def _retain(self, channel: _Channel, rule: RetentionRule, entries: int) -> int:
        wanted = channel.floor
        if rule.size:
            wanted = max(wanted, len(channel.rows) - rule.size)
        if rule.age_s:
            limit_ms = self.now_ms - rule.age_s * 1000
            old = [r.entry.offset for r in channel.rows if r.entry.at_ms < limit_ms]
            wanted = max([wanted, *old])
        wanted = min(wanted, channel.floor + entries)
        emptied = wanted - channel.floor
        for row in channel.rows[channel.floor : wanted]:
            row.kept = False
        channel.floor = wanted
        return emptied


def namespace_of(channel: str) -> str:
    return channels.namespace_of(channel)
