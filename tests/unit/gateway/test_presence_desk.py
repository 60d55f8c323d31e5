"""What a gateway tells presence: every change once, and everything anew after a doubt."""

import random
from collections.abc import AsyncIterator

import msgspec
import pytest

from chatmesh.bus import presence_reports
from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.presence import PresenceDesk
from chatmesh.runtime import trace_names
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import limits
from chatmesh.wire.presence import (
    CountsAsk,
    Joined,
    Left,
    Member,
    MembersAsk,
    PresenceAnswer,
    PresenceAsk,
    PresenceCounts,
    PresenceLease,
    PresencePage,
    PresenceReport,
    PresenceResync,
)
from chatmesh.wire.topics import partition_of
from support.manual_clock import ManualClock, settle
from support.spans import KeptSpans

ROOM = "room:a"
ADA = Joined(ROOM, "c1", "ada")
BOB = Joined(ROOM, "c2", "bob")


class ReportingBus:
    """The part of the bus that presence uses; fails when told to."""

    def __init__(self) -> None:
        self.connected = True
        self.reply_to = "queue"
        self.failing = False
        self.reports: list[PresenceReport] = []
        self.leases: list[PresenceLease] = []
        self.asks: list[PresenceAsk] = []

    async def send_report(self, report: PresenceReport) -> None:
        self.reports.append(report)
        if self.failing:
            raise PublishFailed("cut off")

    async def send_lease(self, lease: PresenceLease) -> None:
        self.leases.append(lease)

    async def send_presence_asks(self, asks: list[PresenceAsk]) -> None:
        self.asks += asks


class Desk:
    """A desk, its bus and its clock."""

    def __init__(self, tasks: Tasks, ratio: float = 0.0) -> None:
        self.bus = ReportingBus()
        self.clock = ManualClock()
        self.spans = KeptSpans(ratio)
        self.desk = PresenceDesk(
            self.bus,  # pyright: ignore[reportArgumentType] - the part that is used
            origin="g1",
            within_s=4.0,
            clock=self.clock,
            tasks=tasks,
            tracing=self.spans.tracing,
        )


@pytest.fixture
async def at() -> AsyncIterator[Desk]:
    tasks = Tasks()
    yield Desk(tasks)
    await tasks.stop(within_s=1.0)


async def test_changes_are_told_in_order_and_numbered(at: Desk) -> None:
    """What gathers while a report is on its way goes with the next one."""
    at.desk.joined(ADA)
    at.desk.joined(BOB)
    await settle()
    at.desk.left(Left(ROOM, "c1", clean=True))
    await settle()

    changes = [change for report in at.bus.reports for change in report.changes]
    assert changes == [ADA, BOB, Left(ROOM, "c1", clean=True)]
    assert [r.sequence for r in at.bus.reports] == list(
        range(1, len(at.bus.reports) + 1)
    )
    assert {r.partition for r in at.bus.reports} == {partition_of(ROOM)}


async def test_a_new_line_begins_with_everything(at: Desk) -> None:
    """Nobody knows what the line before has lost."""
    at.desk.joined(ADA)
    await settle()
    at.bus.connected = False
    at.desk.link_down()
    at.desk.joined(BOB)
    at.bus.connected = True
    at.desk.link_up()
    await settle()

    last = at.bus.reports[-1]
    assert (last.snapshot_part, last.snapshot_parts) == (1, 1)
    assert last.changes == [ADA, BOB]


async def test_a_report_of_unknown_fate_is_followed_by_everything(at: Desk) -> None:
    """It may have arrived; told again it is the same fact."""
    at.bus.failing = True
    at.desk.joined(ADA)
    await settle()
    at.bus.failing = False
    at.clock.pass_time(2.0)
    await settle()

    assert at.bus.reports[-1].snapshot_parts == 1
    assert at.bus.reports[-1].changes == [ADA]


async def test_too_many_waiting_changes_become_a_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of them is lost: neither the one that found no place, nor those before."""
    monkeypatch.setattr(presence_reports, "WAITING_MAX", 2)
    tasks = Tasks()
    at = Desk(tasks)
    told = [Joined(ROOM, f"c{number}", "ada") for number in range(3)]
    for one in told:
        at.desk.joined(one)
    await settle()
    await tasks.stop(within_s=1.0)

    (report,) = at.bus.reports
    assert (report.snapshot_parts, report.changes) == (1, told)


async def test_presence_may_ask_for_everything(at: Desk) -> None:
    """After it has lost something itself."""
    at.desk.joined(ADA)
    await settle()

    at.desk.hear(PresenceResync([partition_of(ROOM)]))
    await settle()

    assert at.bus.reports[-1].snapshot_parts == 1


async def test_large_snapshots_come_in_parts(at: Desk) -> None:
    """A message stays small however many are here."""
    many = limits.PRESENCE_CHANGES_PER_REPORT_MAX + 1
    for number in range(many):
        at.desk.joined(Joined(ROOM, f"c{number}"))
    at.desk.link_down()
    at.desk.link_up()
    await settle()

    parts = [r for r in at.bus.reports if r.snapshot_parts == 2]
    assert [r.snapshot_part for r in parts] == [1, 2]
    assert sum(len(r.changes) for r in parts) == many


async def test_one_lease_for_all_and_only_with_something_to_keep(at: Desk) -> None:
    """Nobody here, nothing to renew."""
    at.desk.tend()
    await settle()
    assert at.bus.leases == []

    at.desk.joined(ADA)
    await settle()
    for _ in range(10):
        at.clock.pass_time(limits.PRESENCE_RENEW_S)
        at.desk.tend()
        at.desk.tend()
        await settle()

    assert len(at.bus.leases) == 10


async def test_a_page_has_my_own_people_as_they_are(at: Desk) -> None:
    """A question may overtake the report before it."""
    at.desk.joined(ADA)
    await settle()
    answers: list[PresenceAnswer | None] = []
    at.desk.ask(MembersAsk(0, ROOM), answers.append)
    await settle()

    request = at.bus.asks[0].request
    gone, other = Member("c0", "old", origin="g1"), Member("c9", "cyd", origin="g2")
    at.desk.hear(PresencePage(request, ROOM, [gone], last=False))
    at.desk.hear(PresencePage(request, ROOM, [other], num_clients=2, num_users=2))

    (page,) = answers
    assert isinstance(page, PresencePage)
    assert [one.client for one in page.members] == ["c9", "c1"]
    assert (page.num_clients, page.num_users) == (2, 2)


async def test_counting_a_room_of_mine_does_not_miss_me(at: Desk) -> None:
    """Asked as a page, because counts may be older than my own report."""
    at.desk.joined(ADA)
    await settle()

    at.desk.ask(CountsAsk(0, ROOM), lambda _: None)
    at.desk.ask(CountsAsk(0, "room:elsewhere"), lambda _: None)
    await settle()

    assert [type(ask) for ask in at.bus.asks] == [MembersAsk, CountsAsk]


async def test_nobody_waits_for_ever(at: Desk) -> None:
    """No answer in time, or no line any more: told so, once."""
    answers: list[PresenceAnswer | None] = []
    at.desk.ask(MembersAsk(0, ROOM), answers.append)
    at.clock.pass_time(random.uniform(4.1, 9.0))
    at.desk.tend()
    at.desk.ask(MembersAsk(0, ROOM), answers.append)
    at.desk.link_down()
    await settle()

    assert answers == [None, None]


async def test_who_is_in_grace_is_present_at_the_gateway_they_left(at: Desk) -> None:
    """As everywhere else; but what this gateway knows of a client here wins."""
    answers: list[PresenceAnswer | None] = []
    at.desk.joined(ADA)
    at.desk.ask(MembersAsk(0, ROOM), answers.append)
    await settle()
    lost = Member("c0", "eve", origin="g1", lost=True)
    stale = Member("c1", "ada", origin="g1", lost=True)
    at.desk.hear(PresencePage(at.bus.asks[0].request, ROOM, [lost, stale]))

    (page,) = answers
    assert isinstance(page, PresencePage)
    assert page.members == [lost, Member("c1", "ada", origin="g1")]
    assert (page.num_clients, page.num_users) == (2, 2)


async def test_counts_never_cost_a_large_room(at: Desk) -> None:
    """Of a small room the members are counted, ours as they are; a large one's are not."""
    answers: list[PresenceAnswer | None] = []
    at.desk.joined(ADA)
    for _ in range(2):
        at.desk.ask(CountsAsk(0, ROOM), answers.append)
    await settle()
    large, small = at.bus.asks
    assert isinstance(large, MembersAsk)
    assert 0 < large.limit <= 200
    bob = Member("c2", "bob", origin="g2")
    at.desk.hear(
        PresencePage(
            large.request,
            ROOM,
            [bob],
            next_after="c2",
            num_clients=9000,
            num_users=8000,
        )
    )
    at.desk.hear(PresencePage(small.request, ROOM, [bob], num_clients=1, num_users=1))

    pages = [one for one in answers if isinstance(one, PresencePage)]
    counts = [(one.num_clients, one.num_users) for one in pages]
    assert counts == [(9000, 8000), (2, 2)]


async def test_a_join_is_told_with_its_subscription_s_trace(at: Desk) -> None:
    """The report is a span of that trace; the fact itself knows nothing of it."""
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    at.desk.joined(ADA, context)
    at.desk.joined(BOB)
    await settle()
    told = [change for report in at.bus.reports for change in report.changes]
    (sent,) = at.spans.all
    assert (sent.name, sent.parent_id) == (trace_names.SEND_REPORT, "b" * 16)
    followed = f"00-{'a' * 32}-{sent.span_id}-01"
    assert told == [msgspec.structs.replace(ADA, traceparent=followed), BOB]

    at.desk.hear(PresenceResync([partition_of(ROOM)]))
    await settle()
    assert at.bus.reports[-1].changes == [ADA, BOB]


async def test_leaves_and_questions_begin_traces_of_their_own() -> None:
    """Sampled like messages are: by the ratio, where they enter the mesh."""
    tasks = Tasks()
    at = Desk(tasks, ratio=1.0)
    answers: list[PresenceAnswer | None] = []
    at.desk.left(Left(ROOM, "c1"))
    at.desk.ask(CountsAsk(0, "room:other"), answers.append)
    await settle()
    (ask,) = at.bus.asks
    at.desk.hear(PresenceCounts(ask.request, "room:other", 3, 2))
    await tasks.stop(within_s=1.0)

    spans = {span.name: span for span in at.spans.all}
    leave, sent = spans[trace_names.LEAVE], spans[trace_names.SEND_REPORT]
    assert (sent.trace_id, sent.parent_id) == (leave.trace_id, leave.span_id)
    asked = spans[trace_names.ASK_PRESENCE]
    assert ask.traceparent.startswith(f"00-{asked.trace_id}-{asked.span_id}-")
    assert not asked.failed
    assert len(answers) == 1


async def test_a_question_without_an_answer_is_told_as_failed() -> None:
    """Presence was away: the trace ends all the same."""
    tasks = Tasks()
    at = Desk(tasks, ratio=1.0)
    at.desk.ask(CountsAsk(0, "room:other"), lambda _answer: None)
    at.desk.link_down()
    await tasks.stop(within_s=1.0)

    (asked,) = at.spans.all
    assert asked.failed
