"""Commands to history: gathered, numbered, and each answered exactly once."""

from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway import commits as commits_module
from chatmesh.gateway.commits import Commits, Result
from chatmesh.gateway.metrics import Metrics
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.messages import Outcome, PublishCommand
from chatmesh.wire.topics import partition_of
from support.fake_bus import FakeBus, entry
from support.manual_clock import ManualClock, settle

WITHIN_S = 4.0
COMMITTED = Result(7, 1234)


class Mesh:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = FakeBus()
        self.failures: list[BaseException] = []
        self.tasks = Tasks(on_failure=lambda _, failure: self.failures.append(failure))
        self.commits = Commits(
            self.bus,
            origin="me",
            within_s=WITHIN_S,
            clock=self.clock,
            tasks=self.tasks,
            metrics=Metrics(CollectorRegistry()),
        )
        self.answers: list[Result] = []

    def commit(
        self,
        number: int = 1,
        *,
        channel: str = "room:a",
        hears: bool = True,
        data: bytes = b"1",
        answer: Callable[[Result], None] | None = None,
    ) -> None:
        command = PublishCommand(channel, f"m{number}", data)
        self.commits.commit(command, answer or self.answers.append, hears=hears)


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    made = Mesh()
    yield made
    await made.tasks.stop(1.0)
    assert made.failures == []


async def test_a_command_goes_to_its_channels_partition_with_the_way_back(
    mesh: Mesh,
) -> None:
    """Numbered, with origin and reply queue, and whether the event is the reply."""
    mesh.commit(1)
    mesh.commit(2, hears=False)
    await settle()

    first, second = mesh.bus.commands
    assert [(partition_of("room:a"), "me", "queue")] == [
        (partition, batch.origin, batch.reply_to)
        for partition, batch in mesh.bus.batches
    ]
    assert [(one.request, one.hears) for one in (first, second)] == [
        (1, True),
        (2, False),
    ]
    assert mesh.answers == []


async def test_the_event_is_the_answer(mesh: Mesh) -> None:
    """And a repeat of it answers nobody twice."""
    mesh.commit()
    await settle()
    heard = entry(7, at_ms=1234, origin="me", request=1)

    mesh.commits.heard_entry(heard)
    mesh.commits.heard_entry(heard)

    assert mesh.answers == [COMMITTED]
    assert len(mesh.commits) == 0


async def test_an_outcome_is_the_answer(mesh: Mesh) -> None:
    """Committed now or before, once."""
    mesh.commit(hears=False)
    await settle()
    outcome = Outcome(1, "room:a", "m1", 7, "e1", 1234)

    mesh.commits.heard_outcome(outcome)
    mesh.commits.heard_outcome(outcome)

    assert mesh.answers == [Result(7, 1234, epoch="e1")]


async def test_a_refusal_is_passed_on_as_it_is(mesh: Mesh) -> None:
    """Code, message and whether to try again."""
    mesh.commit()
    await settle()
    refused = Outcome(
        1,
        "room:a",
        "m1",
        error_code=409,
        error_message="taken",
        error_temporary=True,
    )

    mesh.commits.heard_outcome(refused)

    assert [
        Result(error=errors.ErrorReply(409, "taken", temporary=True))
    ] == mesh.answers


async def test_no_answer_in_time_is_unknown_and_a_late_one_is_nothing(
    mesh: Mesh,
) -> None:
    """504 is temporary: the same id sent again settles it."""
    mesh.commit(1)
    mesh.clock.pass_time(WITHIN_S - 1)
    mesh.commit(2)
    mesh.commits.give_up_overdue()
    assert mesh.answers == []

    mesh.clock.pass_time(1)
    mesh.commits.give_up_overdue()

    assert [Result(error=errors.OUTCOME_UNKNOWN)] == mesh.answers
    await settle()
    mesh.commits.heard_outcome(Outcome(1, "room:a", "m1", 7))
    assert len(mesh.answers) == 1


async def test_without_a_broker_nothing_is_taken(mesh: Mesh) -> None:
    """Surely not sent, so simply temporary."""
    mesh.bus.up = False

    mesh.commit()
    await settle()

    assert [Result(error=errors.INTERNAL)] == mesh.answers


async def test_an_unroutable_batch_is_surely_not_taken(mesh: Mesh) -> None:
    """History's queue is not there; every sender in the batch hears so at once."""
    mesh.bus.failing = PublishFailed("no queue", unroutable=True)
    mesh.commit(1)
    mesh.commit(2)
    await settle()

    assert 2 * [Result(error=errors.INTERNAL)] == mesh.answers


async def test_a_batch_of_unknown_fate_can_still_be_answered(mesh: Mesh) -> None:
    """The broker may have taken it before the link broke."""
    mesh.bus.failing = PublishFailed("link lost")
    mesh.commit()
    await settle()
    assert mesh.answers == []

    mesh.commits.heard_entry(entry(7, at_ms=1234, origin="me", request=1))

    assert mesh.answers == [COMMITTED]


async def test_an_entry_in_a_filled_hole_answers_who_waits_for_it(mesh: Mesh) -> None:
    """Same channel, id, body and author; another body with the id is not theirs."""
    mesh.commit(1)
    mesh.commit(2)
    mesh.commit(3, channel="room:b")
    await settle()

    mesh.commits.heard_page("room:b", [])
    mesh.commits.heard_page(
        "room:a",
        [
            entry(6, id="m9", data=b"1"),
            entry(7, id="m1", data=b"1", at_ms=1234),
            entry(8, id="m2", data=b"other"),
            entry(9, id="m3", data=b"1"),
        ],
    )

    assert mesh.answers == [COMMITTED]
    assert len(mesh.commits) == 2


async def test_what_comes_while_a_batch_is_on_its_way_is_the_next_batch(
    mesh: Mesh,
) -> None:
    """One alone never waits; many become few messages."""
    for number in range(1, 1201):
        mesh.commit(number)
    await settle()

    sizes = [len(batch.commands) for _, batch in mesh.bus.batches]
    assert sizes == [512, 512, 176]
    assert [f"m{n}" for n in range(1, 1201)] == [one.id for one in mesh.bus.commands]


async def test_batches_are_bounded_by_bytes_too(mesh: Mesh) -> None:
    """One broker message stays near a mebibyte."""
    for number in range(40):
        mesh.commit(number, data=b"x" * limits.PUBLICATION_BYTES_MAX)
    await settle()

    for _, batch in mesh.bus.batches:
        size = sum(len(command.data) for command in batch.commands)
        assert size <= limits.BATCH_BYTES_MAX
    assert len(mesh.bus.commands) == 40


async def test_partitions_do_not_wait_for_each_other(mesh: Mesh) -> None:
    """Channels of different partitions travel apart."""
    channels = {partition_of(f"room:{n}"): f"room:{n}" for n in range(200)}
    for channel in channels.values():
        mesh.commit(channel=channel)
    await settle()

    assert sorted(channels) == sorted(partition for partition, _ in mesh.bus.batches)


async def test_too_many_waiting_are_told_to_slow_down(mesh: Mesh) -> None:
    """The memory of a gateway without answers is bounded."""
    for number in range(commits_module.WAITING_PER_PARTITION_MAX + 5):
        mesh.commit(number)
    waiting_to_go = len(mesh.commits)
    await settle()

    assert waiting_to_go == commits_module.WAITING_PER_PARTITION_MAX
    assert 5 * [Result(error=errors.TOO_MANY_REQUESTS)] == mesh.answers


async def test_too_many_bytes_waiting_are_told_to_slow_down(mesh: Mesh) -> None:
    """Large messages behind a slow broker have a bound of their own."""
    most = commits_module.WAITING_BYTES_PER_PARTITION_MAX
    size = limits.PUBLICATION_BYTES_MAX
    for number in range(most // size + 3):
        mesh.commit(number, data=b"x" * size)
    await settle()

    assert mesh.answers == 3 * [Result(error=errors.TOO_MANY_REQUESTS)]


async def test_an_answer_may_ask_again(mesh: Mesh) -> None:
    """A client that sends its next message in the callback of the last one."""
    mesh.commit(1, answer=lambda _: mesh.commit(2))
    await settle()

    mesh.commits.heard_entry(entry(7, origin="me", request=1))
    await settle()

    assert [one.id for one in mesh.bus.commands] == ["m1", "m2"]
    mesh.clock.pass_time(WITHIN_S)
    mesh.commits.give_up_overdue()
    assert [Result(error=errors.OUTCOME_UNKNOWN)] == mesh.answers
