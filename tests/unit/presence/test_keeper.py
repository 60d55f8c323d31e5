"""Stored, told, acknowledged: in this order, whatever fails."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import cast

import pytest

from chatmesh.bus.outgoing import LinkLost
from chatmesh.presence.keeper import Delivery, Keeper, Periods
from chatmesh.presence.metrics import Metrics
from chatmesh.presence.roster import Rules
from chatmesh.runtime import checkpoints, trace_names
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.health import DATABASE, Health
from chatmesh.wire import limits
from chatmesh.wire.presence import (
    Active,
    Change,
    Joined,
    Left,
    PresenceLease,
    PresenceReport,
    PresenceResync,
)
from chatmesh.wire.topics import partition_of
from support.presence_doubles import BookDouble, HandClock, LinkDouble, settled
from support.spans import KeptSpans

ROOM = "room:tea"
HERE = partition_of(ROOM)
LEASE_S = 10
GRACE_S = 5


class Bench:
    """One keeper with its doubles, and reports that number themselves."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.book = BookDouble(self.clock)
        self.health = Health(DATABASE)
        self.steps: list[str] = []
        self.number = 0
        self.spans = KeptSpans()
        self.new_life()

    def new_life(self) -> None:
        """A lost link, and the one after it."""
        self.link = LinkDouble()
        self.tag = 0
        self.keeper = Keeper(
            book=self.book,
            link=self.link,
            rules=lambda _channel: Rules(
                announce=True, grace_ms=GRACE_S * 1000, large_above=200
            ),
            periods=Periods(
                process_lease_ms=LEASE_S * 1000, settle_ms=1000, beat_s=0.25
            ),
            health=self.health,
            metrics=Metrics(),
            clock=self.clock,
            backoff=Backoff(0.1, 0.1, random.Random(1)),
            checkpoint=self.steps.append,
            batch_changes_max=10,
            tracing=self.spans.tracing,
        )

    def hear(self, *changes: Change, number: int = 0) -> None:
        self.number = number or self.number + 1
        self.tag += 1
        report = PresenceReport("g1", HERE, self.number, "queue of g1", list(changes))
        self.keeper.hear(
            Delivery(self.tag, HERE, report, b"report", self.clock.monotonic_s())
        )

    def beat(self, sent: int) -> None:
        sequences = [0] * limits.PARTITIONS
        sequences[HERE] = sent
        self.keeper.pulse(PresenceLease("g1", "queue of g1", sequences))

    @property
    def told(self) -> list[str]:
        return [news.kind for news in self.link.told]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await settled()


class Running:
    """The keeper's task, as the life of a link runs it."""

    def __init__(self, keeper: Keeper) -> None:
        self.task = asyncio.get_running_loop().create_task(keeper.run())

    async def __aenter__(self) -> "Running":
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    def lost(self) -> str:
        """Why it ended."""
        error = self.task.exception()
        while isinstance(error, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", error)
            error = group.exceptions[0]
        assert isinstance(error, LinkLost)
        return str(error)


async def test_a_report_is_stored_then_told_then_acknowledged(bench: Bench) -> None:
    """In this order: every death in between is harmless."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"))
        await settled()

    assert bench.steps == [
        "presence.received",
        "presence.stored",
        "presence.told",
        "presence.acked",
    ]
    assert bench.told == ["join"]
    assert bench.link.acked == [1]
    assert list(bench.book.connections) == [(ROOM, "a1")]


async def test_what_arrives_together_is_stored_together(bench: Bench) -> None:
    """One statement for many reports, up to the bound."""
    await bench.keeper.adopt(HERE)
    for number in range(20):
        bench.hear(Joined(ROOM, f"c{number}", f"u{number}"))
    async with Running(bench.keeper):
        await settled()

    assert bench.link.acked == list(range(1, 21))
    assert bench.book.stores == 2


async def test_told_news_are_forgotten_with_the_next_statement(bench: Bench) -> None:
    """At the latest with the next beat."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"))
        await settled()
        assert len(bench.book.untold) == 1
        await bench.clock.pass_(0.5)

    assert bench.book.untold == []


async def test_untold_news_are_told_by_the_next_holder(bench: Bench) -> None:
    """What was stored and not confirmed is told again, under the same number."""
    await bench.keeper.adopt(HERE)
    bench.link.broken = True
    async with Running(bench.keeper) as running:
        bench.hear(Joined(ROOM, "a1", "ada"))
        await settled()
        assert running.lost() == "broken"
    assert bench.link.acked == []
    (untold,) = bench.book.untold
    bench.new_life()

    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"), number=1)
        await bench.clock.pass_(0.5)

    assert bench.link.told == [untold]
    assert bench.link.acked == [1]
    assert bench.book.untold == []


async def test_a_database_that_is_away_is_waited_for(bench: Bench) -> None:
    """Nothing is told or acknowledged meanwhile; health says why."""
    await bench.keeper.adopt(HERE)
    bench.book.away = True
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"))
        await bench.clock.pass_(1)
        assert (bench.told, bench.link.acked) == ([], [])
        assert bench.health.report()["checks"][DATABASE] == {
            "ok": False,
            "reason": "away",
        }

        bench.book.away = False
        await bench.clock.pass_(1)

    assert (bench.told, bench.link.acked) == (["join"], [1])
    assert bench.health.ready


async def test_partitions_that_were_taken_over_end_the_link(bench: Bench) -> None:
    """Nothing is told that was not stored."""
    await bench.keeper.adopt(HERE)
    bench.book.held = False
    async with Running(bench.keeper) as running:
        bench.hear(Joined(ROOM, "a1", "ada"))
        await settled()

        assert running.lost() == "partitions were taken over"
    assert (bench.told, bench.link.acked) == ([], [])
    assert bench.link.lost


async def test_what_the_database_refuses_is_buried(bench: Bench) -> None:
    """It would be refused for ever; what is missing then is asked for."""
    await bench.keeper.adopt(HERE)
    bench.book.refuses = True
    async with Running(bench.keeper) as running:
        bench.hear(Joined(ROOM, "a1", "ada"))
        await settled()

        assert "refused" in running.lost()
    assert bench.link.buried == [f"{HERE}: unfit: report"]
    assert bench.link.acked == [1]


async def test_false_changes_are_left_out(bench: Bench) -> None:
    """Their neighbours are taken."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "nul\0", "eve"), Joined(ROOM, "a1", "ada"))
        await settled()

    assert list(bench.book.connections) == [(ROOM, "a1")]


async def test_a_silent_process_is_given_up(bench: Bench) -> None:
    """After its lease and the grace its users have left, once."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"))
        await bench.clock.pass_(LEASE_S + GRACE_S - 0.5)
        assert bench.told == ["join"]
        await bench.clock.pass_(1)

    assert bench.told == ["join", "leave"]


async def test_a_process_that_is_heard_keeps_its_users(bench: Bench) -> None:
    """One heartbeat for all of them."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"))
        for _ in range(10):
            await bench.clock.pass_(3)
            bench.beat(1)

    assert bench.told == ["join"]


async def test_after_standing_still_nobody_is_believed_dead(bench: Bench) -> None:
    """A replica that was frozen has not listened; that says nothing of others."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"))
        await bench.clock.pass_(1)
        await bench.clock.pass_(60, step_s=60)
        await bench.clock.pass_(GRACE_S + 2)
        bench.beat(1)
        await bench.clock.pass_(GRACE_S + 2)

    assert bench.told == ["join"]


async def test_missing_reports_are_asked_for(bench: Bench) -> None:
    """A gap in the numbers, or a heartbeat that knows more."""
    await bench.keeper.adopt(HERE)
    async with Running(bench.keeper):
        bench.hear(Joined(ROOM, "a1", "ada"), number=3)
        await settled()
        asked = list(bench.link.answers)
        bench.beat(9)
        await bench.clock.pass_(3)
        bench.beat(9)
        await bench.clock.pass_(1)

    assert asked == [("queue of g1", PresenceResync([HERE]))]
    assert bench.link.answers[1:] == asked


async def test_a_partition_is_settled_before_it_is_handed_over(bench: Bench) -> None:
    """All that arrived is done, and nothing is left to be told again."""
    await bench.keeper.adopt(HERE)
    for number in range(15):
        bench.hear(Joined(ROOM, f"c{number}", f"u{number}"))
    bench.hear(Left(ROOM, "c0", clean=True))
    await bench.keeper.settle(HERE)

    assert len(bench.link.acked) == 16
    assert bench.told == ["join"] * 15 + ["leave"]
    assert bench.book.untold == []


def test_checkpoints_cost_nothing_in_production() -> None:
    """The label is looked at by tests only."""
    checkpoints.ignore("presence.stored")


async def test_a_traced_join_leaves_spans_where_it_was_stored_and_told(
    bench: Bench,
) -> None:
    """One of two in a batch is traced: its trace has each step once, under the report."""
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    await bench.keeper.adopt(HERE)
    bench.hear(
        Joined(ROOM, "a1", "ada", traceparent=context), Joined(ROOM, "b1", "bob")
    )
    bench.clock.now_s += 2
    async with Running(bench.keeper):
        await settled()

    assert bench.told == ["join", "join"]
    taken = next(s for s in bench.spans.all if s.name == trace_names.PROCESS_REPORTS)
    assert (taken.trace_id, taken.parent_id) == ("a" * 32, "b" * 16)
    assert taken.attributes[trace_names.MESSAGE_COUNT] == 2
    assert (taken.ended_ns - taken.started_ns) / 1e9 >= 2, "it waited for its turn"
    steps = [s.name for s in bench.spans.all if s.parent_id == taken.span_id]
    assert steps == [trace_names.STORE_PRESENCE, trace_names.SEND_EVENTS]
    assert len(bench.spans.all) == 3


async def test_what_nobody_traces_leaves_no_spans(bench: Bench) -> None:
    """Neither joins without a context, nor somebody typing, nor time that passes."""
    await bench.keeper.adopt(HERE)
    bench.hear(Joined(ROOM, "a1", "ada"), Active(ROOM, "ada"))
    async with Running(bench.keeper):
        await settled()

    assert bench.told
    assert bench.spans.all == []
