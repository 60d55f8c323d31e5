"""Makes calls: one loop per call that looks at the ledger, does what is next, and waits.

Everything that matters is in the ledger, so the loop can be left at any await and taken
up by another process with the same key: what a step does is decided by what the row says,
never by what this process remembers having done. The one thing remembered is that a
claim of ours was not followed by a publication, which only we can know.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, cast

from chatmesh.agent.tools import outcomes
from chatmesh.agent.tools.arguments import NoJson, canonical, digest, refusal
from chatmesh.agent.tools.first_words import FirstWords
from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.agent.tools.port import (
    ApprovalView,
    BusUnavailable,
    OutcomeState,
    ToolCall,
    ToolOffer,
    ToolOutcome,
    ToolProgress,
    UnknownReference,
)
from chatmesh.agent.tools.ports import (
    Approval,
    Entry,
    Ledger,
    LedgerUnavailable,
    NewCall,
    PoolFull,
    Settlement,
    Unroutable,
    Wire,
    WireDown,
)
from chatmesh.agent.tools.registry import Registry, chosen
from chatmesh.runtime.clock import Clock
from chatmesh.wire.tools import Call, Progress, Result

_log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY_S: Final = 2.0
"""A waiting call looks at the ledger this often, in case nobody woke it."""
RESULT_GRACE_MS: Final = 2_000
"""After its deadline, a call waits so long for the word of a worker that kept it."""
CANCEL_GRACE_MS: Final = 3_000
"""After a wish to end it, a call waits so long for the word of its worker."""
LEDGER_PATIENCE_S: Final = 30.0
LEDGER_RETRY_S: Final = 0.5
RETRY_BASE_MS: Final = 500
READ_CHARS_MAX: Final = 100_000
NAMES_TOLD_MAX: Final = 50
_APPROVALS: Final = uuid.UUID("5d0a3f0e-3a1b-4f6e-9a52-7c6f1f0b9d11")

READ_RESULT: Final = ToolOffer(
    name="read_result",
    description="Reads on in a large result, by its reference, from a character on.",
    parameters={
        "type": "object",
        "properties": {
            "reference": {"type": "string", "maxLength": 300},
            "offset": {"type": "integer", "minimum": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": READ_CHARS_MAX},
        },
        "required": ["reference"],
        "additionalProperties": False,
    },
    result={"type": "string"},
    read_only=True,
    side_effect=False,
    needs_approval=False,
    timeout_s=LEDGER_PATIENCE_S,
)
"""Served by the bus itself: what it keeps, no worker has."""
READ_CHARS: Final = 20_000
"""Of a large result, unless the model says how much."""

Fate = Literal["settled", "retried", "late", "orphaned"]


@dataclass(slots=True, eq=False)
class _Watch:
    """What one waiting call hears."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    news: bool = False
    progress: Progress | None = None
    claimed: int = 0
    """The attempt that we are claiming, or have claimed and not published yet."""
    handed_over: bool = False
    """The broker has just taken the call from us, and nobody has been told yet."""
    wished_ms: int = 0
    """When we first saw that the call is to be cancelled."""
    told: set[str] = field(default_factory=set[str])


class Calls:
    """`port.ToolBus` on a ledger and a wire."""

    def __init__(
        self,
        ledger: Ledger,
        wire: Wire,
        registry: Registry,
        *,
        clock: Clock,
        metrics: ToolMetrics,
        approval_timeout_s: float,
    ) -> None:
        self._ledger = ledger
        self._wire = wire
        self._registry = registry
        self._clock = clock
        self._metrics = metrics
        self._approval_timeout_s = approval_timeout_s
        self._watches: dict[str, set[_Watch]] = {}
        self._first_words = FirstWords(clock)

    # -- port.ToolBus ----------------------------------------------------------------------

    async def offers(self, names: Sequence[str]) -> Sequence[ToolOffer]:
        own = [READ_RESULT] if chosen(READ_RESULT.name, names) else []
        served = await self._first_words.wait(
            [name for name in names if name != READ_RESULT.name],
            lambda: self._registry.offers(names, self._clock.unix_ms()),
        )
        return [*own, *(one for one in served if one.name != READ_RESULT.name)]

    async def call(self, call: ToolCall) -> AsyncIterator[ToolProgress | ToolOutcome]:
        started_s = self._clock.monotonic_s()
        watch = _Watch()
        self._watches.setdefault(call.key, set()).add(watch)
        self._metrics.waiting.inc()
        try:
            async for item in self._steps(call, watch):
                if isinstance(item, ToolOutcome):
                    self._metrics.calls.labels(item.state).inc()
                    took_s = self._clock.monotonic_s() - started_s
                    self._metrics.call_seconds.observe(took_s)
                yield item
        finally:
            self._metrics.waiting.dec()
            watches = self._watches.get(call.key, set())
            watches.discard(watch)
            if not watches:
                self._watches.pop(call.key, None)

    async def cancel_run(self, run: str) -> None:
        now_ms = self._clock.unix_ms()
        wished = await self._patiently(lambda: self._ledger.cancel_run(run, now_ms))
        for one in wished:
            self.wake(one.key)
        try:
            for one in wished:
                if one.given:
                    await self._wire.cancel(one.pool, one.key)
                await self._wire.tell_settled(one.key)
        except WireDown as down:
            # The rows say it; whoever waits for a call sees it and tells the workers.
            _log.info("a cancel was not told at once", extra={"cause": str(down)})

    async def read(self, reference: str, offset: int, limit: int) -> str:
        part = await self._patiently(
            lambda: self._ledger.read(
                reference, max(0, offset), min(max(0, limit), READ_CHARS_MAX)
            )
        )
        if part is None:
            raise UnknownReference(reference)
        return part

    # -- What the wire tells ---------------------------------------------------------------

    def wake(self, key: str) -> None:
        """There is news of a call in the ledger."""
        for watch in self._watches.get(key, ()):
            watch.news = True
            watch.woken.set()

    def linked(self) -> None:
        """A link has come up; news may have been missed before: everybody looks."""
        self._first_words.linked()
        for key in list(self._watches):
            self.wake(key)

    def registered(self) -> None:
        """A worker has said what it serves."""
        self._first_words.heard()

    def progressed(self, progress: Progress) -> None:
        for watch in self._watches.get(progress.key, ()):
            watch.progress = progress
            watch.woken.set()

    async def took(self, result: Result) -> Fate:
        """Store what a worker says. Raises LedgerUnavailable, LedgerRefused."""
        entry = await self._ledger.load(result.key)
        if entry is None:
            return "orphaned"
        now_ms = self._clock.unix_ms()
        fate: Fate
        if outcomes.wants_retry(entry, result, now_ms):
            not_before_ms = now_ms + RETRY_BASE_MS * 2 ** (entry.attempt - 1)
            again = await self._ledger.retry(
                entry.key, entry.attempt, not_before_ms, result.error, now_ms
            )
            fate = "retried" if again else "late"
            self._metrics.retries.inc()
        else:
            # What a worker says may be megabytes: the rooms do not wait for its check.
            end = await asyncio.to_thread(outcomes.settlement, entry, result)
            ended = await self._ledger.settle(entry.key, end, now_ms)
            fate = "settled" if ended else "late"
        await self._tell(entry.key)
        return fate

    async def look_after(self, grace_ms: int) -> None:
        """End what nobody ended in time. Raises LedgerUnavailable."""
        now_ms = self._clock.unix_ms()
        expired = await self._ledger.expire(now_ms)
        self._metrics.approvals.labels("timeout").inc(len(expired))
        for key in [*expired, *await self._ledger.sweep(now_ms, grace_ms)]:
            await self._tell(key)

    async def _tell(self, key: str) -> None:
        self.wake(key)
        try:
            await self._wire.tell_settled(key)
        except WireDown as down:
            # Those who wait look by themselves every other second.
            _log.debug("news was not told", extra={"cause": str(down)})

    # -- One call --------------------------------------------------------------------------

    async def _steps(
        self, call: ToolCall, watch: _Watch
    ) -> AsyncGenerator[ToolProgress | ToolOutcome]:
        if call.name == READ_RESULT.name:
            yield await self._read_on(call)
            return
        refused = await self._begin(call)
        if refused is not None:
            yield refused
            return
        while True:
            watch.woken.clear()
            watch.news = False
            entry = await self._loaded(call.key)
            for event in _approval_events(entry, watch.told):
                yield event
            if not entry.open:
                yield _outcome(entry)
                return
            wait_s = await self._step(call, entry, watch)
            if watch.handed_over:
                # Told before the next look, so no result is fast enough to overtake it.
                watch.handed_over = False
                yield ToolProgress("sent")
            until_s = self._clock.monotonic_s() + wait_s
            while (
                not watch.news and (left_s := until_s - self._clock.monotonic_s()) > 0
            ):
                progress, watch.progress = watch.progress, None
                if progress is not None:
                    yield ToolProgress("progress", progress.progress, progress.text)
                    continue
                watch.woken.clear()
                await _wait(watch.woken, left_s)

    async def _read_on(self, call: ToolCall) -> ToolOutcome:
        """What `read_result` gives: only what was made for the room that asks."""
        if broken := refusal(READ_RESULT.parameters, call.arguments):
            return ToolOutcome("failed", f"arguments refused: {broken}")
        reference = str(call.arguments["reference"])
        key = reference.removeprefix(outcomes.REFERENCE_PREFIX)
        entry = await self._patiently(lambda: self._ledger.load(key))
        offset = int(call.arguments.get("offset", 0))
        limit = int(call.arguments.get("limit", READ_CHARS))
        try:
            if entry is None or entry.room != call.room:
                raise UnknownReference(reference)  # noqa: TRY301 - as if it were not kept
            part = await self.read(reference, offset, limit)
        except UnknownReference:
            return ToolOutcome("failed", "no result is kept under this reference")
        return ToolOutcome("done", part, size_bytes=len(part.encode()))

    async def _begin(self, call: ToolCall) -> ToolOutcome | None:
        """Make the call known to the ledger, or say why it cannot be made."""
        try:
            arguments = canonical(dict(call.arguments))
        except NoJson as error:
            return await self._refused(call, "", f"arguments are no JSON: {error}")
        asked = digest(arguments)
        entry = await self._patiently(lambda: self._ledger.load(call.key))
        if entry is None:
            now_ms = self._clock.unix_ms()
            found = self._registry.offers((call.name,), now_ms)
            offer = next((one for one in found if one.name == call.name), None)
            if call.join_only:
                told = f"no tool {call.name[:64]!r} is offered to this agent now"
                return await self._refused(call, asked, told)
            if offer is None:
                return await self._refused(call, asked, self._unknown(call.name))
            if broken := await asyncio.to_thread(
                refusal, offer.parameters, call.arguments
            ):
                return await self._refused(call, asked, f"arguments refused: {broken}")
            made = self._new(call, offer, arguments, asked)
            await self._patiently(lambda: self._ledger.open(made, now_ms))
            entry = await self._loaded(call.key)
        if entry.asked_digest != asked:
            return await self._refused(
                call, asked, "this call was made before with other arguments"
            )
        return None

    def _new(
        self, call: ToolCall, offer: ToolOffer, arguments: str, asked: str
    ) -> NewCall:
        timeout_ms = int(offer.timeout_s * 1000)
        approval_until_ms = self._clock.unix_ms() + self._approval_ms(call)
        if call.approval_until_ms is not None:
            approval_until_ms = min(approval_until_ms, call.approval_until_ms)
        approval = str(uuid.uuid5(_APPROVALS, call.key)) if offer.needs_approval else ""
        return NewCall(
            key=call.key,
            run=call.run,
            room=call.room,
            agent=call.agent,
            requester=call.requester,
            tool=offer.name,
            pool=offer.pool,
            read_only=offer.read_only,
            timeout_ms=timeout_ms,
            arguments=arguments,
            digest=asked,
            parameters=canonical(dict(offer.parameters)),
            result_schema=canonical(dict(offer.result)) if offer.result else "",
            epoch=call.epoch,
            deadline_ms=call.deadline_ms,
            approval=approval,
            approval_roles=tuple(offer.approvers),
            approval_deadline_ms=approval_until_ms,
        )

    def _approval_ms(self, call: ToolCall) -> int:
        own_s = call.approval_timeout_s
        return int((self._approval_timeout_s if own_s is None else own_s) * 1000)

    def _unknown(self, name: str) -> str:
        there = [one.name for one in self._registry.all(self._clock.unix_ms())]
        listed = ", ".join(there[:NAMES_TOLD_MAX]) or "none"
        return f"nobody serves a tool {name[:64]!r} now; there are: {listed}"

    async def _refused(self, call: ToolCall, asked: str, reason: str) -> ToolOutcome:
        note = Call(
            key=call.key,
            tool=call.name,
            deadline_ms=call.deadline_ms,
            run=call.run,
            room=call.room,
            agent=call.agent,
            requester=call.requester,
            arguments_digest=asked,
        )
        now_ms = self._clock.unix_ms()
        await self._patiently(
            lambda: self._ledger.note(note, "refused", reason, now_ms)
        )
        self._metrics.calls.labels("refused").inc()
        return ToolOutcome("failed", reason, size_bytes=len(reason.encode()))

    async def _step(self, call: ToolCall, entry: Entry, watch: _Watch) -> float:
        """Do what is next; the seconds after which to look again."""
        now_ms = self._clock.unix_ms()
        match entry.state:
            case "approving":
                deadline_ms = entry.approval.deadline_ms if entry.approval else 0
                if now_ms >= deadline_ms:
                    await self.look_after_one(now_ms)
                    return 0.0
                return _until(now_ms, deadline_ms)
            case "pending":
                if now_ms >= entry.deadline_ms:
                    return await self._settle(entry, outcomes.silence(entry))
                if now_ms < entry.not_before_ms:
                    return _until(now_ms, entry.not_before_ms)
                return await self._send(call, entry, watch)
            case _:
                return await self._await_worker(call, entry, watch, now_ms)

    async def look_after_one(self, now_ms: int) -> None:
        """End what has waited for people long enough."""
        expired = await self._patiently(lambda: self._ledger.expire(now_ms))
        self._metrics.approvals.labels("timeout").inc(len(expired))
        for key in expired:
            await self._tell(key)

    async def _await_worker(
        self, call: ToolCall, entry: Entry, watch: _Watch, now_ms: int
    ) -> float:
        over_ms = entry.deadline_ms + RESULT_GRACE_MS
        if entry.cancel:
            if not watch.wished_ms:
                watch.wished_ms = now_ms
                await self._tell_cancel(entry)
            over_ms = min(over_ms, watch.wished_ms + CANCEL_GRACE_MS)
            if now_ms >= over_ms:
                return await self._settle(entry, outcomes.abandoned(entry))
        elif now_ms >= over_ms:
            await self._tell_cancel(entry)
            return await self._settle(entry, outcomes.silence(entry))
        elif entry.state == "sending" and (
            entry.read_only or _is_ours(call, entry, watch)
        ):
            # Handed over by nobody for sure, or by somebody who died in the middle.
            return await self._send(call, entry, watch)
        return _until(now_ms, over_ms)

    async def _send(self, call: ToolCall, entry: Entry, watch: _Watch) -> float:
        attempt = entry.attempt
        if not _is_ours(call, entry, watch):
            attempt += 1
            if not await self._claim(call, entry, watch):
                # Ours after all, if only the answer was lost: the next look tells.
                return LEDGER_RETRY_S
        # From here on a death leaves the call `sending`.
        watch.claimed = 0
        message = self._message(entry, attempt)
        expires_ms = max(1, entry.deadline_ms - self._clock.unix_ms())
        try:
            await self._wire.send(entry.pool, message, expires_ms, call.traceparent)
        except Unroutable:
            told = f"the pool {entry.pool} of {entry.tool} has no queue: is it served?"
            return await self._settle(entry, Settlement("failed", told))
        except PoolFull:
            if attempt < outcomes.ATTEMPTS_MAX:
                return await self._unsent(entry, attempt)
            told = f"too many calls wait for the pool {entry.pool}"
            return await self._settle(entry, Settlement("failed", told))
        except WireDown as down:
            if entry.read_only or not down.attempted:
                return await self._unsent(entry, attempt)
        else:
            await self._patiently(lambda: self._ledger.sent(entry.key, attempt))
            watch.handed_over = True
        return LOOK_EVERY_S

    async def _claim(self, call: ToolCall, entry: Entry, watch: _Watch) -> bool:
        now_ms = self._clock.unix_ms()
        watch.claimed = entry.attempt + 1
        try:
            claimed = await self._ledger.claim(
                entry.key, call.epoch, entry.attempt, now_ms
            )
        except LedgerUnavailable as error:
            _log.info("an answer of the ledger is lost", extra={"cause": str(error)})
            return False
        if not claimed:
            watch.claimed = 0
        return claimed

    def _message(self, entry: Entry, attempt: int) -> Call:
        return Call(
            key=entry.key,
            tool=entry.tool,
            arguments=cast("dict[str, Any]", _parsed(entry.arguments)),
            deadline_ms=entry.deadline_ms,
            timeout_ms=entry.timeout_ms,
            attempt=attempt,
            run=entry.run,
            room=entry.room,
            agent=entry.agent,
            requester=entry.requester,
            approval=entry.approval.id if entry.approval else "",
            arguments_digest=entry.digest,
        )

    async def _unsent(self, entry: Entry, attempt: int) -> float:
        not_before_ms = self._clock.unix_ms() + RETRY_BASE_MS
        await self._patiently(
            lambda: self._ledger.unsent(entry.key, attempt, not_before_ms)
        )
        return RETRY_BASE_MS / 1000

    async def _settle(self, entry: Entry, end: Settlement) -> float:
        now_ms = self._clock.unix_ms()
        await self._patiently(lambda: self._ledger.settle(entry.key, end, now_ms))
        await self._tell(entry.key)
        return 0.0

    async def _tell_cancel(self, entry: Entry) -> None:
        try:
            await self._wire.cancel(entry.pool, entry.key)
        except WireDown as down:
            # The worker stops by its own time limit then.
            _log.info("a cancel was not told", extra={"cause": str(down)})

    async def _loaded(self, key: str) -> Entry:
        entry = await self._patiently(lambda: self._ledger.load(key))
        if entry is None:
            raise BusUnavailable("the ledger has lost a call")
        return entry

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the ledger until it answers. Raises BusUnavailable when it stays away."""
        until_s = self._clock.monotonic_s() + LEDGER_PATIENCE_S
        while True:
            try:
                return await ask()
            except LedgerUnavailable as error:
                if self._clock.monotonic_s() >= until_s:
                    raise BusUnavailable(str(error)) from error
                await self._clock.sleep(LEDGER_RETRY_S)


def _is_ours(call: ToolCall, entry: Entry, watch: _Watch) -> bool:
    """Whether the claim that the row shows is one of ours that we did not publish."""
    return (
        entry.state == "sending"
        and entry.epoch == call.epoch
        and watch.claimed == entry.attempt
    )


def _until(now_ms: int, then_ms: int) -> float:
    return min(LOOK_EVERY_S, max(0.0, (then_ms - now_ms) / 1000))


async def _wait(event: asyncio.Event, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return


def _parsed(arguments: str) -> object:
    return json.loads(arguments)


def _outcome(entry: Entry) -> ToolOutcome:
    content = entry.content
    if entry.state == "denied" and entry.approval is not None:
        reason = f": {content}" if content else ""
        content = f"{entry.approval.answered_by} did not allow this call{reason}"
    return ToolOutcome(
        state=cast("OutcomeState", entry.state),
        content=content,
        reference=entry.reference,
        size_bytes=entry.size_bytes,
    )


def _approval_events(entry: Entry, told: set[str]) -> list[ToolProgress]:
    """What people have to be told of a call's approval, each thing once."""
    approval = entry.approval
    if approval is None:
        return []
    kinds: list[Literal["approval_requested", "approval_answered"]] = []
    if approval.state == "open":
        kinds.append("approval_requested")
    elif approval.state != "cancelled" or "approval_requested" in told:
        kinds.append("approval_answered")
    events = [
        ToolProgress(kind, approval=_view(approval))
        for kind in kinds
        if kind not in told
    ]
    told.update(kinds)
    return events


def _view(approval: Approval) -> ApprovalView:
    ran = approval.final_arguments if approval.state == "approved" else ""
    shown = ran or approval.arguments
    return ApprovalView(
        approval=approval.id,
        tool=approval.tool,
        arguments=cast("dict[str, Any]", _parsed(shown)),
        digest=approval.digest,
        deadline_ms=approval.deadline_ms,
        requester=approval.requester,
        roles=tuple(approval.roles),
        outcome="" if approval.state == "open" else approval.state,
        by=approval.answered_by,
        reason=approval.reason,
        changed=bool(ran) and approval.final_digest != approval.digest,
    )
