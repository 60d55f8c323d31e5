"""Everything one link sends: many messages per write, in order, with confirms.

A batch of events costs one frame sequence and one future per message instead of a task,
a lock and a write each; profiled, that is most of what publishing costs.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, cast

import pamqp.frame
from aiormq.abc import AbstractConnection, ChannelFrame, ExceptionType
from aiormq.channel import Channel
from pamqp import commands as spec
from pamqp.header import ContentHeader

from chatmesh.bus.losses import losses_as, told
from chatmesh.bus.one_life import when_closed
from chatmesh.wire.messages import CONTENT_TYPE

_FRAME_BODY: Final = b"\x03"
_FRAME_END: Final = b"\xce"
_FRAME_OVERHEAD: Final = 8
_BODY_SIZE_AT: Final = 11
"""A header frame: 7 bytes of frame head, class and weight of 2 each, then the size."""
_KEYS_CACHED: Final = 8192


class LinkLost(Exception):
    """The broker link went, or did not confirm in time: its deliveries come again."""


class Outbound(NamedTuple):
    """One transient message."""

    exchange: str
    routing_key: str
    body: bytes


class Outgoing:
    """The write side of one link: a publishing channel with confirms, and acks.

    Whoever owns it runs `run` and treats its end as the end of the link.
    """

    def __init__(self, connection: AbstractConnection, channel: Channel) -> None:
        self._write_queue = cast("asyncio.Queue[ChannelFrame]", connection.write_queue)  # pyright: ignore[reportUnknownMemberType] - untyped there
        self._channel = channel
        self._number = channel.number
        self._body_max = channel.connection.connection_tune.frame_max - _FRAME_OVERHEAD
        self._header = _header_template(channel.number)
        self._waiting: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        # By when they were sent, oldest first.
        self._confirming: dict[asyncio.Future[None], float] = {}
        self._lost: str = ""
        when_closed(channel, lambda _: self.lose("the publishing channel closed"))

    def publish(self, messages: Iterable[Outbound]) -> asyncio.Future[None]:
        """Send messages in order, now; the future is done when all are confirmed.

        It raises LinkLost when the broker refused one, or went.
        """
        channel = self._channel
        done = channel.loop.create_future()
        if self._lost:
            done.set_exception(LinkLost(self._lost))
            done.exception()
            return done
        confirmations = cast("dict[int, asyncio.Future[object]]", channel.confirmations)  # pyright: ignore[reportUnknownMemberType] - untyped there
        chunks: list[bytes] = []
        countdown = _Countdown(done)
        for message in messages:
            channel.delivery_tag += 1
            confirmed: asyncio.Future[object] = channel.loop.create_future()
            confirmations[channel.delivery_tag] = confirmed
            countdown.add(confirmed)
            self._encode(message, chunks)
        if countdown.open:
            self._confirming[done] = channel.loop.time()
            done.add_done_callback(lambda done: self._confirming.pop(done, None))
            self._write(b"".join(chunks))
        else:
            done.set_result(None)
        return done

    def ack(self, channel_number: int, tag: int) -> None:
        """Acknowledge everything on a channel up to a delivery."""
        if not self._lost:
            frame = spec.Basic.Ack(delivery_tag=tag, multiple=True)
            self._write(pamqp.frame.marshal(frame, channel_number))

    @property
    def unconfirmed_s(self) -> float:
        """How long the oldest message has been waiting for its confirm."""
        if not self._confirming:
            return 0.0
        return self._channel.loop.time() - next(iter(self._confirming.values()))

    def wait_anew(self) -> None:
        """Count the time to confirm from now: until now the broker could not."""
        now = self._channel.loop.time()
        self._confirming = dict.fromkeys(self._confirming, now)

    async def flush(self) -> None:
        """Return once everything so far is on its way."""
        await self._written.wait()

    def lose(self, reason: str) -> None:
        """The link is gone: nothing more is sent, nobody waits for a confirm."""
        if self._lost:
            return
        self._lost = reason
        self._waiting.clear()
        self._written.set()
        for done in list(self._confirming):
            if not done.done():
                done.set_exception(LinkLost(reason))
                # Whoever awaits it hears; nobody has to.
                done.exception()

    async def run(self) -> None:
        """Write what is to be written, until the link ends. Raises LinkLost."""
        with losses_as(lambda error: LinkLost(told(error))):
            while True:
                await self._more.wait()
                self._more.clear()
                while self._waiting:
                    payload = b"".join(self._waiting)
                    self._waiting.clear()
                    # Waiting for the socket here is what bounds our memory: what is
                    # committed and not confirmed is bounded by the committer.
                    drained = self._channel.loop.create_future()
                    await self._write_queue.put(
                        ChannelFrame(payload, should_close=False, drain_future=drained)
                    )
                    await drained
                self._written.set()

    def _write(self, payload: bytes) -> None:
        self._waiting.append(payload)
        self._written.clear()
        self._more.set()

    def _encode(self, message: Outbound, chunks: list[bytes]) -> None:
        body = message.body
        chunks.append(_method(self._number, message.exchange, message.routing_key))
        header = bytearray(self._header)
        struct.pack_into(">Q", header, _BODY_SIZE_AT, len(body))
        chunks.append(bytes(header))
        for start in range(0, len(body), self._body_max):
            part = body[start : start + self._body_max]
            chunks.append(
                b"%b%b%b%b"
                % (
                    _FRAME_BODY,
                    struct.pack(">HI", self._number, len(part)),
                    part,
                    _FRAME_END,
                )
            )


class _Countdown:
    """Completes one future when many have completed."""

    def __init__(self, done: "asyncio.Future[None]") -> None:
        self._done = done
        self.open = 0

    def add(self, one: "asyncio.Future[object]") -> None:
        self.open += 1
        one.add_done_callback(self._one)

    def _one(self, one: "asyncio.Future[object]") -> None:
        self.open -= 1
        failure: ExceptionType | None = None
        if one.cancelled():
            failure = LinkLost("confirm cancelled")
        elif error := one.exception():
            failure = LinkLost(f"the broker refused a message: {error!r}")
        if self._done.done():
            return
        if failure is not None:
            self._done.set_exception(failure)
            self._done.exception()
        elif self.open == 0:
            self._done.set_result(None)


@lru_cache(maxsize=_KEYS_CACHED)
def _method(channel_number: int, exchange: str, routing_key: str) -> bytes:
    frame = spec.Basic.Publish(exchange=exchange, routing_key=routing_key)
    return pamqp.frame.marshal(frame, channel_number)


def _header_template(channel_number: int) -> bytes:
    header = ContentHeader(
        body_size=0,
        properties=spec.Basic.Properties(content_type=CONTENT_TYPE, delivery_mode=1),
    )
    return pamqp.frame.marshal(header, channel_number)
