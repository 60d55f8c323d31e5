"""Decides from a chronicle whether a promise was broken, and which.

In the manner of Jepsen's checkers: it believes nobody. Every member's list is compared
with the log, with the list of every other member and with what was sent; every answer
a sender got is compared with the log; the log is compared with itself.
"""

import enum
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

from chaos.chronicle import (
    Chronicle,
    Life,
    Log,
    LogEntry,
    Member,
    Message,
    Outcome,
    Seen,
)

PER_KIND_MAX = 20
"""Violations of one kind that are spelled out; one fault may cause thousands."""


class Kind(enum.Enum):
    """The ways in which a promise can be broken."""

    LOST = "lost"
    """A member was never given an entry of the log that it had to be given."""
    DOUBLED = "doubled"
    """A member was given an entry twice, or the log holds a message twice."""
    REORDERED = "reordered"
    """A member was given entries in another order than the log's."""
    INVENTED = "invented"
    """Something is in the log, or was seen, that nobody sent like this."""
    MISSING = "acknowledged but missing"
    """A sender was told an offset, and the log does not hold the message there."""
    REFUSED_BUT_THERE = "refused but there"
    """Every attempt was refused for good, and the log holds the message."""
    NOT_DENSE = "offsets not dense"
    DISAGREE = "two clients disagree"
    """Two members were given different entries under one offset."""
    EPOCH = "epoch changed"
    """A log began a new life although nobody put one back."""
    OVERTAKEN = "overtaken"
    """A message sent after another one was answered has a lower offset."""
    STRANDED = "stranded"
    """A client was sent away for good, or told something that nobody may be told."""
    BEHIND = "behind"
    """A member had not been let in, or not been given the end of the log, when the wait
    for it was over. Late or stuck: who is stuck is found stuck again."""
    ANSWER = "answer"
    """An agent's run broke a promise; see `runs`."""
    UNKEPT = "not kept"
    """Something besides that a scenario watches: a limit in seconds, or what follows it."""
    BROKEN = "broken"
    """Something besides that a scenario watches, at whatever pace."""


LATE: Final = frozenset({Kind.BEHIND, Kind.UNKEPT})
"""What a slow machine can bring about, so that it takes a second look to tell."""


class Violation(NamedTuple):
    kind: Kind
    channel: str
    detail: str

    def __str__(self) -> str:
        where = f" in {self.channel}" if self.channel else ""
        return f"{self.kind.value}{where}: {self.detail}"


def check(chronicle: Chronicle) -> list[Violation]:
    """Every broken promise; an empty list means that all of them were kept."""
    return _at_most_a_few_of_a_kind(_all(chronicle))


def _all(chronicle: Chronicle) -> Iterator[Violation]:
    for channel in chronicle.channels:
        log = chronicle.logs.get(channel)
        sent = [m for m in chronicle.messages.values() if m.channel == channel]
        members = [m for m in chronicle.members if m.channel == channel]
        if log is None:
            begun = any(m.committed for m in sent) or any(m.lives for m in members)
            kind = Kind.MISSING if begun else Kind.BEHIND
            yield Violation(kind, channel, "there is no log of this channel")
            continue
        yield from _log_by_itself(log)
        yield from _log_against_sent(log, sent, chronicle)
        yield from _answers(log, sent)
        yield from _real_time(sent, channel)
        for member in members:
            yield from _member(member, log, chronicle)
        yield from _among_each_other(members, channel)
    yield from _goodbyes(chronicle)


def _at_most_a_few_of_a_kind(found: Iterator[Violation]) -> list[Violation]:
    counts: Counter[Kind] = Counter()
    kept: list[Violation] = []
    for violation in found:
        counts[violation.kind] += 1
        if counts[violation.kind] <= PER_KIND_MAX:
            kept.append(violation)
    kept += [
        Violation(kind, "", f"and {count - PER_KIND_MAX} more")
        for kind, count in counts.items()
        if count > PER_KIND_MAX
    ]
    return kept


# -- The log ------------------------------------------------------------------------------


def _log_by_itself(log: Log) -> Iterator[Violation]:
    expected = log.floor + 1
    ids: dict[str, int] = {}
    for entry in log.entries:
        if entry.offset != expected:
            detail = f"offset {entry.offset} where {expected} is due"
            yield Violation(Kind.NOT_DENSE, log.channel, detail)
        expected = entry.offset + 1
        first = ids.setdefault(entry.id, entry.offset)
        if first != entry.offset:
            detail = f"{entry.id} at {first} and at {entry.offset}"
            yield Violation(Kind.DOUBLED, log.channel, detail)
    top = _top(log)
    if top != expected - 1:
        detail = f"the log says it ends at {top}, its entries end at {expected - 1}"
        yield Violation(Kind.NOT_DENSE, log.channel, detail)


def _log_against_sent(
    log: Log, sent: list[Message], chronicle: Chronicle
) -> Iterator[Violation]:
    texts: dict[tuple[str, str], str] = {}
    for entry in log.entries:
        message = chronicle.messages.get((log.channel, entry.id))
        if message is None or not message.attempts:
            detail = f"{entry.id} at {entry.offset} was never sent"
            yield Violation(Kind.INVENTED, log.channel, detail)
        elif (entry.author, entry.text) != (message.author, message.text):
            detail = f"{entry.id} at {entry.offset} is not what its author sent"
            yield Violation(Kind.INVENTED, log.channel, detail)
        else:
            # Texts are unique, so another id with the same text is a doubled message.
            other = texts.setdefault((entry.author, entry.text), entry.id)
            if other != entry.id:
                detail = f"{other} came back as {entry.id} at {entry.offset}"
                yield Violation(Kind.DOUBLED, log.channel, detail)
    there = {entry.id for entry in log.entries}
    for message in sent:
        refused = message.attempts and all(
            attempt.outcome is Outcome.REFUSED for attempt in message.attempts
        )
        if refused and message.id in there:
            detail = f"{message.id} (code {message.attempts[0].code})"
            yield Violation(Kind.REFUSED_BUT_THERE, log.channel, detail)


def _answers(log: Log, sent: list[Message]) -> Iterator[Violation]:
    places = {entry.id: entry.offset for entry in log.entries}
    for message in sent:
        for attempt in message.attempts:
            if attempt.outcome is not Outcome.COMMITTED or attempt.offset <= log.floor:
                continue
            place = places.get(message.id)
            if place is None:
                detail = f"{message.id}, answered with {attempt.offset}"
                yield Violation(Kind.MISSING, log.channel, detail)
            elif place != attempt.offset:
                detail = f"{message.id}, answered with {attempt.offset}, is at {place}"
                yield Violation(Kind.MISSING, log.channel, detail)


def _real_time(sent: list[Message], channel: str) -> Iterator[Violation]:
    """Whoever sends after hearing an answer comes after what was answered."""
    answered = sorted(
        (attempt.answered_s, attempt.offset)
        for message in sent
        for attempt in message.attempts
        if attempt.outcome is Outcome.COMMITTED and attempt.answered_s is not None
    )
    begun = sorted(
        (message.attempts[0].sent_s, attempt.offset, message.id)
        for message in sent
        for attempt in message.attempts
        if attempt.outcome is Outcome.COMMITTED
    )
    highest = 0
    index = 0
    for sent_s, offset, message_id in begun:
        while index < len(answered) and answered[index][0] < sent_s:
            highest = max(highest, answered[index][1])
            index += 1
        if offset <= highest:
            detail = f"{message_id} at {offset} was sent after {highest} was answered"
            yield Violation(Kind.OVERTAKEN, channel, detail)


# -- The members --------------------------------------------------------------------------


def _member(member: Member, log: Log, chronicle: Chronicle) -> Iterator[Violation]:
    by_offset = {entry.offset: entry for entry in log.entries}
    position: int | None = None
    for life in member.lives:
        yield from _life_begins(member, life, log, position)
        position = life.start if position is None or not life.recovering else position
        given: set[int] = set()
        for seen in life.seen:
            yield from _seen(member, seen, by_offset, chronicle)
            yield from _order(member, seen, position, given, life)
            given.add(seen.offset)
            position = max(position, seen.offset)
    due = chronicle.due.get(log.channel, _top(log))
    if member.stays:
        yield from _complete(member, log, position, due)


def _life_begins(
    member: Member, life: Life, log: Log, position: int | None
) -> Iterator[Violation]:
    if life.epoch != log.epoch:
        detail = f"{member.client} was told {life.epoch}, the log has {log.epoch}"
        yield Violation(Kind.EPOCH, member.channel, detail)
    if position is None:
        return
    if life.recovering and life.start != position:
        detail = f"{member.client} was at {position}, and went on from {life.start}"
        kind = Kind.LOST if life.start > position else Kind.DOUBLED
        yield Violation(kind, member.channel, detail)
    if not life.recovering and life.start > position:
        detail = f"{member.client} was at {position} and began anew at {life.start}"
        yield Violation(Kind.LOST, member.channel, detail)


def _seen(
    member: Member,
    seen: Seen,
    by_offset: dict[int, LogEntry],
    chronicle: Chronicle,
) -> Iterator[Violation]:
    entry = by_offset.get(seen.offset)
    if entry is not None:
        if (entry.id, entry.author, entry.text) != seen[1:4]:
            detail = (
                f"{member.client} was given {seen.id} at {seen.offset}, "
                f"where the log has {entry.id}"
            )
            yield Violation(Kind.INVENTED, member.channel, detail)
        return
    message = chronicle.messages.get((member.channel, seen.id))
    if message is None:
        detail = f"{member.client} was given {seen.id}, which nobody sent"
    else:
        detail = f"{member.client} was given {seen.id} at {seen.offset}, not in the log"
    yield Violation(Kind.INVENTED, member.channel, detail)


def _order(
    member: Member, seen: Seen, position: int, given: set[int], life: Life
) -> Iterator[Violation]:
    if seen.offset == position + 1:
        return
    began = "recovered" if life.recovered else "paged" if life.recovering else "new"
    where = (
        f"{seen.how.value}, subscription {member.lives.index(life) + 1} at "
        f"{life.gateway}, {began} from {life.start}"
    )
    if seen.offset > position + 1:
        detail = f"{member.client} was given {seen.offset} after {position} ({where})"
        yield Violation(Kind.LOST, member.channel, detail)
        return
    again = seen.offset == position or seen.offset in given
    kind = Kind.DOUBLED if again else Kind.REORDERED
    detail = f"{member.client} was given {seen.offset} when it was at {position}"
    yield Violation(kind, member.channel, f"{detail} ({where})")


def _complete(
    member: Member, log: Log, position: int | None, due: int
) -> Iterator[Violation]:
    """Whether a member has come to the end; holes before it are found elsewhere."""
    if position is None:
        detail = f"{member.client} was never let in"
        yield Violation(Kind.BEHIND, member.channel, detail)
    elif position < due:
        detail = f"{member.client} ended at {position}, {due} was due"
        yield Violation(Kind.BEHIND, member.channel, detail)
    elif position > _top(log):
        detail = f"{member.client} ended at {position}, the log at {_top(log)}"
        yield Violation(Kind.INVENTED, member.channel, detail)


def _among_each_other(members: list[Member], channel: str) -> Iterator[Violation]:
    """Independent of the log: members that were given the same offset agree on it."""
    told: dict[int, tuple[str, str, str]] = {}
    first: dict[int, str] = {}
    differing: dict[int, set[str]] = defaultdict(set)
    for member in members:
        for life in member.lives:
            for seen in life.seen:
                what = seen[1:4]
                if told.setdefault(seen.offset, what) != what:
                    differing[seen.offset].add(member.client)
                else:
                    first.setdefault(seen.offset, member.client)
    for offset, clients in sorted(differing.items()):
        others = ", ".join(sorted(clients))
        detail = f"at {offset}: {first[offset]} against {others}"
        yield Violation(Kind.DISAGREE, channel, detail)


def _goodbyes(chronicle: Chronicle) -> Iterator[Violation]:
    for goodbye in chronicle.goodbyes:
        if goodbye.final:
            detail = f"{goodbye.client} was told {goodbye.code} {goodbye.reason}"
            yield Violation(Kind.STRANDED, "", detail)
    for trouble in chronicle.troubles:
        yield Violation(Kind.STRANDED, "", trouble)


def _top(log: Log) -> int:
    if log.top is not None:
        return log.top
    return log.entries[-1].offset if log.entries else log.floor
