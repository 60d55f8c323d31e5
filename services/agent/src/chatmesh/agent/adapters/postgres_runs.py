"""`ports.RunBook` on PostgreSQL."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from chatmesh.agent.adapters.queries import query
from chatmesh.agent.agents import Agent
from chatmesh.agent.conversation import Entry, Journal, PersonSaid, Steered, kind_of
from chatmesh.agent.conversation import decode as decode_journal
from chatmesh.agent.conversation import encode as encode_entry
from chatmesh.agent.draft import Shown
from chatmesh.agent.fairness import Running, Waiting
from chatmesh.agent.ports import (
    UNKNOWN_AGENT_S,
    Claimed,
    Listed,
    Lost,
    NewRun,
    OpenRun,
    Place,
    Placed,
    Renewed,
    RunBookUnavailable,
    Standing,
)
from chatmesh.postgres.database import Connection, Pool, Refused, Unavailable
from chatmesh.wire.runs import RunOutcome

PER_ROOM: Final = 50
"""Waiting runs of one room that are looked at together."""
_STOP: Final = "stop"
OPEN_MAX: Final = 200
"""Live runs of one room that somebody who comes late is shown."""

_shown: Final = msgspec.json.Decoder(Shown)
_encode: Final = msgspec.json.Encoder().encode


class PostgresRuns:
    """`ports.RunBook` of one replica.

    Triggers and leases have a connection each: neither may wait behind the work of runs.
    """

    def __init__(
        self,
        me: str,
        *,
        working: Pool,
        placing: Connection,
        leasing: Connection,
        lease_s: float,
    ) -> None:
        self._me = me
        self._working = working
        self._placing = placing
        self._leasing = leasing
        self._lease_s = lease_s

    # -- Waiting ---------------------------------------------------------------------

    async def place(self, runs: Sequence[NewRun]) -> list[Placed]:
        with _failures_told():
            rows = await self._placing.fetch(
                query("place"),
                [new.run for new in runs],
                [new.agent for new in runs],
                [new.said.channel for new in runs],
                [new.said.id for new in runs],
                [new.said.offset for new in runs],
                # The database's texts hold no NUL.
                [new.said.text.replace("\x00", "\ufffd") for new in runs],
                [new.said.user for new in runs],
                [new.policy for new in runs],
                [new.too_old for new in runs],
                [new.said.traceparent for new in runs],
            )
        return [
            Placed(
                str(row[0]), row[1], Standing(row[2]), str(row[3]) if row[3] else None
            )
            for row in rows
        ]

    async def waiting(self, limit: int) -> tuple[list[Waiting], list[Running]]:
        with _failures_told():
            rows = await self._leasing.fetch(query("waiting"), limit, PER_ROOM)
            if not rows:
                return [], []
            performed = await self._leasing.fetch(query("performed"))
        return [Waiting(str(row[0]), *row[1:]) for row in rows], [
            Running(*row) for row in performed
        ]

    async def claim(
        self, candidates: Sequence[str], agents: Sequence[Agent], most: int
    ) -> list[Claimed]:
        with _failures_told():
            rows = await self._leasing.fetch(
                query("claim"),
                self._me,
                self._lease_s,
                list(candidates),
                [agent.name for agent in agents],
                [agent.concurrency for agent in agents],
                most,
            )
        return [_claimed(row, taken_over=row["epoch"] > 1) for row in rows]

    async def adopt(
        self, most: int, *, performing: bool, crashes_max: int, known: Sequence[str]
    ) -> list[Claimed]:
        with _failures_told():
            rows = await self._leasing.fetch(
                query("adopt"),
                self._me,
                self._lease_s,
                most,
                performing,
                crashes_max,
                list(known),
                UNKNOWN_AGENT_S,
            )
        return [_claimed(row, taken_over=True) for row in rows]

    async def reap(self, after_s: float, most: int) -> list[Claimed]:
        with _failures_told():
            rows = await self._leasing.fetch(
                query("reap"), self._me, self._lease_s, most, after_s
            )
        return [_claimed(row, taken_over=True) for row in rows]

    async def positions(
        self, places: Sequence[tuple[str, int]]
    ) -> list[tuple[str, int, int]]:
        with _failures_told():
            rows = await self._leasing.fetch(
                query("positions"),
                [run for run, _ in places],
                [position for _, position in places],
            )
        return [(str(row[0]), row[1], row[2]) for row in rows]

    # -- Owning ----------------------------------------------------------------------

    async def renew(self, runs: Sequence[str]) -> list[Renewed]:
        with _failures_told():
            rows = await self._leasing.fetch(
                query("renew"), list(runs), self._me, self._lease_s
            )
        return [Renewed(str(row[0]), row[1], row[2], row[3]) for row in rows]

    async def journal(self, run: str) -> Journal:
        with _failures_told():
            rows = await self._working.fetch(query("journal"), run)
        return decode_journal(row[0] for row in rows)

    async def keep(self, run: str, epoch: int, place: int, entry: Entry) -> None:
        steered = entry.run if isinstance(entry, Steered) else None
        with _failures_told():
            rows = await self._working.fetch(
                query("keep"),
                run,
                epoch,
                place,
                kind_of(entry),
                encode_entry(entry),
                steered,
            )
        _ours(rows)

    async def steered(self, run: str) -> tuple[str, PersonSaid] | None:
        with _failures_told():
            rows = await self._working.fetch(query("steered"), run)
        if not rows:
            return None
        return str(rows[0][0]), PersonSaid(rows[0][1], rows[0][2])

    async def raise_attempt(self, run: str, epoch: int, attempt: int) -> None:
        with _failures_told():
            _ours(
                await self._working.fetch(query("raise_attempt"), run, epoch, attempt)
            )

    async def let_go(self, run: str, epoch: int, seq: int) -> None:
        with _failures_told():
            _ours(await self._working.fetch(query("let_go"), run, epoch, seq))

    async def decide(
        self, run: str, epoch: int, outcome: RunOutcome, reason: str, answer: bytes
    ) -> None:
        with _failures_told():
            _ours(
                await self._working.fetch(
                    query("decide"), run, epoch, outcome.value, reason, answer
                )
            )

    async def end(self, run: str, epoch: int) -> list[str]:
        with _failures_told():
            rows = await self._working.fetch(query("end"), run, epoch)
        _ours(rows)
        return [str(released) for released in rows[0]["released"]]

    async def stop(
        self,
        *,
        by: str,
        channel: str,
        runs: Sequence[str] = (),
        agent: str = "",
        requester: str | None = None,
    ) -> list[str]:
        with _failures_told():
            rows = await self._placing.fetch(
                query("stop"), by, _STOP, channel, list(runs), agent, requester
            )
        return [str(row[0]) for row in rows]

    async def retry(
        self,
        run: str,
        *,
        again: str,
        channel: str,
        traceparent: str,
        carried: Sequence[Entry],
    ) -> Standing | None:
        asked = (
            query("retry"),
            run,
            again,
            channel,
            traceparent,
            [kind_of(entry) for entry in carried],
            [encode_entry(entry) for entry in carried],
        )
        with _failures_told():
            rows = await self._placing.fetch(*asked)
            if not rows:
                # Somebody may have asked in the same moment: now it is there to be seen.
                rows = await self._placing.fetch(*asked)
        return Standing(rows[0][0]) if rows else None

    async def take_duty(self, duty: str, lease_s: float) -> bool:
        with _failures_told():
            return bool(
                await self._working.fetch(query("take_duty"), duty, self._me, lease_s)
            )

    async def places(self, within_s: float, most: int) -> list[Place]:
        with _failures_told():
            rows = await self._working.fetch(query("places"), within_s, most)
        return [Place(*row) for row in rows]

    async def forget(self, older_s: float, most: int) -> int:
        with _failures_told():
            return len(await self._working.fetch(query("forget"), older_s, most))

    # -- Seen ------------------------------------------------------------------------

    async def checkpoint(self, shown: Sequence[Shown]) -> None:
        with _failures_told():
            await self._working.fetch(
                query("checkpoint"),
                [one.run for one in shown],
                [one.epoch for one in shown],
                [_encode(one) for one in shown],
            )

    async def last_shown(self, run: str) -> Shown | None:
        with _failures_told():
            rows = await self._working.fetch(query("last_shown"), run)
        return _shown.decode(rows[0][0]) if rows else None

    async def open_in(self, channel: str) -> list[OpenRun]:
        with _failures_told():
            rows = await self._working.fetch(query("open_runs"), channel, OPEN_MAX)
        return [
            OpenRun(
                run=str(row["id"]),
                agent=row["agent"],
                trigger=row["trigger_id"],
                requester=row["requester"],
                status=Standing(row["status"]),
                attempt=row["attempt"],
                epoch=row["epoch"],
                seq=row["seq"],
                position=row["position"],
                started_ms=row["started_ms"],
                shown=_shown.decode(row["body"]) if row["body"] else None,
            )
            for row in rows
        ]

    async def list_runs(
        self, *, channel: str, status: str, agent: str, before: str, limit: int
    ) -> list[Listed]:
        with _failures_told():
            rows = await self._working.fetch(
                query("list_runs"), channel, status, agent, before or None, limit
            )
        return [_listed(row) for row in rows]

    async def one(self, run: str) -> Listed | None:
        with _failures_told():
            rows = await self._working.fetch(query("one_run"), run)
        return _listed(rows[0]) if rows else None


@contextmanager
def _failures_told() -> Generator[None]:
    try:
        yield
    except (Unavailable, Refused) as error:
        raise RunBookUnavailable(str(error)) from error


def _ours(rows: Sequence[Any]) -> None:
    if not rows:
        raise Lost


def _claimed(row: Any, *, taken_over: bool) -> Claimed:  # noqa: ANN401 - a row
    return Claimed(
        run=str(row["id"]),
        agent=row["agent"],
        channel=row["channel"],
        trigger=row["trigger_id"],
        trigger_offset=row["trigger_offset"],
        prompt=PersonSaid(row["requester"], row["trigger_text"]),
        requester=row["requester"],
        traceparent=row["traceparent"],
        status=Standing(row["status"]),
        epoch=row["epoch"],
        attempt=max(1, row["attempt"]),
        crashes=row["crashes"],
        seq=row["seq"],
        taken_over=taken_over,
        stop_by=row["stop_by"],
        stop_reason=row["stop_reason"],
        started_ms=row["started_ms"],
        now_ms=row["now_ms"],
        answer=row["answer"],
        outcome=RunOutcome(row["outcome"]) if row["outcome"] else None,
        reason=row["reason"],
        retry_of=str(row["retry_of"]) if row["retry_of"] else None,
        carried=row["carried"],
    )


def _listed(row: Any) -> Listed:  # noqa: ANN401 - a row
    return Listed(str(row["id"]), *list(row)[1:])
