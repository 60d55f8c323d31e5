"""How long a fault was felt, from what members were given and when."""

import math

from chaos.chronicle import Attempt, Chronicle, How, Life, Message, Seen
from chaos.recovery import RECOVERY_S_MAX, limit_of, recovery_of

ROOMS = ["room:a", "room:b"]


def given(
    chronicle: Chronicle, client: str, room: str, *times: tuple[float, float]
) -> None:
    """A member was given messages, each sent and seen at these times."""
    member = chronicle.join(client, room)
    life = Life("g1", "e", 0)
    member.lives.append(life)
    for number, (sent_s, seen_s) in enumerate(times, start=1):
        message_id = f"{room} {sent_s}"
        message = Message(room, message_id, "ada", "text")
        message.attempts.append(Attempt("g1", sent_s))
        chronicle.message(message)
        life.seen.append(Seen(number, message_id, "ada", "text", seen_s, How.LIVE))


def test_the_slowest_room_counts() -> None:
    """Every room has to go on; the last one says when things are well again."""
    chronicle = Chronicle()
    given(chronicle, "bob", "room:a", (1.0, 1.1), (5.5, 6.0))
    given(chronicle, "bob", "room:b", (1.0, 1.1), (6.0, 9.0))

    assert recovery_of(chronicle, ROOMS, 5.0).rooms_s == 4.0


def test_what_was_sent_before_the_fault_is_no_sign_of_life() -> None:
    """A message that was under way already says nothing about what comes after."""
    chronicle = Chronicle()
    given(chronicle, "bob", "room:a", (4.9, 5.1), (5.2, 7.0))

    assert recovery_of(chronicle, ["room:a"], 5.0).rooms_s == 2.0


def test_members_are_told_apart_from_rooms() -> None:
    """A room goes on when somebody hears it; a member when it hears itself."""
    chronicle = Chronicle()
    given(chronicle, "bob", "room:a", (5.5, 6.0))
    given(chronicle, "eve", "room:a", (5.5, 8.0))

    recovery = recovery_of(chronicle, ["room:a"], 5.0)

    assert (recovery.rooms_s, recovery.members_s) == (1.0, 3.0)


def test_a_room_that_stays_silent_never_recovers() -> None:
    """Silence is told as such, not as zero."""
    chronicle = Chronicle()
    given(chronicle, "bob", "room:a", (1.0, 1.1))

    assert math.isinf(recovery_of(chronicle, ROOMS, 5.0).rooms_s)


def test_a_single_fault_has_the_limit_of_a_single_fault() -> None:
    """What struck before it, or long after it, makes no difference."""
    assert limit_of(100.0, []) == RECOVERY_S_MAX
    assert limit_of(100.0, [(100.0, 100.0)]) == RECOVERY_S_MAX
    assert limit_of(100.0, [(98.0, 98.0), (110.5, 110.5)]) == RECOVERY_S_MAX


def test_where_faults_overlap_the_time_counts_from_the_last() -> None:
    """Each is struck before the one before it had to be over."""
    assert limit_of(100.0, [(104.0, 104.0)]) == 14.0
    assert limit_of(100.0, [(112.0, 112.0), (104.0, 104.0)]) == 22.0
    assert limit_of(100.0, [(104.0, 104.0), (115.0, 115.0)]) == 14.0


def test_where_nobody_is_left_the_time_counts_from_the_first_that_is_back() -> None:
    """Nobody can take over from the last one; those before it wait as well."""
    assert limit_of(100.0, [(101.0, 115.0)]) == 25.0
