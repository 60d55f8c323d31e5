"""How long a fault was felt: until the next message, sent after it, had arrived."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chaos.chronicle import Chronicle, Member

RECOVERY_S_MAX: Final = 10.0
"""From any single fault to the next delivered message, on every room."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds; inf where it never came."""

    rooms_s: float
    """Until every room had delivered such a message to somebody."""
    members_s: float
    """Until every member that was there before and stayed had been given one."""
    slowest: str = ""
    """The member that this took longest."""


def recovery_of(chronicle: Chronicle, rooms: Sequence[str], since_s: float) -> Recovery:
    """When things went on after `since_s`, for rooms and for members."""
    rooms_s = dict.fromkeys(rooms, math.inf)
    members_s = 0.0
    slowest = ""
    for member in chronicle.members:
        if member.channel not in rooms_s:
            continue
        took_s = _next_after(member, chronicle, since_s) - since_s
        rooms_s[member.channel] = min(rooms_s[member.channel], took_s)
        was_there = bool(member.lives) and member.lives[0].began_s <= since_s
        if member.stays and was_there and took_s > members_s:
            members_s = took_s
            slowest = member.client
    return Recovery(max(rooms_s.values(), default=0.0), members_s, slowest)


def _next_after(member: Member, chronicle: Chronicle, since_s: float) -> float:
    """When the member was first given something that was sent after `since_s`."""
    for life in member.lives:
        first = bisect.bisect_right(life.seen, since_s, key=lambda seen: seen.at_s)
        for seen in life.seen[first:]:
            message = chronicle.messages.get((member.channel, seen.id))
            sent_s = message.first_sent_s if message is not None else None
            if sent_s is not None and sent_s > since_s:
                return seen.at_s
    return math.inf


def limit_of(since_s: float, strikes_s: Sequence[tuple[float, float]]) -> float:
    """Seconds that rooms may stand after a fault that was over at `since_s`.

    A single fault has `RECOVERY_S_MAX`. Where the next one strikes before that is over
    (`strikes_s`: when each began, and since when its recovery counts), the work that took
    over may be struck itself: then the time counts from the last of those that overlap,
    or from the return of somebody who can work, where it left nobody.
    """
    last_s = since_s
    for began_s, ended_s in sorted(strikes_s):
        if since_s < began_s <= last_s + RECOVERY_S_MAX:
            last_s = max(last_s, ended_s)
    return last_s - since_s + RECOVERY_S_MAX
