"""What history does with what it hears: commit and tell, answer reads."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, TypeVar

from chatmesh.bus.outgoing import LinkLost
from chatmesh.history import paging
from chatmesh.history.batching import Batch, Committed, Delivery, mark_of, refuse
from chatmesh.history.metrics import Metrics
from chatmesh.history.ports import (
    Answers,
    Attempts,
    Columns,
    Link,
    Log,
    LogRefused,
    LogUnavailable,
    Placed,
    Sending,
)
from chatmesh.history.trails import NO_TRAIL, Trail
from chatmesh.runtime import trace_names
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.checkpoints import Checkpoint
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.health import DATABASE, Health
from chatmesh.runtime.tasks import Tasks, heed_cancellation
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing
from chatmesh.wire import channels, errors
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import (
    Heads,
    HeadsPage,
    HistoryRequest,
    Page,
    PublishCommand,
    Read,
    Reads,
    Truncate,
)

_log = logging.getLogger(__name__)

T = TypeVar("T")

READS_TOGETHER_MAX: Final = 256
"""Questions answered by one round."""
READS_WAITING_MAX: Final = 10_000
POISON: Final = errors.ErrorReply(
    errors.INTERNAL.code, "this message cannot be processed"
)


class Committer:
    """Commits what one broker link delivers, in order of arrival, and tells everyone.

    While one batch is in the database the next one gathers, and the events of the one
    before are still being confirmed. Lives and dies with its link: what a lost link had
    delivered comes again on the next one.
    """

    def __init__(
        self,
        *,
        log: Log,
        attempts: Attempts,
        link: Link,
        tasks: Tasks,
        health: Health,
        metrics: Metrics,
        clock: Clock,
        backoff: Backoff,
        checkpoint: Checkpoint,
        batch_commands_max: int,
        batch_bytes_max: int,
        batches_in_flight_max: int,
        attempts_max: int,
        suspect_deliveries: int,
        tracing: Tracing = OFF,
    ) -> None:
        self._log = log
        self._attempts = attempts
        self._link = link
        self._tasks = tasks
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self._backoff = backoff
        self._checkpoint = checkpoint
        self._batch_commands_max = batch_commands_max
        self._batch_bytes_max = batch_bytes_max
        self._attempts_max = attempts_max
        self._suspect_deliveries = suspect_deliveries
        self._tracing = tracing
        self._waiting: deque[Delivery] = deque()
        self._working_since_s: float | None = None
        self._arrived = asyncio.Event()
        self._in_flight = asyncio.Semaphore(batches_in_flight_max)
        self._unsettled: dict[int, None] = {}
        """Tags of deliveries, in order of arrival."""
        self._some_settled = asyncio.Event()

    def hear(self, delivery: Delivery) -> None:
        """Take a delivery; it is acknowledged when everything it asks for is done."""
        self._checkpoint("history.received")
        self._unsettled[delivery.tag] = None
        self._waiting.append(delivery)
        self._arrived.set()

    @property
    def oldest_received_s(self) -> float | None:
        """Arrival of the oldest delivery that is not committed; monotonic clock."""
        if self._working_since_s is not None:
            return self._working_since_s
        return self._waiting[0].received_s if self._waiting else None

    async def idle(self) -> None:
        """Return once everything heard so far is committed, told and acknowledged.

        What is heard meanwhile is not waited for: under load there is always something.
        """
        newest = next(reversed(self._unsettled), None)
        if newest is None:
            return
        while next(iter(self._unsettled), newest + 1) <= newest:
            self._some_settled.clear()
            await self._some_settled.wait()

    async def run(self) -> None:
        """Commit batch after batch, for ever. Raises LinkLost."""
        while True:
            heed_cancellation()
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                heed_cancellation()
                await self._in_flight.acquire()
                deliveries = self._take()
                self._working_since_s = deliveries[0].received_s
                if self._is_suspect(deliveries[0]):
                    await self._settle_apart(deliveries)
                else:
                    await self._settle_together(deliveries)
                self._working_since_s = None

    def _take(self) -> list[Delivery]:
        """What goes into the next commit: everything, up to the bounds or a suspect."""
        waiting = self._waiting
        taken = [waiting.popleft()]
        if not self._is_suspect(taken[0]):
            commands, size = len(taken[0].batch.commands), taken[0].size
            while waiting and not self._is_suspect(waiting[0]):
                commands += len(waiting[0].batch.commands)
                size += waiting[0].size
                if commands > self._batch_commands_max or size > self._batch_bytes_max:
                    break
                taken.append(waiting.popleft())
        self._metrics.waiting.set(len(waiting))
        return taken

    def _is_suspect(self, delivery: Delivery) -> bool:
        return delivery.deaths >= self._suspect_deliveries

    # -- Together: the ordinary case ---------------------------------------------------

    async def _settle_together(self, deliveries: list[Delivery]) -> None:
        trail = Trail(self._tracing, deliveries, self._clock.monotonic_s())
        try:
            committed = await self._commit(Batch.of(deliveries), trail)
        except Exception as error:  # noqa: BLE001 - see the next line
            trail.fail(type(error).__name__)
            trail.end()
            # Whatever it is, one command is behind it; the others must not pay for it.
            _log.exception(
                "batch failed, going on delivery by delivery",
                extra={"deliveries": len(deliveries)},
            )
            await self._settle_apart(deliveries)
            return
        # Sent here, in order of commit; only the waiting goes on in the background.
        sending = self._link.announce(committed.announcement)
        self._tasks.spawn(
            self._confirm(sending, committed, deliveries, trail),
            name="history confirm",
        )

    async def _confirm(
        self,
        sending: Sending,
        committed: Committed,
        deliveries: list[Delivery],
        trail: Trail,
    ) -> None:
        started_s = self._clock.monotonic_s()
        try:
            await sending.events
            self._checkpoint("history.published")
            await sending.outcomes
        except LinkLost as lost:
            # Not acknowledged, so delivered and announced again on the next link.
            _log.info("announcement not confirmed", extra={"cause": str(lost)})
            trail.fail(type(lost).__name__)
            return
        finally:
            trail.end()
        self._checkpoint("history.replied")
        self._metrics.confirm_seconds.observe(self._clock.monotonic_s() - started_s)
        self._metrics.events.inc(len(committed.announcement.events))
        self._settled(deliveries)

    def _settled(self, deliveries: list[Delivery]) -> None:
        self._link.ack([delivery.tag for delivery in deliveries])
        self._checkpoint("history.acked")
        self._in_flight.release()
        for delivery in deliveries:
            del self._unsettled[delivery.tag]
        self._some_settled.set()

    async def _commit(self, batch: Batch, trail: Trail = NO_TRAIL) -> Committed:
        started_s = self._clock.monotonic_s()
        with trail.appending(len(batch.columns)):
            rows, again = await self._append(batch.columns)
        self._metrics.commit_seconds.observe(self._clock.monotonic_s() - started_s)
        self._metrics.batch_commands.observe(len(batch.columns))
        self._checkpoint("history.committed")
        trail.telling()
        committed = batch.settle(rows, again=again, follow=trail.follow)
        self._metrics.committed.inc(committed.fresh)
        self._metrics.repeated.inc(committed.repeated)
        self._metrics.refused.inc(committed.refused)
        return committed

    async def _append(self, columns: Columns) -> tuple[list[Placed | ErrorReply], bool]:
        """Append; rows the database finds wrong are singled out and refused.

        Says also whether a statement was run again: an earlier run may have committed.
        """
        if not len(columns):
            return [], False
        retried = False

        def run_again() -> None:
            nonlocal retried
            retried = True

        try:
            placed = await self._patiently(lambda: self._log.append(columns), run_again)
        except LogRefused as refused:
            if len(columns) == 1:
                _log.warning("command refused by the database", exc_info=refused)
                return [errors.because(errors.BAD_REQUEST, "unfit for the log")], False
            middle = len(columns) // 2
            left, again_left = await self._append(columns.rows(0, middle))
            right, again_right = await self._append(columns.rows(middle, len(columns)))
            return left + right, again_left or again_right or retried
        return list(placed), retried

    async def _patiently(
        self,
        ask: Callable[[], Awaitable[T]],
        run_again: Callable[[], None] | None = None,
    ) -> T:
        """Ask the database until it answers: the one place that retries."""
        while True:
            heed_cancellation()
            try:
                answer = await ask()
            except LogUnavailable as error:
                self._metrics.commit_retries.inc()
                self._health.set(DATABASE, ok=False, reason=str(error))
                _log.warning("database unavailable", extra={"cause": str(error)})
                if run_again is not None:
                    run_again()
                await self._clock.sleep(self._backoff.next_s())
                continue
            self._backoff.reset()
            self._health.set(DATABASE, ok=True)
            return answer

    # -- Apart: somebody in here does harm ---------------------------------------------

    async def _settle_apart(self, deliveries: list[Delivery]) -> None:
        """Process each delivery alone and on record, so that only the culprit dies.

        Most are innocent: they were at hand when another one did harm. So each is tried
        as a whole first, and taken apart only when that has not gone well before.
        """
        for delivery in deliveries:
            mark = mark_of(delivery)
            if not await self._settle_whole(delivery, mark):
                for command in delivery.batch.commands:
                    await self._settle_alone(delivery, command)
            await self._patiently(lambda mark=mark: self._attempts.end(*mark))
        self._settled(deliveries)

    async def _settle_whole(self, delivery: Delivery, mark: tuple[str, str]) -> bool:
        """Try a delivery by itself, once; whether that went well."""
        if await self._patiently(lambda: self._attempts.begin(*mark)) > 1:
            return False
        self._checkpoint("history.attempt")
        try:
            committed = await self._commit(Batch.of([delivery]))
        except Exception:  # noqa: BLE001 - its commands are tried one by one
            _log.exception("delivery failed, going on command by command")
            return False
        sending = self._link.announce(committed.announcement)
        await sending.events
        await sending.outcomes
        return True

    async def _settle_alone(self, delivery: Delivery, command: PublishCommand) -> None:
        # What is wrong in itself never reaches the database, and does no harm there.
        on_record = refuse(command) is None
        if on_record:
            committed = await self._commit_on_record(delivery, command)
        else:
            committed = Batch.of_commands(delivery, [command]).settle([])
        sending = self._link.announce(committed.announcement)
        await sending.events
        await sending.outcomes
        if on_record:
            await self._patiently(
                lambda: self._attempts.end(command.channel, command.id)
            )

    async def _commit_on_record(
        self, delivery: Delivery, command: PublishCommand
    ) -> Committed:
        cause = "processing it ended this process, again and again"
        while True:
            attempt = await self._patiently(
                lambda: self._attempts.begin(command.channel, command.id)
            )
            if attempt > self._attempts_max:
                _log.error("poison command buried", extra={"cause": cause})
                await self._link.bury(command, delivery.batch.reply_to, cause)
                batch = Batch()
                batch.refuse(delivery, command, POISON)
                return batch.settle([])
            self._checkpoint("history.attempt")
            try:
                return await self._commit(Batch.of_commands(delivery, [command]))
            except Exception as error:  # noqa: BLE001 - tried again, then buried
                _log.exception("command failed", extra={"attempt": attempt})
                cause = f"{type(error).__name__}: {error}"


class Question(NamedTuple):
    """A request for pages or positions, and until when its answer is wanted."""

    request: HistoryRequest
    deadline_s: float
    """By the monotonic clock."""


class Reader:
    """Answers reads, grouped: what arrives during one look shares the next.

    Every question is answered or, past its deadline, dropped; while the database is
    away the answer is a temporary error, in time.
    """

    def __init__(
        self,
        *,
        log: Log,
        answers: Answers,
        tasks: Tasks,
        metrics: Metrics,
        clock: Clock,
        read_timeout_s: float,
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._log = log
        self._answers = answers
        self._metrics = metrics
        self._clock = clock
        self._read_timeout_s = read_timeout_s
        self._gatherer: Gatherer[Question] = Gatherer(
            self._answer_all,
            tasks=tasks,
            name="history read",
            batch_max=READS_TOGETHER_MAX,
            waiting_max=READS_WAITING_MAX,
        )

    def ask(self, request: HistoryRequest, expires_in_s: float) -> None:
        """Take a question; it is answered through `ports.Answers`."""
        wait_s = expires_in_s or self._read_timeout_s
        question = Question(request, self._clock.monotonic_s() + wait_s)
        if not self._gatherer.put(question):
            # Dropped: the asker times out and asks again, when there is more room.
            self._metrics.reads.labels("expired").inc()

    async def _answer_all(self, questions: list[Question]) -> None:
        now_s = self._clock.monotonic_s()
        wanted = [q.request for q in questions if q.deadline_s > now_s]
        self._metrics.reads.labels("expired").inc(len(questions) - len(wanted))
        started_s = now_s
        try:
            await self._answer_reads([r for r in wanted if isinstance(r, Reads)])
            await self._answer_heads([r for r in wanted if isinstance(r, Heads)])
            for request in wanted:
                if isinstance(request, Truncate):
                    await self._answer_truncate(request)
        except LinkLost as lost:
            _log.debug("answers lost with the link", exc_info=lost)
        self._metrics.read_seconds.observe(self._clock.monotonic_s() - started_s)

    async def _answer_reads(self, requests: list[Reads]) -> None:
        sound: list[tuple[str, Read]] = []
        wrong: list[tuple[str, Page]] = []
        for request in requests:
            for read in request.reads:
                if refusal := paging.refuse(read):
                    self._metrics.reads.labels("refused").inc()
                    wrong.append((request.reply_to, paging.refused(read, refusal)))
                else:
                    sound.append((request.reply_to, read))
        await self._reply_all(wrong)
        for together in paging.groups(sound):
            await self._answer_group(together)

    async def _answer_group(self, together: list[tuple[str, Read]]) -> None:
        spans = self._tracing.begin_batch(
            trace_names.ANSWER_READS,
            (read.traceparent for _, read in together),
            kind=SpanKind.CONSUMER,
        )
        with spans:
            await self._read_group(together, spans)

    async def _read_group(self, together: list[tuple[str, Read]], spans: Span) -> None:
        statement = self._tracing.begin_below(
            trace_names.READ, spans, kind=SpanKind.CLIENT
        )
        if statement:
            statement.set({trace_names.ROWS: len(together)})
        try:
            with statement:
                pages = await self._log.read(
                    [paging.bounded(read) for _, read in together]
                )
        except (LogUnavailable, LogRefused) as error:
            spans.fail(type(error).__name__)
            _log.warning("reads failed", extra={"cause": str(error)})
            self._metrics.reads.labels("failed").inc(len(together))
            await self._reply_all(
                (reply_to, paging.refused(read, errors.INTERNAL))
                for reply_to, read in together
            )
            return
        self._metrics.reads.labels("answered").inc(len(together))
        await self._reply_all(
            (reply_to, paging.answer(read, page))
            for (reply_to, read), page in zip(together, pages, strict=True)
        )

    async def _reply_all(self, answers: Iterable[tuple[str, Page | HeadsPage]]) -> None:
        """Send answers together, then wait: one confirm takes as long as all of them."""
        sent = [self._answers.reply(reply_to, answer) for reply_to, answer in answers]
        for confirmed in sent:
            await confirmed

    async def _answer_heads(self, requests: list[Heads]) -> None:
        if not requests:
            return
        names = [channel for request in requests for channel in request.channels]
        try:
            standings = await self._log.heads(names)
        except (LogUnavailable, LogRefused) as error:
            _log.warning("heads failed", extra={"cause": str(error)})
            self._metrics.reads.labels("failed").inc(len(requests))
            await self._reply_all(
                (
                    request.reply_to,
                    HeadsPage(request.request, [], error_code=errors.INTERNAL.code),
                )
                for request in requests
            )
            return
        self._metrics.reads.labels("answered").inc(len(requests))
        found: list[tuple[str, HeadsPage]] = []
        at = 0
        for request in requests:
            mine = standings[at : at + len(request.channels)]
            at += len(request.channels)
            heads = HeadsPage(request.request, [(s.epoch, s.top) for s in mine])
            found.append((request.reply_to, heads))
        await self._reply_all(found)

    async def _answer_truncate(self, request: Truncate) -> None:
        if reason := channels.refusal(request.channel):
            error = errors.because(errors.BAD_REQUEST, reason)
        else:
            try:
                standing = await self._log.truncate(request.channel)
            except (LogUnavailable, LogRefused) as away:
                _log.warning("truncate failed", extra={"cause": str(away)})
                error = errors.INTERNAL
            else:
                self._metrics.reads.labels("answered").inc()
                page = Page(request.request, request.channel, *standing)
                await self._answers.reply(request.reply_to, page)
                return
        self._metrics.reads.labels("failed").inc()
        page = Page(
            request.request,
            request.channel,
            error_code=error.code,
            error_message=error.message,
        )
        await self._answers.reply(request.reply_to, page)
