"""`ports.Link` on RabbitMQ: commands and requests in, events and answers out."""

import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from aiormq.abc import DeliveredMessage
from faststream.rabbit import ExchangeType
from pamqp import commands as spec

from chatmesh.bus.outgoing import LinkLost, Outbound
from chatmesh.bus.work_link import LinkOptions, Source, WorkLink, expires_in_s
from chatmesh.history.batching import Delivery
from chatmesh.history.metrics import Metrics
from chatmesh.history.ports import Announcement, Sending
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import dead_letters
from chatmesh.wire.messages import (
    CommandBatch,
    Heads,
    HeadsPage,
    HistoryRequest,
    Malformed,
    Outcome,
    Outcomes,
    Page,
    PublishCommand,
    Reads,
    Truncate,
    decode_command_batch,
    decode_gateway_inbound,
    decode_history_request,
    encode,
)
from chatmesh.wire.topics import (
    DEFAULT_EXCHANGE,
    HISTORY_SERVICE,
    log_key,
    partition_key,
    partition_of,
)

_log = logging.getLogger(__name__)

_MALFORMED: Final = "malformed"
_POISON: Final = "poison"


@dataclass(frozen=True, slots=True)
class _Sending:
    """`ports.Sending`: two futures of the publishing channel."""

    events: Future[None]
    outcomes: Future[None]


class RabbitLink:
    """`ports.Link`, and the consumers that feed it. Open once, close once."""

    def __init__(
        self,
        options: LinkOptions,
        *,
        hear: Callable[[int, Delivery], None],
        ask: Callable[[HistoryRequest, float], None],
        settle: Callable[[list[Outcome]], None],
        state: Callable[[str], None],
        tasks: Tasks,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._topics = options.topics
        self._hear = hear
        self._ask = ask
        self._settle = settle
        self._tasks = tasks
        self._clock = clock
        self._metrics = metrics
        self._reply_to = ""
        self._work = WorkLink(
            options,
            partition_source=self._source,
            requests=Source(
                self._topics.history_rpc_queue,
                self._topics.rpc,
                ExchangeType.DIRECT,
                HISTORY_SERVICE,
                "history requests",
                _documents_requests,
            ),
            hear=self._on_commands,
            ask=self._on_request,
            clock=clock,
            state=state,
        )

    # -- Life ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, declare, answer requests. Raises LinkLost with the cause."""
        await self._work.open()
        self._reply_to = await self._work.take_answers(self._on_reply)

    async def run(self) -> None:
        """Serve until the link ends. Raises LinkLost with the cause, always."""
        await self._work.run()

    def lose(self, reason: str) -> None:
        """End this life: whoever notices first says why."""
        self._work.lose(reason)

    async def flush(self) -> None:
        """Return once everything so far, acknowledgements too, is on its way."""
        await self._work.flush()

    async def close(self) -> None:
        """Leave nothing behind; what was not acknowledged goes back to the broker."""
        await self._work.close()

    @property
    def consuming(self) -> frozenset[int]:
        return self._work.consuming

    async def consume(self, partition: int) -> None:
        """Start consuming a partition. Raises LinkLost."""
        await self._work.consume(partition)

    async def stop_consuming(self, partition: int) -> None:
        """Let no more of a partition arrive; what arrived stays to be settled."""
        await self._work.stop_consuming(partition)

    # -- What arrives --------------------------------------------------------------------

    def _source(self, partition: int) -> Source:
        return Source(
            self._topics.command_queue(partition),
            self._topics.commands,
            ExchangeType.DIRECT,
            partition_key(partition),
            f"commands {partition_key(partition)}",
            _documents_commands,
        )

    def _on_commands(self, partition: int, message: DeliveredMessage) -> None:
        tag = message.delivery_tag or 0
        try:
            batch = decode_command_batch(message.body)
        except Malformed as error:
            self._tasks.spawn(
                self._bury_commands(message, tag, str(error), partition),
                name="history bury",
            )
            return
        deaths = deaths_of(message)
        if batch.sent_ms:
            age_s = (self._clock.unix_ms() - batch.sent_ms) / 1000
            self._metrics.queue_age_seconds.observe(max(0.0, age_s))
        received_s = self._clock.monotonic_s()
        self._hear(
            partition, Delivery(tag, batch, len(message.body), deaths, received_s)
        )

    def _on_request(self, message: DeliveredMessage) -> None:
        try:
            request = decode_history_request(message.body)
        except Malformed as error:
            queue = self._topics.history_rpc_queue
            self._tasks.spawn(
                self._bury_message(message, str(error), queue), name="history bury"
            )
            return
        self._ask(request, expires_in_s(message))

    def _on_reply(self, body: bytes) -> None:
        try:
            reply = decode_gateway_inbound(body)
        except Malformed as error:
            _log.warning("malformed reply dropped", extra={"cause": str(error)})
            return
        if isinstance(reply, Outcomes):
            self._settle(reply.outcomes)

    async def _bury_commands(
        self, message: DeliveredMessage, tag: int, cause: str, partition: int
    ) -> None:
        queue = self._topics.command_queue(partition)
        if await self._bury_message(message, cause, queue):
            self.ack((tag,))

    async def _bury_message(
        self, message: DeliveredMessage, cause: str, queue: str
    ) -> bool:
        delivery = cast("spec.Basic.Deliver", message.delivery)
        try:
            await self._work.bury(
                message.body,
                exchange=delivery.exchange or "",
                routing_key=delivery.routing_key or "",
                queue=queue,
                cause=f"{_MALFORMED}: {cause}",
            )
        except LinkLost:
            # Not acknowledged, so it comes again on the next link.
            return False
        self._metrics.dead_letters.labels(_MALFORMED).inc()
        _log.warning("malformed message buried", extra={"queue": queue, "cause": cause})
        return True

    # -- What goes out -------------------------------------------------------------------

    def announce(self, announcement: Announcement) -> Sending:
        events = self._work.publish(
            Outbound(self._topics.events, log_key(event.channel), encode(event))
            for event in announcement.events
        )
        outcomes = self._work.publish(
            Outbound(DEFAULT_EXCHANGE, reply_to, encode(Outcomes(listed)))
            for reply_to, listed in announcement.outcomes.items()
        )
        return _Sending(events, outcomes)

    def ack(self, tags: Sequence[int]) -> None:
        self._work.ack(tags)

    def reply(self, reply_to: str, message: Page | HeadsPage) -> Future[None]:
        answer = Outbound(DEFAULT_EXCHANGE, reply_to, encode(message))
        return self._work.publish((answer,))

    async def bury(self, command: PublishCommand, reply_to: str, cause: str) -> None:
        partition = partition_of(command.channel)
        await self._work.bury(
            encode(CommandBatch(origin="", reply_to=reply_to, commands=[command])),
            exchange=self._topics.commands,
            routing_key=partition_key(partition),
            queue=self._topics.command_queue(partition),
            cause=cause,
        )
        self._metrics.dead_letters.labels(_POISON).inc()

    @property
    def reply_to(self) -> str:
        return self._reply_to

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        """Put commands on their queue, confirmed. Raises LinkLost."""
        await self._work.send(
            encode(batch),
            exchange=self._topics.commands,
            routing_key=partition_key(partition),
        )


def deaths_of(message: DeliveredMessage) -> int:
    """How often a message was delivered before, to whomever; at least, where unsure."""
    headers = message.header.properties.headers or {}
    count = headers.get(dead_letters.DELIVERY_COUNT)
    # A broker may count failures only, and not what a lost consumer gave back: then a
    # count of 0 comes together with the mark.
    counted = count if isinstance(count, int) else 0
    return max(counted, int(bool(message.redelivered)))


async def _documents_commands(batch: CommandBatch) -> None:
    """Commands for one partition, to be committed in order."""


async def _documents_requests(request: Reads | Heads | Truncate) -> None:
    """Reads of pages and positions, answered to the queue they name."""
