"""A conversation: every message once and in order, over connections that come and go."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from chatmesh.cli.conversation import PAGE_ENTRIES, TO_SHOW_MAX, Conversation
from chatmesh.cli.lines import Message
from chatmesh.cli.room import (
    REPLACED,
    Connected,
    Ended,
    Event,
    Joined,
    Lost,
    Page,
    Said,
    Unreachable,
)
from chatmesh.cli.sending import Confirmed, Draft, RefusedError, TryAgainError
from chatmesh.runtime.tasks import Tasks
from support.eventually import eventually

EPOCH = "e1"


def said(offset: int) -> Said:
    return Said(offset, Message("bob", f"m{offset}", offset))


class FakeScreen:
    """Keeps what was shown, in order."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.notices: list[str] = []
        self.link = ""
        self.waiting: list[str] = []
        self.shown_live: list[str] = []

    def message(self, message: Message) -> None:
        self.shown.append(message.text)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def status(self, link: str, waiting: list[str]) -> None:
        self.link, self.waiting = link, waiting

    def live(self, shown: list[str]) -> None:
        self.shown_live = shown

    async def lines(self) -> AsyncIterator[str]:
        """Tests say what is typed themselves."""
        for text in ():
            yield text


@dataclass
class FakeRoom:
    """A room with a log, whose reads and sends can be made to fail."""

    log: list[Said] = field(default_factory=list[Said])
    floor: int = 0
    epoch: str = EPOCH
    read_errors: list[Exception] = field(default_factory=list[Exception])
    send_errors: list[Exception] = field(default_factory=list[Exception])
    reads: int = 0
    sent: list[Draft] = field(default_factory=list[Draft])
    calls: list[tuple[str, dict[str, object]]] = field(
        default_factory=list[tuple[str, dict[str, object]]]
    )
    answers: dict[str, object] | None = None
    """By method; None: there are no agents here."""
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue[Event])

    def __post_init__(self) -> None:
        self.may_answer.set()
        self.may_read.set()

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.log.append(said(len(self.log) + 1))

    async def call(self, method: str, data: dict[str, object]) -> object:
        self.calls.append((method, data))
        if self.answers is None:
            raise RefusedError("method not found", 104)
        return self.answers.get(method, {})

    async def newest(self, limit: int) -> Page:
        await self.may_read.wait()
        return self._page(self.kept[-limit:])

    async def after(self, offset: int, epoch: str, limit: int) -> Page:
        if epoch != self.epoch:
            raise RefusedError("unrecoverable position", REPLACED)
        return self._page([e for e in self.kept if e.offset > offset][:limit])

    @property
    def kept(self) -> list[Said]:
        return self.log[self.floor :]

    def _page(self, entries: list[Said]) -> Page:
        self.reads += 1
        if self.read_errors:
            raise self.read_errors.pop(0)
        return Page(entries, len(self.log), self.epoch)

    async def send(self, draft: Draft) -> Confirmed:
        await self.may_answer.wait()
        self.sent.append(draft)
        if self.send_errors:
            raise self.send_errors.pop(0)
        self.grow(1)
        return Confirmed(len(self.log))


class InstantClock:
    """Nobody waits, and time passes all the same."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return 1

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Stage:
    """A conversation that runs, with its room, its screen, and somebody to prompt it."""

    def __init__(self) -> None:
        self.room = FakeRoom()
        self.screen = FakeScreen()
        self.tasks = Tasks()
        self.conversation = self.begin()

    def begin(
        self, backlog: int = 20, *, stop_when_unknown: bool = False
    ) -> Conversation:
        self.conversation = Conversation(
            self.room,
            self.screen,
            clock=InstantClock(),
            chance=random.Random(1),
            backlog=backlog,
            give_up_s=60,
            stop_when_unknown=stop_when_unknown,
        )
        return self.conversation

    def happens(self, *events: Event) -> None:
        for event in events:
            self.room.events.put_nowait(event)

    def joins(self, **how: object) -> None:
        """Joined at the log's present top, for the first time or without recovery."""
        joined = {
            "durable": True,
            "top": len(self.room.log),
            "epoch": self.room.epoch,
            "recovered": False,
            **how,
        }
        self.happens(Connected("gateway-1"), Joined(**joined))  # type: ignore[arg-type]

    async def plays(self) -> str:
        """Let everything happen that was prompted, up to an end that is added.

        It may go on afterwards: a conversation keeps what it knows.
        """
        self.happens(Ended("the end"))
        async with asyncio.timeout(5):
            return await self.conversation.listen()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    await stage.tasks.stop(1)


def offsets(*parts: range) -> list[str]:
    return [f"m{offset}" for part in parts for offset in part]


# -- Listening ------------------------------------------------------------------------


async def test_the_last_messages_come_first(stage: Stage) -> None:
    """One sees what it is about before one says something."""
    stage.room.grow(50)
    stage.joins()
    stage.happens(said(51))

    assert await stage.plays() == "the end"

    assert stage.screen.shown == offsets(range(31, 52))


async def test_what_comes_while_history_is_read_is_shown_once(stage: Stage) -> None:
    """The page may already hold what also arrives live."""
    stage.room.grow(5)
    stage.joins(top=3)
    stage.happens(said(4), said(5), said(6))

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, 7))


async def test_more_than_can_wait_to_be_shown_waits_in_the_room(stage: Stage) -> None:
    """Where there is a bound too; what was missing is read first, and nothing is lost."""
    stage.room.may_read.clear()
    stage.joins()
    stage.happens(*(said(offset) for offset in range(1, TO_SHOW_MAX + 100)))
    playing = asyncio.ensure_future(stage.plays())
    for _ in range(3):
        await asyncio.sleep(0)
    waiting = stage.room.events.qsize()

    stage.room.may_read.set()
    await playing

    assert waiting >= 90
    assert stage.screen.shown == offsets(range(1, TO_SHOW_MAX + 100))


async def test_without_a_backlog_only_new_messages_are_shown(stage: Stage) -> None:
    """For scripts that care about what happens from now on."""
    stage.begin(backlog=0)
    stage.room.grow(5)
    stage.joins()
    stage.happens(said(6))

    await stage.plays()

    assert stage.screen.shown == ["m6"]
    assert stage.room.reads == 0


async def test_a_hole_is_read_before_what_follows_is_shown(stage: Stage) -> None:
    """Order and completeness do not depend on what arrives."""
    stage.joins()
    await stage.plays()
    stage.room.grow(7)
    stage.happens(said(1), said(4), said(3), said(7))

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, 8))


async def test_a_recovered_connection_says_how_much_it_brought(stage: Stage) -> None:
    """The messages, and then one line about them."""
    stage.joins()
    stage.happens(Lost(), Unreachable("connection refused"), Unreachable("again"))
    stage.joins(top=0, recovered=True)
    stage.happens(said(1), said(2), Said(3, None))

    await stage.plays()

    assert stage.screen.shown == ["m1", "m2"]
    assert stage.screen.notices == [
        "connection lost, retrying…",
        "back; 2 messages caught up",
    ]


async def test_what_the_backlog_brought_was_missed_too(stage: Stage) -> None:
    """The connection went while the first page was read: it may hold what came meanwhile."""
    stage.room.grow(2)
    stage.room.may_read.clear()
    stage.joins()
    stage.happens(Lost())
    listening = stage.tasks.spawn(stage.conversation.listen(), name="listen")
    await eventually(lambda: stage.screen.notices)
    stage.room.grow(3)
    stage.joins(top=2, recovered=True)
    stage.happens(said(3), said(4), said(5), Ended("the end"))

    stage.room.may_read.set()

    await asyncio.wait_for(listening, 5)
    assert stage.screen.shown == offsets(range(1, 6))
    assert stage.screen.notices[-1] == "back; 3 messages caught up"


async def test_what_fills_a_hole_was_missed_too(stage: Stage) -> None:
    """The newest one may come first; those before it are read, and all of them count."""
    stage.joins()
    await stage.plays()
    stage.happens(Lost())
    stage.room.grow(3)
    stage.happens(said(3))
    stage.joins(top=3, recovered=True)

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, 4))
    assert stage.screen.notices[-1] == "back; 3 messages caught up"


async def test_nothing_missed_is_said_too(stage: Stage) -> None:
    """One wants to know that it is really so."""
    stage.joins()
    stage.happens(Lost())
    stage.joins(top=0, recovered=True)

    await stage.plays()

    assert stage.screen.notices[-1] == "back; nothing missed"


async def test_too_far_behind_is_paged_from_history(stage: Stage) -> None:
    """The gateway may give up on recovery; the reader never notices a hole."""
    stage.joins()
    await stage.plays()
    stage.happens(Lost())
    missed = 2 * PAGE_ENTRIES + 17
    stage.room.grow(missed)
    stage.joins()
    stage.happens(said(missed + 1))

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, missed + 2))
    assert f"back; {missed + 1} messages caught up" in stage.screen.notices
    assert stage.room.reads == 3 + 1  # the backlog at first, then three pages


async def test_a_resubscription_alone_is_not_worth_a_word(stage: Stage) -> None:
    """The gateway may ask to recover without the connection having been away."""
    stage.joins()
    stage.joins(top=0, recovered=True)
    stage.happens(said(1))

    await stage.plays()

    assert stage.screen.shown == ["m1"]
    assert stage.screen.notices == []


async def test_what_is_no_longer_kept_is_said(stage: Stage) -> None:
    """An honest hole: retention was faster than the reader."""
    stage.joins()
    await stage.plays()
    stage.happens(Lost())
    stage.room.grow(10)
    stage.room.floor = 6
    stage.joins()

    await stage.plays()

    assert stage.screen.shown == offsets(range(7, 11))
    assert "6 messages no longer kept" in stage.screen.notices


async def test_all_of_it_no_longer_kept_is_said_once(stage: Stage) -> None:
    """Nothing is left of what was missed, and reading ends all the same."""
    stage.joins()
    await stage.plays()
    stage.happens(Lost())
    stage.room.grow(4)
    stage.room.floor = 4
    stage.joins()
    stage.happens(said(5))

    await stage.plays()

    assert stage.screen.shown == ["m5"]
    assert stage.screen.notices.count("4 messages no longer kept") == 1


async def test_a_replaced_log_is_begun_anew(stage: Stage) -> None:
    """Offsets of another life of the log mean nothing."""
    stage.room.grow(9)
    stage.joins()
    await stage.plays()
    stage.happens(Lost())
    stage.room.log.clear()
    stage.room.grow(2)
    stage.room.epoch = "e2"
    stage.joins()
    stage.happens(said(3))

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, 10), range(1, 4))
    assert any("replaced" in notice for notice in stage.screen.notices)


async def test_a_log_replaced_while_reading_is_begun_anew(stage: Stage) -> None:
    """History may be the first to know."""
    stage.joins()
    await stage.plays()
    stage.room.grow(3)
    stage.room.epoch = "e2"
    stage.happens(said(3))

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, 4))
    assert any("replaced" in notice for notice in stage.screen.notices)


async def test_a_read_is_asked_again_until_it_is_answered(stage: Stage) -> None:
    """A busy history is no reason to lose messages."""
    stage.room.grow(3)
    stage.room.read_errors = [TryAgainError("busy")] * 5
    stage.joins()

    await stage.plays()

    assert stage.screen.shown == offsets(range(1, 4))


async def test_a_lost_connection_is_said_while_history_is_being_read(
    stage: Stage,
) -> None:
    """Reading waits for the connection; the reader should know why."""
    stage.room.grow(3)
    stage.room.may_read.clear()
    stage.joins()
    stage.happens(Lost())
    listening = stage.tasks.spawn(stage.conversation.listen(), name="listen")

    await eventually(lambda: stage.screen.notices)

    assert stage.screen.notices == ["connection lost, retrying…"]
    stage.room.may_read.set()
    stage.happens(Ended("the end"))
    await asyncio.wait_for(listening, 5)
    assert stage.screen.shown == offsets(range(1, 4))


async def test_history_that_may_not_be_read_is_said(stage: Stage) -> None:
    """One can still talk, and hear what comes."""
    stage.room.grow(3)
    stage.room.read_errors = [RefusedError("permission denied", 103)] * 2
    stage.joins()
    stage.happens(said(5), said(6))

    await stage.plays()

    assert stage.screen.shown == ["m5", "m6"]
    assert stage.screen.notices == [
        "earlier messages cannot be read: permission denied",
        "1 message cannot be read: permission denied",
    ]


async def test_a_channel_without_a_log_is_simply_heard(stage: Stage) -> None:
    """Nothing is missed there because nothing is kept."""
    stage.joins(durable=False)
    stage.happens(said(0), Lost())
    stage.joins(durable=False)
    stage.happens(said(0))

    await stage.plays()

    assert stage.screen.shown == ["m0", "m0"]
    assert stage.screen.notices == ["connection lost, retrying…", "back"]
    assert stage.room.reads == 0


async def test_the_status_says_where_one_is(stage: Stage) -> None:
    """On which gateway, or on none."""
    stage.happens(Unreachable("connection \x1b refused"))
    stage.joins()
    await stage.plays()

    assert stage.screen.notices == [
        "no connection: connection \ufffd refused; retrying…"
    ]
    assert stage.screen.link == "on gateway-1"


# -- Talking --------------------------------------------------------------------------


async def sent(stage: Stage, *texts: str) -> None:
    stage.tasks.spawn(stage.conversation.deliver_drafts(), name="send")
    for text in texts:
        await stage.conversation.say(text)
    async with asyncio.timeout(5):
        await stage.conversation.all_answered()


async def test_messages_are_sent_in_the_order_they_were_typed(stage: Stage) -> None:
    """Also when one of them needs several attempts."""
    stage.room.send_errors = [TryAgainError("busy"), TryAgainError("busy")]

    await sent(stage, "one", "two", "three")

    texts = [draft.text for draft in stage.room.sent]
    assert texts == ["one", "one", "one", "two", "three"]
    assert stage.conversation.failures == 0
    assert stage.conversation.unanswered == 0


async def test_what_waits_is_shown_until_it_is_confirmed(stage: Stage) -> None:
    """One sees what is on its way."""
    stage.room.may_answer.clear()
    stage.tasks.spawn(stage.conversation.deliver_drafts(), name="send")
    await stage.conversation.say("one")
    await stage.conversation.say("two")
    assert stage.screen.waiting == ["one", "two"]

    stage.room.may_answer.set()

    await eventually(lambda: stage.screen.waiting == [])


async def test_a_refused_message_is_said_and_the_next_one_goes(stage: Stage) -> None:
    """With its beginning, so that one knows which."""
    stage.room.send_errors = [RefusedError("message too large", 413)]

    await sent(stage, "x" * 1000, "two")

    assert stage.screen.notices == [f"NOT SENT: {'x' * 60}… — message too large"]
    assert stage.conversation.failures == 1
    assert len(stage.room.log) == 1


async def test_a_repeated_message_is_mentioned_once(stage: Stage) -> None:
    """Silence would look like a hang, a line per attempt like a failure."""
    stage.room.send_errors = [TryAgainError("no answer in time")] * 3

    await sent(stage, "one")

    assert len(stage.screen.notices) == 1
    assert "cannot get in twice" in stage.screen.notices[0]


async def test_a_script_does_not_send_past_a_message_in_doubt(stage: Stage) -> None:
    """Its lines would be out of order if the lost one arrived after all."""
    stage.begin(stop_when_unknown=True)
    stage.room.send_errors = [TryAgainError("no answer in time")] * 1000

    await sent(stage, "one", "two", "three")

    assert stage.conversation.failures == 3
    assert {draft.text for draft in stage.room.sent} == {"one"}
    assert "may have arrived" in stage.screen.notices[1]
    assert "not tried" in stage.screen.notices[2]


async def test_own_messages_are_shown_before_one_leaves(stage: Stage) -> None:
    """A script's output holds what it said."""
    stage.joins()
    listening = stage.tasks.spawn(stage.conversation.listen(), name="listen")
    await asyncio.wait_for(stage.conversation.joined.wait(), 5)
    await sent(stage, "one")
    leaving = stage.tasks.spawn(stage.conversation.shown_confirmed(), name="leave")
    await asyncio.sleep(0)
    assert not leaving.done()

    stage.happens(said(1))

    await asyncio.wait_for(leaving, 5)
    assert not listening.done()
