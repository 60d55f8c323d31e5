"""Tells a roster facts in small words, and reads what it would publish."""

import json
from dataclasses import dataclass, field
from typing import Any

from chatmesh.presence.roster import Diff, Roster, Rules
from chatmesh.wire.presence import Active, Change, Joined, Left, PresenceReport
from chatmesh.wire.topics import partition_of

ROOM = "room:tea"
PARTITION = partition_of(ROOM)
T0 = 1_700_000_000_000
GRACE_MS = 10_000
MERGED = Rules(announce=True, grace_ms=GRACE_MS, large_above=200)
EXACT = Rules(announce=True, grace_ms=0, large_above=200)


@dataclass
class Story:
    """One roster, one clock, and reports numbered by themselves."""

    rules: Rules = MERGED
    now_ms: int = T0
    sequences: dict[str, int] = field(default_factory=dict[str, int])
    diffs: list[Diff] = field(default_factory=list[Diff])
    roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        self.roster = Roster(PARTITION, lambda _channel: self.rules)

    def joined(
        self,
        client: str,
        user: str = "",
        *,
        origin: str = "g1",
        info: bytes = b"",
        room: str = ROOM,
        announce: bool | None = None,
    ) -> list[str]:
        joined = Joined(room, client, user, info, announce=announce)
        return self.told(joined, origin=origin)

    def left(
        self, client: str, *, clean: bool = False, origin: str = "g1", room: str = ROOM
    ) -> list[str]:
        return self.told(Left(room, client, clean), origin=origin)

    def typed(
        self, user: str, *, active: bool = True, what: str = "typing"
    ) -> list[str]:
        return self.told(Active(ROOM, user, active, what))

    def told(
        self, *changes: Change, origin: str = "g1", part: int = 0, parts: int = 0
    ) -> list[str]:
        """One more report; what is published because of it."""
        number = self.sequences.get(origin, 0) + 1
        return self.hears(self.report(origin, number, *changes, part=part, parts=parts))

    def hears(self, report: PresenceReport) -> list[str]:
        self.sequences[report.origin] = report.sequence
        diff = Diff()
        self.roster.hear(report, self.now_ms, diff)
        return self._keep(diff)

    def report(
        self, origin: str, number: int, *changes: Change, part: int = 0, parts: int = 0
    ) -> PresenceReport:
        return PresenceReport(
            origin, PARTITION, number, f"queue of {origin}", list(changes), part, parts
        )

    def gone(self, origin: str) -> list[str]:
        diff = Diff()
        self.roster.lose(origin, self.now_ms, diff)
        self.sequences.pop(origin, None)
        return self._keep(diff)

    def after(self, seconds: float) -> list[str]:
        """Time passes, in steps of a quarter of a second as in production."""
        news: list[str] = []
        end_ms = self.now_ms + int(seconds * 1000)
        while self.now_ms < end_ms:
            self.now_ms = min(end_ms, self.now_ms + 250)
            diff = Diff()
            self.roster.tick(self.now_ms, diff)
            news += self._keep(diff)
        return news

    @property
    def clients(self) -> list[str]:
        room = self.roster.rooms.get(ROOM)
        return sorted(room.connections) if room is not None else []

    @property
    def numbers(self) -> list[int]:
        return [news.number for diff in self.diffs for news in diff.news if news.number]

    def _keep(self, diff: Diff) -> list[str]:
        self.diffs.append(diff)
        return [_in_words(news.kind, json.loads(news.body)) for news in diff.news]


def _in_words(kind: str, body: dict[str, Any]) -> str:
    if kind != "pub":
        return f"{kind} {body['user']}/{body['client']}"
    match body["type"]:
        case "presence":
            return f"{body['num_clients']} clients, {body['num_users']} users" + (
                "" if body["large"] else ", small again"
            )
        case "typing":
            return f"{body['user']} types for {body['ttl_ms']}"
        case "activity":
            return f"{body['user']} does {body['activity']} for {body['ttl_ms']}"
        case other:
            raise AssertionError(other)
