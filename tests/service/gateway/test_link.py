"""A line to a real broker: whatever part of it fails, all of it is built anew."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import cast

import aio_pika
import aiormq
import pytest

from chatmesh.bus.link import Line, Link, PublishFailed
from chatmesh.bus.topology import declare
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.topics import Topics
from support.eventually import eventually

pytestmark = pytest.mark.timeout(120)

KEY = "test.key"


class Owner:
    """Binds one key on every line, and notes what it is told."""

    def __init__(self, url: str, prefix: str) -> None:
        self.names = Topics(prefix)
        self.lines: list[Line] = []
        self.downs: list[str] = []
        self.heard: list[bytes] = []
        self.fails_on: Callable[[bytes], bool] = lambda _: False
        self.refuses: list[Exception] = []
        self.binds_for_s = 0.0
        self.link = Link(
            [url],
            name="tester",
            topics=self.names,
            owner=self,
            receive=self.receive,
            clock=SystemClock(),
            chance=random.Random(7),
        )

    async def link_up(self, line: Line) -> None:
        self.lines.append(line)
        if self.refuses:
            raise self.refuses.pop()
        await asyncio.sleep(self.binds_for_s)
        await line.bind(self.names.events, ["a.b.*", KEY])

    def link_down(self, reason: str) -> None:
        self.downs.append(reason)

    def receive(self, body: bytes) -> None:
        if self.fails_on(body):
            raise ValueError("a bug")
        self.heard.append(body)

    @property
    def line(self) -> Line:
        assert self.link.line is not None
        return self.link.line

    async def says(self, body: bytes) -> None:
        await self.line.publish(
            self.names.events, KEY, body, within_s=5, mandatory=True
        )

    async def hears_itself(self) -> None:
        """The whole way through the broker and back."""
        body = f"line {len(self.lines)}".encode()
        await self.says(body)
        await eventually(lambda: body in self.heard)

    async def on_a_new_line(self, before: int) -> None:
        await eventually(
            lambda: len(self.lines) > before and self.link.line is not None,
            within_s=20,
        )
        assert len(self.downs) == len(self.lines) - 1
        await self.hears_itself()


@pytest.fixture
async def owner(broker_url: str, prefix: str) -> AsyncIterator[Owner]:
    made = Owner(broker_url, prefix)
    tasks = Tasks()
    tasks.spawn(made.link.run(), name="link")
    await eventually(lambda: made.link.line is not None, within_s=20)
    yield made
    await tasks.stop(5)


async def test_a_line_publishes_with_confirms_and_hears_what_it_binds(
    owner: Owner,
) -> None:
    """In order."""
    for number in range(50):
        await owner.says(b"%d" % number)

    await eventually(lambda: len(owner.heard) == 50)
    assert owner.heard == [b"%d" % number for number in range(50)]


async def test_many_bindings_stand_when_bind_returns(owner: Owner) -> None:
    """And are gone after unbind."""
    keys = [f"room.{number}.*" for number in range(500)]
    await owner.line.bind(owner.names.events, keys)

    async def publish(key: str) -> None:
        await owner.line.publish(
            owner.names.events, key, key.encode(), within_s=5, mandatory=True
        )

    for number in (0, 250, 499):
        await publish(f"room.{number}.log")
    await owner.line.unbind(owner.names.events, keys[:1])
    with pytest.raises(PublishFailed) as failed:
        await publish("room.0.log")

    assert failed.value.unroutable
    await eventually(lambda: len(owner.heard) == 3)


async def test_binding_does_not_wait_for_what_is_unbound(owner: Owner) -> None:
    """Each unbinding is a question of its own; hundreds of them hold up nobody."""
    old = [f"old.{number}.*" for number in range(2000)]
    await owner.line.bind(owner.names.events, old)

    unbinding = asyncio.ensure_future(owner.line.unbind(owner.names.events, old))
    await asyncio.sleep(0)
    await owner.line.bind(owner.names.events, ["new.1.*", "new.2.*"])

    assert not unbinding.done()
    await unbinding
    with pytest.raises(PublishFailed) as failed:
        await owner.line.publish(
            owner.names.events, "old.1999.log", b"x", within_s=5, mandatory=True
        )
    assert failed.value.unroutable


async def test_an_owner_may_bind_for_longer_than_a_line_takes_to_open(
    broker_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tens of thousands of rooms are many batches, each with a deadline of its own."""
    monkeypatch.setattr("chatmesh.bus.link.DECLARE_WITHIN_S", 2.0)
    owner = Owner(broker_url, prefix)
    owner.binds_for_s = 2.5
    tasks = Tasks()
    tasks.spawn(owner.link.run(), name="link")

    await owner.on_a_new_line(before=0)

    assert len(owner.lines) == 1
    await tasks.stop(5)


async def test_a_line_that_fails_while_its_owner_binds_is_given_up_at_once(
    broker_url: str, prefix: str
) -> None:
    """However long binding would go on."""
    owner = Owner(broker_url, prefix)
    owner.binds_for_s = 60.0
    tasks = Tasks()
    tasks.spawn(owner.link.run(), name="link")
    await eventually(lambda: owner.lines, within_s=20)

    owner.binds_for_s = 0.0
    owner.link.fail("its own publications do not come back")

    await owner.on_a_new_line(before=1)
    await tasks.stop(5)


async def test_nothing_to_bind_is_nothing_to_do(owner: Owner) -> None:
    """An empty list asks the broker nothing."""
    await owner.line.bind(owner.names.events, [])
    await owner.line.unbind(owner.names.events, [])


async def connection_closed(owner: Owner) -> None:
    publishing = owner.line._publishing
    await publishing.connection.close()


async def publishing_channel_closed(owner: Owner) -> None:
    with pytest.raises(PublishFailed):
        await owner.line.publish("no such exchange", "k", b"x", within_s=5)


async def consuming_channel_closed(owner: Owner) -> None:
    with pytest.raises(PublishFailed):
        await owner.line.bind("no such exchange", ["k"])


async def queue_gone(owner: Owner) -> None:
    channel = owner.line._consuming
    await channel.queue_delete(owner.line.queue)


async def told_to_fail(owner: Owner) -> None:
    owner.link.fail("because I say so")
    await asyncio.sleep(0)


async def receiver_has_a_bug(owner: Owner) -> None:
    owner.fails_on = lambda body: body == b"poison"
    await owner.says(b"poison")


@pytest.mark.parametrize(
    "fault",
    [
        connection_closed,
        publishing_channel_closed,
        consuming_channel_closed,
        queue_gone,
        told_to_fail,
        receiver_has_a_bug,
    ],
    ids=lambda fault: fault.__name__,
)
async def test_when_any_part_fails_a_new_line_stands_soon(
    owner: Owner, fault: Callable[[Owner], asyncio.Future[None]]
) -> None:
    """With a queue of its own, bound anew; the owner is told once of each end."""
    await owner.hears_itself()
    old = owner.line

    await fault(owner)

    await owner.on_a_new_line(before=1)
    assert owner.line.queue != old.queue
    with pytest.raises(PublishFailed):
        await old.publish(owner.names.events, KEY, b"late", within_s=1)


async def test_an_owner_that_cannot_bind_gets_another_line(
    broker_url: str, prefix: str
) -> None:
    """And is told that the one before is gone."""
    owner = Owner(broker_url, prefix)
    owner.refuses = [PublishFailed("no"), PublishFailed("not yet")]
    tasks = Tasks()
    tasks.spawn(owner.link.run(), name="link")

    await owner.on_a_new_line(before=2)

    assert len(owner.lines) == 3
    await tasks.stop(5)


async def test_addresses_are_tried_in_turn(broker_url: str, prefix: str) -> None:
    """A node that is down is passed over."""
    owner = Owner(broker_url, prefix)
    owner.link._urls.insert(0, "amqp://127.0.0.1:1/")
    tasks = Tasks()
    tasks.spawn(owner.link.run(), name="link")

    await eventually(lambda: owner.link.line is not None, within_s=20)

    await tasks.stop(5)
    assert owner.downs == ["broker link lost"]


async def test_the_topology_may_be_declared_again_and_again(
    broker_url: str, prefix: str
) -> None:
    """By any process, at any time."""
    async with await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        underlay = cast("aiormq.Channel", await channel.get_underlay_channel())
        for _ in range(2):
            await declare(underlay, Topics(prefix))
        queue = await channel.get_queue(Topics(prefix).command_queue(15))
        assert queue.declaration_result.message_count == 0
