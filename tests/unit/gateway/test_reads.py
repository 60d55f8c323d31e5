"""Questions to history: gathered, and each answered once, with a page or with None."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.reads import READS_PER_BATCH_MAX, Reads
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.messages import Page, Read
from support.fake_bus import FakeBus
from support.manual_clock import ManualClock, settle

WITHIN_S = 2.0


class Mesh:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = FakeBus()
        self.failures: list[BaseException] = []
        self.tasks = Tasks(on_failure=lambda _, failure: self.failures.append(failure))
        self.reads = Reads(
            self.bus,
            within_s=WITHIN_S,
            clock=self.clock,
            tasks=self.tasks,
            metrics=Metrics(CollectorRegistry()),
        )
        self.answers: list[Page | None] = []

    def ask(self, channel: str = "room:a") -> None:
        self.reads.ask(Read(0, channel, limit=5), self.answers.append)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    made = Mesh()
    yield made
    await made.tasks.stop(1.0)
    assert made.failures == []


async def test_a_page_answers_its_question_once(mesh: Mesh) -> None:
    """Matched by number; a second page, or a stranger's, is nothing."""
    mesh.ask()
    mesh.ask("room:b")
    await settle()
    page = Page(2, "room:b")

    for heard in (page, page, Page(77, "room:c")):
        mesh.reads.hear(heard)

    assert [page] == mesh.answers
    assert [read.channel for read in mesh.bus.reads] == ["room:a", "room:b"]
    assert len(mesh.reads) == 1


async def test_a_question_that_takes_too_long_is_answered_with_none(
    mesh: Mesh,
) -> None:
    """And the late page is nothing."""
    mesh.ask()
    mesh.clock.pass_time(WITHIN_S - 0.5)
    mesh.ask()
    mesh.clock.pass_time(0.5)
    await settle()

    mesh.reads.give_up_overdue()

    assert mesh.answers == [None]
    mesh.reads.hear(Page(1, "room:a"))
    assert mesh.answers == [None]


async def test_a_lost_link_answers_everything_with_none(mesh: Mesh) -> None:
    """Also what has not been sent yet, and that is never sent."""
    mesh.ask()
    mesh.ask()

    mesh.reads.link_down()
    await settle()

    assert mesh.answers == [None, None]
    assert mesh.bus.reads == []


async def test_a_question_that_cannot_be_sent_waits_for_its_deadline(
    mesh: Mesh,
) -> None:
    """The asker decides whether to ask again."""
    mesh.bus.failing = PublishFailed("slow")
    mesh.ask()
    await settle()
    assert mesh.answers == []

    mesh.clock.pass_time(WITHIN_S)
    mesh.reads.give_up_overdue()

    assert mesh.answers == [None]


async def test_many_questions_are_few_messages(mesh: Mesh) -> None:
    """All of them arrive, in order."""
    for number in range(2 * READS_PER_BATCH_MAX + 1):
        mesh.ask(f"room:{number}")
    await settle()

    asked = [read.channel for read in mesh.bus.reads]
    assert [f"room:{n}" for n in range(2 * READS_PER_BATCH_MAX + 1)] == asked
