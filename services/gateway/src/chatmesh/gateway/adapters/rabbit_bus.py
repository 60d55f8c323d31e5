"""The broker behind the gateway's `Bus` port, over a link that is rebuilt when it fails."""

import random
from collections.abc import Awaitable, Callable, Sequence

from chatmesh.bus.link import Line, Link, PublishFailed
from chatmesh.runtime.clock import Clock
from chatmesh.wire import dead_letters, limits, messages, topics
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.control import ControlMessage
from chatmesh.wire.messages import (
    Canary,
    CommandBatch,
    Heads,
    LiveEvent,
    LivePublication,
    Read,
    Reads,
    Truncate,
)
from chatmesh.wire.presence import (
    PresenceAsk,
    PresenceAsks,
    PresenceLease,
    PresenceReport,
)
from chatmesh.wire.topics import Topics


class RabbitBus:
    """Publishes for one gateway and binds its queue; tells it of every new line."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        name: str,
        names: Topics,
        publish_within_s: float,
        read_within_s: float,
        clock: Clock,
        chance: random.Random,
    ) -> None:
        self._names = names
        self._name = name
        self._clock = clock
        self._within_s = publish_within_s
        self._read_expires_ms = int(read_within_s * 1000)
        self._line: Line | None = None
        self._receive: Callable[[bytes], None] | None = None
        self._up: Callable[[], Awaitable[None]] | None = None
        self._down: Callable[[str], None] | None = None
        self._link = Link(
            urls,
            name=name,
            topics=names,
            owner=self,
            receive=self._received,
            clock=clock,
            chance=chance,
        )

    def attach(
        self,
        *,
        receive: Callable[[bytes], None],
        up: Callable[[], Awaitable[None]],
        down: Callable[[str], None],
    ) -> None:
        """Say who hears what arrives and learns of lines; before `run`."""
        self._receive, self._up, self._down = receive, up, down

    async def run(self) -> None:
        """Keep the link standing until cancelled."""
        await self._link.run()

    def drop_line(self, reason: str) -> None:
        self._link.fail(reason)

    # -- What the link tells ----------------------------------------------------------

    async def link_up(self, line: Line) -> None:
        assert self._up is not None, "attach comes before run"
        self._line = line
        await line.bind(self._names.events, [self._canary_key])
        keys = [topics.CONTROL_KEY, topics.node_key(self._name)]
        await line.bind(self._names.control, keys)
        await self._up()

    def link_down(self, reason: str) -> None:
        assert self._down is not None, "attach comes before run"
        self._line = None
        self._down(reason)

    def _received(self, body: bytes) -> None:
        assert self._receive is not None, "attach comes before run"
        self._receive(body)

    # -- The port ---------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._line is not None

    @property
    def reply_to(self) -> str:
        return self._line.queue if self._line is not None else ""

    async def watch(self, channels: Sequence[str]) -> None:
        keys = [topics.channel_binding(channel) for channel in channels]
        await self._standing.bind(self._names.events, keys)

    async def unwatch(self, channels: Sequence[str]) -> None:
        keys = [topics.channel_binding(channel) for channel in channels]
        await self._standing.unbind(self._names.events, keys)

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        await self._standing.publish(
            self._names.commands,
            topics.partition_key(partition),
            messages.encode(batch),
            within_s=self._within_s,
            mandatory=True,
            persistent=True,
        )

    async def send_reads(self, reads: list[Read]) -> None:
        body = messages.encode(Reads(self.reply_to, reads))
        await self._ask(topics.HISTORY_SERVICE, body)

    async def ask_heads(self, request: int, channels: list[str]) -> None:
        body = messages.encode(Heads(request, self.reply_to, channels))
        await self._ask(topics.HISTORY_SERVICE, body)

    async def publish_live(
        self, channel: str, publications: list[LivePublication]
    ) -> None:
        await self._standing.publish(
            self._names.events,
            topics.live_key(channel),
            messages.encode(LiveEvent(channel, publications)),
            within_s=self._within_s,
        )

    async def send_report(self, report: PresenceReport) -> None:
        await self._standing.publish(
            self._names.presence,
            topics.report_key(report.partition),
            messages.encode(report),
            within_s=self._within_s,
            mandatory=True,
            persistent=True,
        )

    async def send_lease(self, lease: PresenceLease) -> None:
        await self._standing.publish(
            self._names.presence,
            topics.LEASE_KEY,
            messages.encode(lease),
            within_s=self._within_s,
        )

    async def send_presence_asks(self, asks: list[PresenceAsk]) -> None:
        await self._ask(
            topics.PRESENCE_SERVICE, messages.encode(PresenceAsks(self.reply_to, asks))
        )

    async def send_call(self, service: str, call: ServiceCall) -> None:
        expires_ms = limits.SERVICE_CALL_S * 1000
        await self._ask(service, messages.encode(call), expires_ms=expires_ms)

    async def send_canary(self, number: int) -> None:
        await self._standing.publish(
            self._names.events,
            self._canary_key,
            messages.encode(Canary(self._name, number)),
            within_s=self._within_s,
            mandatory=True,
        )

    async def bury(self, body: bytes, cause: str) -> None:
        await self._standing.publish(
            self._names.dead,
            "",
            body,
            within_s=self._within_s,
            persistent=True,
            headers={
                dead_letters.CAUSE: cause[: dead_letters.CAUSE_CHARS_MAX],
                dead_letters.ORIGIN_QUEUE: self.reply_to,
                dead_letters.DIED_MS: self._clock.unix_ms(),
            },
        )

    async def tell_gateways(self, message: ControlMessage) -> None:
        await self._control(topics.CONTROL_KEY, message)

    async def tell_gateway(self, node: str, message: ControlMessage) -> None:
        await self._control(topics.node_key(node), message)

    async def answer(self, reply_to: str, message: ControlMessage) -> None:
        await self._standing.publish(
            topics.DEFAULT_EXCHANGE,
            reply_to,
            messages.encode(message),
            within_s=self._within_s,
        )

    async def truncate(self, request: int, channel: str) -> None:
        await self._ask(
            topics.HISTORY_SERVICE,
            messages.encode(Truncate(request, self.reply_to, channel)),
        )

    async def _control(self, key: str, message: ControlMessage) -> None:
        await self._standing.publish(
            self._names.control,
            key,
            messages.encode(message),
            within_s=self._within_s,
            mandatory=True,
        )

    async def _ask(
        self, service: str, body: bytes, *, expires_ms: int | None = None
    ) -> None:
        await self._standing.publish(
            self._names.rpc,
            service,
            body,
            within_s=self._within_s,
            mandatory=True,
            expires_ms=expires_ms or self._read_expires_ms,
        )

    @property
    def _standing(self) -> Line:
        if self._line is None:
            raise PublishFailed("no link to the broker")
        return self._line

    @property
    def _canary_key(self) -> str:
        return f"{topics.CANARY_KEY_PREFIX}.{topics.escape(self._name)}"
