"""What this gateway tells presence of its connections, and what it asks of it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.bus.presence_reports import PresenceReports
from chatmesh.gateway.ports import Bus
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing
from chatmesh.wire.presence import (
    Change,
    CountsAsk,
    Joined,
    Left,
    Member,
    MembersAsk,
    PresenceAnswer,
    PresenceAsk,
    PresencePage,
    PresenceResync,
)

log = logging.getLogger(__name__)

WAITING_MAX: Final = 100_000
ASKS_PER_BATCH_MAX: Final = 200
COUNTED_ONE_BY_ONE_MAX: Final = 200
"""Members read to count a channel exactly: an answer never costs a whole large room."""
_NO_ANSWER: Final = "no answer"

Answered = Callable[[PresenceAnswer | None], None]


@dataclass(slots=True)
class _Asked:
    ask: PresenceAsk
    answer: Answered
    since_s: float
    span: Span
    counting: bool = False
    """Only the counts of the page are wanted."""
    members: list[Member] = field(default_factory=list[Member])

    def tell(self, answer: PresenceAnswer | None) -> None:
        if self.span:
            if answer is None:
                self.span.fail(_NO_ANSWER)
            elif not isinstance(answer, PresenceResync) and answer.error_code:
                self.span.fail(str(answer.error_code))
            self.span.end()
        self.answer(answer)


class PresenceDesk:
    """Reports, renews the lease, asks, and answers who asked, once each."""

    def __init__(
        self,
        bus: Bus,
        *,
        origin: str,
        within_s: float,
        clock: Clock,
        tasks: Tasks,
        tracing: Tracing = OFF,
    ) -> None:
        self._bus = bus
        self._tracing = tracing
        self._origin = origin
        self._within_s = within_s
        self._clock = clock
        self._reports = PresenceReports(
            bus, origin=origin, clock=clock, tasks=tasks, tracing=tracing
        )
        self._asked: dict[int, _Asked] = {}
        self._last_ask = 0
        self._asks = Gatherer[PresenceAsk](
            self._send_asks,
            tasks=tasks,
            name="presence asks",
            batch_max=ASKS_PER_BATCH_MAX,
            waiting_max=WAITING_MAX,
        )

    # -- Told -------------------------------------------------------------------------

    def joined(self, joined: Joined, traceparent: str = "") -> None:
        """Tell of a connection in a channel; `traceparent` is its subscription's."""
        self._reports.joined(joined, traceparent)

    def left(self, left: Left) -> None:
        with self._tracing.begin_trace(trace_names.LEAVE) as span:
            self._reports.left(left, span.traceparent)

    def tell(self, change: Change) -> None:
        """Tell a change that is no lasting fact, such as somebody typing."""
        self._reports.tell(change)

    def link_up(self) -> None:
        """What was told to the line before may not have arrived: tell it anew."""
        self._reports.link_up()

    def link_down(self) -> None:
        self._reports.link_down()
        self._asks.clear()
        asked, self._asked = self._asked, {}
        for one in asked.values():
            one.tell(None)

    # -- Asked ------------------------------------------------------------------------

    def ask(self, ask: PresenceAsk, answer: Answered) -> None:
        """Ask presence; `answer` is called once, with None when no answer came in time.

        A page for a whole channel comes complete, with this gateway's own members as
        they are now. Counts of a small channel heard of here are taken from such a page,
        so that nobody misses themselves; of a large one they are what presence counts.
        """
        counting = isinstance(ask, CountsAsk)
        if counting and self._reports.facts.know_of(ask.channel):
            ask = MembersAsk(0, ask.channel, limit=COUNTED_ONE_BY_ONE_MAX)
        self._last_ask += 1
        span = self._tracing.begin_trace(trace_names.ASK_PRESENCE, kind=SpanKind.CLIENT)
        numbered = msgspec.structs.replace(
            ask, request=self._last_ask, traceparent=span.traceparent
        )
        self._asked[self._last_ask] = _Asked(
            numbered, answer, self._clock.monotonic_s(), span, counting
        )
        # Not taken means too many wait: like everything late it is answered with None.
        self._asks.put(numbered)

    def hear(self, message: PresenceAnswer) -> None:
        """Hear presence: an answer, or the wish for a snapshot."""
        if isinstance(message, PresenceResync):
            self._reports.resync(message.partitions)
            return
        asked = self._asked.get(message.request)
        if asked is None:
            return
        if isinstance(message, PresencePage) and not message.error_code:
            asked.members += message.members
            if not message.last:
                return
            message = self._completed(asked, message)
        del self._asked[message.request]
        asked.tell(message)

    def _completed(self, asked: _Asked, last: PresencePage) -> PresencePage:
        ask = asked.ask
        part = isinstance(ask, MembersAsk) and ask.limit and not asked.counting
        if not isinstance(ask, MembersAsk) or ask.merged or part:
            return msgspec.structs.replace(last, members=asked.members)
        if asked.counting and last.next_after:
            return last
        own = [
            Member(j.client, j.user, j.conn_info, j.chan_info, self._origin)
            for j in self._reports.facts.of_channel(ask.channel)
        ]
        here = {one.client for one in own}
        # Those in their grace are nobody's any more: every gateway shows them alike.
        others = [
            one
            for one in asked.members
            if one.client not in here and (one.lost or one.origin != self._origin)
        ]
        members = [*others, *own]
        return msgspec.structs.replace(
            last,
            members=members,
            num_clients=len(members),
            num_users=len({one.user or f"#{one.client}" for one in members}),
        )

    def give_up_overdue(self) -> None:
        """Answer what was asked too long ago; call it every so often."""
        overdue_s = self._clock.monotonic_s() - self._within_s
        late: list[int] = []
        for request, asked in self._asked.items():
            if asked.since_s > overdue_s:
                break
            late.append(request)
        for request in late:
            self._asked.pop(request).tell(None)

    # -- The lease --------------------------------------------------------------------

    def tend(self) -> None:
        """Renew the lease when it is time; call it every so often."""
        self.give_up_overdue()
        self._reports.tend()

    async def end(self) -> None:
        """This gateway is leaving for good: what it has not reported is lost now."""
        await self._reports.end()

    async def _send_asks(self, asks: list[PresenceAsk]) -> None:
        try:
            await self._bus.send_presence_asks(asks)
        except PublishFailed as failed:
            # Their deadline answers them.
            log.info("asking presence failed", extra={"reason": str(failed)})
