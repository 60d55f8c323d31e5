"""The spans one batch leaves behind in history: taken, appended, told."""

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import Final

from chatmesh.history.batching import Delivery
from chatmesh.runtime import trace_names
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing

_traceparent_of: Final = attrgetter("traceparent")


class Trail:
    """Spans of one batch, for each sampled trace in it; nothing for all others."""

    def __init__(
        self, tracing: Tracing, deliveries: Iterable[Delivery], now_s: float
    ) -> None:
        """The batch's first delivery arrived before `now_s`, of the monotonic clock."""
        deliveries = list(deliveries) if tracing.on else []
        self._tracing = tracing
        self._taken = tracing.begin_batch(
            trace_names.PROCESS_COMMANDS,
            map(
                _traceparent_of,
                chain.from_iterable(delivery.batch.commands for delivery in deliveries),
            ),
            kind=SpanKind.CONSUMER,
            ago_s=now_s - deliveries[0].received_s if deliveries else 0.0,
        )
        if self._taken:
            commands = sum(len(delivery.batch.commands) for delivery in deliveries)
            self._taken.set({trace_names.MESSAGE_COUNT: commands})
        self._told: Span | None = None

    def appending(self, rows: int) -> Span:
        """The statement, as a context manager."""
        spans = self._tracing.begin_below(
            trace_names.APPEND, self._taken, kind=SpanKind.CLIENT
        )
        if spans:
            spans.set({trace_names.ROWS: rows})
        return spans

    def telling(self) -> None:
        """The events are made now, and their entries carry this on."""
        if self._taken:
            self._told = self._tracing.begin_below(
                trace_names.SEND_EVENTS, self._taken, kind=SpanKind.PRODUCER
            )

    def follow(self, traceparent: str) -> str:
        """Context for the entry that a command with this `traceparent` became."""
        taken = self._taken.follow(traceparent)
        return taken if self._told is None else self._told.follow(taken)

    def fail(self, error_type: str) -> None:
        for spans in (self._taken, self._told):
            if spans:
                spans.fail(error_type)

    def end(self) -> None:
        """The events are confirmed, or will come again on another link."""
        for spans in (self._told, self._taken):
            if spans:
                spans.end()


NO_TRAIL: Final = Trail(OFF, (), 0.0)
