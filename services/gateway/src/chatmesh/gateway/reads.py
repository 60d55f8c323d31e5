"""Questions to history on their way, each answered once: with a page, or with None."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.ports import Bus
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing
from chatmesh.wire.messages import Page, Read

log = logging.getLogger(__name__)

READS_PER_BATCH_MAX: Final = 200
WAITING_MAX: Final = 100_000
_NO_ANSWER: Final = "no answer"

Answer = Callable[[Page | None], None]


@dataclass(slots=True)
class _Asked:
    answer: Answer
    since_s: float
    spans: Span | None = None

    def tell(self, page: Page | None) -> None:
        if self.spans:
            if page is None or page.error_code:
                self.spans.fail(str(page.error_code) if page else _NO_ANSWER)
            self.spans.end()
        self.answer(page)


class Reads:
    """Gathers reads into few messages and matches the pages that come back."""

    def __init__(
        self,
        bus: Bus,
        *,
        within_s: float,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        tracing: Tracing = OFF,
    ) -> None:
        self._bus = bus
        self.within_s = within_s
        """History answers within this or not at all; whoever wants to, asks again."""
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing
        self._asked: dict[int, _Asked] = {}
        self._last = 0
        self._gatherer = Gatherer[Read](
            self._send,
            tasks=tasks,
            name="reads",
            batch_max=READS_PER_BATCH_MAX,
            waiting_max=WAITING_MAX,
        )

    def __len__(self) -> int:
        return len(self._asked)

    def ask(
        self, read: Read, answer: Answer, *, traceparents: Iterable[str] = ()
    ) -> None:
        """Ask history; `answer` is called once, never before this returns.

        `traceparents` are of those who wait for the answer, traced or not.
        """
        request = self.expect(answer)
        spans = self._tracing.begin_batch(
            trace_names.ASK_HISTORY, traceparents, kind=SpanKind.CLIENT
        )
        if spans:
            read = msgspec.structs.replace(read, traceparent=spans.traceparent)
            self._asked[request].spans = spans
        # Not taken means too many wait: like everything late it is answered with None.
        if self._gatherer.put(msgspec.structs.replace(read, request=request)):
            self._metrics.reads.inc()

    def expect(self, answer: Answer) -> int:
        """Number a question that is asked in another way but answered with a page."""
        self._last += 1
        self._asked[self._last] = _Asked(answer, self._clock.monotonic_s())
        return self._last

    def hear(self, page: Page) -> None:
        asked = self._asked.pop(page.request, None)
        if asked is not None:
            asked.tell(page)

    def give_up_overdue(self) -> None:
        """Answer what was asked too long ago; call it every so often."""
        overdue_s = self._clock.monotonic_s() - self.within_s
        late: list[int] = []
        for request, asked in self._asked.items():
            if asked.since_s > overdue_s:
                break
            late.append(request)
        for request in late:
            self._asked.pop(request).tell(None)

    def link_down(self) -> None:
        """No answer will reach us any more."""
        self._gatherer.clear()
        asked, self._asked = self._asked, {}
        for one in asked.values():
            one.tell(None)

    async def _send(self, reads: list[Read]) -> None:
        try:
            await self._bus.send_reads(reads)
        except PublishFailed as failed:
            # Their deadline answers them; the asker decides whether to ask again.
            log.info("asking history failed", extra={"reason": str(failed)})
