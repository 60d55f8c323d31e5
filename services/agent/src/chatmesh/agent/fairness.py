"""Whose turn it is: runs that wait, in the order in which rooms and people share.

Nobody waits for the queue of another room: each round serves every room once, and within
a room every person once. Who has something running already counts as served before; and
whoever has had a turn waits anew from then on, behind those who have waited longer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Waiting(NamedTuple):
    """A run that waits."""

    run: str
    agent: str
    channel: str
    requester: str
    created_ms: int
    position: int = 0
    """What was told to the room last; 0: nothing."""


class Running(NamedTuple):
    """What a run that is performed takes up, or the last turn of a room and a person."""

    agent: str
    channel: str
    requester: str
    started_ms: int = 0
    over: bool = False
    """It takes up nothing any more; that there was this turn is what counts."""


def in_turn(waiting: Iterable[Waiting], running: Iterable[Running]) -> list[Waiting]:
    """The runs that wait, whoever is next first."""
    by_room: Counter[str] = Counter()
    by_person: Counter[str] = Counter()
    room_ms: dict[str, int] = {}
    person_ms: dict[str, int] = {}
    for one in running:
        if not one.over:
            by_room[one.channel] += 1
            by_person[one.requester] += 1
        room_ms[one.channel] = max(room_ms.get(one.channel, 0), one.started_ms)
        person_ms[one.requester] = max(person_ms.get(one.requester, 0), one.started_ms)
    rooms: defaultdict[str, list[Waiting]] = defaultdict(list)
    for one in sorted(waiting, key=lambda one: (one.created_ms, one.run)):
        rooms[one.channel].append(one)
    keyed: list[tuple[tuple[int, int, int, int, str], Waiting]] = []
    for channel, runs in rooms.items():
        for place, (turn, one) in enumerate(_shared_by_people(runs, person_ms)):
            had_ms = max(room_ms.get(channel, 0), person_ms.get(one.requester, 0))
            key = (
                by_room[channel] + place,
                by_person[one.requester] + turn,
                max(one.created_ms, had_ms),
                one.created_ms,
                one.run,
            )
            keyed.append((key, one))
    keyed.sort()
    return [one for _, one in keyed]


def unblocked(
    turn: Iterable[Waiting], running: Iterable[Running], concurrency: Mapping[str, int]
) -> list[Waiting]:
    """Of the runs that wait, in their order, those that could all begin now.

    What its agent's concurrency holds back, or another run of the agent in its room, takes
    no place from those behind it. An agent without a number is held back by its rooms only.
    """
    performed = [one for one in running if not one.over]
    by_agent = Counter(one.agent for one in performed)
    busy = {(one.channel, one.agent) for one in performed}
    free: list[Waiting] = []
    for one in turn:
        place = (one.channel, one.agent)
        most = concurrency.get(one.agent)
        if place in busy or (most is not None and by_agent[one.agent] >= most):
            continue
        busy.add(place)
        by_agent[one.agent] += 1
        free.append(one)
    return free


def _shared_by_people(
    runs: list[Waiting], had_ms: dict[str, int]
) -> list[tuple[int, Waiting]]:
    """The runs of one room, oldest first, in rounds of one per person.

    `had_ms`: when each person had a turn last.
    """
    seen: Counter[str] = Counter()
    rounds: list[tuple[int, int, int, Waiting]] = []
    for age, one in enumerate(runs):
        since_ms = max(one.created_ms, had_ms.get(one.requester, 0))
        rounds.append((seen[one.requester], since_ms, age, one))
        seen[one.requester] += 1
    rounds.sort()
    return [(turn, one) for turn, _, _, one in rounds]
