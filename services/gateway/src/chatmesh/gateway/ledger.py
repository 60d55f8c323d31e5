"""What was let through to local sockets and when it was written: latency, and the SLO.

One line per batch of a channel, never one per delivery: a batch of one room is a few
bytes here, however many hear it.
"""

import asyncio
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.publications import Committed
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.exemplars import Exemplars
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing

DELIVERY_WITHIN_S: Final = 0.25
"""From commit to the write: the promise that the delivery SLO counts."""

_traceparent_of: Final = attrgetter("entry.traceparent")


class _Line(NamedTuple):
    committed_ms: int
    deliveries: int
    spans: Span


class Ledger:
    """Times each batch from its commit until the loop has written it.

    The commit's time is the database's: clocks that disagree show here, and
    `chatmesh doctor` says so.
    """

    def __init__(
        self, *, clock: Clock, metrics: Metrics, tracing: Tracing = OFF
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing
        self._exemplars = Exemplars(slow_s=DELIVERY_WITHIN_S)
        self._open: list[_Line] = []
        self._loop = asyncio.get_running_loop()

    def let_through(self, news: Sequence[Committed], receivers: int) -> None:
        """Committed entries of one channel were just handed to so many connections."""
        if not receivers:
            return
        spans = self._tracing.begin_batch(
            trace_names.DELIVER,
            map(_traceparent_of, news) if self._tracing.on else (),
            kind=SpanKind.CONSUMER,
        )
        if spans:
            spans.set(
                {
                    trace_names.MESSAGE_COUNT: len(news),
                    trace_names.RECEIVERS: receivers,
                }
            )
        if not self._open:
            # Behind the flush of what was just handed over, in the same turn.
            self._loop.call_soon(self._written)
        self._open.append(_Line(news[0].entry.at_ms, receivers * len(news), spans))

    def _written(self) -> None:
        lines, self._open = self._open, []
        now_ms, now_s = self._clock.unix_ms(), self._clock.monotonic_s()
        deliveries = late = 0
        for line in lines:
            age_s = max(0.0, (now_ms - line.committed_ms) / 1000)
            deliveries += line.deliveries
            if age_s > DELIVERY_WITHIN_S:
                late += line.deliveries
            exemplar = None
            if line.spans.traceparent:
                exemplar = self._exemplars.of(line.spans.trace_id, age_s, now_s)
                line.spans.end()
            self._metrics.committed_to_written_seconds.observe(age_s, exemplar)
        self._metrics.durable_deliveries.inc(deliveries)
        if late:
            self._metrics.late_deliveries.inc(late)
