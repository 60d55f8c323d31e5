"""Ephemeral publications on their way from this gateway to all of them.

They gather while those before them are on their way, and go out channel by channel.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.ports import Bus
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.messages import LivePublication

WAITING_MAX: Final = 20_000
PER_BATCH_MAX: Final = 1000
WAITING_BYTES_MAX: Final = 64 * limits.MIB
WAITING_S_MAX: Final = 1.0
"""Behind a broker that does not confirm: its sender is told in time, and it is stale."""

Answer = Callable[[errors.ErrorReply | None], None]
"""Hears how it went: None when the broker has it."""


class _Live(msgspec.Struct, gc=False):
    channel: str
    publication: LivePublication
    answer: Answer
    since_s: float


class LivePublisher:
    """Hands ephemeral publications to the broker, and answers each caller once."""

    def __init__(self, bus: Bus, tasks: Tasks, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._waiting = Gatherer[_Live](
            self._send,
            tasks=tasks,
            name="live publications",
            batch_max=PER_BATCH_MAX,
            waiting_max=WAITING_MAX,
            # A broker refuses messages beyond its limit by closing the channel.
            weigh=lambda live: len(live.publication.data) + len(live.publication.info),
            weight_max=limits.BATCH_BYTES_MAX,
            waiting_weight_max=WAITING_BYTES_MAX,
        )

    def publish(
        self, channel: str, publication: LivePublication, answer: Answer
    ) -> None:
        if not self._bus.connected:
            answer(errors.INTERNAL)
            return
        live = _Live(channel, publication, answer, self._clock.monotonic_s())
        if not self._waiting.put(live):
            answer(errors.TOO_MANY_REQUESTS)

    async def _send(self, batch: list[_Live]) -> None:
        by_channel: dict[str, list[_Live]] = {}
        late_s = self._clock.monotonic_s() - WAITING_S_MAX
        for live in batch:
            if live.since_s < late_s:
                live.answer(errors.INTERNAL)
            else:
                by_channel.setdefault(live.channel, []).append(live)
        # Side by side: a broker that takes its time does so once, not channel by channel.
        async with asyncio.TaskGroup() as group:
            for channel, lives in by_channel.items():
                group.create_task(self._send_to(channel, lives))

    async def _send_to(self, channel: str, lives: list[_Live]) -> None:
        error = None
        try:
            await self._bus.publish_live(channel, [one.publication for one in lives])
        except PublishFailed:
            error = errors.INTERNAL
        for live in lives:
            live.answer(error)
