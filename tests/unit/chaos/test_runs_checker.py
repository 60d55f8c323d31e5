"""The checker of runs: silent where all is well, and each planted fault is found."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.runs import LATE, Answered, Kind, RunBook, check
from support.run_screens import Screen
from support.stories import Story, story_in

ROOM = "room:a"
RUN = "r1"
STORY = Story("k1", chars=60)
INFO = {"user": "agent:teller"}


def event(kind: str, seq: int, off: int = 0, **more: object) -> dict[str, Any]:
    data = {
        "room": ROOM,
        "run": RUN,
        "agent": "teller",
        "attempt": 1,
        "epoch": 1,
        "step": 1,
        "seq": seq,
        "off": off,
        "type": kind,
        "data": {},
        **more,
    }
    return {"data": data, "info": INFO}


def delta(text: str, off: int, **more: object) -> dict[str, Any]:
    return event(
        "TEXT_MESSAGE_CONTENT", 2, off, data={"messageId": "m", "delta": text}, **more
    )


def durable(text: str = STORY.text, run: str = RUN) -> dict[str, Any]:
    data = {
        "type": "message",
        "id": f"run:{run}",
        "text": text,
        "agent": {"name": "teller"},
        "run": {"id": run, "trigger": "m1", "outcome": "completed"},
    }
    return {"offset": 2, "data": data, "info": INFO}


def good_screen() -> Screen:
    screen = Screen()
    for publication in (
        event("RUN_STARTED", 1),
        delta(STORY.text[:20], 0),
        delta(STORY.text[20:], 20),
        event("RUN_FINISHED", 4),
        durable(),
    ):
        screen.hear(publication)
    return screen


def good_book() -> RunBook:
    return RunBook(
        told={(ROOM, "m1"): STORY.text},
        log=[Answered(ROOM, f"run:{RUN}", "m1", "completed", STORY.text)],
        screens={"ada": (ROOM, good_screen())},
        must_complete=frozenset({"m1"}),
    )


def test_a_good_end_breaks_no_promise() -> None:
    """All is there, once, and right."""
    assert check(good_book()) == []


def no_answer(book: RunBook) -> None:
    book.log.clear()


def a_second_answer(book: RunBook) -> None:
    book.log.append(Answered(ROOM, "run:r2", "m1", "completed", STORY.text))


def an_answer_to_nothing(book: RunBook) -> None:
    book.log.append(Answered(ROOM, "run:r2", "m2", "completed", "x"))


def a_lost_character(book: RunBook) -> None:
    text = STORY.text[:30] + STORY.text[31:]
    book.log[:] = [Answered(ROOM, f"run:{RUN}", "m1", "completed", text)]


def an_end_nobody_asked_for(book: RunBook) -> None:
    book.log[:] = [Answered(ROOM, f"run:{RUN}", "m1", "interrupted", STORY.text)]


def a_doubled_delta(book: RunBook) -> None:
    screen = Screen()
    screen.hear(delta(STORY.text[:20], 0))
    screen.hear(delta(STORY.text[:20], 20))
    screen.hear(durable())
    book.screens["ada"] = (ROOM, screen)


def a_screen_without_the_answer(book: RunBook) -> None:
    screen = Screen()
    screen.hear(delta(STORY.text[:20], 0))
    book.screens["ada"] = (ROOM, screen)


def a_screen_with_another_answer(book: RunBook) -> None:
    book.screens["ada"][1].hear(durable("another"))


def an_answer_that_is_given_twice(book: RunBook) -> None:
    book.screens["ada"][1].hear(durable())


def a_screen_that_skipped_an_answer(book: RunBook) -> None:
    screen = Screen()
    screen.hear({"offset": 3, "data": {"text": "later"}, "info": {"user": "eve"}})
    book.log[:] = [book.log[0]._replace(offset=2)]
    book.screens["ada"] = (ROOM, screen)


def a_run_that_failed(book: RunBook) -> None:
    book.log[:] = [Answered(ROOM, f"run:{RUN}", "m1", "failed", STORY.text)]


def an_open_run(book: RunBook) -> None:
    book.open_runs = [RUN]


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (no_answer, Kind.UNANSWERED),
        (a_second_answer, Kind.ANSWERED_TWICE),
        (an_answer_to_nothing, Kind.UNASKED),
        (a_lost_character, Kind.OTHER_TEXT),
        (an_end_nobody_asked_for, Kind.OTHER_TEXT),
        (a_doubled_delta, Kind.GARBLED),
        (a_screen_without_the_answer, Kind.STILL_SHOWN),
        (a_screen_without_the_answer, Kind.BEHIND),
        (an_answer_that_is_given_twice, Kind.SHOWN_TWICE),
        (a_screen_that_skipped_an_answer, Kind.SKIPPED),
        (a_run_that_failed, Kind.CUT_SHORT),
        (a_screen_with_another_answer, Kind.STALE),
        (an_open_run, Kind.OPEN),
    ],
)
def test_a_planted_fault_is_found(plant: Callable[[RunBook], None], kind: Kind) -> None:
    """Each by its name."""
    book = good_book()

    plant(book)

    assert kind in {violation.kind for violation in check(book)}


@pytest.mark.parametrize(
    "plant", [no_answer, a_screen_without_the_answer, a_run_that_failed, an_open_run]
)
def test_what_has_not_come_yet_is_late(plant: Callable[[RunBook], None]) -> None:
    """As long as nothing else is wrong: it may have been the machine."""
    book = good_book()
    book.asked = {RUN: "m1"}
    if plant is no_answer:
        book.screens["ada"] = (ROOM, Screen())

    plant(book)

    assert {violation.kind for violation in check(book)} <= LATE


@pytest.mark.parametrize(
    "plant",
    [
        a_second_answer,
        an_answer_to_nothing,
        a_lost_character,
        an_end_nobody_asked_for,
        a_doubled_delta,
        a_screen_with_another_answer,
        an_answer_that_is_given_twice,
        a_screen_that_skipped_an_answer,
    ],
)
def test_what_is_wrong_is_not_late(plant: Callable[[RunBook], None]) -> None:
    """No machine doubles an answer."""
    book = good_book()

    plant(book)

    assert {violation.kind for violation in check(book)} - LATE


def test_a_run_that_goes_on_was_asked_for() -> None:
    """Its screen shows what has no answer yet, and nobody made it up."""
    book = good_book()
    book.asked = {RUN: "m1"}
    screen = Screen()
    screen.hear(delta(STORY.text[:20], 0))
    book.screens["ada"] = (ROOM, screen)
    book.log.clear()

    kinds = {violation.kind for violation in check(book)}

    assert kinds == {Kind.UNANSWERED, Kind.STILL_SHOWN}


def test_an_answer_that_was_stopped_may_be_short() -> None:
    """As long as nobody promised that it would be whole."""
    book = good_book()
    book.must_complete = frozenset()
    text = STORY.text[:20]
    book.log[:] = [Answered(ROOM, f"run:{RUN}", "m1", "cancelled", text)]
    screen = Screen()
    screen.hear(delta(text, 0))
    screen.hear(durable(text))
    book.screens["ada"] = (ROOM, screen)

    assert check(book) == []


# -- The screen itself ----------------------------------------------------------------


def pieces(text: str, attempt: int = 1, epoch: int = 1) -> list[dict[str, Any]]:
    return [
        delta(text[at : at + 5], at, attempt=attempt, epoch=epoch)
        for at in range(0, len(text), 5)
    ]


@given(chance=st.randoms(use_true_random=False), taken_over=st.booleans())
def test_lost_doubled_and_late_deltas_never_garble_a_screen(
    *, chance: random.Random, taken_over: bool
) -> None:
    """What is shown is a beginning of the text, and a snapshot makes it whole."""
    events = pieces(STORY.text)
    if taken_over:
        events = events[:7] + pieces(STORY.text, attempt=2, epoch=2)
    heard = [copy.deepcopy(one) for one in events if chance.random() > 0.3]
    heard += [copy.deepcopy(one) for one in events if chance.random() > 0.7]
    for _ in range(len(heard) // 4):
        at = chance.randrange(len(heard))
        heard.insert(chance.randrange(len(heard)), heard.pop(at))
    screen = Screen()

    for publication in heard:
        screen.hear(publication)

    for run in screen.runs.values():
        assert all(STORY.text.startswith(one.text) for one in run.moments)
    last = 2 if taken_over else 1
    screen.catch_up(
        {
            "runs": [
                {
                    "run": RUN,
                    "agent": "teller",
                    "attempt": last,
                    "epoch": last,
                    "status": "streaming",
                    "steps": [{"step": 1, "text": STORY.text, "tools": []}],
                }
            ]
        }
    )
    assert screen.live(RUN) == STORY.text
    assert not screen.behind


def test_an_attempt_that_began_anew_replaces_the_text() -> None:
    """And nothing of who was replaced is shown any more."""
    screen = Screen()
    for publication in (
        delta("first try", 0),
        delta("second", 0, attempt=2, epoch=2),
        delta(" try goes on", 9),
        delta(" try", 6, attempt=2, epoch=2),
    ):
        screen.hear(publication)

    assert screen.live(RUN) == "second try"


def test_people_are_no_agents() -> None:
    """Whatever they publish."""
    screen = Screen()
    screen.hear({**durable(), "info": {"user": "eve"}})
    screen.hear({**delta("x", 0), "info": {"user": "eve"}})

    assert not screen.runs
    assert not screen.answers


def test_a_story_is_known_from_its_question() -> None:
    """The newest one, if there are several; of its exact length."""
    story = Story("k9", chars=123, pause_ms=5, piece=9)

    assert story_in(f"#old chars=7\nada: @teller {story.question}") == story
    assert len(story.text) == 123
    assert story_in("hello") is None
