"""Ephemeral publications are answered in time, whatever the broker does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chatmesh.gateway.live import WAITING_S_MAX, LivePublisher
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import LivePublication
from support.fake_bus import FakeBus
from support.manual_clock import ManualClock, settle

ONE = LivePublication(b"1", b"")


class SlowBus(FakeBus):
    """Confirms when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.confirmed = asyncio.Event()

    async def publish_live(
        self, channel: str, publications: list[LivePublication]
    ) -> None:
        await super().publish_live(channel, publications)
        await self.confirmed.wait()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    failures: list[BaseException] = []
    made = Tasks(on_failure=lambda _, failure: failures.append(failure))
    yield made
    await made.stop(1.0)
    assert failures == []


async def test_channels_do_not_wait_for_each_other(tasks: Tasks) -> None:
    """A broker that takes its time does so once, not channel by channel."""
    bus, told = SlowBus(), list[ErrorReply | None]()
    live = LivePublisher(bus, tasks, ManualClock())
    live.publish("live:first", ONE, told.append)
    await settle()
    for channel in ("live:a", "live:b", "live:c"):
        live.publish(channel, ONE, told.append)
    bus.confirmed.set()
    await settle()
    bus.confirmed.clear()
    live.publish("live:last", ONE, told.append)
    await settle()

    assert [channel for channel, _ in bus.live[1:4]] == ["live:a", "live:b", "live:c"]
    assert told == [None] * 4


async def test_who_waited_too_long_is_told_so(tasks: Tasks) -> None:
    """Its sender would have given up, and nobody wants it any more."""
    bus, told = SlowBus(), list[ErrorReply | None]()
    clock = ManualClock()
    live = LivePublisher(bus, tasks, clock)
    live.publish("live:a", ONE, lambda _: None)
    await settle()
    live.publish("live:a", LivePublication(b"stale", b""), told.append)
    clock.pass_time(WAITING_S_MAX + 0.1)
    bus.confirmed.set()
    await settle()

    assert told == [errors.INTERNAL]
    assert len(bus.live) == 1
