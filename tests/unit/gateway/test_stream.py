"""One channel's log: in order, each entry once, whatever the broker does to events."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmesh.gateway.publications import Committed
from chatmesh.gateway.stream import (
    HELD_BACK_BYTES_MAX,
    EpochChanged,
    Kept,
    State,
    Stream,
)
from chatmesh.wire import limits
from chatmesh.wire.client import StreamPosition
from chatmesh.wire.messages import Entry, Page, Read
from support.fake_bus import FakeLog, entry


def offsets(committed: list[Committed]) -> list[int]:
    return [one.offset for one in committed]


def newest(log: FakeLog, limit: int = 0) -> Page:
    """What the first read of a channel gives."""
    return log.page(Read(0, log.channel, limit=limit, reverse=True))


def behind(log: FakeLog, stream: Stream) -> Page:
    """What a read that fills a hole gives."""
    return log.page(Read(0, log.channel, since=stream.top, limit=1000))


def live(log: FakeLog, limit: int = 1000) -> Stream:
    stream = Stream()
    stream.open(newest(log, limit))
    return stream


# -- Order ----------------------------------------------------------------------------


def test_the_next_entry_is_let_through() -> None:
    """Nothing waits when nothing is missing."""
    log = FakeLog.of(3)
    stream = live(log)
    log.append()

    assert offsets(stream.hear("e1", log.event(4).entries)) == [4]
    assert State.LIVE is stream.state


def test_what_was_heard_before_is_dropped_and_counted() -> None:
    """A repeat, alone or at the beginning of something new."""
    log = FakeLog.of(3)
    stream = live(log)
    log.append()

    assert offsets(stream.hear("e1", log.event(2, 3).entries)) == []
    assert offsets(stream.hear("e1", log.event(3, 4).entries)) == [4]
    assert stream.duplicates == 3


def test_what_comes_too_early_waits_for_what_is_missing() -> None:
    """A hole holds everything behind it back."""
    log = FakeLog.of(6)
    stream = live(FakeLog.of(3))

    assert offsets(stream.hear("e1", log.event(5, 6).entries)) == []
    assert stream.hole
    assert offsets(stream.hear("e1", log.event(4).entries)) == [4, 5, 6]
    assert not stream.hole


def test_a_hole_is_filled_from_history_and_what_waited_follows() -> None:
    """Entries that are on both sides come once."""
    log = FakeLog.of(8)
    stream = live(FakeLog.of(3))
    stream.hear("e1", log.event(6, 7, 8).entries)

    page = FakeLog.of(6).page(Read(0, "room:a", since=3, limit=10))

    assert offsets(stream.fill(page)) == [4, 5, 6, 7, 8]
    assert State.LIVE is stream.state


def test_a_page_that_fills_a_part_leaves_the_rest_missing() -> None:
    """The next page goes on from there."""
    log = FakeLog.of(9)
    stream = live(FakeLog.of(3))
    stream.hear("e1", log.event(9).entries)

    assert offsets(stream.fill(log.page(Read(0, "room:a", since=3, limit=2)))) == [4, 5]
    assert stream.hole
    assert offsets(stream.fill(behind(log, stream))) == [6, 7, 8, 9]


def test_a_late_page_does_not_go_back() -> None:
    """What arrived by event meanwhile is not let through again."""
    log = FakeLog.of(5)
    stream = live(FakeLog.of(3))
    stream.hear("e1", log.event(5).entries)
    late = behind(log, stream)
    stream.hear("e1", log.event(4).entries)

    assert offsets(stream.fill(late)) == []
    assert stream.top == 5


def test_a_hole_that_retention_has_emptied_cannot_be_filled() -> None:
    """Then the subscribers begin again, rather than skip in silence."""
    log = FakeLog.of(9)
    stream = live(FakeLog.of(3))
    stream.hear("e1", log.event(9).entries)
    log.forget_until(6)

    with pytest.raises(EpochChanged, match="behind 6, after 3"):
        stream.fill(behind(log, stream))


def test_retention_up_to_where_we_are_is_no_loss() -> None:
    """Floor 3 and top 3: nothing is missing."""
    log = FakeLog.of(5)
    stream = live(FakeLog.of(3))
    stream.hear("e1", log.event(5).entries)
    log.forget_until(3)

    assert offsets(stream.fill(behind(log, stream))) == [4, 5]


STEPS_INTO_ANOTHER_LIFE: dict[str, Callable[[Stream, FakeLog], object]] = {
    "hear": lambda stream, other: stream.hear("e2", other.event(4).entries),
    "fill": lambda stream, other: stream.fill(behind(other, stream)),
    "deepen": lambda stream, other: stream.deepen(newest(other, 10)),
    "compare": lambda stream, _: stream.compare("e2", 5),
}


@pytest.mark.parametrize("step", STEPS_INTO_ANOTHER_LIFE)
def test_another_epoch_is_another_life(step: str) -> None:
    """Offsets of two lives are never compared."""
    stream = live(FakeLog.of(3))
    other = FakeLog.of(5)
    other.epoch = "e2"

    with pytest.raises(EpochChanged, match="epoch e2, not e1"):
        STEPS_INTO_ANOTHER_LIFE[step](stream, other)


# -- The beginning --------------------------------------------------------------------


def test_a_cold_stream_holds_what_it_hears_until_it_knows_where_it_is() -> None:
    """Events that beat the first page are let through behind it."""
    log = FakeLog.of(5)
    stream = Stream()

    assert offsets(stream.hear("e1", log.event(4, 5).entries)) == []
    assert State.COLD is stream.state
    assert offsets(stream.open(newest(FakeLog.of(3)))) == [4, 5]
    assert State.LIVE is stream.state


def test_a_first_page_behind_the_first_events_leaves_a_hole() -> None:
    """The page was read before what lies between was committed."""
    log = FakeLog.of(5)
    stream = Stream()
    stream.hear("e1", log.event(5).entries)

    assert offsets(stream.open(newest(FakeLog.of(3)))) == []
    assert stream.hole
    assert offsets(stream.fill(behind(log, stream))) == [4, 5]


def test_an_empty_log_begins_at_1() -> None:
    """Its tail reaches to the first entry, because there is none."""
    log = FakeLog()
    stream = live(log, limit=0)

    assert stream.deepest
    log.append()
    assert offsets(stream.hear("e1", log.event(1).entries)) == [1]
    assert stream.recover(StreamPosition(0, "e1"), newest_only=False).recovered


# -- Doubt ----------------------------------------------------------------------------


def test_a_lost_link_puts_the_stream_in_doubt_until_it_is_compared() -> None:
    """Same top: nothing was said. Higher top: something is missing."""
    stream = live(FakeLog.of(3))
    stream.doubt()
    assert stream.hole
    stream.compare("e1", 3)
    assert not stream.hole

    stream.doubt()
    stream.compare("e1", 5)
    assert stream.hole
    assert offsets(stream.fill(behind(FakeLog.of(5), stream))) == [4, 5]


def test_an_event_that_is_next_ends_the_doubt() -> None:
    """Nothing can lie between."""
    log = FakeLog.of(4)
    stream = live(FakeLog.of(3))
    stream.doubt()

    assert offsets(stream.hear("e1", log.event(4).entries)) == [4]
    assert not stream.hole


def test_a_repeat_does_not_end_the_doubt() -> None:
    """It says nothing of what was missed."""
    log = FakeLog.of(3)
    stream = live(log)
    stream.doubt()

    stream.hear("e1", log.event(3).entries)

    assert stream.hole


def test_an_answer_that_an_event_overtook_is_no_news() -> None:
    """A lower top than ours is old."""
    log = FakeLog.of(4)
    stream = live(FakeLog.of(3))
    stream.doubt()
    stream.hear("e1", log.event(4).entries)

    stream.compare("e1", 3)

    assert (stream.hole, stream.top) == (False, 4)


def test_a_cold_stream_is_in_no_doubt() -> None:
    """It knows nothing yet, so it can lose nothing."""
    stream = Stream()
    stream.doubt()

    assert State.COLD is stream.state


# -- Recovery -------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [2, 3, 4])
def test_a_client_within_the_tail_gets_all_it_missed(offset: int) -> None:
    """Also from just before the tail, and from the top."""
    stream = live(FakeLog.of(4), limit=2)
    since = StreamPosition(offset, "e1")

    assert stream.can_recover(since)
    recovery = stream.recover(since, newest_only=False)
    assert recovery.recovered
    assert list(range(offset + 1, 5)) == offsets(list(recovery.publications))


@pytest.mark.parametrize(
    "since",
    [
        StreamPosition(1, "e1"),
        StreamPosition(5, "e1"),
        StreamPosition(3, "e0"),
    ],
    ids=["before the tail", "from the future", "another epoch"],
)
def test_a_client_that_cannot_go_on_hears_an_honest_no(since: StreamPosition) -> None:
    """And not a single publication."""
    log = FakeLog.of(4)
    log.forget_until(2)
    recovery = live(log).recover(since, newest_only=False)

    assert (recovery.recovered, list(recovery.publications)) == (False, [])


def test_a_client_before_the_tail_asks_for_a_deeper_read_first() -> None:
    """Only when the tail is as deep as it can be, the answer is final."""
    log = FakeLog.of(6)
    stream = live(log, limit=2)
    since = StreamPosition(1, "e1")
    assert not stream.can_recover(since)

    stream.deepen(log.page(Read(0, "room:a", since=5, limit=100, reverse=True)))

    assert stream.can_recover(since)
    recovery = stream.recover(since, newest_only=False)
    assert offsets(list(recovery.publications)) == [2, 3, 4, 5, 6]


def test_another_epoch_needs_no_deeper_read_for_its_no() -> None:
    """Nothing in the log could change it."""
    assert live(FakeLog.of(6), limit=0).can_recover(StreamPosition(1, "e0"))


def test_an_unknown_epoch_is_any() -> None:
    """What a client sends that knows an offset alone."""
    recovery = live(FakeLog.of(6)).recover(StreamPosition(4, ""), newest_only=False)

    assert recovery.recovered
    assert offsets(list(recovery.publications)) == [5, 6]


def test_a_tail_is_as_deep_as_its_bytes_however_many_pages_that_takes() -> None:
    """A thousand entries are one page, not a limit of recovery."""
    log = FakeLog.of(2500)
    stream = live(log, limit=1000)
    since = StreamPosition(10, "e1")

    pages = 0
    while not stream.can_recover(since):
        back = Read(0, "room:a", since=stream.tail_first, limit=1000, reverse=True)
        stream.deepen(log.page(back))
        pages += 1

    assert pages == 2
    recovery = stream.recover(since, newest_only=False)
    assert list(range(11, 2501)) == offsets(list(recovery.publications))


def test_a_page_that_adds_nothing_is_the_end_of_deepening() -> None:
    """History that cannot give more is not asked for ever."""
    stream = live(FakeLog.of(6), limit=0)

    stream.deepen(Page(0, "room:a", "e1", 6, 0, []))

    assert stream.can_recover(StreamPosition(1, "e1"))
    assert not stream.recover(StreamPosition(1, "e1"), newest_only=False).recovered


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (StreamPosition(1, "e1"), [6]),
        (StreamPosition(6, "e1"), []),
        (StreamPosition(6, "e0"), [6]),
        (StreamPosition(0, ""), [6]),
    ],
)
def test_cache_recovery_is_the_newest_unless_it_was_seen(
    since: StreamPosition, expected: list[int]
) -> None:
    """Recovered, with at most one publication."""
    recovery = live(FakeLog.of(6)).recover(since, newest_only=True)

    assert (True, expected) == (
        recovery.recovered,
        offsets(list(recovery.publications)),
    )


def test_cache_recovery_of_an_empty_log_is_an_honest_no() -> None:
    """Unless there was nothing to see: the client is where the log is."""
    log = FakeLog.of(6)
    log.forget_until(6)
    stream = live(log)

    gone = stream.recover(StreamPosition(5, "e1"), newest_only=True)
    assert (gone.recovered, list(gone.publications)) == (False, [])
    assert stream.recover(StreamPosition(6, "e1"), newest_only=True).recovered


def test_the_tail_is_bounded_by_what_a_reply_may_recover() -> None:
    """Older entries fall out at the front, and that is as deep as it gets."""
    stream = live(FakeLog())
    big = b'"%s"' % (b"x" * 60_000)

    for number in range(1, 41):
        stream.hear("e1", [entry(number, data=big)])

    assert stream.tail_bytes <= limits.RECOVERY_BYTES_MAX
    assert stream.top == 40
    assert stream.tail[-1].offset == 40
    assert stream.tail_bytes == sum(one.size for one in stream.tail)
    gone = StreamPosition(stream.tail_first - 2, "e1")
    assert stream.can_recover(gone)
    assert not stream.recover(gone, newest_only=False).recovered


def test_no_more_is_recovered_than_the_namespace_keeps() -> None:
    """Whether it was heard or read: history itself empties its log much later."""
    log = FakeLog.of(5)
    read = Stream(Kept(size=2))
    read.open(newest(log, 1000))
    heard = Stream(Kept(size=2))
    heard.open(newest(FakeLog()))
    assert offsets(heard.hear("e1", log.entries)) == [1, 2, 3, 4, 5]

    for stream in (read, heard):
        assert offsets(list(stream.tail)) == [4, 5]
        gone = StreamPosition(2, "e1")
        assert stream.can_recover(gone)
        assert not stream.recover(gone, newest_only=False).recovered
        assert stream.recover(StreamPosition(3, "e1"), newest_only=False).recovered


def test_what_is_too_old_is_not_recovered() -> None:
    """By the time that is given: a stream has no clock."""
    stream = Stream(Kept(age_s=10))
    stream.open(newest(FakeLog()))
    stream.hear("e1", [entry(n, at_ms=n * 1000) for n in range(1, 6)])

    stream.expire(now_ms=13_000)

    assert offsets(list(stream.tail)) == [3, 4, 5]
    gone = StreamPosition(1, "e1")
    assert stream.can_recover(gone)
    assert not stream.recover(gone, newest_only=False).recovered
    assert stream.recover(StreamPosition(2, "e1"), newest_only=False).recovered


def test_a_forgotten_tail_is_read_again_when_it_is_needed() -> None:
    """Memory is saved, positions are kept."""
    log = FakeLog.of(6)
    stream = live(log)

    saved = stream.forget_tail()

    assert (saved > 0, stream.tail_bytes, stream.top) == (True, 0, 6)
    assert not stream.can_recover(StreamPosition(4, "e1"))
    stream.deepen(log.page(Read(0, "room:a", since=7, limit=100, reverse=True)))
    recovery = stream.recover(StreamPosition(4, "e1"), newest_only=False)
    assert offsets(list(recovery.publications)) == [5, 6]


def test_what_is_held_back_is_bounded_and_the_rest_is_read_again() -> None:
    """A long hole costs reads, not memory."""
    big = b'"%s"' % (b"x" * 60_000)
    log = FakeLog(entries=[entry(n, data=big) for n in range(1, 61)])
    stream = live(FakeLog.of(1))

    stream.hear("e1", log.event(*range(3, 61)).entries)

    assert stream._held_bytes <= HELD_BACK_BYTES_MAX + len(big)
    heard = [*stream.fill(log.page(Read(0, "room:a", since=1, limit=5)))]
    while stream.hole:
        heard += stream.fill(behind(log, stream))
    assert list(range(2, 61)) == offsets(heard)


@given(st.data())
def test_after_is_the_end_of_the_tail(data: st.DataObject) -> None:
    """Whatever the tail's first offset and the question are."""
    top = data.draw(st.integers(0, 30))
    stream = live(FakeLog.of(top), limit=data.draw(st.integers(0, 30)))
    offset = data.draw(st.integers(0, 35))

    expected = [one.offset for one in stream.tail if one.offset > offset]

    assert expected == offsets(stream.after(offset))


# -- Everything at once ---------------------------------------------------------------


@dataclass
class Clumsy:
    """A broker that loses, repeats and reorders, and a gateway that repairs."""

    chance: Random
    log: FakeLog = field(default_factory=FakeLog)
    stream: Stream = field(default_factory=Stream)
    on_the_way: list[list[Entry]] = field(default_factory=list[list[Entry]])
    pages: list[Page] = field(default_factory=list[Page])
    heard: list[int] = field(default_factory=list[int])
    joined_at: int = -1

    def let_through(self, news: list[Committed]) -> None:
        if self.joined_at < 0:
            assert not news or self.stream.state is not State.COLD
        self.heard += offsets(news)

    def commit(self, count: int) -> None:
        event = [self.log.append() for _ in range(count)]
        copies = self.chance.choice([0, 1, 1, 1, 2])
        self.on_the_way += [event] * copies

    def hear(self) -> None:
        if self.on_the_way:
            event = self.on_the_way.pop(self.chance.randrange(len(self.on_the_way)))
            self.let_through(self.stream.hear("e1", event))

    def ask(self) -> None:
        if self.stream.state is State.COLD:
            limit = self.chance.choice([0, 2, 1000])
            self.pages.append(newest(self.log, limit))
        elif self.stream.hole:
            read = Read(
                0,
                "room:a",
                since=self.stream.top,
                limit=self.chance.choice([1, 3, 1000]),
            )
            self.pages.append(self.log.page(read))

    def answer(self) -> None:
        """One page in flight at a time, as the feed keeps it; it may be old by now."""
        if not self.pages:
            return
        page = self.pages.pop(0)
        self.pages.clear()
        if self.stream.state is State.COLD:
            self.joined_at = page.top
            self.let_through(self.stream.open(page))
        else:
            self.let_through(self.stream.fill(page))

    def lose_the_link(self) -> None:
        self.on_the_way.clear()
        self.pages.clear()
        self.stream.doubt()

    def compare(self) -> None:
        if self.stream.state is not State.COLD:
            self.stream.compare("e1", self.log.top)


STEPS = ["commit", "commit", "hear", "hear", "hear", "ask", "answer", "link", "compare"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(STEPS), max_size=60), st.integers(0, 2**32))
def test_whatever_happens_every_entry_comes_once_and_in_order(
    steps: list[str], seed: int
) -> None:
    """Loss, repetition, reordering, old pages and lost links, in any interleaving."""
    mesh = Clumsy(Random(seed))
    for step in steps:
        match step:
            case "commit":
                mesh.commit(mesh.chance.randint(1, 4))
            case "hear":
                mesh.hear()
            case "ask":
                mesh.ask()
            case "answer":
                mesh.answer()
            case "link":
                mesh.lose_the_link()
            case _:
                mesh.compare()

    mesh.lose_the_link()
    mesh.compare()
    while mesh.stream.state is not State.LIVE:
        mesh.ask()
        mesh.answer()

    assert list(range(mesh.joined_at + 1, mesh.log.top + 1)) == mesh.heard
    first = mesh.stream.tail_first
    assert list(range(first, mesh.log.top + 1)) == offsets(list(mesh.stream.tail))
    assert mesh.stream.tail_bytes == sum(one.size for one in mesh.stream.tail)
