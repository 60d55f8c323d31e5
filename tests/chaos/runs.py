"""Decides whether the promises about agents' runs were kept.

Like the checker of messages it believes nobody: what the model was scripted to say is
compared with the log, with every state that every screen has shown, and with the table of
runs. A screen is judged by its own rules, not by those of a client of ours.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from chatmesh.wire.runs import RUN_ID_PREFIX, RunOutcome
from support.run_screens import Screen

PER_KIND_MAX = 20


class Kind(enum.Enum):
    """The ways in which a promise about a run can be broken."""

    UNANSWERED = "trigger without an answer"
    ANSWERED_TWICE = "trigger answered more than once"
    UNASKED = "answer without a trigger"
    OTHER_TEXT = "not what the model produced"
    """The durable text of a completed run, or the part that an ended one has kept."""
    CUT_SHORT = "a run has failed"
    GARBLED = "characters doubled or lost on a screen"
    STALE = "a screen has another answer than the log"
    SHOWN_TWICE = "a screen was given an answer more than once"
    SKIPPED = "a screen was given what follows an answer, and not the answer"
    BEHIND = "a screen is not yet where the log is"
    OPEN = "a run is open at the end"
    STILL_SHOWN = "a screen shows a run that has ended"


LATE: Final = frozenset(
    {Kind.UNANSWERED, Kind.CUT_SHORT, Kind.BEHIND, Kind.OPEN, Kind.STILL_SHOWN}
)
"""What may be found when the wait for it is over and the machine was slow: who is stuck
is found stuck again. A model, too, may have been waited for until patience was over."""


class Violation(NamedTuple):
    kind: Kind
    room: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.value} in {self.room}: {self.detail}"


class Answered(NamedTuple):
    """A durable message of an agent, as the log has it."""

    room: str
    id: str
    trigger: str
    outcome: str
    text: str
    offset: int = 0


@dataclass
class RunBook:
    """What was asked, what the model says to it, and what came of it."""

    told: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """What the model produces, by room and trigger: of triggers that were committed."""
    log: list[Answered] = field(default_factory=list[Answered])
    screens: dict[str, tuple[str, Screen]] = field(
        default_factory=dict[str, tuple[str, Screen]]
    )
    """By the viewer's name: the room, and what was shown in it."""
    open_runs: Sequence[str] = ()
    """Runs that the table of runs has as not ended, when all is over."""
    must_complete: frozenset[str] = frozenset()
    """Triggers whose answer has to be whole: nothing was done to their run that ends it."""
    asked: dict[str, str] = field(default_factory=dict[str, str])
    """Triggers by the run that there is to be, whether it has answered or not."""


def check(book: RunBook) -> list[Violation]:
    """Every broken promise; an empty list means that all of them were kept."""
    found: dict[Kind, list[Violation]] = {}
    for violation in _all(book):
        found.setdefault(violation.kind, []).append(violation)
    return [one for some in found.values() for one in some[:PER_KIND_MAX]]


def _all(book: RunBook) -> Iterator[Violation]:
    by_trigger: dict[tuple[str, str], list[Answered]] = {}
    for answer in book.log:
        by_trigger.setdefault((answer.room, answer.trigger), []).append(answer)
    yield from _answers(book, by_trigger)
    for name, (room, screen) in book.screens.items():
        yield from _screen(book, name, room, screen)
    for run in book.open_runs:
        yield Violation(Kind.OPEN, "", run)


def _answers(
    book: RunBook, by_trigger: Mapping[tuple[str, str], Sequence[Answered]]
) -> Iterator[Violation]:
    for (room, trigger), told in book.told.items():
        answers = by_trigger.get((room, trigger), ())
        if not answers:
            yield Violation(Kind.UNANSWERED, room, trigger)
        if len(answers) > 1:
            ids = ", ".join(answer.id for answer in answers)
            yield Violation(Kind.ANSWERED_TWICE, room, f"{trigger}: {ids}")
        for answer in answers:
            whole = answer.outcome == "completed"
            if trigger in book.must_complete and not whole:
                detail = f"{trigger} is {answer.outcome}, and nobody stopped it"
                # It fails where its model was silent for too long, or seemed so.
                failed = answer.outcome == RunOutcome.FAILED
                kind = Kind.CUT_SHORT if failed else Kind.OTHER_TEXT
                yield Violation(kind, room, detail)
            if whole and answer.text != told:
                yield Violation(Kind.OTHER_TEXT, room, _difference(answer.text, told))
    for room, trigger in by_trigger:
        if (room, trigger) not in book.told:
            yield Violation(Kind.UNASKED, room, trigger)


def _screen(book: RunBook, name: str, room: str, screen: Screen) -> Iterator[Violation]:
    told = {trigger: text for (of, trigger), text in book.told.items() if of == room}
    answers = [answer for answer in book.log if answer.room == room]
    triggers = book.asked | {_run_of(answer): answer.trigger for answer in answers}
    for run, shown in screen.runs.items():
        whole = told.get(triggers.get(run, ""))
        if whole is None:
            detail = f"{name} was shown {run}, which nobody has asked for"
            yield Violation(Kind.UNASKED, room, detail)
            continue
        for moment in shown.moments:
            # One step a run: what is shown at any time begins like what was produced.
            if not whole.startswith(moment.text):
                detail = f"{name}, attempt {moment.attempt}: "
                yield Violation(
                    Kind.GARBLED, room, detail + _difference(moment.text, whole)
                )
                break
        if run not in screen.answers:
            yield Violation(Kind.STILL_SHOWN, room, f"{name}: {run}")
    in_log = {_run_of(answer): answer for answer in answers}
    for run, durable in screen.answers.items():
        answer = in_log.get(run)
        if answer is None or any(one["text"] != answer.text for one in durable):
            yield Violation(Kind.STALE, room, f"{name} was given another {run}")
        if len(durable) > 1:
            detail = f"{name} was given {run} {len(durable)} times"
            yield Violation(Kind.SHOWN_TWICE, room, detail)
    given = max(screen.offsets, default=0)
    for run in sorted(in_log.keys() - screen.answers.keys()):
        kind = Kind.SKIPPED if in_log[run].offset < given else Kind.BEHIND
        yield Violation(kind, room, f"{name} was never given {run}")


def _run_of(answer: Answered) -> str:
    return answer.id.removeprefix(RUN_ID_PREFIX)


def _difference(got: str, wanted: str) -> str:
    at = next(
        (n for n, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b),
        min(len(got), len(wanted)),
    )
    return (
        f"at character {at}: {got[at - 10 : at + 20]!r} instead of"
        f" {wanted[at - 10 : at + 20]!r} ({len(got)} characters, not {len(wanted)})"
    )
