"""Committing and answering, with a log in memory and a link that remembers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from chatmesh.history.batching import Delivery, mark_of
from chatmesh.history.handlers import Committer, Reader
from chatmesh.history.metrics import Metrics
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.health import Health
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors
from chatmesh.wire.messages import (
    CommandBatch,
    Heads,
    HeadsPage,
    Page,
    PublishCommand,
    Read,
    Reads,
    Truncate,
)
from conformance.memory_log import MemoryLog
from support.eventually import eventually
from support.history_doubles import LinkDouble, QuickClock


@dataclass
class Desk:
    """A committer at work, and everything around it."""

    log: MemoryLog
    link: LinkDouble
    tasks: Tasks
    health: Health = field(default_factory=lambda: Health("database"))
    clock: QuickClock = field(default_factory=QuickClock)
    metrics: Metrics = field(default_factory=Metrics)
    passed: list[str] = field(default_factory=list[str])
    heard: list[Delivery] = field(default_factory=list[Delivery])

    def __post_init__(self) -> None:
        self.committer = Committer(
            log=self.log,
            attempts=self.log,
            link=self.link,
            tasks=self.tasks,
            health=self.health,
            metrics=self.metrics,
            clock=self.clock,
            backoff=Backoff(0.05, 1.0, random.Random(1)),
            checkpoint=self.passed.append,
            batch_commands_max=5,
            batch_bytes_max=10_000,
            batches_in_flight_max=2,
            attempts_max=3,
            suspect_deliveries=3,
        )

    def hear(self, *ids: str, deaths: int = 0, size: int = 10) -> None:
        commands = [
            PublishCommand("a", key, key.encode(), user="ada", request=n)
            for n, key in enumerate(ids, start=1)
        ]
        batch = CommandBatch("gateway", "replies", commands)
        delivery = Delivery(len(self.heard) + 1, batch, size, deaths, 0.0)
        self.heard.append(delivery)
        self.committer.hear(delivery)

    async def finish(self) -> None:
        async with asyncio.timeout(5):
            await self.committer.idle()

    @property
    def answers(self) -> list[tuple[str, int]]:
        """Id and error code of every answer, in order."""
        return [(o.id, o.error_code) for o in self.link.outcomes]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    tasks = Tasks()
    made = Desk(MemoryLog(), LinkDouble(), tasks)
    tasks.spawn(made.committer.run(), name="committer")
    yield made
    await tasks.stop(5)


async def test_commit_comes_before_telling_and_acknowledging(desk: Desk) -> None:
    """The order of the checkpoints is the promise."""
    desk.hear("1")
    await desk.finish()

    assert desk.passed == [
        "history.received",
        "history.committed",
        "history.published",
        "history.replied",
        "history.acked",
    ]
    assert desk.link.told == [("a", 1)]
    assert desk.link.acked == [1]


async def test_what_arrived_meanwhile_is_committed_together(desk: Desk) -> None:
    """Up to the bounds of a batch, in order of arrival."""
    for n in range(7):
        desk.hear(str(n))
    await desk.finish()

    assert desk.log.appended == [5, 2]
    assert desk.link.told == [("a", n) for n in range(1, 8)]
    assert desk.link.acked == list(range(1, 8))


async def test_a_large_delivery_goes_alone(desk: Desk) -> None:
    """Bytes bound a batch as well as commands do."""
    desk.hear("1", size=9_000)
    desk.hear("2", size=9_000)
    await desk.finish()

    assert desk.log.appended == [1, 1]


async def test_nothing_is_answered_while_the_database_is_away(desk: Desk) -> None:
    """Commands wait, readiness says why, and then everything goes in order."""
    desk.log.unavailable = 5
    desk.hear("1")
    desk.hear("2")
    await desk.finish()

    assert desk.link.told == [("a", 1), ("a", 2)]
    assert desk.answers == [("1", 0), ("2", 0)]
    assert len(desk.clock.slept) == 5
    assert desk.health.ready


async def test_a_lost_answer_does_not_swallow_the_event(desk: Desk) -> None:
    """The log had committed; run again it says so, and everybody still hears it."""
    desk.log.lost_answers = 1
    desk.hear("1")
    await desk.finish()

    assert desk.link.told == [("a", 1)]
    assert desk.answers == [("1", 0)]


async def test_only_what_the_log_finds_wrong_is_refused(desk: Desk) -> None:
    """The neighbours in its batch are committed, in order."""
    bad = "c\N{REPLACEMENT CHARACTER}"
    desk.log.refused_ids = {bad}
    desk.hear("a", "b", bad, "d")
    await desk.finish()

    assert desk.link.told == [("a", 1), ("a", 2), ("a", 3)]
    assert desk.answers == [
        ("a", 0),
        ("b", 0),
        (bad, errors.BAD_REQUEST.code),
        ("d", 0),
    ]
    assert desk.link.acked == [1]


async def test_poison_is_buried_after_its_tries_and_its_neighbours_live(
    desk: Desk,
) -> None:
    """One command makes us fail: it is tried, buried with its cause, and answered."""
    desk.log.poison_ids = {"bad"}
    desk.hear("1", "bad", "2")
    desk.hear("3")
    await desk.finish()

    ((buried, cause),) = desk.link.buried
    assert (buried.id, cause) == ("bad", "ZeroDivisionError: bad")
    assert desk.answers == [("1", 0), ("bad", 100), ("2", 0), ("3", 0)]
    # The first delivery as a whole, then its commands; the second as a whole.
    assert desk.passed.count("history.attempt") == 1 + (1 + 3 + 1) + 1
    assert desk.log.attempts == {}
    assert desk.link.acked == [1, 2]


async def test_a_batch_that_came_too_often_is_tried_alone_first(desk: Desk) -> None:
    """Most were only at hand when another one did harm: one commit, as a whole."""
    desk.hear("1", "2", deaths=3)
    desk.hear("3")
    await desk.finish()

    assert desk.log.appended == [2, 1]
    assert desk.passed.count("history.attempt") == 1
    assert desk.log.attempts == {}
    assert desk.link.told == [("a", 1), ("a", 2), ("a", 3)]


async def test_one_that_did_harm_alone_is_taken_apart(desk: Desk) -> None:
    """Each command on record; one with its tries behind it is not run again."""
    desk.hear("1", "killer", "2", deaths=4)
    mark = mark_of(desk.heard[0])
    desk.log.attempts = {mark: 1, ("a", "killer"): 3}
    await desk.finish()

    assert [command.id for command, _ in desk.link.buried] == ["killer"]
    assert desk.link.told == [("a", 1), ("a", 2)]
    assert desk.log.appended == [1, 1]
    assert desk.passed.count("history.attempt") == 2
    assert desk.log.attempts == {}


async def test_a_bad_name_in_a_suspect_batch_is_simply_refused(desk: Desk) -> None:
    """It never reaches the records, which could not hold it."""
    desk.hear("nul\0", "1", deaths=5)
    await desk.finish()

    assert desk.answers == [("nul\0", errors.BAD_REQUEST.code), ("1", 0)]


async def test_commits_go_on_while_confirms_are_awaited_but_not_for_ever() -> None:
    """Two announcements may be unconfirmed; the third commit waits."""
    tasks = Tasks()
    desk = Desk(MemoryLog(), LinkDouble(confirms=False), tasks)
    tasks.spawn(desk.committer.run(), name="committer")
    for n in range(4):
        desk.hear(str(n), size=9_999)

    await eventually(lambda: len(desk.log.appended) == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(desk.log.appended) == 2
    assert desk.link.acked == []

    desk.link.confirms = True
    desk.link.confirm()
    await desk.finish()
    await tasks.stop(5)

    assert len(desk.log.appended) == 4
    assert sorted(desk.link.acked) == [1, 2, 3, 4]


async def test_what_was_not_confirmed_is_not_acknowledged() -> None:
    """The broker delivers it again, on the next link."""
    tasks = Tasks()
    desk = Desk(MemoryLog(), LinkDouble(confirms=False), tasks)
    tasks.spawn(desk.committer.run(), name="committer")
    desk.hear("1")
    await eventually(lambda: bool(desk.link.unconfirmed))

    desk.link.lose()
    await asyncio.sleep(0)
    await tasks.stop(5)

    assert desk.link.acked == []


# -- Reading ----------------------------------------------------------------------------


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.stop(5)


def reader(log: MemoryLog, link: LinkDouble, tasks: Tasks, clock: QuickClock) -> Reader:
    return Reader(
        log=log,
        answers=link,
        tasks=tasks,
        metrics=Metrics(),
        clock=clock,
        read_timeout_s=3.0,
    )


async def test_every_read_gets_a_page_of_its_own(tasks: Tasks) -> None:
    """A wrong one gets its error, the others their entries."""
    desk = Desk(MemoryLog(), LinkDouble(), tasks)
    tasks.spawn(desk.committer.run(), name="committer")
    desk.hear("1", "2", "3")
    await desk.finish()
    reading = reader(desk.log, desk.link, tasks, desk.clock)

    reading.ask(
        Reads("q", [Read(1, "a", 1, 5), Read(2, "a b", 0, 1), Read(3, "z")]), 1.0
    )
    reading.ask(Heads(4, "q", ["z", "a"]), 1.0)
    await eventually(lambda: len(desk.link.replies) == 4)

    pages = {p.request: p for _, p in desk.link.replies if isinstance(p, Page)}
    assert [entry.offset for entry in pages[1].entries] == [2, 3]
    assert pages[2].error_code == errors.BAD_REQUEST.code
    assert (pages[3].epoch, pages[3].top, pages[3].entries) == ("memory", 0, [])
    assert desk.link.replies[-1] == ("q", HeadsPage(4, [("memory", 0), ("memory", 3)]))


@pytest.mark.parametrize("ends", [LinkDouble.confirm, LinkDouble.lose])
async def test_answers_do_not_wait_for_each_others_confirms(
    tasks: Tasks, ends: Callable[[LinkDouble], None]
) -> None:
    """When everybody comes back at once, all pages go out, then all confirms come.

    The next questions are answered after these, also when the link was lost.
    """
    log, link = MemoryLog(), LinkDouble(confirms=False)
    reading = reader(log, link, tasks, QuickClock())

    for n in range(5):
        reading.ask(Reads("q", [Read(n, "a", 0, 5), Read(n + 10, "a b", 0, 1)]), 1.0)
    await eventually(lambda: len(link.replies) == 5, reason="what is wrong")
    link.confirm()
    await eventually(lambda: len(link.replies) == 10, reason="the pages")
    ends(link)
    link.confirms = True
    reading.ask(Heads(20, "q", ["a"]), 1.0)
    await eventually(lambda: len(link.replies) == 11, reason="whoever comes later")


async def test_reads_are_answered_with_an_error_while_the_database_is_away(
    tasks: Tasks,
) -> None:
    """In time, and temporary: the asker may ask again."""
    log, link = MemoryLog(), LinkDouble()
    log.unavailable = 2
    reading = reader(log, link, tasks, QuickClock())

    reading.ask(Reads("q", [Read(1, "a", 0, 5)]), 1.0)
    reading.ask(Heads(2, "q", ["a"]), 1.0)
    await eventually(lambda: len(link.replies) == 2)

    codes = [message.error_code for _, message in link.replies]
    assert codes == [errors.INTERNAL.code, errors.INTERNAL.code]


async def test_a_removed_history_is_answered_with_where_the_log_begins_now(
    tasks: Tasks,
) -> None:
    """Behind what was its top; a bad name and a database away have their errors."""
    desk = Desk(MemoryLog(), LinkDouble(), tasks)
    tasks.spawn(desk.committer.run(), name="committer")
    desk.hear("1", "2")
    await desk.finish()
    reading = reader(desk.log, desk.link, tasks, desk.clock)

    reading.ask(Truncate(1, "q", "a"), 1.0)
    reading.ask(Truncate(2, "q", "a b"), 1.0)
    await eventually(lambda: len(desk.link.replies) == 2)
    desk.log.unavailable = 1
    reading.ask(Truncate(3, "q", "a"), 1.0)
    await eventually(lambda: len(desk.link.replies) == 3)

    pages = [page for _, page in desk.link.replies if isinstance(page, Page)]
    assert (pages[0].top, pages[0].floor, pages[0].error_code) == (2, 2, 0)
    assert pages[1].error_code == errors.BAD_REQUEST.code
    assert pages[2].error_code == errors.INTERNAL.code


async def test_nobody_reads_for_somebody_who_has_stopped_waiting(tasks: Tasks) -> None:
    """A question past its deadline is dropped, not answered late."""
    log, link, clock = MemoryLog(), LinkDouble(), QuickClock()
    reading = reader(log, link, tasks, clock)

    reading.ask(Reads("q", [Read(1, "a", 0, 5)]), 1.0)
    reading.ask(Reads("q", [Read(2, "a", 0, 5)]), 10.0)
    clock.now_s += 2.0
    await eventually(lambda: bool(link.replies))

    assert [message.request for _, message in link.replies] == [2]


async def test_idle_is_not_kept_waiting_by_what_comes_later(desk: Desk) -> None:
    """A partition is handed over under load, when there is always something."""
    desk.link.confirms = False
    desk.hear("1")
    await eventually(lambda: len(desk.link.unconfirmed) == 2)
    idle = asyncio.ensure_future(desk.committer.idle())
    await asyncio.sleep(0)
    first = list(desk.link.unconfirmed)
    desk.link.unconfirmed.clear()
    desk.hear("2")
    await eventually(lambda: len(desk.link.unconfirmed) == 2)
    assert not idle.done()

    for confirmed in first:
        confirmed.set_result(None)
    async with asyncio.timeout(5):
        await idle

    assert desk.link.acked == [1]
    desk.link.confirm()
    await desk.finish()
