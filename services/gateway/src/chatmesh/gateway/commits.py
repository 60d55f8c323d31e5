"""Commands on their way to history, and the callers that wait for their outcome.

Commands gather per partition while the batch before them is on its way. Nothing is
tried again here: an outcome that does not come in time is unknown, the sender is told
so, and the same id sent again settles it.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.ports import Bus
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.exemplars import Exemplars
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing
from chatmesh.wire import channels, errors, limits
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import (
    CommandBatch,
    Entry,
    Outcome,
    PublishCommand,
)
from chatmesh.wire.topics import partition_of

WAITING_PER_PARTITION_MAX: Final = 10_000
"""Commands that may gather behind a batch in flight before senders are told to wait."""
WAITING_BYTES_PER_PARTITION_MAX: Final = 16 * limits.MIB
"""And what all of them may weigh: a slow broker costs a gateway this much and no more."""

SLOW_S: Final = 0.25
"""An answer that takes longer than this leaves the id of its trace in the histogram."""

Answer = Callable[["Result"], None]

_traceparent_of: Final = attrgetter("traceparent")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a command: its place, or why it has none."""

    offset: int = 0
    at_ms: int = 0
    error: ErrorReply | None = None
    epoch: str = ""
    """Of the log; empty when the answer was seen in passing."""
    trace_id: str = ""
    """Of the trace this command was followed by; empty when it was not sampled."""


@dataclass(slots=True)
class _Waiting:
    command: PublishCommand
    answer: Answer
    since_s: float
    span: Span


class Commits:
    """Hands commands to history and answers each caller exactly once."""

    def __init__(
        self,
        bus: Bus,
        *,
        origin: str,
        within_s: float,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        tracing: Tracing = OFF,
    ) -> None:
        self._bus = bus
        self._tracing = tracing
        self._origin = origin
        self._within_s = within_s
        self._clock = clock
        self._metrics = metrics
        self._exemplars = Exemplars(slow_s=SLOW_S)
        self._waiting: dict[int, _Waiting] = {}
        self._last_request = 0
        self._partitions = [
            Gatherer[PublishCommand](
                self._sender(partition),
                tasks=tasks,
                name=f"commands {partition}",
                batch_max=limits.COMMANDS_PER_BATCH_MAX,
                waiting_max=WAITING_PER_PARTITION_MAX,
                weigh=_weight,
                weight_max=limits.BATCH_BYTES_MAX,
                waiting_weight_max=WAITING_BYTES_PER_PARTITION_MAX,
            )
            for partition in range(limits.PARTITIONS)
        ]

    def __len__(self) -> int:
        return len(self._waiting)

    def commit(self, command: PublishCommand, answer: Answer, *, hears: bool) -> None:
        """Have a command committed; `answer` is called once, perhaps at once.

        `hears` says that this gateway hears the channel's events, so that the event is the answer.
        """
        if not self._bus.connected:
            # Nothing was sent, so nothing is unknown: the sender may simply try again.
            answer(Result(error=errors.INTERNAL))
            return
        self._last_request += 1
        request = self._last_request
        span = self._tracing.begin_trace(trace_names.SEND, parent=command.traceparent)
        if span.traceparent:
            namespace = channels.namespace_of(command.channel)
            span.set({trace_names.NAMESPACE: namespace})
        numbered = msgspec.structs.replace(
            command,
            request=request,
            hears=hears,
            # A gateway that traces nothing itself passes on what others may follow.
            traceparent=span.traceparent if self._tracing.on else command.traceparent,
        )
        waiting = _Waiting(numbered, answer, self._clock.monotonic_s(), span)
        if not self._partitions[partition_of(command.channel)].put(numbered):
            _end(span, Result(error=errors.TOO_MANY_REQUESTS))
            answer(Result(error=errors.TOO_MANY_REQUESTS))
            return
        self._waiting[request] = waiting

    def heard_entry(self, entry: Entry, epoch: str = "") -> None:
        """An entry of ours was committed; its event is the answer."""
        waiting = self._waiting.pop(entry.request, None)
        if waiting is not None:
            self._answer(waiting, Result(entry.offset, entry.at_ms, epoch=epoch))

    def heard_outcome(self, outcome: Outcome) -> None:
        """History answered a command directly."""
        waiting = self._waiting.pop(outcome.request, None)
        if waiting is None:
            return
        if outcome.error_code:
            error = ErrorReply(
                outcome.error_code, outcome.error_message, outcome.error_temporary
            )
            self._answer(waiting, Result(error=error))
        else:
            result = Result(outcome.offset, outcome.at_ms, epoch=outcome.epoch)
            self._answer(waiting, result)

    def heard_page(self, channel: str, entries: Sequence[Entry]) -> None:
        """Entries read to fill a hole: some of them may be what a caller waits for."""
        ids = {
            waiting.command.id: request
            for request, waiting in self._waiting.items()
            if waiting.command.channel == channel
        }
        for entry in entries if ids else ():
            request = ids.get(entry.id)
            if request is None:
                continue
            waiting = self._waiting[request]
            if (
                entry.data == waiting.command.data
                and entry.info == waiting.command.info
            ):
                del self._waiting[request]
                self._answer(waiting, Result(entry.offset, entry.at_ms))

    def give_up_overdue(self) -> None:
        """Tell callers whose answer did not come in time; call it every so often."""
        overdue_s = self._clock.monotonic_s() - self._within_s
        # Requests are numbered in order, so the oldest come first.
        late: list[int] = []
        for request, waiting in self._waiting.items():
            if waiting.since_s > overdue_s:
                break
            late.append(request)
        for request in late:
            waiting = self._waiting.pop(request)
            self._metrics.commands_overdue.inc()
            self._tell(waiting, Result(error=errors.OUTCOME_UNKNOWN))

    def _answer(self, waiting: _Waiting, result: Result) -> None:
        now_s = self._clock.monotonic_s()
        taken_s = now_s - waiting.since_s
        exemplar = None
        if waiting.span.traceparent:
            exemplar = self._exemplars.of(waiting.span.trace_id, taken_s, now_s)
        self._metrics.publish_to_committed_seconds.observe(taken_s, exemplar)
        self._tell(waiting, result)

    @staticmethod
    def _tell(waiting: _Waiting, result: Result) -> None:
        if waiting.span.traceparent:
            result = dataclasses.replace(result, trace_id=waiting.span.trace_id)
            _end(waiting.span, result)
        waiting.answer(result)

    def _sender(
        self, partition: int
    ) -> Callable[[list[PublishCommand]], Awaitable[None]]:
        async def send(commands: list[PublishCommand]) -> None:
            await self._send(partition, commands)

        return send

    async def _send(self, partition: int, commands: list[PublishCommand]) -> None:
        self._metrics.commands_per_batch.observe(len(commands))
        spans = self._tracing.begin_batch(
            trace_names.SEND_COMMANDS,
            map(_traceparent_of, commands) if self._tracing.on else (),
            kind=SpanKind.PRODUCER,
        )
        if spans:
            spans.set(
                {
                    trace_names.MESSAGE_COUNT: len(commands),
                    trace_names.PARTITION: partition,
                }
            )
            commands = [
                msgspec.structs.replace(one, traceparent=spans.follow(one.traceparent))
                if one.traceparent
                else one
                for one in commands
            ]
        batch = CommandBatch(
            self._origin, self._bus.reply_to, commands, self._clock.unix_ms()
        )
        try:
            with spans:
                await self._bus.send_commands(partition, batch)
        except PublishFailed as failed:
            # Unroutable was surely not taken. Otherwise the batch may have arrived: an
            # event or a filled hole can still answer, and if none does, time will.
            if failed.unroutable:
                for command in commands:
                    waiting = self._waiting.pop(command.request, None)
                    if waiting is not None:
                        self._tell(waiting, Result(error=errors.INTERNAL))


def _end(span: Span, result: Result) -> None:
    if result.error is not None:
        span.fail(str(result.error.code))
    else:
        span.set({trace_names.OFFSET: result.offset})
    span.end()


def _weight(command: PublishCommand) -> int:
    return len(command.data) + len(command.info)
