"""A checker that cannot fail is worth nothing: every violation planted, every one found."""

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.checker import PER_KIND_MAX, Kind, check
from chaos.chronicle import (
    Attempt,
    Chronicle,
    Goodbye,
    How,
    Life,
    Log,
    LogEntry,
    Message,
    Outcome,
    Seen,
)

ROOM = "room:a"
EPOCH = "first"


def sent(chronicle: Chronicle, offset: int, *, at_s: float | None = None) -> Message:
    """A message that was answered with an offset, a tenth of a second after sending."""
    at_s = float(offset) if at_s is None else at_s
    message = Message(ROOM, f"m{offset}", "ada", f"text {offset}")
    message.attempts.append(
        Attempt("g1", at_s, Outcome.COMMITTED, at_s + 0.1, offset=offset)
    )
    return chronicle.message(message)


def entry(offset: int) -> LogEntry:
    return LogEntry(offset, f"m{offset}", "ada", f"text {offset}")


def seen(offset: int, how: How = How.LIVE) -> Seen:
    return Seen(offset, f"m{offset}", "ada", f"text {offset}", offset + 0.2, how)


def sound(entries: int = 6) -> Chronicle:
    """Two members, one of whom was away between 2 and 4; nothing is wrong."""
    chronicle = Chronicle()
    for offset in range(1, entries + 1):
        sent(chronicle, offset)
    chronicle.logs[ROOM] = Log(
        ROOM, EPOCH, [entry(offset) for offset in range(1, entries + 1)]
    )
    stayed = chronicle.join("bob", ROOM)
    stayed.lives.append(
        Life("g1", EPOCH, 0, seen=[seen(o) for o in range(1, entries + 1)])
    )
    returned = chronicle.join("eve", ROOM)
    returned.lives.append(Life("g1", EPOCH, 0, seen=[seen(1), seen(2)]))
    missed = [seen(o, How.RECOVERED) for o in range(3, entries + 1)]
    returned.lives.append(
        Life("g2", EPOCH, 2, recovering=True, recovered=True, seen=missed)
    )
    return chronicle


def kinds(chronicle: Chronicle) -> set[Kind]:
    return {violation.kind for violation in check(chronicle)}


def bobs(chronicle: Chronicle) -> list[Seen]:
    """What the member who was always there was given."""
    return chronicle.members[0].lives[0].seen


def test_a_sound_chronicle_has_no_violations() -> None:
    """Whoever stayed and whoever came back have the same list, and the log too."""
    assert check(sound()) == []


def test_a_sound_chronicle_may_have_messages_of_unknown_fate() -> None:
    """A message that was never answered may be in the log, or not."""
    chronicle = sound()
    for offset in (3, 7):
        message = Message(ROOM, f"m{offset}", "ada", f"text {offset}")
        message.attempts.append(Attempt("g1", float(offset)))
        chronicle.message(message)

    assert check(chronicle) == []


def test_whoever_joins_later_is_owed_what_comes_then() -> None:
    """A first subscription begins at the top; what was before it is not lost."""
    chronicle = sound()
    late = chronicle.join("kim", ROOM)
    late.lives.append(Life("g1", EPOCH, 4, seen=[seen(5), seen(6)]))

    assert check(chronicle) == []


def test_whoever_has_left_is_owed_nothing_more() -> None:
    """The end of a list is compared only for members that stay."""
    chronicle = sound()
    bobs(chronicle).pop()
    chronicle.members[0].stays = False

    assert check(chronicle) == []


def test_retention_is_no_loss_of_offsets() -> None:
    """A log may begin behind its floor, dense from there, and answers before it stand."""
    chronicle = sound()
    log = chronicle.logs[ROOM]
    chronicle.logs[ROOM] = dataclasses.replace(log, entries=log.entries[2:], floor=2)
    for member in chronicle.members:
        member.lives = [Life("g1", EPOCH, 2, seen=[seen(o) for o in range(3, 7)])]

    assert check(chronicle) == []


def test_what_nobody_waited_for_may_come_after_all_have_left() -> None:
    """A sender that gave up may still be heard, and by then nobody was there to see it."""
    chronicle = sound()
    straggler = Message(ROOM, "m7", "ada", "text 7")
    straggler.attempts.append(Attempt("g1", 7.0))
    chronicle.message(straggler)
    chronicle.logs[ROOM].entries.append(entry(7))
    assert {violation.kind for violation in check(chronicle)} == {Kind.BEHIND}

    chronicle.due = {ROOM: 6}

    assert check(chronicle) == []


def test_whoever_came_late_to_the_end_may_still_have_lost_nothing() -> None:
    """The end of a list is a question of time; a hole in it, and what follows, is not."""
    late, holed = sound(), sound()
    bobs(late).pop()
    del bobs(holed)[4]

    assert kinds(late) == {Kind.BEHIND}
    assert kinds(holed) == {Kind.LOST}


# -- One violation each, planted ----------------------------------------------------------


def lose_one_live(chronicle: Chronicle) -> None:
    del bobs(chronicle)[3]


def lose_the_last(chronicle: Chronicle) -> None:
    bobs(chronicle).pop()


def lose_what_was_missed(chronicle: Chronicle) -> None:
    del chronicle.members[1].lives[1].seen[0]


def lose_by_going_on_too_far(chronicle: Chronicle) -> None:
    chronicle.members[1].lives[1].start = 3
    del chronicle.members[1].lives[1].seen[0]


def lose_by_beginning_anew(chronicle: Chronicle) -> None:
    life = chronicle.members[1].lives[1]
    life.recovering = life.recovered = False
    life.start = 4
    del life.seen[:2]


def double_one_live(chronicle: Chronicle) -> None:
    bobs(chronicle).insert(3, seen(3))


def double_an_old_one(chronicle: Chronicle) -> None:
    bobs(chronicle).append(seen(2))


def double_by_going_back(chronicle: Chronicle) -> None:
    life = chronicle.members[1].lives[1]
    life.start = 1
    life.seen.insert(0, seen(2, How.RECOVERED))


def double_in_the_log(chronicle: Chronicle) -> None:
    log = chronicle.logs[ROOM]
    log.entries.append(placed_again(log.entries[1], offset=7))
    for member in chronicle.members:
        member.lives[-1].seen.append(Seen(7, "m2", "ada", "text 2", 9.0, How.LIVE))


def double_under_another_id(chronicle: Chronicle) -> None:
    message = Message(ROOM, "m7", "ada", "text 2")
    message.attempts.append(Attempt("g1", 9.0, Outcome.COMMITTED, 9.1, offset=7))
    chronicle.message(message)
    log = chronicle.logs[ROOM]
    log.entries.append(LogEntry(7, "m7", "ada", "text 2"))
    for member in chronicle.members:
        member.lives[-1].seen.append(Seen(7, "m7", "ada", "text 2", 9.2, How.LIVE))


def reorder_two_live(chronicle: Chronicle) -> None:
    row = bobs(chronicle)
    row[2], row[3] = row[3], row[2]


def invent_in_a_list(chronicle: Chronicle) -> None:
    bobs(chronicle)[3] = Seen(4, "nobody sent this", "ada", "text 4", 4.2, How.LIVE)


def invent_another_text(chronicle: Chronicle) -> None:
    bobs(chronicle)[3] = seen(4)._replace(text="text 4, but better")


def invent_another_author(chronicle: Chronicle) -> None:
    bobs(chronicle)[3] = seen(4)._replace(author="mallory")


def invent_beyond_the_log(chronicle: Chronicle) -> None:
    sent(chronicle, 7).attempts[0].outcome = Outcome.UNKNOWN
    for member in chronicle.members:
        member.lives[-1].seen.append(seen(7))


def invent_in_the_log(chronicle: Chronicle) -> None:
    del chronicle.messages[ROOM, "m4"]


def change_a_text_in_the_log(chronicle: Chronicle) -> None:
    log = chronicle.logs[ROOM]
    log.entries[3] = log.entries[3]._replace(text="edited")
    for member in chronicle.members:
        for life in member.lives:
            life.seen = [
                s._replace(text="edited") if s.offset == 4 else s for s in life.seen
            ]


def forget_what_was_answered(chronicle: Chronicle) -> None:
    chronicle.logs[ROOM].entries.pop()
    for member in chronicle.members:
        member.lives[-1].seen.pop()


def move_what_was_answered(chronicle: Chronicle) -> None:
    chronicle.messages[ROOM, "m6"].attempts[0].offset = 8


def answer_twice_differently(chronicle: Chronicle) -> None:
    chronicle.messages[ROOM, "m6"].attempts.append(
        Attempt("g2", 6.5, Outcome.COMMITTED, 6.6, offset=7)
    )


def keep_what_was_refused(chronicle: Chronicle) -> None:
    chronicle.messages[ROOM, "m6"].attempts[0] = Attempt(
        "g1", 6.0, Outcome.REFUSED, 6.1, code=103
    )


def leave_a_hole_in_the_log(chronicle: Chronicle) -> None:
    log = chronicle.logs[ROOM]
    chronicle.logs[ROOM] = dataclasses.replace(log, entries=log.entries[3:])


def say_the_log_is_longer(chronicle: Chronicle) -> None:
    log = chronicle.logs[ROOM]
    chronicle.logs[ROOM] = dataclasses.replace(log, top=9)


def have_two_truths(chronicle: Chronicle) -> None:
    bobs(chronicle)[4] = seen(4)._replace(offset=5)


def begin_a_new_life(chronicle: Chronicle) -> None:
    chronicle.members[1].lives[1].epoch = "second"


def overtake(chronicle: Chronicle) -> None:
    message = chronicle.messages[ROOM, "m2"]
    message.attempts[0].sent_s = 5.5
    message.attempts[0].answered_s = 5.6


def send_away_for_good(chronicle: Chronicle) -> None:
    chronicle.goodbyes.append(Goodbye("bob", 3501, "bad request", 3.0, final=True))


def never_let_in(chronicle: Chronicle) -> None:
    chronicle.join("kim", ROOM)


def say_what_nobody_may_say(chronicle: Chronicle) -> None:
    chronicle.troubles.append("bob: unreadable frame")


def never_begin(chronicle: Chronicle) -> None:
    chronicle.join("kim", "room:b")


def lose_the_whole_log(chronicle: Chronicle) -> None:
    chronicle.logs.clear()


def placed_again(original: LogEntry, *, offset: int) -> LogEntry:
    return original._replace(offset=offset)


PLANTED: list[tuple[Callable[[Chronicle], None], Kind]] = [
    (lose_one_live, Kind.LOST),
    (lose_the_last, Kind.BEHIND),
    (lose_what_was_missed, Kind.LOST),
    (lose_by_going_on_too_far, Kind.LOST),
    (lose_by_beginning_anew, Kind.LOST),
    (double_one_live, Kind.DOUBLED),
    (double_an_old_one, Kind.DOUBLED),
    (double_by_going_back, Kind.DOUBLED),
    (double_in_the_log, Kind.DOUBLED),
    (double_under_another_id, Kind.DOUBLED),
    (reorder_two_live, Kind.REORDERED),
    (invent_in_a_list, Kind.INVENTED),
    (invent_another_text, Kind.INVENTED),
    (invent_another_author, Kind.INVENTED),
    (invent_beyond_the_log, Kind.INVENTED),
    (invent_in_the_log, Kind.INVENTED),
    (change_a_text_in_the_log, Kind.INVENTED),
    (forget_what_was_answered, Kind.MISSING),
    (move_what_was_answered, Kind.MISSING),
    (answer_twice_differently, Kind.MISSING),
    (lose_the_whole_log, Kind.MISSING),
    (keep_what_was_refused, Kind.REFUSED_BUT_THERE),
    (leave_a_hole_in_the_log, Kind.NOT_DENSE),
    (say_the_log_is_longer, Kind.NOT_DENSE),
    (have_two_truths, Kind.DISAGREE),
    (begin_a_new_life, Kind.EPOCH),
    (overtake, Kind.OVERTAKEN),
    (send_away_for_good, Kind.STRANDED),
    (never_let_in, Kind.BEHIND),
    (never_begin, Kind.BEHIND),
    (say_what_nobody_may_say, Kind.STRANDED),
]


@pytest.mark.parametrize(
    ("plant", "kind"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED]
)
def test_a_planted_violation_is_found(
    plant: Callable[[Chronicle], None], kind: Kind
) -> None:
    """Whatever goes wrong is found, and called by its name."""
    chronicle = sound()
    plant(chronicle)

    assert kind in kinds(chronicle)


def test_every_kind_of_violation_has_been_planted() -> None:
    """A kind that nobody can plant may as well not be there."""
    # Of the runs' checker, and of scenarios.
    others = {Kind.ANSWER, Kind.UNKEPT, Kind.BROKEN}
    assert {kind for _, kind in PLANTED} == set(Kind) - others


def test_of_many_violations_a_few_are_spelled_out() -> None:
    """A fault that hits everybody stays readable, and its size is told."""
    chronicle = sound(entries=200)
    bobs(chronicle)[:] = bobs(chronicle)[::2]

    lost = [v for v in check(chronicle) if v.kind is Kind.LOST]

    assert len(lost) == PER_KIND_MAX + 1
    assert "more" in str(lost[-1])


# -- Any sound history, and any single damage to it ---------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> Chronicle:
    """Members that come and go as they like, and are given what is due to them."""
    top = draw(st.integers(2, 40))
    chronicle = Chronicle()
    for offset in range(1, top + 1):
        message = sent(chronicle, offset)
        if draw(st.booleans()):
            # Not answered at first, and sent again elsewhere.
            message.attempts.insert(0, Attempt("g2", offset - 0.5))
    chronicle.logs[ROOM] = Log(ROOM, EPOCH, [entry(o) for o in range(1, top + 1)])
    for number in range(draw(st.integers(1, 4))):
        member = chronicle.join(f"client {number}", ROOM)
        position = draw(st.integers(0, top))
        cuts = draw(st.lists(st.integers(position, top), max_size=4))
        for index, until in enumerate([*sorted(cuts), top]):
            how = draw(st.sampled_from(list(How)))
            member.lives.append(
                Life(
                    "g1",
                    EPOCH,
                    position,
                    recovering=index > 0,
                    recovered=how is How.RECOVERED,
                    seen=[seen(o, how) for o in range(position + 1, until + 1)],
                )
            )
            position = until
    return chronicle


@given(histories())
@settings(max_examples=200, deadline=None)
def test_no_sound_history_is_accused(chronicle: Chronicle) -> None:
    """However clients come and go, whoever was given everything in order is believed."""
    assert check(chronicle) == []


@given(histories(), st.data())
@settings(max_examples=300, deadline=None)
def test_any_single_damage_to_a_list_is_found(
    chronicle: Chronicle, data: st.DataObject
) -> None:
    """Wherever one publication is dropped, repeated, swapped or forged, it shows."""
    lives = [life for life in chronicle.lives() if life.seen]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))
    index = data.draw(st.integers(0, len(life.seen) - 1))
    match data.draw(st.sampled_from(["drop", "repeat", "swap", "forge"])):
        case "drop":
            del life.seen[index]
        case "repeat":
            life.seen.insert(index, life.seen[index])
        case "swap":
            life.seen.append(life.seen.pop(index))
            if index == len(life.seen) - 1:
                return  # It was the last one, and still is.
        case _:
            life.seen[index] = life.seen[index]._replace(text="forged")

    assert check(chronicle) != []


@given(histories(), st.data())
@settings(max_examples=200, deadline=None)
def test_any_entry_missing_from_the_log_is_found(
    chronicle: Chronicle, data: st.DataObject
) -> None:
    """What was answered with an offset has to be there."""
    log = chronicle.logs[ROOM]
    del log.entries[data.draw(st.integers(0, len(log.entries) - 1))]

    assert Kind.MISSING in kinds(chronicle)
