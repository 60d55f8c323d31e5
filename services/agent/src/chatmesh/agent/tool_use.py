"""The tools one run calls: all calls of one response together, each shown as it goes on.

A model that asks for several tools at once says that none of them waits for another. So
they run side by side, as many as the agent's limits allow; one that waits for a person
takes nobody's place. Results are handed back in the order in which the model asked.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from chatmesh.agent import conversation
from chatmesh.agent.agents import Agent
from chatmesh.agent.conversation import Call, Journal
from chatmesh.agent.draft import Draft
from chatmesh.agent.ports import Claimed, Lost
from chatmesh.agent.tools.port import (
    BusUnavailable,
    ToolBus,
    ToolCall,
    ToolOffer,
    ToolOutcome,
    ToolProgress,
)
from chatmesh.agent.tools.ports import LedgerRefused
from chatmesh.runtime import trace_names as names
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.checkpoints import Checkpoint
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.failures import sole
from chatmesh.runtime.tracing import Tracing
from chatmesh.wire.runs import RunEvent, RunStatus

_log = logging.getLogger(__name__)

_RETRY_BASE_S: Final = 0.1
_RETRY_CAP_S: Final = 2.0
_CANCEL_S: Final = 1.0
_BUS_ATTEMPTS: Final = 5
_AFTER_APPROVAL_S: Final = 30.0
_AFTER_APPROVAL_SHARE: Final = 0.1
"""Of a run's time, what is left for the model when nobody has answered: the less of both."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the tool use of all runs of a process shares."""

    tools: ToolBus
    clock: Clock
    chance: random.Random
    checkpoint: Checkpoint
    tracing: Tracing


@dataclass(frozen=True, slots=True)
class Wanted:
    """One call of the last response, and what is shown of it."""

    call: Call
    step: int
    shown: str
    """Its id, unique in the run: some models count their calls anew in each step."""
    number: int
    """Of all calls of the run, from 0."""


@dataclass(slots=True)
class _Busy:
    """What the calls under way are busy with, in the order in which they began."""

    running: dict[str, str] = field(default_factory=dict[str, str])
    asking: dict[str, str] = field(default_factory=dict[str, str])


Keep = Callable[[Wanted, ToolOutcome], Awaitable[None]]


class ToolUse:
    """The tools of one run, for the process that performs it."""

    def __init__(
        self,
        claimed: Claimed,
        agent: Agent,
        draft: Draft,
        shop: Workshop,
        *,
        tell: Callable[[list[RunEvent]], object],
        heed: Callable[[], None],
    ) -> None:
        """`tell` shows events to the room; `heed` raises when the run has to end."""
        self._claimed = claimed
        self._agent = agent
        self._draft = draft
        self._shop = shop
        self._tell = tell
        self._heed = heed
        self._slots = asyncio.Semaphore(agent.limits.tools_together)
        self._busy = _Busy()
        self._open: set[str] = set()
        lasts_s = agent.limits.duration_s
        asks_s = lasts_s - min(_AFTER_APPROVAL_S, lasts_s * _AFTER_APPROVAL_SHARE)
        spent_ms = claimed.now_ms - claimed.started_ms
        self._approval_until_ms = shop.clock.unix_ms() - spent_ms + int(asks_s * 1000)

    async def offers(self) -> list[ToolOffer]:
        """What the agent may call just now; none when nobody can be asked."""
        if not self._agent.tools:
            return []
        try:
            return list(await self._shop.tools.offers(self._agent.tools))
        except BusUnavailable as error:
            # The model answers without tools rather than not at all.
            _log.warning("no tools just now", extra={"cause": str(error)})
            return []

    async def use(self, journal: Journal, traceparent: str, keep: Keep) -> None:
        """Make the calls that the last response still waits for, and keep what came of each.

        `keep` is called with one after the other, in the order in which the model asked.
        Raises what `keep` and `heed` raise; calls that are still open go on by themselves
        then: see `cancel_open`.
        """
        calls = wanted_calls(journal)
        self._draft.step = journal.responses[-1].step
        self._show(calls)
        offers = {offer.name: offer for offer in await self.offers()}
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(one, offers, traceparent))
                    for one in calls
                ]
                for one, task in zip(calls, tasks, strict=True):
                    await keep(one, await task)
        except BaseExceptionGroup as failures:
            raise _cause(failures) from None

    async def cancel_open(self) -> None:
        """Ask for the end of calls that nobody waits for any more, whoever made them."""
        if not (self._open or self._claimed.taken_over):
            return
        try:
            async with asyncio.timeout(_CANCEL_S):
                await self._shop.tools.cancel_run(self._claimed.run)
        except (TimeoutError, BusUnavailable) as error:
            # They end by their own deadlines then, and nobody waits for them.
            _log.warning(
                "tool calls could not be cancelled", extra={"cause": str(error)}
            )

    # -- One call ------------------------------------------------------------------------

    async def _one(
        self, wanted: Wanted, offers: Mapping[str, ToolOffer], traceparent: str
    ) -> ToolOutcome:
        offer = offers.get(wanted.call.name)
        # What a model writes is anything: only a tool that is there gives a name.
        name = offer.name if offer is not None else names.UNKNOWN_TOOL
        with self._shop.tracing.begin(
            names.execute_tool(name),
            parent=traceparent,
            attributes={
                names.AI_OPERATION: names.EXECUTE_TOOL,
                names.AI_TOOL: name,
                names.AI_TOOL_CALL: wanted.shown,
            },
        ) as span:
            outcome = await self._outcome_of(wanted, offers, span.traceparent)
        ended = self._draft.call_ended(wanted.shown, outcome.content, outcome.state)
        self._tell([ended, *self._status(wanted)])
        return outcome

    async def _outcome_of(
        self, wanted: Wanted, offers: Mapping[str, ToolOffer], traceparent: str
    ) -> ToolOutcome:
        """What came of a call; whatever is wrong with it is for the model to read."""
        call = wanted.call
        if wanted.number >= self._agent.limits.tool_calls:
            return ToolOutcome("failed", "no further tool may be called in this answer")
        try:
            arguments = conversation.arguments_of(call)
        except ValueError as error:
            return ToolOutcome("failed", str(error))
        offer = offers.get(call.name)
        # A call that another owner may have made is joined, even if its tool has gone; but
        # it is not made then, for this agent may never have been allowed to.
        if offer is None and not self._claimed.taken_over:
            known = ", ".join(sorted(offers)) or "none"
            return ToolOutcome(
                "failed", f"no tool is called {call.name!r}; there are: {known}"
            )
        claimed, clock = self._claimed, self._shop.clock
        timeout_s = offer.timeout_s if offer else self._agent.limits.idle_s
        place = _Place(self._slots)
        async with place:
            self._tell(self._status(wanted, running=True))
            asked = ToolCall(
                key=f"{claimed.run}:{wanted.shown}",
                run=claimed.run,
                epoch=claimed.epoch,
                room=claimed.channel,
                agent=claimed.agent,
                requester=claimed.requester,
                name=call.name,
                arguments=arguments,
                deadline_ms=clock.unix_ms() + int(timeout_s * 1000),
                traceparent=traceparent,
                approval_timeout_s=self._agent.limits.approval_s,
                approval_until_ms=self._approval_until_ms,
                join_only=offer is None,
            )
            read_only = offer is not None and offer.read_only
            return await self._use(asked, wanted, place, read_only=read_only)

    async def _use(
        self, asked: ToolCall, wanted: Wanted, place: "_Place", *, read_only: bool
    ) -> ToolOutcome:
        """Call through the bus, and again when it went away; the same call joins itself."""
        shop = self._shop
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, shop.chance)
        outcome: ToolOutcome | None = None
        self._open.add(asked.key)
        for _ in range(_BUS_ATTEMPTS):
            try:
                async for item in shop.tools.call(asked):
                    if isinstance(item, ToolOutcome):
                        outcome = item
                    else:
                        self._progress(wanted, item, place)
            except BusUnavailable as error:
                _log.warning("tool bus unavailable", extra={"cause": str(error)})
                await shop.clock.sleep(backoff.next_s())
            except LedgerRefused as error:
                # It would say so again: arguments that the database cannot hold, say.
                _log.warning("a call cannot be kept", extra={"cause": str(error)})
                outcome = ToolOutcome("failed", "the call cannot be kept")
            if outcome is not None:
                break
            self._heed()
        self._open.discard(asked.key)
        return outcome or unreachable(read_only=read_only)

    def _progress(self, wanted: Wanted, item: ToolProgress, place: "_Place") -> None:
        draft, shown = self._draft, wanted.shown
        match item.kind:
            case "sent":
                self._shop.checkpoint("agent.tool_called")
            case "progress" | "retry":
                text = item.text or ("once more" if item.kind == "retry" else "")
                self._tell([draft.call_progress(shown, item.progress, text)])
            case "approval_requested":
                assert item.approval is not None, "an approval is what was requested"
                # People take their time; others go on meanwhile.
                place.leave()
                event = draft.approval_requested(shown, item.approval)
                self._tell([event, *self._status(wanted, asking=True)])
            case "approval_answered":
                assert item.approval is not None, "an approval is what was answered"
                event = draft.approval_answered(shown, item.approval)
                self._tell([event, *self._status(wanted, running=True)])

    # -- What is shown -------------------------------------------------------------------

    def _show(self, calls: Iterable[Wanted]) -> None:
        """What the model has asked for, before anything is done about it."""
        draft = self._draft
        for one in calls:
            if not draft.knows_call(one.shown):
                event = draft.call_started(one.shown, one.call.name)
                arguments = draft.call_arguments(one.shown, one.call.arguments)
                self._tell([event, *arguments])

    def _status(
        self, wanted: Wanted, *, running: bool = False, asking: bool = False
    ) -> list[RunEvent]:
        """What the agent is busy with, now that this call runs, asks people, or is over.

        Whoever has to answer is told so before anything else.
        """
        busy, shown = self._busy, wanted.shown
        for calls, now in ((busy.running, running), (busy.asking, asking)):
            if now:
                calls[shown] = wanted.call.name
            else:
                calls.pop(shown, None)
        if busy.asking:
            tool = next(iter(busy.asking.values()))
            return self._draft.now(RunStatus.APPROVAL, tool=tool)
        if busy.running:
            tool = next(iter(busy.running.values()))
            return self._draft.now(RunStatus.TOOL, tool=tool)
        return []


class _Place:
    """One of the places for calls that run at the same time; it may be left early."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        self._held = True

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Let somebody else have it."""
        if self._held:
            self._held = False
            self._slots.release()


def wanted_calls(journal: Journal) -> list[Wanted]:
    """The calls of the last response that have no result yet, in the model's order."""
    if not journal.open_calls:
        return []
    last = journal.responses[-1]
    before = sum(len(one.calls) for one in journal.own.responses[:-1])
    still_open = {call.id for call in journal.open_calls}
    return [
        Wanted(call, last.step, shown_id(call, last.step, journal), before + place)
        for place, call in enumerate(last.calls)
        if call.id in still_open
    ]


def shown_id(call: Call, step: int, journal: Journal) -> str:
    """The call's id, made unique: some models count their calls anew in each step."""
    for response in journal.responses:
        if response.step < step and any(c.id == call.id for c in response.calls):
            return f"{call.id}.{step}"
    return call.id


def unreachable(*, read_only: bool) -> ToolOutcome:
    """What a call ends with when neither the ledger nor the workers can be reached."""
    if read_only:
        return ToolOutcome("failed", "the tool cannot be reached just now")
    # It may have gone out before the bus went away: nobody shall repeat it blindly.
    return ToolOutcome(
        "unknown", "the tool cannot be reached just now; it may have done its work"
    )


def _cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Why the calls were left: of several reasons, that the run is lost goes first."""
    if failures.subgroup(Lost) is not None:
        return Lost()
    return sole(failures, TimeoutError)
