"""`ports.Link` on RabbitMQ: reports, requests and leases in, news and answers out."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from aiormq.abc import DeliveredMessage
from faststream.rabbit import ExchangeType

from chatmesh.bus.outgoing import Outbound
from chatmesh.bus.work_link import LinkOptions, Source, WorkLink, expires_in_s
from chatmesh.presence.keeper import Delivery
from chatmesh.presence.metrics import Metrics
from chatmesh.presence.roster import JOIN, LEAVE, News
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.messages import (
    LiveEvent,
    LivePublication,
    Malformed,
    decode_presence_asks,
    decode_presence_lease,
    decode_presence_report,
    encode,
)
from chatmesh.wire.presence import (
    PresenceAnswer,
    PresenceAsks,
    PresenceLease,
    PresenceReport,
)
from chatmesh.wire.topics import LEASE_KEY, PRESENCE_SERVICE, live_key, report_key

_log = logging.getLogger(__name__)

_DEFAULT_EXCHANGE: Final = ""


class RabbitLink:
    """`ports.Link`, and the consumers that feed it. Open once, close once."""

    def __init__(
        self,
        options: LinkOptions,
        *,
        life: str,
        hear: Callable[[Delivery], None],
        pulse: Callable[[PresenceLease], None],
        ask: Callable[[PresenceAsks, float], None],
        tasks: Tasks,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`life` names this one life among all lives of all replicas."""
        self._topics = options.topics
        self._life = life
        self._hear = hear
        self._pulse = pulse
        self._ask = ask
        self._tasks = tasks
        self._clock = clock
        self._metrics = metrics
        self._work = WorkLink(
            options,
            partition_source=self._source,
            requests=Source(
                self._topics.presence_rpc_queue,
                self._topics.rpc,
                ExchangeType.DIRECT,
                PRESENCE_SERVICE,
                "presence requests",
                _documents_asks,
            ),
            hear=self._on_report,
            ask=self._on_ask,
            clock=clock,
        )

    async def open(self) -> None:
        """Connect and declare; hear leases and requests. Raises LinkLost."""
        await self._work.open()
        await self._work.listen(
            self._topics.presence_lease_queue(self._life),
            self._topics.presence,
            LEASE_KEY,
            self._on_lease,
        )

    async def run(self) -> None:
        """Serve until the link ends. Raises LinkLost with the cause, always."""
        await self._work.run()

    async def close(self) -> None:
        await self._work.close()

    @property
    def consuming(self) -> frozenset[int]:
        return self._work.consuming

    async def consume(self, partition: int) -> None:
        await self._work.consume(partition)

    async def stop_consuming(self, partition: int) -> None:
        await self._work.stop_consuming(partition)

    # -- ports.Link ----------------------------------------------------------------------

    async def tell(self, news: Iterable[News]) -> None:
        events: dict[str, list[LivePublication]] = {}
        for one in news:
            events.setdefault(one.channel, []).append(_publication(one))
        await self._work.publish(
            Outbound(
                self._topics.events,
                live_key(channel),
                encode(LiveEvent(channel, publications)),
            )
            for channel, publications in events.items()
        )

    async def answer(self, reply_to: str, message: PresenceAnswer) -> None:
        answer = Outbound(_DEFAULT_EXCHANGE, reply_to, encode(message))
        await self._work.publish((answer,))

    def ack(self, tags: Sequence[int]) -> None:
        self._work.ack(tags)

    async def bury(self, partition: int, body: bytes, cause: str) -> None:
        await self._work.bury(
            body,
            exchange=self._topics.presence,
            routing_key=report_key(partition),
            queue=self._topics.presence_reports_queue(partition),
            cause=cause,
        )

    def lose(self, reason: str) -> None:
        self._work.lose(reason)

    # -- What arrives ----------------------------------------------------------------------

    def _source(self, partition: int) -> Source:
        return Source(
            self._topics.presence_reports_queue(partition),
            self._topics.presence,
            ExchangeType.TOPIC,
            report_key(partition),
            f"presence reports {partition:02d}",
            _documents_reports,
        )

    def _on_report(self, partition: int, message: DeliveredMessage) -> None:
        tag = message.delivery_tag or 0
        try:
            report = decode_presence_report(message.body)
        except Malformed as error:
            _log.warning("malformed report buried", extra={"cause": str(error)})
            self._metrics.reports.labels("malformed").inc()
            self._tasks.spawn(
                self._bury_report(partition, tag, message.body, str(error)),
                name="bury a report",
            )
            return
        received_s = self._clock.monotonic_s()
        self._hear(Delivery(tag, partition, report, message.body, received_s))

    async def _bury_report(
        self, partition: int, tag: int, body: bytes, cause: str
    ) -> None:
        await self.bury(partition, body, f"malformed: {cause}")
        self._work.ack((tag,))

    def _on_lease(self, body: bytes) -> None:
        try:
            self._pulse(decode_presence_lease(body))
        except Malformed as error:
            _log.warning("malformed lease dropped", extra={"cause": str(error)})

    def _on_ask(self, message: DeliveredMessage) -> None:
        try:
            asks = decode_presence_asks(message.body)
        except Malformed as error:
            _log.warning("malformed request buried", extra={"cause": str(error)})
            self._metrics.asks.labels("refused").inc()
            self._tasks.spawn(
                self._work.bury(
                    message.body,
                    exchange=self._topics.rpc,
                    routing_key=PRESENCE_SERVICE,
                    queue=self._topics.presence_rpc_queue,
                    cause=f"malformed: {error}",
                ),
                name="bury a request",
            )
            return
        self._ask(asks, expires_in_s(message))


def _publication(news: News) -> LivePublication:
    if news.kind in {JOIN, LEAVE}:
        return LivePublication(b"", news.body, kind=news.kind, number=news.number)
    return LivePublication(news.body, unfiltered=True)


async def _documents_reports(report: PresenceReport) -> None:
    """What changed in one partition, in order, numbered per process."""


async def _documents_asks(asks: PresenceAsks) -> None:
    """Requests, each answered to the queue they name."""
