"""`ports.Ledger` on PostgreSQL."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from chatmesh.agent.tools.adapters.queries import query
from chatmesh.agent.tools.arguments import digest
from chatmesh.agent.tools.ports import (
    Answer,
    Approval,
    AuditRow,
    Entry,
    LedgerRefused,
    LedgerUnavailable,
    NewCall,
    Settlement,
    Wished,
)
from chatmesh.postgres.database import Pool, Refused, Unavailable
from chatmesh.wire.tools import Call

RESULTS_KEPT_MS: Final = 7 * 24 * 3600 * 1000
"""Large results are forgotten after so long; their calls are not."""


class PostgresLedger:
    """`ports.Ledger` of one replica."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self, call: NewCall, now_ms: int) -> None:
        await self._fetch(
            "open",
            call.key,
            call.run,
            call.room,
            call.agent,
            call.requester,
            call.tool,
            call.pool,
            call.read_only,
            call.timeout_ms,
            call.digest,
            call.arguments,
            call.parameters,
            call.result_schema,
            call.epoch,
            call.deadline_ms,
            call.approval,
            list(call.approval_roles),
            call.approval_deadline_ms,
            now_ms,
        )

    async def load(self, key: str) -> Entry | None:
        rows = await self._fetch("load", key)
        return _entry(rows[0]) if rows else None

    async def claim(self, key: str, epoch: int, attempt: int, now_ms: int) -> bool:
        return bool(await self._fetch("claim", key, epoch, attempt, now_ms))

    async def sent(self, key: str, attempt: int) -> None:
        await self._fetch("sent", key, attempt)

    async def unsent(self, key: str, attempt: int, not_before_ms: int) -> None:
        await self._fetch("unsent", key, attempt, not_before_ms)

    async def retry(
        self, key: str, attempt: int, not_before_ms: int, reason: str, now_ms: int
    ) -> bool:
        return bool(
            await self._fetch(
                "retry", key, attempt, not_before_ms, _text(reason), now_ms
            )
        )

    async def settle(self, key: str, end: Settlement, now_ms: int) -> bool:
        rows = await self._fetch(
            "settle",
            key,
            end.state,
            _text(end.content),
            end.reference,
            end.size_bytes,
            _text(end.whole),
            _text(end.worker),
            now_ms,
        )
        return bool(rows)

    async def cancel_run(self, run: str, now_ms: int) -> list[Wished]:
        rows = await self._fetch("cancel_run", run, now_ms)
        return [Wished(row["key"], row["pool"], row["given"]) for row in rows]

    async def approval(self, approval: str) -> Approval | None:
        rows = await self._fetch("approval", approval)
        return _approval(rows[0]) if rows else None

    async def answer(self, answer: Answer) -> bool:
        rows = await self._fetch(
            "answer",
            answer.approval,
            answer.digest,
            answer.approve,
            answer.user,
            answer.client,
            answer.role,
            _text(answer.reason),
            answer.arguments,
            answer.final_digest,
            answer.deadline_ms,
            answer.now_ms,
        )
        return bool(rows)

    async def expire(self, now_ms: int) -> list[str]:
        return [row["key"] for row in await self._fetch("expire", now_ms)]

    async def sweep(self, now_ms: int, grace_ms: int) -> list[str]:
        rows = await self._fetch("sweep", now_ms, grace_ms, RESULTS_KEPT_MS)
        return [row["key"] for row in rows]

    async def note(self, call: Call, event: str, reason: str, now_ms: int) -> None:
        await self._fetch(
            "note",
            now_ms,
            call.key,
            event,
            call.agent,
            call.arguments_digest or digest("{}"),
            call.requester,
            call.room,
            call.run,
            _text(call.tool),
            _text(reason),
        )

    async def audit(self, key: str) -> list[AuditRow]:
        return [
            AuditRow(
                row["at_ms"],
                row["key"],
                row["event"],
                row["actor"],
                row["digest"],
                json.loads(row["detail"]),
            )
            for row in await self._fetch("audit", key)
        ]

    async def read(self, reference: str, offset: int, limit: int) -> str | None:
        rows = await self._fetch("read", reference, offset, limit)
        return rows[0]["part"] if rows else None

    async def _fetch(self, name: str, *args: object) -> list[Any]:
        with _failures_told():
            return await self._pool.fetch(query(name), *args)


def _entry(row: Any) -> Entry:  # noqa: ANN401 - a record, untyped
    return Entry(
        key=row["key"],
        run=row["run"],
        room=row["room"],
        agent=row["agent"],
        requester=row["requester"],
        tool=row["tool"],
        pool=row["pool"],
        read_only=row["read_only"],
        timeout_ms=row["timeout_ms"],
        asked_digest=row["asked_digest"],
        arguments=row["arguments"],
        digest=row["digest"],
        result_schema=row["result_schema"],
        state=row["state"],
        epoch=row["epoch"],
        attempt=row["attempt"],
        not_before_ms=row["not_before_ms"],
        deadline_ms=row["deadline_ms"],
        cancel=row["cancel"],
        content=row["content"],
        reference=row["reference"],
        size_bytes=row["size_bytes"],
        worker=row["worker"],
        approval=_approval(row) if row["a_id"] is not None else None,
    )


def _approval(row: Any) -> Approval:  # noqa: ANN401 - a record, untyped
    return Approval(
        id=row["a_id"],
        key=row["key"],
        run=row["run"],
        room=row["room"],
        agent=row["agent"],
        requester=row["requester"],
        tool=row["tool"],
        arguments=row["a_arguments"],
        digest=row["a_digest"],
        roles=tuple(row["a_roles"]),
        deadline_ms=row["a_deadline_ms"],
        state=row["a_state"],
        answered_by=row["a_answered_by"],
        reason=row["a_reason"],
        final_arguments=row["a_final_arguments"],
        final_digest=row["a_final_digest"],
        parameters=row["parameters"],
        timeout_ms=row["timeout_ms"],
    )


def _text(text: str) -> str:
    """What the database can hold: it has neither NUL nor half of a surrogate pair."""
    clean = text.replace("\0", "\ufffd")
    return clean.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _failures_told() -> Generator[None]:
    try:
        yield
    except Unavailable as error:
        raise LedgerUnavailable(str(error)) from error
    except Refused as error:
        raise LedgerRefused(str(error)) from error
