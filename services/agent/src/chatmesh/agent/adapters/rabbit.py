"""`ports.Room` on RabbitMQ, and what arrives: messages of rooms, calls, news, answers."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from aiormq.abc import DeliveredMessage
from faststream.rabbit import ExchangeType

from chatmesh.agent.agents import Agent
from chatmesh.agent.draft import Shown
from chatmesh.agent.news import AgentControl, RunsShown, Say, decode_shown
from chatmesh.agent.news import decode as decode_control
from chatmesh.agent.ports import RoomUnavailable
from chatmesh.bus import topology
from chatmesh.bus.link import PublishFailed
from chatmesh.bus.outgoing import LinkLost, Outbound
from chatmesh.bus.work_link import LinkOptions, Source, WorkLink
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from chatmesh.wire.messages import (
    CommandBatch,
    Entry,
    LiveEvent,
    LivePublication,
    LogEvent,
    Malformed,
    Outcome,
    Outcomes,
    Page,
    PublishCommand,
    Read,
    Reads,
    decode_gateway_inbound,
    decode_service_call,
    encode,
)
from chatmesh.wire.presence import PresenceLease, PresenceReport, PresenceResync
from chatmesh.wire.runs import RunEvent, agent_info, agent_user
from chatmesh.wire.topics import (
    AGENT_CONTROL_KEY,
    AGENT_SERVICE,
    DEFAULT_EXCHANGE,
    HISTORY_SERVICE,
    LEASE_KEY,
    ROOM_LOG_BINDING,
    live_key,
    partition_key,
    partition_of,
    report_key,
)

_log = logging.getLogger(__name__)

_MESSAGES: Final = 0
"""The one `partition` of this service's work: the queue of messages, which is shared."""
WAITING_MAX: Final = 2000
"""Answers that may be waited for at the same time."""

SHOWN_WITHIN_S: Final = 0.5
"""Until a replica has to have shown what it performs."""

_encode_json: Final = msgspec.json.Encoder().encode
_shown_list: Final = msgspec.json.Decoder(list[Shown])


class RabbitLink:
    """One life of the broker link. Open once, close once."""

    def __init__(
        self,
        options: LinkOptions,
        *,
        life: str,
        hear: Callable[[int, LogEvent], None],
        call: Callable[[ServiceCall], None],
        news: Callable[[AgentControl], None],
        answered: Callable[[Outcome | Page], None],
        shown: Callable[[RunsShown], None],
        resync: Callable[[list[int]], None],
        tasks: Tasks,
        clock: Clock,
        state: Callable[[str], None],
        serving: bool = True,
    ) -> None:
        """`life` names this one life among all lives of all replicas.

        Without `serving` calls are left to others.
        """
        self._topics = options.topics
        self._life = life
        self._hear = hear
        self._call = call
        self._news = news
        self._answered = answered
        self._shown = shown
        self._resync = resync
        self._tasks = tasks
        self.reply_to = ""
        self._work = WorkLink(
            options,
            partition_source=self._source,
            requests=Source(
                self._topics.agent_rpc_queue,
                self._topics.rpc,
                ExchangeType.DIRECT,
                AGENT_SERVICE,
                "agent calls",
                _documents_calls,
            )
            if serving
            else None,
            hear=self._on_message,
            ask=self._on_call,
            clock=clock,
            state=state,
        )

    # -- Life ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, declare, answer calls, hear news. Raises LinkLost."""
        await self._work.open()
        await self._work.declare(topology.declare_agent_messages)
        self.reply_to = await self._work.take_answers(self._on_answer)
        await self._work.listen(
            self._topics.agent_queue(self._life),
            self._topics.control,
            AGENT_CONTROL_KEY,
            self._on_news,
        )

    async def run(self) -> None:
        """Serve until the link ends. Raises LinkLost with the cause, always."""
        await self._work.run()

    async def close(self) -> None:
        await self._work.close()

    async def flush(self) -> None:
        """Return once everything so far, acknowledgements too, is on its way."""
        await self._work.flush()

    def lose(self, reason: str) -> None:
        self._work.lose(reason)

    async def listen(self) -> None:
        """Let messages of rooms arrive. Raises LinkLost."""
        await self._work.consume(_MESSAGES)

    async def stop_listening(self) -> None:
        """Let no more messages arrive; those that have stay to be settled."""
        if _MESSAGES in self._work.consuming:
            await self._work.stop_consuming(_MESSAGES)

    # -- What goes out -------------------------------------------------------------------

    def ack(self, tags: Sequence[int]) -> None:
        self._work.ack(tags)

    def publish(
        self, exchange: str, key: str, message: msgspec.Struct
    ) -> "asyncio.Future[None]":
        return self._work.publish((Outbound(exchange, key, encode(message)),))

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        """Put commands on their queue, confirmed. Raises LinkLost."""
        await self._work.send(
            encode(batch),
            exchange=self._topics.commands,
            routing_key=partition_key(partition),
        )

    async def send_report(self, report: PresenceReport) -> None:
        """Tell presence who is where, confirmed. Raises LinkLost."""
        await self._work.send(
            encode(report),
            exchange=self._topics.presence,
            routing_key=report_key(report.partition),
        )

    async def send_lease(self, lease: PresenceLease) -> None:
        """Tell presence that this process lives. Raises LinkLost."""
        await self.publish(self._topics.presence, LEASE_KEY, lease)

    async def answer(self, reply_to: str, answer: ServiceAnswer) -> None:
        """Answer a call. Raises LinkLost."""
        await self.publish(DEFAULT_EXCHANGE, reply_to, answer)

    async def bury(self, body: bytes, cause: str) -> None:
        """Put a message of a room among the dead letters. Raises LinkLost."""
        await self._work.bury(
            body,
            exchange=self._topics.events,
            routing_key=ROOM_LOG_BINDING,
            queue=self._topics.agent_messages_queue,
            cause=cause,
        )

    # -- What arrives --------------------------------------------------------------------

    def _source(self, partition: int) -> Source:
        del partition
        return Source(
            self._topics.agent_messages_queue,
            self._topics.events,
            ExchangeType.TOPIC,
            ROOM_LOG_BINDING,
            "messages of rooms",
            _documents_messages,
        )

    def _on_message(self, _: int, message: DeliveredMessage) -> None:
        tag = message.delivery_tag or 0
        try:
            event = decode_gateway_inbound(message.body)
            if not isinstance(event, LogEvent):
                raise Malformed("no log event")  # noqa: TRY301 - one way out
        except Malformed as error:
            _log.warning("malformed message buried", extra={"cause": str(error)})
            self._tasks.spawn(
                self._bury(tag, message.body, str(error)), name="bury a message"
            )
            return
        self._hear(tag, event)

    async def _bury(self, tag: int, body: bytes, cause: str) -> None:
        try:
            await self.bury(body, f"malformed: {cause}")
        except LinkLost:
            return  # Not acknowledged, so it comes again on the next link.
        self.ack((tag,))

    def _on_call(self, message: DeliveredMessage) -> None:
        try:
            self._call(decode_service_call(message.body))
        except Malformed as error:
            # Whoever asked asks again; nobody else can do anything with it.
            _log.warning("malformed call dropped", extra={"cause": str(error)})

    def _on_news(self, body: bytes) -> None:
        try:
            self._news(decode_control(body))
        except Malformed as error:
            _log.warning("malformed news dropped", extra={"cause": str(error)})

    def _on_answer(self, body: bytes) -> None:
        if (shown := decode_shown(body)) is not None:
            self._shown(shown)
            return
        try:
            answer = decode_gateway_inbound(body)
        except Malformed as error:
            _log.warning("malformed answer dropped", extra={"cause": str(error)})
            return
        match answer:
            case Outcomes(outcomes=outcomes):
                for outcome in outcomes:
                    self._answered(outcome)
            case Page():
                self._answered(answer)
            case PresenceResync(partitions=partitions):
                self._resync(partitions)
            case _:
                _log.warning("unexpected answer dropped")


class RabbitPresence:
    """`presence_reports.Way` over whichever link stands just now."""

    def __init__(self) -> None:
        self._link: RabbitLink | None = None

    def use(self, link: RabbitLink | None) -> None:
        """Report through this link from now on; None: there is none at the moment."""
        self._link = link

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def reply_to(self) -> str:
        return self._link.reply_to if self._link is not None else ""

    async def send_report(self, report: PresenceReport) -> None:
        try:
            await self._standing.send_report(report)
        except LinkLost as lost:
            raise PublishFailed(str(lost)) from lost

    async def send_lease(self, lease: PresenceLease) -> None:
        try:
            await self._standing.send_lease(lease)
        except LinkLost as lost:
            raise PublishFailed(str(lost)) from lost

    @property
    def _standing(self) -> RabbitLink:
        if self._link is None:
            raise PublishFailed("no broker link")
        return self._link


class RabbitRoom:
    """`ports.Room` over whichever link stands just now."""

    def __init__(
        self,
        me: str,
        *,
        events: str,
        control: str,
        rpc: str,
        clock: Clock,
        commit_s: float,
        read_s: float,
    ) -> None:
        """`events`, `control` and `rpc` are names of exchanges."""
        self._me = me
        self._events = events
        self._control = control
        self._rpc = rpc
        self._clock = clock
        self._commit_s = commit_s
        self._read_s = read_s
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Outcome | Page]] = {}
        self._asking: dict[int, _Showing] = {}
        self._link: RabbitLink | None = None

    def use(self, link: RabbitLink | None) -> None:
        """Speak through this link from now on; None: there is none at the moment."""
        self._link = link

    def settle(self, answer: Outcome | Page) -> None:
        """Hear an answer; one nobody waits for any more is of no interest."""
        waiting = self._waiting.get(answer.request)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def settle_shown(self, shown: RunsShown) -> None:
        """Hear what another replica shows."""
        if (asking := self._asking.get(shown.number)) is not None:
            asking.hear(_shown_list.decode(shown.shown))

    # -- ports.Room ----------------------------------------------------------------------

    @property
    def reachable(self) -> bool:
        return self._link is not None

    def tell(
        self, agent: Agent, events: Sequence[RunEvent]
    ) -> "asyncio.Future[None] | None":
        if self._link is None or not events:
            return None
        info = agent_info(agent.name, agent.title, agent.picture)
        publications = [
            LivePublication(
                _encode_json(event), info, fence=event.run, fence_epoch=event.epoch
            )
            for event in events
        ]
        channel = events[0].room
        return self._link.publish(
            self._events, live_key(channel), LiveEvent(channel, publications)
        )

    async def commit(
        self,
        agent: Agent,
        channel: str,
        *,
        id_: str,
        data: bytes,
        run: str,
        epoch: int,
        traceparent: str,
    ) -> Outcome:
        link = self._link
        if link is None:
            raise RoomUnavailable("no broker link")
        number = next(self._numbers)
        command = PublishCommand(
            channel,
            id_,
            data,
            agent_info(agent.name, agent.title, agent.picture),
            agent_user(agent.name),
            request=number,
            traceparent=traceparent,
            fence=run,
            fence_epoch=epoch,
        )
        batch = CommandBatch(
            self._me, link.reply_to, [command], sent_ms=self._clock.unix_ms()
        )
        with _Waiting(self._waiting, number) as answered:
            try:
                async with asyncio.timeout(self._commit_s):
                    await link.send_commands(partition_of(channel), batch)
                    outcome = await answered
            except (TimeoutError, LinkLost) as error:
                raise RoomUnavailable("history did not answer in time") from error
        assert isinstance(outcome, Outcome)
        return outcome

    async def before(self, channel: str, offset: int, limit: int) -> list[Entry]:
        link = self._link
        if link is None:
            raise RoomUnavailable("no broker link")
        number = next(self._numbers)
        read = Read(number, channel, since=offset, limit=limit, reverse=True)
        with _Waiting(self._waiting, number) as answered:
            try:
                async with asyncio.timeout(self._read_s):
                    await link.publish(
                        self._rpc, HISTORY_SERVICE, Reads(link.reply_to, [read])
                    )
                    page = await answered
            except (TimeoutError, LinkLost) as error:
                raise RoomUnavailable("history did not answer in time") from error
        assert isinstance(page, Page)
        if page.error_code:
            raise RoomUnavailable(page.error_message)
        return sorted(page.entries, key=lambda entry: entry.offset)

    async def shown_elsewhere(
        self, channel: str, runs: frozenset[str]
    ) -> dict[str, Shown]:
        link = self._link
        if link is None or len(self._asking) >= WAITING_MAX:
            return {}
        number = next(self._numbers)
        asking = self._asking[number] = _Showing(runs)
        try:
            self.say(AgentControl(Say.SHOW, [], channel, link.reply_to, number))
            async with asyncio.timeout(SHOWN_WITHIN_S):
                await asking.whole.wait()
        except TimeoutError:
            # Its owner is gone or busy; what was stored last has to do.
            _log.debug("not all runs were shown in time")
        finally:
            del self._asking[number]
        return asking.seen

    def show(self, word: AgentControl, shown: Sequence[Shown]) -> None:
        if self._link is not None:
            answer = RunsShown(word.number, _encode_json(shown))
            self._link.publish(DEFAULT_EXCHANGE, word.reply_to, answer)

    def say(self, word: AgentControl) -> None:
        if self._link is not None:
            self._link.publish(self._control, AGENT_CONTROL_KEY, word)


class _Showing:
    """What has been shown so far of runs that somebody has asked for."""

    def __init__(self, runs: frozenset[str]) -> None:
        self._wanted = runs
        self.seen: dict[str, Shown] = {}
        self.whole = asyncio.Event()

    def hear(self, shown: Sequence[Shown]) -> None:
        for one in shown:
            known = self.seen.get(one.run)
            if known is None or known.epoch < one.epoch:
                self.seen[one.run] = one
        if self._wanted <= self.seen.keys():
            self.whole.set()


class _Waiting:
    """A place in the book of those who wait for an answer, for the length of a `with`."""

    def __init__(
        self, book: dict[int, asyncio.Future[Outcome | Page]], number: int
    ) -> None:
        self._book = book
        self._number = number

    def __enter__(self) -> "asyncio.Future[Outcome | Page]":
        if len(self._book) >= WAITING_MAX:
            raise RoomUnavailable("too much is waited for already")
        answered: asyncio.Future[Outcome | Page] = (
            asyncio.get_running_loop().create_future()
        )
        self._book[self._number] = answered
        return answered

    def __exit__(self, *_: object) -> None:
        del self._book[self._number]


async def _documents_messages(event: LogEvent) -> None:
    """What is said in rooms, once committed."""


async def _documents_calls(call: ServiceCall) -> None:
    """Calls of clients that gateways forward."""
