"""Channels are bound, compared and filled once, however many clients ask."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.effects import Want
from chatmesh.gateway.feed import (
    COMPARE_EVERY_S,
    UNBINDINGS_WAITING_MAX,
    Feed,
    Standing,
)
from chatmesh.gateway.hub import Hub
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.outbox import Chunk
from chatmesh.gateway.publications import Committed
from chatmesh.gateway.reads import Reads
from chatmesh.gateway.stream import Kept
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors
from chatmesh.wire.client import StreamPosition
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import (
    HeadsPage,
    LiveEvent,
    LivePublication,
    LogEvent,
    Page,
    Read,
)
from support.eventually import eventually
from support.fake_bus import FakeBus, FakeLog
from support.manual_clock import ManualClock, settle

ROOM = "room:a"
READY_WITHIN_S = 4.0
READ_WITHIN_S = 2.0
LINGER_S = 30.0


class Ears:
    """A connection in one channel; keeps what it hears."""

    def __init__(self) -> None:
        self.codec = Spelling()
        self.heard: list[int] = []
        self.live: list[bytes] = []

    def deliver(self, chunk: Chunk) -> None:
        if chunk.ephemeral:
            self.live.append(chunk.payload)
        else:
            self.heard += [int(word) for word in chunk.payload.split()]

    def cannot_read(self) -> None:
        raise AssertionError("everything here is readable")


class Spelling:
    """A codec that writes offsets."""

    name = "offsets"

    def committed_chunk(self, channel: str, publications: Sequence[Committed]) -> Chunk:
        text = " ".join(str(one.offset) for one in publications)
        return Chunk(text.encode(), channel=channel)

    def live_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk:
        body = b" ".join(one.data for one in publications)
        return Chunk(body, channel=channel, ephemeral=True)

    def delta_chunk(
        self, channel: str, publications: Sequence[Committed], base: bytes
    ) -> Chunk:
        raise NotImplementedError

    def live_delta_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk:
        raise NotImplementedError


@dataclass
class Client:
    """Someone who wants channels, and joins them in the instant they are ready."""

    hub: Hub
    ears: Ears = field(default_factory=Ears)
    standings: list[Standing] = field(default_factory=list[Standing])
    refused: list[ErrorReply] = field(default_factory=list[ErrorReply])

    def ready(self, standings: list[Standing]) -> None:
        assert not self.standings, "called back twice"
        self.standings = standings
        for standing in standings:
            self.ears.heard += [one.offset for one in standing.missed]
            self.hub.join(standing.channel, self.ears)

    def failed(self, error: ErrorReply) -> None:
        self.refused.append(error)


class Mesh:
    """A feed with everything around it in the test's hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.kept = Kept()
        self.bus = FakeBus()
        self.hub = Hub()
        self.tasks = Tasks(on_failure=self._failed)
        self.failures: list[BaseException] = []
        self.lost: list[str] = []
        self.filled: list[int] = []
        self.logs: dict[str, FakeLog] = {}
        metrics = Metrics(CollectorRegistry())
        self.reads = Reads(
            self.bus,
            within_s=READ_WITHIN_S,
            clock=self.clock,
            tasks=self.tasks,
            metrics=metrics,
        )
        self.feed = Feed(
            self.bus,
            self.hub,
            self.reads,
            lost=self.lost.append,
            filled=lambda _, news: self.filled.extend(one.offset for one in news),
            clock=self.clock,
            tasks=self.tasks,
            metrics=metrics,
            ready_within_s=READY_WITHIN_S,
            linger_s=LINGER_S,
            tails_bytes_max=10_000,
            kept=lambda _: self.kept,
        )

    def _failed(self, _: str, failure: BaseException) -> None:
        self.failures.append(failure)

    def log(self, channel: str = ROOM, top: int = 0) -> FakeLog:
        return self.logs.setdefault(channel, FakeLog.of(top, channel))

    def client(self, *wants: Want) -> Client:
        client = Client(self.hub)
        self.feed.want(wants or (Want(ROOM),), client.ready, client.failed)
        return client

    async def answer(self) -> list[Read]:
        """History answers everything it was asked so far."""
        await settle()
        asked, self.bus.reads = self.bus.reads, []
        for read in asked:
            self.reads.hear(self.log(read.channel).page(read))
        await settle()
        return asked

    async def answer_heads(self) -> list[list[str]]:
        await settle()
        asked, self.bus.heads = self.bus.heads, []
        for request, names in asked:
            heads = [(self.log(name).epoch, self.log(name).top) for name in names]
            self.feed.hear_heads(HeadsPage(request, heads))
        await settle()
        return [names for _, names in asked]

    async def joined(self, *wants: Want) -> Client:
        client = self.client(*wants)
        while not client.standings:
            assert await self.answer() or client.standings, "nothing was asked"
        return client

    def pass_time(self, seconds: float) -> None:
        self.clock.pass_time(seconds)
        self.reads.give_up_overdue()
        self.feed.tend()

    def lose_the_link(self) -> None:
        self.bus.up = False
        self.bus.bound.clear()
        self.reads.link_down()
        self.feed.link_down()

    async def get_the_link_back(self) -> None:
        self.bus.up = True
        self.bus.watched.clear()
        await self.feed.link_up()
        await settle()


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    made = Mesh()
    yield made
    await made.tasks.stop(1.0)
    assert made.failures == []


# -- Getting ready --------------------------------------------------------------------


async def test_a_cold_channel_is_bound_before_it_is_read(mesh: Mesh) -> None:
    """Otherwise what is said between the two would be lost."""
    mesh.log(top=3)
    client = mesh.client()
    assert mesh.bus.reads == []
    await settle()
    assert mesh.bus.watched == [[ROOM]]

    (read,) = await mesh.answer()

    assert (read.channel, read.limit, read.reverse) == (ROOM, 0, True)
    assert [Standing(ROOM, "e1", 3)] == client.standings


async def test_a_thousand_clients_are_one_binding_and_one_read(mesh: Mesh) -> None:
    """Also when all of them come back to different places."""
    mesh.log(top=50)
    since = [StreamPosition(number % 50, "e1") for number in range(1000)]
    clients = [mesh.client(Want(ROOM, place)) for place in since]

    asked = await mesh.answer()

    assert len(asked) == 1
    assert mesh.bus.watched == [[ROOM]]
    for client, place in zip(clients, since, strict=True):
        assert list(range(place.offset + 1, 51)) == client.ears.heard
        assert client.standings[0].recovered


async def test_whoever_has_seen_more_elsewhere_waits_until_it_is_here(
    mesh: Mesh,
) -> None:
    """A gateway that lags behind must not send a client back to what it has seen."""
    log = mesh.log(top=3)
    first = await mesh.joined()
    for _ in range(3):
        log.append()
    quick = mesh.client(Want(ROOM, StreamPosition(6, "e1")))
    assert quick.standings == []

    (read,) = await mesh.answer()
    mesh.feed.hear(log.event(4, 5, 6))
    log.append()
    mesh.feed.hear(log.event(7))

    assert (read.since, read.reverse) == (3, False)
    assert [Standing(ROOM, "e1", 6, recovered=True, missed=[])] == quick.standings
    assert quick.ears.heard == [7]
    assert first.ears.heard == [4, 5, 6, 7]


async def test_what_nobody_has_said_cannot_have_been_seen(mesh: Mesh) -> None:
    """A client ahead of the log itself is told so, after one look, and not for ever."""
    mesh.log(top=3)
    await mesh.joined()
    liar = mesh.client(Want(ROOM, StreamPosition(9, "e1")))

    asked = await mesh.answer()

    assert len(asked) == 1
    assert [Standing(ROOM, "e1", 3, recovered=False)] == liar.standings
    assert await mesh.answer() == []


async def test_a_channel_that_is_live_is_joined_at_once(mesh: Mesh) -> None:
    """No binding, no read, no waiting."""
    mesh.log(top=3)
    await mesh.joined()

    late = mesh.client()

    assert [Standing(ROOM, "e1", 3)] == late.standings
    assert mesh.bus.reads == []


async def test_nothing_slips_between_standing_and_joining(mesh: Mesh) -> None:
    """Events that come before, during and behind the first read are heard once."""
    log = mesh.log(top=3)
    client = mesh.client()
    await settle()
    log.append()
    mesh.feed.hear(log.event(4))
    (read,) = mesh.bus.reads
    page = FakeLog.of(3).page(read)
    mesh.bus.reads.clear()
    mesh.reads.hear(page)
    log.append()
    mesh.feed.hear(log.event(5))

    assert client.standings[0].top == 4
    assert client.ears.heard == [5]


async def test_several_channels_are_joined_at_one_instant(mesh: Mesh) -> None:
    """A connect with server-side channels waits for the last of them."""
    mesh.log("room:a", 1)
    mesh.log("room:b", 2)
    mesh.log("room:c", 3)
    await mesh.joined(Want("room:b"))
    client = mesh.client(Want("room:a"), Want("room:b"), Want("room:c"))
    await settle()
    asked = {read.channel: read for read in mesh.bus.reads}
    assert {"room:a", "room:c"} == set(asked)

    mesh.reads.hear(mesh.log("room:a").page(asked["room:a"]))
    assert client.standings == []
    log = mesh.log("room:b")
    log.append()
    mesh.feed.hear(log.event(3))
    mesh.reads.hear(mesh.log("room:c").page(asked["room:c"]))

    assert [one.top for one in client.standings] == [1, 3, 3]


async def test_an_ephemeral_channel_needs_a_binding_alone(mesh: Mesh) -> None:
    """There is nothing to read, and what is said is heard."""
    client = mesh.client(Want("live:a", durable=False))
    await settle()

    mesh.feed.hear_live(LiveEvent("live:a", [LivePublication(b"1")]))

    assert [Standing("live:a")] == client.standings
    assert mesh.bus.reads == []
    assert client.ears.live == [b"1"]


async def test_a_join_that_is_told_again_is_heard_once(mesh: Mesh) -> None:
    """Presence repeats, under its number, what it may not have told before it died."""
    client = mesh.client(Want("live:a", durable=False))
    await settle()
    first = LivePublication(b"1", number=7)
    other = LivePublication(b"2", number=8)

    mesh.feed.hear_live(LiveEvent("live:a", [first]))
    mesh.feed.hear_live(LiveEvent("live:a", [first, other]))
    mesh.feed.hear_live(LiveEvent("live:a", [other]))
    mesh.feed.hear_live(LiveEvent("live:a", [LivePublication(b"3")]))

    assert client.ears.live == [b"1", b"2", b"3"]


async def test_events_of_channels_nobody_wants_are_nothing(mesh: Mesh) -> None:
    """Late ones, after an unbind."""
    mesh.feed.hear(LogEvent("room:x", "e1", FakeLog.of(1).entries))
    mesh.feed.hear_live(LiveEvent("room:x", [LivePublication(b"1")]))
    mesh.feed.left("room:x")
    await settle()

    assert len(mesh.feed) == 0


async def test_a_deep_past_is_read_in_pages_until_it_is_reached(mesh: Mesh) -> None:
    """A live channel whose tail is short is deepened for a client that was away long."""
    mesh.log(top=2500)
    await mesh.joined()

    client = mesh.client(Want(ROOM, StreamPosition(10, "e1")))
    reads = 0
    while not client.standings:
        reads += len(await mesh.answer())

    assert reads == 3
    assert list(range(11, 2501)) == client.ears.heard


async def test_what_arrives_while_the_past_is_read_follows_it(mesh: Mesh) -> None:
    """The client hears old and new once, in order."""
    log = mesh.log(top=20)
    await mesh.joined()
    client = mesh.client(Want(ROOM, StreamPosition(10, "e1")))
    await settle()
    (read,) = mesh.bus.reads
    page = log.page(read)
    for _ in range(3):
        mesh.feed.hear(log.event(log.append().offset))

    mesh.reads.hear(page)

    assert list(range(11, 24)) == client.ears.heard


async def test_what_expired_is_neither_recovered_nor_paged(mesh: Mesh) -> None:
    """However long history takes to empty its log; listeners stay where they are."""
    mesh.kept = Kept(age_s=10)
    listener = await mesh.joined()
    for _ in range(2):
        at_ms = mesh.clock.unix_ms()
        mesh.feed.hear(LogEvent(ROOM, "e1", [mesh.log().append(at_ms=at_ms)]))
    assert mesh.feed.page(ROOM, 0) is not None
    mesh.clock.pass_time(11)

    assert mesh.feed.page(ROOM, 0) is None
    back = await mesh.joined(Want(ROOM, StreamPosition(0, "e1")))
    assert [one.recovered for one in back.standings] == [False]
    assert listener.ears.heard == [1, 2]
    assert mesh.lost == []


async def test_cache_recovery_reads_the_newest_when_it_is_not_here(mesh: Mesh) -> None:
    """A live channel without a tail is read once."""
    mesh.log(top=5)
    await mesh.joined()

    want = Want(ROOM, StreamPosition(2, "e1"), newest_only=True)
    client = await mesh.joined(want)

    assert client.ears.heard == [5]


# -- When it does not work ------------------------------------------------------------


async def test_who_waits_too_long_is_told_to_try_again(mesh: Mesh) -> None:
    """History does not answer; a temporary error comes within the SDK's patience."""
    client = mesh.client()
    await settle()

    mesh.pass_time(READY_WITHIN_S)

    assert client.refused == [errors.INTERNAL]
    mesh.log(top=3)
    await mesh.answer()
    assert client.standings == []


async def test_a_read_that_is_not_answered_is_asked_again(mesh: Mesh) -> None:
    """Once it is overdue, and only once at a time."""
    mesh.log(top=3)
    client = mesh.client()
    await settle()
    mesh.bus.reads.clear()
    mesh.pass_time(0.25)
    await settle()
    assert mesh.bus.reads == []

    mesh.pass_time(READ_WITHIN_S)

    assert len(await mesh.answer()) == 1
    assert client.standings


async def test_a_read_that_is_refused_is_asked_again_by_the_clock(mesh: Mesh) -> None:
    """A database that is away is not asked in a tight circle."""
    mesh.log(top=3)
    client = mesh.client()
    await settle()
    (read,) = mesh.bus.reads
    mesh.bus.reads.clear()
    mesh.reads.hear(Page(read.request, ROOM, error_code=100))
    await settle()
    assert mesh.bus.reads == []

    mesh.pass_time(0.25)

    assert len(await mesh.answer()) == 1
    assert client.standings


async def test_a_binding_that_fails_is_tried_again(mesh: Mesh) -> None:
    """The broker was slow; nothing is read before it stands."""
    mesh.log(top=1)
    mesh.bus.failing = PublishFailed("slow")
    client = mesh.client()
    await settle()
    assert mesh.bus.reads == []

    mesh.bus.failing = None
    mesh.pass_time(0.25)
    await mesh.answer()

    assert client.standings


async def test_without_a_broker_clients_wait_for_it(mesh: Mesh) -> None:
    """Those who come meanwhile are served when it is back."""
    mesh.log(top=3)
    mesh.lose_the_link()
    client = mesh.client()
    await settle()

    await mesh.get_the_link_back()
    await mesh.answer()

    assert [Standing(ROOM, "e1", 3)] == client.standings


# -- Gaps -----------------------------------------------------------------------------


async def test_a_gap_is_filled_by_one_read_and_heard_in_order(mesh: Mesh) -> None:
    """However many events lie behind it."""
    log = mesh.log(top=3)
    client = await mesh.joined()
    for _ in range(5):
        log.append()
    mesh.feed.hear(log.event(5))
    mesh.feed.hear(log.event(6, 7))
    mesh.feed.hear(log.event(8))

    asked = await mesh.answer()

    assert [read.since for read in asked] == [3]
    assert client.ears.heard == [4, 5, 6, 7, 8]
    # What was held back came by event; only the hole is news to who waits for it.
    assert 4 in mesh.filled


async def test_nobody_joins_while_something_is_missing(mesh: Mesh) -> None:
    """Or their position would be a hole's."""
    log = mesh.log(top=3)
    await mesh.joined()
    log.append()
    log.append()
    mesh.feed.hear(log.event(5))

    client = mesh.client()
    assert client.standings == []
    await mesh.answer()

    assert [one.top for one in client.standings] == [5]


async def test_a_hole_that_history_cannot_fill_is_not_asked_in_a_circle(
    mesh: Mesh,
) -> None:
    """One read, then the clock decides."""
    log = mesh.log(top=3)
    client = await mesh.joined()
    phantom = FakeLog.of(9)
    mesh.feed.hear(phantom.event(9))

    for _ in range(5):
        await mesh.answer()
    await settle()
    assert mesh.bus.reads == []

    for _ in range(6):
        log.append()
    mesh.pass_time(0.25)
    await mesh.answer()
    assert client.ears.heard == [4, 5, 6, 7, 8, 9]


async def test_a_log_that_cannot_be_continued_tells_its_subscribers(
    mesh: Mesh,
) -> None:
    """They are told to recover, and the channel begins again."""
    log = mesh.log(top=3)
    await mesh.joined()
    for _ in range(6):
        log.append()
    log.forget_until(6)
    mesh.feed.hear(log.event(9))

    await mesh.answer()

    assert mesh.lost == [ROOM]
    again = await mesh.joined(Want(ROOM, StreamPosition(3, "e1")))
    assert not again.standings[0].recovered


async def test_another_epoch_begins_again_and_late_pages_are_ignored(
    mesh: Mesh,
) -> None:
    """The answer to a read of the old life changes nothing."""
    log = mesh.log(top=3)
    await mesh.joined()
    log.append()
    log.append()
    mesh.feed.hear(log.event(5))
    await settle()
    (old,) = mesh.bus.reads
    mesh.bus.reads.clear()
    old_page = log.page(old)
    mesh.logs[ROOM] = FakeLog.of(1)
    mesh.logs[ROOM].epoch = "e2"
    mesh.feed.hear(mesh.log().event(1))
    assert mesh.lost == [ROOM]

    mesh.reads.hear(old_page)
    client = mesh.client()
    await mesh.answer()

    assert mesh.feed.position(ROOM) == ("e2", 1)
    assert client.standings[0].epoch == "e2"


# -- The link -------------------------------------------------------------------------


async def test_a_link_that_comes_back_is_bound_compared_and_filled(mesh: Mesh) -> None:
    """Clients hear a pause, then all of it, once."""
    log = mesh.log(top=3)
    client = await mesh.joined()
    quiet = mesh.log("room:b", 7)
    await mesh.joined(Want("room:b"))
    mesh.lose_the_link()
    log.append()
    log.append()

    await mesh.get_the_link_back()

    assert mesh.bus.watched == [[ROOM, "room:b"]]
    assert mesh.bus.reads == []
    assert await mesh.answer_heads() == [[ROOM, "room:b"]]
    asked = await mesh.answer()
    assert [(read.channel, read.since) for read in asked] == [(ROOM, 3)]
    assert client.ears.heard == [4, 5]
    assert (quiet.epoch, 7) == mesh.feed.position("room:b")


async def test_a_thousand_quiet_channels_are_one_question(mesh: Mesh) -> None:
    """Not a read each, also when some time passes before the answer."""
    for number in range(1000):
        name = f"room:{number}"
        mesh.log(name, 2)
        mesh.client(Want(name))
    await mesh.answer()
    mesh.lose_the_link()

    await mesh.get_the_link_back()
    mesh.pass_time(0.25)

    assert [len(names) for names in await mesh.answer_heads()] == [1000]
    assert mesh.bus.reads == []
    assert mesh.feed.position("room:999") == ("e1", 2)


@pytest.mark.parametrize("how", ["lost", "refused", "not sent"])
async def test_heads_that_do_not_come_are_asked_again_by_the_clock(
    mesh: Mesh, how: str
) -> None:
    """Not in a circle, and not given up."""
    log = mesh.log(top=3)
    client = await mesh.joined()
    mesh.lose_the_link()
    log.append()
    if how == "not sent":
        mesh.bus.up = True
        mesh.bus.watched.clear()
        await mesh.feed.link_up()
        mesh.bus.failing = PublishFailed("slow")
        await settle()
        mesh.bus.failing = None
    else:
        await mesh.get_the_link_back()
        ((request, _),) = mesh.bus.heads
        mesh.bus.heads.clear()
        if how == "refused":
            mesh.feed.hear_heads(HeadsPage(request, [], error_code=100))
            await settle()
    assert mesh.bus.heads == []

    mesh.pass_time(READ_WITHIN_S + 0.1)
    await mesh.answer_heads()
    await mesh.answer()

    assert client.ears.heard == [4]


async def test_heads_that_come_twice_are_heard_once(mesh: Mesh) -> None:
    """History may answer again after a crash."""
    mesh.log(top=3)
    await mesh.joined()
    mesh.lose_the_link()
    await mesh.get_the_link_back()
    ((request, _),) = mesh.bus.heads

    for _ in range(2):
        mesh.feed.hear_heads(HeadsPage(request, [("e1", 3)]))

    assert mesh.feed.position(ROOM) == ("e1", 3)


async def test_an_event_that_beats_the_comparison_is_heard_at_once(mesh: Mesh) -> None:
    """It is next, so nothing is missing; the old head is no news."""
    log = mesh.log(top=3)
    client = await mesh.joined()
    mesh.lose_the_link()
    await mesh.get_the_link_back()
    ((request, _),) = mesh.bus.heads

    mesh.feed.hear(log.event(log.append().offset))
    mesh.feed.hear_heads(HeadsPage(request, [("e1", 3)]))

    assert client.ears.heard == [4]
    assert mesh.feed.position(ROOM) == ("e1", 4)


async def test_a_read_that_the_link_swallowed_is_asked_on_the_next(mesh: Mesh) -> None:
    """Its answer can never come, so nobody waits for it."""
    mesh.log(top=3)
    client = mesh.client()
    await settle()
    assert len(mesh.bus.reads) == 1
    mesh.bus.reads.clear()
    mesh.lose_the_link()

    await mesh.get_the_link_back()
    await mesh.answer()

    assert [one.top for one in client.standings] == [3]


async def test_channels_nobody_needs_are_not_bound_on_a_new_line(mesh: Mesh) -> None:
    """A lingering channel is let go with the old one."""
    mesh.log(top=3)
    client = await mesh.joined()
    mesh.hub.leave(ROOM, client.ears)
    mesh.feed.left(ROOM)
    mesh.lose_the_link()

    await mesh.get_the_link_back()

    assert mesh.bus.watched == []
    assert len(mesh.feed) == 0


async def test_an_event_lost_without_a_trace_is_found_by_comparing(mesh: Mesh) -> None:
    """The link stood, nothing else was said: within half a minute it is heard."""
    log = mesh.log(top=3)
    client = await mesh.joined()
    log.append()

    mesh.pass_time(COMPARE_EVERY_S)
    assert await mesh.answer_heads() == [[ROOM]]
    await mesh.answer()

    assert client.ears.heard == [4]


async def test_comparing_holds_nobody_up(mesh: Mesh) -> None:
    """Clients join while the answer is on its way, also when it never comes."""
    mesh.log(top=3)
    await mesh.joined()

    mesh.pass_time(COMPARE_EVERY_S)
    assert mesh.client().standings
    mesh.pass_time(READ_WITHIN_S + 0.1)
    await settle()

    assert mesh.client().standings
    assert len(mesh.bus.heads) == 1


# -- Leaving --------------------------------------------------------------------------


async def test_a_channel_lingers_and_is_then_unbound(mesh: Mesh) -> None:
    """A page that reloads finds it ready; long silence costs nothing."""
    mesh.log(top=3)
    client = await mesh.joined()
    mesh.hub.leave(ROOM, client.ears)
    mesh.feed.left(ROOM)

    mesh.pass_time(LINGER_S - 1)
    assert {ROOM} == mesh.bus.bound
    mesh.pass_time(2)
    await settle()

    assert set() == mesh.bus.bound
    assert len(mesh.feed) == 0


async def test_who_comes_back_in_time_finds_the_channel_ready(mesh: Mesh) -> None:
    """And it stays: its idle time starts anew."""
    mesh.log(top=3)
    client = await mesh.joined()
    mesh.hub.leave(ROOM, client.ears)
    mesh.feed.left(ROOM)
    mesh.pass_time(LINGER_S - 1)

    again = mesh.client()
    assert again.standings
    mesh.pass_time(2)
    await settle()

    assert {ROOM} == mesh.bus.bound


async def test_a_channel_wanted_while_it_is_unbound_is_bound_again(mesh: Mesh) -> None:
    """Before the unbind is sent, it is spared."""
    mesh.log(top=3)
    client = await mesh.joined()
    mesh.hub.leave(ROOM, client.ears)
    mesh.feed.left(ROOM)
    mesh.pass_time(1)
    mesh.pass_time(LINGER_S + 1)
    assert len(mesh.feed) == 0

    again = mesh.client()
    await mesh.answer()

    assert again.standings
    assert {ROOM} == mesh.bus.bound


async def idle(mesh: Mesh, *channels: str) -> None:
    """Channels that somebody was in, for longer than they linger."""
    for channel in channels:
        mesh.log(channel, top=3)
        client = await mesh.joined(Want(channel))
        mesh.hub.leave(channel, client.ears)
        mesh.feed.left(channel)
    mesh.pass_time(1)
    mesh.pass_time(LINGER_S + 1)


async def test_nobody_waits_for_channels_that_are_unbound(mesh: Mesh) -> None:
    """A broker that takes its time over them binds others meanwhile."""
    mesh.bus.unwatching.clear()
    await idle(mesh, "room:old")
    await settle()
    mesh.log("room:new")

    assert (await mesh.joined(Want("room:new"))).standings

    assert mesh.bus.bound == {"room:old", "room:new"}
    mesh.bus.unwatching.set()
    await settle()
    assert mesh.bus.bound == {"room:new"}


async def test_who_wants_what_is_just_being_unbound_gets_it_afterwards(
    mesh: Mesh,
) -> None:
    """Nothing else keeps the two apart: the broker may take them in either order."""
    mesh.bus.unwatching.clear()
    await idle(mesh, ROOM)
    await settle()

    again = mesh.client()
    await mesh.answer()
    assert mesh.bus.watched == [[ROOM]]
    assert not again.standings
    mesh.bus.unwatching.set()
    await mesh.answer()
    await mesh.answer()

    assert mesh.bus.watched == [[ROOM], [ROOM]]
    assert again.standings
    mesh.pass_time(1)
    await settle()
    assert mesh.bus.bound == {ROOM}


async def test_what_could_not_be_unbound_is_tried_again(mesh: Mesh) -> None:
    """Else the gateway would hear the room for as long as its line stands."""
    mesh.bus.failing_unwatch = PublishFailed("refused")
    await idle(mesh, "room:a", "room:b")
    await settle()
    assert mesh.bus.bound == {"room:a", "room:b"}

    mesh.bus.failing_unwatch = None
    mesh.pass_time(1)
    await settle()

    assert mesh.bus.bound == set()


async def test_more_idle_channels_than_can_wait_go_by_and_by(mesh: Mesh) -> None:
    """Those beyond the bound stay, and are unbound when there is room."""
    names = [f"room:{n}" for n in range(UNBINDINGS_WAITING_MAX + 5)]
    for name in names:
        mesh.feed.want((Want(name),), lambda _: None, lambda _: None)
    await eventually(lambda: len(mesh.bus.bound) == len(names))
    mesh.bus.unwatching.clear()
    mesh.pass_time(READY_WITHIN_S + 1)
    mesh.pass_time(1)
    mesh.pass_time(LINGER_S + 1)
    assert len(mesh.feed) == 5

    mesh.bus.unwatching.set()
    await eventually(lambda: len(mesh.bus.bound) == 5)
    mesh.pass_time(1)
    await settle()

    assert (0, set()) == (len(mesh.feed), mesh.bus.bound)


async def test_a_binding_under_way_is_not_unbound_beside_it(mesh: Mesh) -> None:
    """The broker might take the unbind first, and the binding would stay for good."""
    mesh.log(top=3)
    mesh.bus.watching.clear()
    mesh.client()
    await settle()
    mesh.pass_time(READY_WITHIN_S + 1)
    mesh.pass_time(LINGER_S + 1)
    await settle()
    assert mesh.bus.unwatched == []

    mesh.bus.watching.set()
    await settle()
    mesh.pass_time(LINGER_S + 1)
    await settle()

    assert mesh.bus.unwatched == [[ROOM]]
    assert mesh.bus.bound == set()


async def test_a_channel_given_up_while_a_new_line_is_bound_is_unbound_after_it(
    mesh: Mesh,
) -> None:
    """Its turn came nevertheless."""
    client = await mesh.joined()
    mesh.feed.link_down()
    mesh.bus.bound.clear()
    mesh.bus.watching.clear()
    linking = asyncio.ensure_future(mesh.feed.link_up())
    await settle()
    mesh.hub.leave(ROOM, client.ears)
    mesh.feed.left(ROOM)
    mesh.pass_time(1)
    mesh.pass_time(LINGER_S + 1)
    await settle()
    assert mesh.bus.unwatched == []

    mesh.bus.watching.set()
    await linking
    mesh.pass_time(1)
    await settle()

    assert (0, set()) == (len(mesh.feed), mesh.bus.bound)


async def test_a_client_that_goes_while_it_waits_leaves_nothing(mesh: Mesh) -> None:
    """The channel gets ready, nobody joins, and it is let go."""
    mesh.log(top=3)
    mesh.feed.want((Want(ROOM),), lambda _: None, lambda _: None)
    await mesh.answer()

    mesh.pass_time(1)
    mesh.pass_time(LINGER_S + 1)
    await settle()

    assert (0, set()) == (len(mesh.feed), mesh.bus.bound)


# -- Memory ---------------------------------------------------------------------------


async def test_tails_over_the_limit_are_forgotten_longest_unused_first(
    mesh: Mesh,
) -> None:
    """Positions stay; a returning client costs one read then."""
    for name in ("room:a", "room:b", "room:c"):
        log = mesh.log(name)
        for _ in range(10):
            log.append(data=b'"%s"' % (b"x" * 500))
        await mesh.joined(Want(name, StreamPosition(0, "e1")))
    await mesh.joined(Want("room:a"))

    mesh.feed.tend()

    assert mesh.feed.page("room:b", 5) is None
    assert mesh.feed.page("room:a", 5) is not None
    assert mesh.feed.position("room:b") == ("e1", 10)
    back = await mesh.joined(Want("room:b", StreamPosition(5, "e1")))
    assert back.ears.heard == [6, 7, 8, 9, 10]


# -- Asked by others ------------------------------------------------------------------


async def test_only_a_live_channel_tells_its_position(mesh: Mesh) -> None:
    """Cold, in doubt, ephemeral and unknown ones do not."""
    mesh.log(top=3)
    assert mesh.feed.position(ROOM) is None
    mesh.client()
    assert mesh.feed.position(ROOM) is None
    assert not mesh.feed.hears(ROOM)
    await mesh.answer()
    assert mesh.feed.position(ROOM) == ("e1", 3)
    assert mesh.feed.hears(ROOM)

    mesh.lose_the_link()

    assert mesh.feed.position(ROOM) is None
    assert mesh.feed.page(ROOM, 3) is None
    assert not mesh.feed.hears(ROOM)


async def test_a_page_is_given_as_far_as_the_tail_reaches(mesh: Mesh) -> None:
    """Beyond it history has to be asked."""
    log = mesh.log(top=3)
    await mesh.joined()
    mesh.feed.hear(log.event(log.append().offset))

    assert [one.offset for one in mesh.feed.page(ROOM, 3) or []] == [4]
    assert mesh.feed.page(ROOM, 4) == []
    assert mesh.feed.page(ROOM, 2) is None
