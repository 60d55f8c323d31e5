"""Ephemeral publications on their way from this gateway to all of them.

They gather while those before them are on their way, and go out channel by channel.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.ports import Bus
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.messages import LivePublication

WAITING_MAX: Final = 20_000
PER_BATCH_MAX: Final = 1000
WAITING_BYTES_MAX: Final = 64 * limits.MIB

Answer = Callable[[errors.ErrorReply | None], None]
"""Hears how it went: None when the broker has it."""


class _Live(msgspec.Struct, gc=False):
    channel: str
    publication: LivePublication
    answer: Answer


class LivePublisher:
    """Hands ephemeral publications to the broker, and answers each caller once."""

    def __init__(self, bus: Bus, tasks: Tasks) -> None:
        self._bus = bus
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
        elif not self._waiting.put(_Live(channel, publication, answer)):
            answer(errors.TOO_MANY_REQUESTS)

    async def _send(self, batch: list[_Live]) -> None:
        by_channel: dict[str, list[_Live]] = {}
        for live in batch:
            by_channel.setdefault(live.channel, []).append(live)
        for channel, lives in by_channel.items():
            error = None
            try:
                await self._bus.publish_live(
                    channel, [one.publication for one in lives]
                )
            except PublishFailed:
                error = errors.INTERNAL
            for live in lives:
                live.answer(error)
