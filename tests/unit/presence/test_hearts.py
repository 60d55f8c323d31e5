"""Who lives, by the heartbeats one replica hears."""

import pytest

from chatmesh.presence.hearts import FORGET_LEASES, RESYNC_EVERY_MS, Hearts
from chatmesh.wire import limits
from chatmesh.wire.presence import PresenceLease

LEASE_MS = 10_000
BEAT_MS = 3_000


class Listener:
    """Hearts, a clock, and what has been heard of reports."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.hearts = Hearts(LEASE_MS, self.now_ms)
        self.known = 0
        self.held = [3]

    def beat(self, sent: int = 0, *, ended: bool = False) -> list[int]:
        sequences = [0] * limits.PARTITIONS
        sequences[3] = sent
        lease = PresenceLease("g1", "queue", sequences, ended)
        return self.hearts.hear(
            lease, self.now_ms, self.held, lambda _o, _p: self.known
        )

    def later(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    @property
    def gone(self) -> bool:
        return self.hearts.is_gone("g1", self.now_ms)


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_a_process_lives_as_long_as_its_lease(listener: Listener) -> None:
    """And not a moment longer."""
    listener.later(60_000)
    listener.beat()
    listener.later(LEASE_MS - 1)
    assert not listener.gone

    listener.later(1)
    assert listener.gone


def test_nobody_is_gone_before_they_could_be_heard(listener: Listener) -> None:
    """Who has just begun to listen knows nothing of anybody's death."""
    assert not listener.gone
    listener.later(LEASE_MS)
    assert listener.gone


def test_after_a_pause_everybody_gets_a_whole_lease(listener: Listener) -> None:
    """What was not heard while nobody listened says nothing."""
    listener.beat()
    listener.later(60_000)
    listener.hearts.listens_again(listener.now_ms)
    assert not listener.gone

    listener.later(LEASE_MS)
    assert listener.gone


def test_a_report_is_a_sign_of_life(listener: Listener) -> None:
    """A gateway that reports lives, heartbeat or not."""
    listener.later(60_000)
    listener.hearts.touch("g1", "queue", listener.now_ms)
    listener.later(LEASE_MS - 1)

    assert not listener.gone
    assert listener.hearts.reply_to("g1") == "queue"


def test_who_says_goodbye_is_gone_at_once(listener: Listener) -> None:
    """Even if a report of theirs is still on its way."""
    listener.beat()
    listener.beat(ended=True)
    listener.hearts.touch("g1", "queue", listener.now_ms)

    assert listener.gone


def test_missing_reports_are_noticed(listener: Listener) -> None:
    """What a heartbeat named and nobody heard by the next one is missing."""
    assert listener.beat(5) == []
    listener.later(BEAT_MS)

    assert listener.beat(5) == [3]


def test_reports_on_their_way_are_not_missing(listener: Listener) -> None:
    """A heartbeat may overtake the reports it speaks of."""
    listener.beat(5)
    listener.later(BEAT_MS)
    listener.known = 5

    assert listener.beat(7) == []


def test_a_backlog_that_is_being_worked_off_is_not_missing(listener: Listener) -> None:
    """Asking for snapshots then would only make it longer."""
    for number in range(1, 10):
        listener.known = number
        assert listener.beat(number + 50) == []
        listener.later(BEAT_MS)


def test_a_snapshot_gets_its_time(listener: Listener) -> None:
    """Who was asked is not asked again at every heartbeat."""
    asked = 0
    for _ in range(20):
        asked += len(listener.beat(5))
        listener.later(BEAT_MS)

    assert asked == 20 * BEAT_MS // RESYNC_EVERY_MS


def test_only_held_partitions_are_missed(listener: Listener) -> None:
    """The others are somebody else's."""
    listener.held = [4]
    listener.beat(5)
    listener.later(BEAT_MS)

    assert listener.beat(5) == []


def test_who_is_not_heard_of_for_long_is_forgotten(listener: Listener) -> None:
    """Gateways come and go; their names do not pile up."""
    listener.beat()
    listener.later(LEASE_MS * 2)
    listener.hearts.forget(listener.now_ms)
    assert len(listener.hearts) == 1

    listener.later(LEASE_MS * (FORGET_LEASES + 2))
    listener.hearts.forget(listener.now_ms)
    assert len(listener.hearts) == 0
    assert listener.gone
