"""One run, from where its journal ends to the message that ends it.

Whoever performs a run owns it by lease and epoch. Each finished piece (what the model was
told, its response, a tool's result) goes into the journal before anything builds on it, so
that a process may die at any await and the next one goes on from there. What the room sees
meanwhile may be lost, doubled or said anew; the journal and the answer are not.
"""

import asyncio
import enum
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from chatmesh.agent import conversation, ending
from chatmesh.agent.agents import Agent, HostedModel, ScriptedModel
from chatmesh.agent.attendance import Doing
from chatmesh.agent.conversation import (
    AgentSaid,
    Context,
    Entry,
    Journal,
    ModelAsk,
    PersonSaid,
    Responded,
    Returned,
    Steered,
)
from chatmesh.agent.draft import Draft, Shown, joined
from chatmesh.agent.ending import COMPLETED, Ending, Ends
from chatmesh.agent.metrics import GUARDS, Metrics
from chatmesh.agent.pacing import Pace, Windows
from chatmesh.agent.ports import (
    Answered,
    Claimed,
    Lost,
    Model,
    ModelFailed,
    Room,
    RoomUnavailable,
    RunBook,
    RunBookUnavailable,
    Standing,
    StillThere,
    TextDelta,
)
from chatmesh.agent.tool_use import ToolUse, Wanted, Workshop, shown_id
from chatmesh.agent.tools.port import ToolBus, ToolOutcome
from chatmesh.runtime import trace_names as names
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.checkpoints import Checkpoint
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tracing import NOTHING, SpanKind, Tracing
from chatmesh.wire import errors
from chatmesh.wire.messages import Entry as LogEntry
from chatmesh.wire.runs import (
    AnswerTool,
    AnswerUsage,
    RunEvent,
    RunOutcome,
    RunStatus,
    agent_user,
    answer_id,
    decode_answer,
    is_agent,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

HEARTBEAT_S: Final = 2.0
"""So long nothing is said before a sign of life is given."""
SEQ_JUMP: Final = 100_000
"""More events than an owner can have told since its last checkpoint."""
CALLS_MAX: Final = 128
"""Calls of tools in one response; with more of them it is no answer."""
_RETRY_BASE_S: Final = 0.1
_RETRY_CAP_S: Final = 2.0
_MODEL_BASE_S: Final = 0.5
_MODEL_CAP_S: Final = 15.0
_UNCONFIRMED_S: Final = 0.02
"""Text waits so long more for the broker's confirm of the text before it."""
_CONTEXT_CHARS_MAX: Final = 4000
"""Of one earlier message, as the model is told."""


class Halt(enum.Enum):
    """Why somebody ends a performance from outside."""

    STOP = "stop"
    """A person has stopped the run."""
    INTERRUPT = "interrupt"
    """Another message is to be answered instead."""
    PARK = "park"
    """This process leaves; somebody else goes on."""
    LOST = "lost"
    """The run is not ours any more."""


@dataclass(frozen=True, slots=True)
class Models:
    """The model of an agent, and what the agents file says of it."""

    model: Model
    choice: HostedModel | ScriptedModel


@dataclass(frozen=True, slots=True)
class Stage:
    """What all performances of a process share."""

    book: RunBook
    room: Room
    tools: ToolBus
    models: Callable[[Agent], Models]
    clock: Clock
    chance: random.Random
    checkpoint: Checkpoint
    metrics: Metrics
    tracing: Tracing
    windows: Windows
    lag_s: Callable[[], float]
    """How far the event loop is behind just now."""
    crashes_max: int


class Performance:
    """One run that this process owns."""

    def __init__(
        self,
        claimed: Claimed,
        agent: Agent | None,
        stage: Stage,
        *,
        lease_ends_s: float,
        abandoned: bool = False,
    ) -> None:
        """`agent` is None when the agents file does not know it any more.

        `abandoned`: no replica has gone on with it, and it is only to be ended.
        """
        self.claimed = claimed
        self.agent = agent or Agent(name=claimed.agent, title=claimed.agent)
        self.lease_ends_s = lease_ends_s
        """When the lease ends unless it is renewed, by the clock."""
        self._known = agent is not None
        self._abandoned = abandoned
        self._stage = stage
        self._journal = Journal()
        self._draft = Draft(
            room=claimed.channel,
            run=claimed.run,
            agent=self.agent,
            trigger=claimed.trigger,
            requester=claimed.requester,
            attempt=claimed.attempt,
            epoch=claimed.epoch,
            seq=claimed.seq,
            started_ms=claimed.started_ms,
        )
        self._tools = ToolUse(
            claimed,
            self.agent,
            self._draft,
            Workshop(
                stage.tools,
                stage.clock,
                stage.chance,
                stage.checkpoint,
                stage.tracing,
            ),
            tell=self._tell,
            heed=self._heed,
        )
        self._pace = Pace(stage.windows)
        self._started_s = stage.clock.monotonic_s()
        self._told_s = self._started_s
        self._asked_s = self._started_s
        self._confirming: asyncio.Future[None] | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._scope: asyncio.Timeout | None = None
        self._halt: Halt | None = None
        self._halted_by = ""
        self._requests = 0
        self._over = False
        self._span = NOTHING
        self.dirty = False
        """Something has been told since the last checkpoint."""

    @property
    def run_id(self) -> str:
        return self.claimed.run

    # -- From outside --------------------------------------------------------------------

    def halt(self, why: Halt, by: str = "") -> None:
        """End this soon. The first reason counts, except that what is lost is lost."""
        if self._halt is None or why is Halt.LOST:
            self._halt, self._halted_by = why, by
        # While it unwinds it is ending already, and its deadline cannot be moved.
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    @property
    def status(self) -> RunStatus:
        """What it is busy with."""
        return self._draft.status

    @property
    def doing(self) -> Doing:
        """The same with its details, for presence."""
        return Doing(self._draft.status, tuple(self._draft.detail.items()))

    def shown(self) -> Shown | None:
        """What is seen of it now; None before anything is, and when only telling is left."""
        if self._over or self.claimed.status is Standing.ENDING:
            return None
        return self._draft.shown()

    def beat(self, now_s: float) -> None:
        """Give a sign of life after some silence."""
        silent_s = now_s - self._told_s
        if not self._over and self._scope is not None and silent_s >= HEARTBEAT_S:
            self._tell([self._draft.heartbeat()])

    # -- The whole -----------------------------------------------------------------------

    async def perform(self) -> None:
        """Bring the run to its end, or to somebody else."""
        claimed = self.claimed
        with self._stage.tracing.begin(
            names.invoke_agent(claimed.agent),
            parent=claimed.traceparent,
            attributes={
                names.AI_OPERATION: names.INVOKE_AGENT,
                names.AI_AGENT: claimed.agent,
                names.AI_CONVERSATION: claimed.run,
            },
        ) as self._span:
            try:
                await self._perform()
            except Lost:
                self._stage.metrics.runs_lost.inc()
                _log.info("run lost to another replica", extra={"run": self.run_id})
            finally:
                self._over = True
                self._stop_flushing()

    async def _perform(self) -> None:
        claimed = self.claimed
        if claimed.status is Standing.ENDING:
            await self._tell_decided()
            return
        over = await self._until_over()
        if over is None:
            if self._halt is Halt.PARK:
                await self._patiently(
                    lambda: self._stage.book.let_go(
                        claimed.run, claimed.epoch, self._draft.seq
                    )
                )
                self._stage.metrics.runs_parked.inc()
            return
        await self._finish(over)

    async def _until_over(self) -> Ending | None:
        """Perform until the end is known; None when that is for somebody else to say."""
        # What is over in any case is told with the text there is, which takes its time.
        left_s = self._left_s if self._beyond_hope() is None else None
        try:
            async with asyncio.timeout(left_s) as self._scope:
                if self._halt is not None:
                    self.halt(self._halt)
                return await self._play()
        except TimeoutError:
            expired = self._scope is not None and self._scope.expired()
            if self._halt is None and not expired:
                return self._broken()
        except Ends as ends:
            return ends.ending
        except Lost:
            raise
        except Exception:  # noqa: BLE001 - told below, with all there is to know of it
            return self._broken()
        finally:
            self._scope = None
        return self._halted()

    def _broken(self) -> Ending:
        """Something nobody has thought of: it ends this run, and never its process.

        Left to the lease it would be taken over, fail the same way, and look like deaths
        of processes. Call it where the exception is handled.
        """
        _log.exception("a run failed within", extra={"run": self.run_id})
        return Ending(RunOutcome.FAILED, "internal error", "internal")

    def _halted(self) -> Ending | None:
        match self._halt:
            case Halt.PARK | Halt.LOST:
                return None
            case Halt.STOP:
                by = f" by {self._halted_by}" if self._halted_by else ""
                return Ending(RunOutcome.CANCELLED, f"stopped{by}", "cancelled")
            case Halt.INTERRUPT:
                return Ending(
                    RunOutcome.INTERRUPTED, "another message came first", "interrupted"
                )
            case None:
                return self._too_long().ending

    @property
    def _left_s(self) -> float:
        """Of the time a run may take, when this performance of it began."""
        spent_ms = self.claimed.now_ms - self.claimed.started_ms
        return self.agent.limits.duration_s - spent_ms / 1000

    def _too_long(self) -> Ends:
        limit_s = self.agent.limits.duration_s
        return ending.failed(f"it took longer than {limit_s:g} seconds", "deadline")

    def _beyond_hope(self) -> Ends | None:
        """Why this run is not gone on with, if it is not."""
        claimed = self.claimed
        if self._abandoned:
            return ending.interrupted("nobody was there to go on with it", "abandoned")
        if not self._known:
            return ending.failed(
                f"no agent is called {claimed.agent} any more", "unknown_agent"
            )
        if claimed.crashes >= self._stage.crashes_max:
            return ending.interrupted(
                f"it was lost {claimed.crashes} times with the process that ran it",
                "crashed",
            )
        return self._too_long() if self._left_s <= 0 else None

    async def _play(self) -> Ending:
        """Go on from where the journal ends."""
        claimed, book = self.claimed, self._stage.book
        self._journal = await self._patiently(lambda: book.journal(claimed.run))
        self._journal.carried = claimed.carried
        await self._appear()
        if claimed.stop_by is None and (over := self._beyond_hope()) is not None:
            raise over
        if claimed.stop_by is not None:
            interrupt = claimed.stop_reason == Halt.INTERRUPT.value
            self.halt(Halt.INTERRUPT if interrupt else Halt.STOP, claimed.stop_by)
            self._heed()
        if self._journal.context is None:
            await self._keep(await self._context())
        while True:
            self._heed()
            if self._journal.open_calls:
                await self._use_tools()
            await self._take_steered()
            if not self._journal.wants_answer:
                return self._completed()
            self._check_limits()
            await self._respond()

    def _completed(self) -> Ending:
        last = self._journal.responses[-1]
        if last.cut_off:
            return Ending(RunOutcome.INTERRUPTED, _cut(last), last.cut_by or "length")
        return COMPLETED

    def _heed(self) -> None:
        # A cancellation can be swallowed below; the wish behind it cannot.
        if self._halt is not None:
            raise TimeoutError

    # -- Appearing -----------------------------------------------------------------------

    async def _appear(self) -> None:
        """Show the room the run; after a takeover everything anew, for anything was lost."""
        claimed, draft = self.claimed, self._draft
        if not claimed.taken_over:
            events = [draft.started()]
            for response in self._journal.responses:
                events += self._retold(response)
            self._tell([*events, *draft.now(RunStatus.THINKING)])
            return
        last = await self._patiently(lambda: self._stage.book.last_shown(claimed.run))
        seen = max(claimed.seq, last.seq if last is not None else 0)
        events = [draft.attempted(1, "taken over", seq=seen + SEQ_JUMP)]
        for response in self._journal.responses:
            events += self._retold(response)
        self._tell(events)
        hopeless = self._beyond_hope() is not None
        if (hopeless or claimed.stop_by is not None) and last is not None:
            self._show_partial(last)

    def _retold(self, response: Responded) -> list[RunEvent]:
        draft = self._draft
        events = [draft.begin_step(response.step)]
        draft.gather(response.text)
        events += draft.end_text(0)
        results = {
            one.call: one for one in self._journal.results if one.step == response.step
        }
        for call in response.calls:
            shown = shown_id(call, response.step, self._journal)
            events.append(draft.call_started(shown, call.name))
            events += draft.call_arguments(shown, call.arguments)
            if result := results.get(call.id):
                events.append(draft.call_ended(shown, result.content, result.outcome))
        return events

    def _show_partial(self, last: Shown) -> None:
        """A run that is not resumed keeps what was seen of its last step."""
        responses = self._journal.responses
        known = responses[-1].step if responses else 0
        for step in last.steps:
            if step.step > known and step.text:
                events = [self._draft.begin_step(step.step)]
                self._draft.gather(step.text)
                self._tell([*events, *self._draft.end_text(0)])

    # -- Context -------------------------------------------------------------------------

    async def _context(self) -> Context:
        limit = self.agent.limits.context_messages
        entries = await self._remembered(limit) if limit else []
        earlier = [said for entry in entries if (said := self._said(entry))]
        return Context(earlier, self.claimed.prompt)

    async def _remembered(self, limit: int) -> list[LogEntry]:
        """The room's last words before the trigger; none where history is away."""
        metrics, clock = self._stage.metrics, self._stage.clock
        entries: list[LogEntry] = []
        asked_s = clock.monotonic_s()
        try:
            entries = await self._stage.room.before(
                self.claimed.channel, self.claimed.trigger_offset, limit
            )
        except RoomUnavailable as error:
            # An answer without the room's past beats no answer.
            _log.warning("answering without context", extra={"cause": str(error)})
            metrics.memory_queries.labels("failed").inc()
        else:
            metrics.memory_queries.labels("found" if entries else "nothing").inc()
        metrics.memory_query_seconds.observe(clock.monotonic_s() - asked_s)
        return entries

    def _said(self, entry: LogEntry) -> PersonSaid | AgentSaid | None:
        answered = decode_answer(entry.data)
        # Anybody can write what looks like an answer; only an agent is its author.
        if answered is not None and is_agent(conversation.author(entry.info)):
            text = answered.text[:_CONTEXT_CHARS_MAX]
            if answered.agent.name == self.agent.name:
                return AgentSaid(text)
            return PersonSaid(agent_user(answered.agent.name), text)
        return conversation.read_message(entry.data, entry.info, _CONTEXT_CHARS_MAX)

    async def _take_steered(self) -> None:
        """Take up what people have said since, before the model goes on."""
        book = self._stage.book
        while True:
            found = await self._patiently(lambda: book.steered(self.run_id))
            if found is None:
                return
            step = self._draft.step + 1
            await self._keep(Steered(step, found[0], found[1]))
            self._stage.metrics.steered.inc()

    # -- The model -----------------------------------------------------------------------

    def _check_limits(self) -> None:
        limits, journal = self.agent.limits, self._journal.own
        if len(journal.responses) >= limits.steps:
            raise ending.failed(f"it took more than {limits.steps} steps", "steps")
        if len(journal.results) > limits.tool_calls:
            raise ending.failed(
                f"it called tools more than {limits.tool_calls} times", "tool_calls"
            )
        if journal.input_tokens + journal.output_tokens > limits.total_tokens:
            raise ending.failed(
                f"it used more than {limits.total_tokens} tokens", "tokens"
            )

    async def _respond(self) -> None:
        """Get one whole response, however often it has to be asked for."""
        responses = self._journal.responses
        step = responses[-1].step + 1 if responses else 1
        backoff = Backoff(_MODEL_BASE_S, _MODEL_CAP_S, self._stage.chance)
        limits = self.agent.limits
        for attempt in range(1, limits.model_attempts + 1):
            self._heed()
            try:
                response = await self._stream(step)
            except ModelFailed as error:
                self._stage.metrics.model_calls.labels("failed").inc()
                wait_s = (
                    error.after_s if error.after_s is not None else backoff.next_s()
                )
                if (
                    not error.passing
                    or attempt == limits.model_attempts
                    or wait_s > limits.retry_after_s
                ):
                    raise ending.failed(error.reason, "model") from error
                await self._supersede(step, error.reason)
                await self._stage.clock.sleep(wait_s)
            else:
                await self._keep(response)
                self._count(response)
                self._stage.checkpoint("agent.response_kept")
                self._tell([self._draft.end_step()] if not response.calls else [])
                return

    def _count(self, response: Responded) -> None:
        metrics, usage = self._stage.metrics, response.usage
        metrics.model_calls.labels("answered").inc()
        metrics.tokens.labels("input").inc(usage.input_tokens)
        metrics.tokens.labels("output").inc(usage.output_tokens)
        choice = self._stage.models(self.agent).choice
        metrics.cost.inc(float(ending.cost_of(usage, choice) or 0))

    async def _supersede(self, step: int, reason: str) -> None:
        """What this step has said so far does not count: say so, and say it anew."""
        self._stop_flushing()
        draft = self._draft
        if not draft.text and not draft.gathered:
            return  # It has said nothing.
        draft.attempt += 1
        await self._patiently(
            lambda: self._stage.book.raise_attempt(
                self.run_id, self.claimed.epoch, draft.attempt
            )
        )
        self._tell([draft.attempted(step, reason), *draft.now(RunStatus.THINKING)])

    async def _stream(self, step: int) -> Responded:
        """Ask once, and show the answer as it comes. Raises ModelFailed."""
        models = self._stage.models(self.agent)
        offers = await self._tools.offers()
        ask = ModelAsk(
            self.agent.instructions,
            self._journal.turns(),
            offers,
            self.agent.limits.output_tokens,
        )
        begun = [] if self._draft.at(step) else [self._draft.begin_step(step)]
        self._tell([*begun, *self._draft.now(RunStatus.THINKING)])
        self._pace.restart()
        self._requests += 1
        idle_s = self.agent.limits.idle_s
        self._asked_s = self._stage.clock.monotonic_s()
        with self._stage.tracing.begin(
            names.chat(models.model.name),
            parent=self._span.traceparent,
            kind=SpanKind.CLIENT,
            attributes={
                names.AI_OPERATION: names.CHAT,
                names.AI_PROVIDER: models.choice.kind,
                names.AI_MODEL: models.model.name,
                names.AI_CONVERSATION: self.run_id,
            },
        ) as span:
            idle = asyncio.timeout(idle_s)
            try:
                async with idle:
                    answered = await self._listen(models.model, ask, step, idle)
            except TimeoutError as error:
                if not idle.expired():
                    raise
                raise ModelFailed("the model stalled", passing=True) from error
            response = answered.response
            span.set(
                {
                    names.AI_INPUT_TOKENS: response.usage.input_tokens,
                    names.AI_OUTPUT_TOKENS: response.usage.output_tokens,
                    names.AI_ANSWERED_BY: answered.model or models.model.name,
                    names.AI_FINISH: (answered.finish,) if answered.finish else (),
                }
            )
        self._stage.metrics.response_seconds.observe(
            self._stage.clock.monotonic_s() - self._asked_s
        )
        self._stop_flushing()
        self._tell(self._draft.end_text(self._window_ms))
        if len(response.calls) > CALLS_MAX:
            raise ModelFailed(
                f"the model called {len(response.calls)} tools at once", passing=True
            )
        if not response.text.strip() and response.cut_off:
            # The same request would come to the same end.
            raise ModelFailed(_cut(response), passing=False)
        if not response.text.strip() and not response.calls:
            raise ModelFailed("the model said nothing", passing=True)
        return response

    async def _listen(
        self, model: Model, ask: ModelAsk, step: int, idle: asyncio.Timeout
    ) -> Answered:
        loop = asyncio.get_running_loop()
        idle_s = self.agent.limits.idle_s
        before = self._draft.all_text
        left_chars = self.agent.limits.text_chars - len(before)
        left_bytes = ending.TEXT_BYTES_MAX - ending.encoded_bytes(before)
        said = ""
        async with model.answer(ask, step=step) as events:
            async for event in events:
                idle.reschedule(loop.time() + idle_s)
                self._heed()
                match event:
                    case TextDelta(text=text):
                        left_bytes -= ending.encoded_bytes(text)
                        kept = text if left_bytes >= 0 else ""
                        kept = kept[: max(0, left_chars - len(said))]
                        self._hear(kept)
                        said += kept
                        if kept != text:
                            cut = Responded(step, said, cut_off=True)
                            return Answered(cut, finish="length")
                    case StillThere():
                        pass
                    case Answered():
                        return event
        raise ModelFailed("the model broke off", passing=True, begun=True)

    def _hear(self, text: str) -> None:
        """Text has come: show it now, or with what comes after it."""
        if not text:
            return
        first = not self._draft.text and not self._draft.gathered
        self._draft.gather(text)
        if first:
            self._stage.metrics.first_delta_seconds.observe(
                self._stage.clock.monotonic_s() - self._asked_s
            )
            self._flush(self._draft.now(RunStatus.STREAMING))
            self._stage.checkpoint("agent.first_delta")
        elif self._flushing is None:
            self._flush_soon()

    def _flush_soon(self) -> None:
        clock, draft = self._stage.clock, self._draft
        wait_s = self._pace.wait_s(
            clock.monotonic_s(),
            gathered=len(draft.gathered),
            lag_s=self._stage.lag_s(),
        )
        if self._confirming is not None and not self._confirming.done():
            wait_s = max(wait_s, _UNCONFIRMED_S)
        loop = asyncio.get_running_loop()
        self._flushing = loop.call_later(wait_s, self._on_window)

    def _on_window(self) -> None:
        self._flushing = None
        if self._over or not self._draft.gathered:
            return
        if self._confirming is not None and not self._confirming.done():
            # The broker is behind: what is gathered meanwhile goes in one piece.
            self._flush_soon()
            return
        self._flush([])

    def _flush(self, before: list[RunEvent]) -> None:
        events = [*before, *self._draft.tell(self._window_ms)]
        self._pace.sent(self._stage.clock.monotonic_s())
        self._confirming = self._tell(events)
        self._stage.metrics.deltas.inc()

    def _stop_flushing(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    @property
    def _window_ms(self) -> int:
        return self._stage.windows.under(self._stage.lag_s())

    # -- Tools ---------------------------------------------------------------------------

    async def _use_tools(self) -> None:
        await self._tools.use(self._journal, self._span.traceparent, self._keep_result)
        self._tell([self._draft.end_step(), *self._draft.now(RunStatus.THINKING)])

    async def _keep_result(self, wanted: Wanted, outcome: ToolOutcome) -> None:
        call = wanted.call
        await self._keep(
            Returned(wanted.step, call.id, call.name, outcome.state, outcome.content)
        )
        self._stage.checkpoint("agent.result_kept")
        self._stage.metrics.tool_calls.labels(outcome.state).inc()

    # -- The end -------------------------------------------------------------------------

    async def _finish(self, over: Ending) -> None:
        """Decide, tell the room for good, and be done. Raises Lost."""
        claimed, stage = self.claimed, self._stage
        self._stop_flushing()
        self._tell(self._draft.end_text(self._window_ms))
        body = self._answer(over)
        await self._patiently(
            lambda: stage.book.decide(
                claimed.run, claimed.epoch, over.outcome, over.reason, body
            )
        )
        if over.code in GUARDS:
            stage.metrics.guard_trips.labels(over.code).inc()
        await self._tools.cancel_open()
        await self._tell_for_good(over, body)

    async def _tell_decided(self) -> None:
        """Somebody has decided how this run ends; tell the room."""
        claimed = self.claimed
        outcome = claimed.outcome or RunOutcome.CANCELLED
        stopped = f"stopped by {claimed.stop_by}" if claimed.stop_by else ""
        over = Ending(outcome, claimed.reason or stopped, outcome.value)
        if claimed.answer is not None:
            await self._tools.cancel_open()
            await self._tell_for_good(over, claimed.answer)
        else:
            await self._finish(over)

    async def _tell_for_good(self, over: Ending, body: bytes) -> None:
        claimed, stage = self.claimed, self._stage
        refused = await self._commit(body)
        if refused:
            over = await self._say_instead(refused)
        stage.checkpoint("agent.answer_committed")
        released = await self._patiently(
            lambda: stage.book.end(claimed.run, claimed.epoch)
        )
        if released:
            _log.info("steered too late", extra={"runs": len(released)})
        usage = msgspec.to_builtins(self._usage())
        if over.outcome in {RunOutcome.COMPLETED, RunOutcome.CANCELLED}:
            kind = "success" if over.outcome is RunOutcome.COMPLETED else "cancelled"
            self._tell([self._draft.finished(kind, usage, self._duration_ms)])
        else:
            self._tell([self._draft.failed(over.reason, over.code)])
        stage.checkpoint("agent.finished_told")
        stage.metrics.runs_ended.labels(over.outcome.value).inc()
        stage.metrics.run_seconds.observe(self._duration_ms / 1000)

    async def _say_instead(self, refused: str) -> Ending:
        """The answer can never be had: one line that nothing can be held against."""
        claimed, book = self.claimed, self._stage.book
        over = Ending(
            RunOutcome.FAILED, f"the room did not take the answer: {refused}", "refused"
        )
        body = self._answer(over, text="", tools=False)
        await self._patiently(
            lambda: book.decide(
                claimed.run, claimed.epoch, over.outcome, over.reason, body
            )
        )
        # Where that is refused as well nothing durable can be said, and what follows
        # reaches those who look on.
        await self._commit(body)
        return over

    async def _commit(self, body: bytes) -> str:
        """Publish the answer until history has it; why it never will. Raises Lost."""
        claimed, stage = self.claimed, self._stage
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, stage.chance)
        while True:
            self._require_lease()
            try:
                outcome = await stage.room.commit(
                    self.agent,
                    claimed.channel,
                    id_=answer_id(claimed.run),
                    data=body,
                    run=claimed.run,
                    epoch=claimed.epoch,
                    traceparent=self._span.traceparent or claimed.traceparent,
                )
            except RoomUnavailable as error:
                _log.warning("answer not committed yet", extra={"cause": str(error)})
            else:
                if not outcome.error_code:
                    return ""
                if outcome.error_code == errors.SUPERSEDED.code:
                    raise Lost
                if not outcome.error_temporary:
                    return self._refused(outcome.error_code, outcome.error_message)
            stage.metrics.commit_retries.inc()
            await stage.clock.sleep(backoff.next_s())

    def _refused(self, code: int, message: str) -> str:
        """History will never take this answer: why, unless the room has one."""
        if code == errors.CONFLICT.code:
            # An answer with this id is there, and it is the one the room has.
            _log.warning("answered already", extra={"run": self.run_id})
            return ""
        self._stage.metrics.answers_refused.inc()
        _log.error(
            "history refuses an answer",
            extra={"run": self.run_id, "code": code, "cause": message},
        )
        return message or f"error {code}"

    def _answer(
        self, over: Ending, *, text: str | None = None, tools: bool = True
    ) -> bytes:
        models = self._stage.models(self.agent)
        if text is None and over is COMPLETED:
            text = joined(response.text for response in self._journal.responses)
        elif text is None:
            text = self._draft.all_text
        return ending.answer(
            run=self.claimed.run,
            trigger=self.claimed.trigger,
            agent=self.agent,
            ending=over,
            text=text,
            model=models.model.name,
            scripted=models.model.scripted,
            attempts=self._draft.attempt,
            usage=self._usage(),
            duration_ms=self._duration_ms,
            tools=[
                AnswerTool(one.name, one.outcome)
                for one in (self._journal.own.results if tools else ())
            ],
            retry_of=self.claimed.retry_of,
        )

    def _usage(self) -> AnswerUsage:
        models = self._stage.models(self.agent)
        return ending.usage_of(self._journal.own, models.choice, self._requests)

    @property
    def _duration_ms(self) -> int:
        before_ms = self.claimed.now_ms - self.claimed.started_ms
        return before_ms + int(
            (self._stage.clock.monotonic_s() - self._started_s) * 1000
        )

    # -- Keeping and telling -------------------------------------------------------------

    async def _keep(self, entry: Entry) -> None:
        claimed, place = self.claimed, len(self._journal.entries)
        await self._patiently(
            lambda: self._stage.book.keep(claimed.run, claimed.epoch, place, entry)
        )
        self._journal.entries.append(entry)

    async def _patiently(self, do: Callable[[], Awaitable[T]]) -> T:
        """Do it until the database answers. Raises Lost when the lease ends before."""
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, self._stage.chance)
        while True:
            try:
                return await do()
            except RunBookUnavailable as error:
                _log.warning("waiting for the database", extra={"cause": str(error)})
                self._stage.metrics.book_retries.inc()
            await self._stage.clock.sleep(backoff.next_s())
            self._require_lease()

    def _require_lease(self) -> None:
        if (
            self._halt is Halt.LOST
            or self._stage.clock.monotonic_s() >= self.lease_ends_s
        ):
            raise Lost

    def _tell(self, events: list[RunEvent]) -> "asyncio.Future[None] | None":
        if not events:
            return None
        self.dirty = True
        self._told_s = self._stage.clock.monotonic_s()
        self._stage.metrics.events.inc(len(events))
        return self._stage.room.tell(self.agent, events)


def _cut(response: Responded) -> str:
    """Why a response is not whole, in words for people."""
    match response.cut_by:
        case "content_filter":
            return "the provider of the model held back the rest"
        case "length":
            return "the model used up the tokens of one response"
        case _:
            return "the answer grew too long"
