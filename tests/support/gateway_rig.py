"""A whole gateway in one event loop: real rules, a fake broker, clients with ears."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw
from prometheus_client import CollectorRegistry
from websockets.frames import Frame
from websockets.streams import StreamReader

from chatmesh.gateway.codecs import JSON, ClientCodec
from chatmesh.gateway.connection import Connection
from chatmesh.gateway.gateway import Gateway
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import (
    ConnectionClaims,
    KeyUnknown,
    SubscriptionClaims,
    TokenExpired,
    TokenInvalid,
)
from chatmesh.runtime.health import Health
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import messages
from chatmesh.wire.close_codes import Disconnect
from chatmesh.wire.messages import HeadsPage, LiveEvent, LogEvent
from chatmesh.wire.namespaces import NamespaceOptions
from support.fake_bus import FakeBus, FakeLog
from support.manual_clock import UNIX_S, ManualClock, settle

NAMESPACES = {
    "": NamespaceOptions(personal=True),
    "room": NamespaceOptions(),
    "live": NamespaceOptions(durable=False),
    "cache": NamespaceOptions(cache_recovery=True),
    "rich": NamespaceOptions(
        presence=True, join_leave=True, allow_delta=True, allow_tags_filter=True
    ),
}


@dataclass
class Ear:
    """A client's transport: what was written to it, and how it ended."""

    raw: bytearray = field(default_factory=bytearray)
    writes: int = 0
    goodbyes: list[Disconnect] = field(default_factory=list[Disconnect])
    aborted: bool = False

    def write(self, frame: bytes) -> None:
        assert not self.goodbyes, "written after the goodbye"
        self.raw += frame
        self.writes += 1

    def close(self, disconnect: Disconnect) -> None:
        self.goodbyes.append(disconnect)

    def abort(self) -> None:
        self.aborted = True

    def frames(self) -> list[bytes]:
        """Payloads of the WebSocket frames written so far, which are then forgotten."""
        reader = StreamReader()
        reader.feed_data(bytes(self.raw))
        reader.feed_eof()
        self.raw.clear()
        payloads: list[bytes] = []
        while not _ended(reader):
            parse = Frame.parse(reader.read_exact, mask=False)
            try:
                while True:
                    next(parse)
            except StopIteration as parsed:
                frame: Frame = parsed.value
                payloads.append(bytes(frame.data))
        return payloads


def _ended(reader: StreamReader) -> bool:
    try:
        next(reader.at_eof())
    except StopIteration as answer:
        return bool(answer.value)
    return False


class NamedTokens:
    """Tokens that say what they are: `ada`, `ada|room:a|60`, `expired`, `unknownkey`."""

    def __init__(self) -> None:
        self.known = False
        self.info = b""
        """What the next connection tokens say to be shown of their user."""
        self.chan_info = b""
        """And the next subscription tokens, in their channel."""

    def connection(self, token: str, now_s: float) -> ConnectionClaims:
        user, _, until = self._read(token)
        return ConnectionClaims(
            user,
            expire_at=int(now_s + float(until or 0)) if until else 0,
            info=self.info,
        )

    def subscription(self, token: str, now_s: float) -> SubscriptionClaims:
        user, channel, until = self._read(token)
        at = int(now_s + float(until)) if until else 0
        return SubscriptionClaims(user, channel, expire_at=at, info=self.chan_info)

    def _read(self, token: str) -> tuple[str, str, str]:
        if token == "expired":
            raise TokenExpired
        if token == "unknownkey" and not self.known:
            raise KeyUnknown("k")
        words = token.split("|")
        if len(words) > 3 or not words[0].isalnum():
            raise TokenInvalid("not one of ours")
        user, channel, until = [*words, "", ""][:3]
        return user, channel, until


@dataclass
class Client:
    """One client of the rig, speaking JSON."""

    connection: Connection
    ear: Ear

    def says(self, *commands: object) -> None:
        frame = b"\n".join(msgspec.json.encode(one) for one in commands)
        self.connection.receive(frame)

    async def hears(self) -> list[dict[str, object]]:
        """Messages written since the last look, in order."""
        await settle()
        lines = [line for frame in self.ear.frames() for line in frame.split(b"\n")]
        return [msgspec.json.decode(line) for line in lines]

    async def publications(self) -> list[int]:
        """Offsets of the publications pushed since the last look."""
        said = await self.hears()
        pushes = [one["push"] for one in said if "push" in one]
        return [push["pub"]["offset"] for push in pushes if "pub" in push]  # type: ignore[index]

    @property
    def goodbye(self) -> int | None:
        return self.ear.goodbyes[0].code if self.ear.goodbyes else None


class Rig:
    """One gateway; call `close` at the end."""

    def __init__(self, **settings: object) -> None:
        self.clock = ManualClock()
        self.bus = FakeBus()
        self.failures: list[BaseException] = []
        self.tasks = Tasks(on_failure=lambda _, failure: self.failures.append(failure))
        self.health = Health("broker", "canary")
        self.dropped: list[str] = []
        self.tokens = NamedTokens()
        self.key_set = FakeKeySet(self.tokens)
        self.settings = GatewaySettings.model_validate(
            {"ping_interval_s": 25, "pong_within_s": 8.0, **settings}
        )
        self.registry = CollectorRegistry()
        self._numbers = iter(range(1, 1_000_000))
        self.gateway = Gateway(
            self.bus,
            self.tokens,
            self.key_set,
            settings=self.settings,
            terms=Terms(
                Policy(NAMESPACES, anonymous=True),
                version="v",
                connect_data=Raw(b'{"gateway":"g"}'),
                ping_interval_s=self.settings.ping_interval_s,
                new_id=lambda: f"made-{next(self._numbers)}",
            ),
            clock=self.clock,
            chance=random.Random(7),
            tasks=self.tasks,
            metrics=Metrics(self.registry),
            health=self.health,
            drop_line=self.dropped.append,
            origin="me",
            new_client_id=lambda: f"c{next(self._numbers)}",
        )
        self.logs: dict[str, FakeLog] = {}
        self.clockwork = self.tasks.spawn(self.gateway.tend(), name="clockwork")

    async def close(self) -> None:
        await self.tasks.stop(1.0)
        assert self.failures == []

    def client(self, codec: ClientCodec = JSON) -> Client:
        ear = Ear()
        return Client(self.gateway.connect(codec, ear), ear)

    async def connected(self, user: str = "ada") -> Client:
        client = self.client()
        client.says({"id": 1, "connect": {"token": user}})
        await self.answer()
        (welcome,) = await client.hears()
        assert "connect" in welcome, welcome
        return client

    async def subscribed(self, *channels: str, user: str = "ada") -> Client:
        client = await self.connected(user)
        for number, channel in enumerate(channels, start=2):
            client.says({"id": number, "subscribe": {"channel": channel}})
        await self.answer()
        replies = await client.hears()
        assert all("subscribe" in reply for reply in replies), replies
        assert len(replies) == len(channels)
        return client

    def log(self, channel: str) -> FakeLog:
        return self.logs.setdefault(channel, FakeLog.of(0, channel))

    def hear(self, message: msgspec.Struct) -> None:
        """A message from the broker, through its bytes."""
        self.gateway.receive(messages.encode(message))

    async def answer(self) -> None:
        """History answers reads, and commits what it was asked to commit."""
        await settle()
        while self.bus.reads or self.bus.batches or self.bus.heads:
            reads, self.bus.reads = self.bus.reads, []
            for read in reads:
                self.hear(self.log(read.channel).page(read))
            batches, self.bus.batches = self.bus.batches, []
            for _, batch in batches:
                for command in batch.commands:
                    log = self.log(command.channel)
                    entry = log.append(
                        id=command.id,
                        data=command.data,
                        info=command.info,
                        origin=batch.origin,
                        request=command.request,
                        at_ms=self.clock.unix_ms(),
                    )
                    self.hear(LogEvent(command.channel, log.epoch, [entry]))
            heads, self.bus.heads = self.bus.heads, []
            for request, names in heads:
                told = [(self.log(name).epoch, self.log(name).top) for name in names]
                self.hear(HeadsPage(request, told))
            await settle()

    def say(self, channel: str, count: int = 1, **more: object) -> None:
        """Somebody elsewhere commits, and the event arrives."""
        log = self.log(channel)
        entries = [log.append(**more) for _ in range(count)]
        self.hear(LogEvent(channel, log.epoch, entries))

    def say_live(self, channel: str, *payloads: bytes) -> None:
        live = [messages.LivePublication(one) for one in payloads]
        self.hear(LiveEvent(channel, live))

    async def pass_time(self, seconds: float, step_s: float = 0.25) -> None:
        """The clock moves in the steps in which the gateway looks at it."""
        until = self.clock.now_s + seconds
        while self.clock.now_s < until:
            self.clock.pass_time(min(step_s, until - self.clock.now_s))
            await settle()

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"chatmesh_gateway_{name}", labels) or 0.0

    async def lose_the_link(self) -> None:
        self.bus.up = False
        self.bus.bound.clear()
        self.gateway.link_down("cut")
        await settle()

    async def get_the_link_back(self) -> None:
        self.bus.up = True
        await self.gateway.link_up()
        await settle()


class FakeKeySet:
    """Keys that have to be fetched: the test says what comes of it."""

    def __init__(self, tokens: NamedTokens) -> None:
        self._tokens = tokens
        self.found = True
        self.current = True

    async def refresh(self) -> bool:
        await settle(2)
        self._tokens.known = self.found
        return self.current


def unix_s(rig: Rig) -> float:
    return UNIX_S + rig.clock.now_s


def offsets(said: Sequence[dict[str, object]]) -> list[int]:
    """Offsets in the publications of pushes."""
    pushes = [one["push"] for one in said if "push" in one]
    return [push["pub"]["offset"] for push in pushes if "pub" in push]  # type: ignore[index]
