"""Who is in which channel: joins, leaves, losses and graces, as arithmetic on facts.

A roster holds the channels of one partition. It is told facts and the time, changes, and
writes what followed into a `Diff`: what has to be stored, and what has to be told. It
reads no clock and waits for nothing; a diff that is stored and told before the facts are
acknowledged makes a restart invisible.

A connection is *here*, or *lost*: gone without a word and, until its grace has passed,
still counted. With a grace, joins and leaves are about users: the first connection of a
user joins, the last one leaves, under the name that joined, and a return within the
grace is neither. With a grace of 0 they are about connections, as the protocol has them.
Connections of which nothing is told, by their token or their namespace, are counted and
listed all the same; a user is known by the first connection that is told of.
Anonymous connections are users of their own; nobody could know them again, so they get
no grace.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from chatmesh.wire import limits
from chatmesh.wire.client_json import encode_info
from chatmesh.wire.infos import client_info
from chatmesh.wire.presence import (
    Active,
    Joined,
    Left,
    PayloadType,
    PresenceReport,
)

JOIN: Final = "join"
LEAVE: Final = "leave"
PUB: Final = "pub"

COUNTS_EVERY_MS: Final = 1000
"""A large room hears its counts at most this often."""
SMALL_AGAIN: Final = 0.9
"""A large room is small again below this part of the threshold, not at every leave."""
ACTIVITY_MS: Final = limits.TYPING_LEASE_S * 1000
ACTIVITY_RETOLD_MS: Final = ACTIVITY_MS // 2
"""A renewed activity is told again this often: before those who heard of it forget it."""
TYPING: Final = "typing"
_ANONYMOUS: Final = "\1"
"""First character of an anonymous connection's person; no user name begins with it."""

_encode: Final = msgspec.json.Encoder().encode


class Rules(NamedTuple):
    """What holds in a channel."""

    announce: bool
    """Joins, leaves and counts are told of those of whom nothing else is said."""
    grace_ms: int
    large_above: int
    """Connections above which counts replace joins and leaves."""

    @property
    def merged(self) -> bool:
        return self.grace_ms > 0


@dataclass(slots=True)
class Connection:
    """One connection in one channel."""

    channel: str
    client: str
    user: str
    conn_info: bytes
    chan_info: bytes
    origin: str
    joined_us: int
    """When it joined, in microseconds; no two in one partition are the same."""
    lost_until_ms: int = 0
    """0: here. Else when its grace is over."""
    announce: bool | None = None
    """Whether others are told of it, decided when it joined; None: by the namespace."""

    @property
    def person(self) -> str:
        """Whom it belongs to: the user, or nobody but itself."""
        return person_of(self.user, self.client)


class Face(NamedTuple):
    """The connection a user was announced with, once it is gone and the user is not."""

    client: str
    conn_info: bytes
    chan_info: bytes


class News(NamedTuple):
    """Something to publish in a channel."""

    channel: str
    kind: str
    body: bytes
    """A member's info, or the data of a publication."""
    number: int = 0
    """Of joins and leaves, which are stored until they are told."""


class Counts(NamedTuple):
    clients: int
    users: int


@dataclass(slots=True)
class Diff:
    """What followed from some facts: to be stored in one go, then told in this order."""

    connections: dict[tuple[str, str], Connection | None] = field(
        default_factory=dict[tuple[str, str], Connection | None]
    )
    """By channel and client; None: no longer there."""
    faces: dict[tuple[str, str], Face | None] = field(
        default_factory=dict[tuple[str, str], Face | None]
    )
    """By channel and user."""
    counts: dict[str, Counts] = field(default_factory=dict[str, Counts])
    """By channel, as they are now."""
    sequences: dict[tuple[str, int], int] = field(
        default_factory=dict[tuple[str, int], int]
    )
    """Last report heard, by origin and partition; 0: forgotten."""
    seen_ms: dict[str, int] = field(default_factory=dict[str, int])
    """When users were last seen."""
    news: list[News] = field(default_factory=list[News])
    resync: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Origins that have to send a snapshot, and of which partition."""

    @property
    def stores(self) -> bool:
        """Whether there is anything to be stored."""
        return bool(
            self.connections
            or self.faces
            or self.counts
            or self.sequences
            or self.seen_ms
            or any(news.number for news in self.news)
        )


@dataclass(slots=True)
class Room:
    """One channel."""

    connections: dict[str, Connection] = field(default_factory=dict[str, Connection])
    people: dict[str, dict[str, None]] = field(
        default_factory=dict[str, dict[str, None]]
    )
    """Clients of each person, the first to come first."""
    faces: dict[str, Face] = field(default_factory=dict[str, Face])
    large: bool = False
    announces: bool = False
    """Somebody who is announced has been here: counts are told, once it is large."""
    told: Counts | None = None
    told_ms: int = 0

    @property
    def counts(self) -> Counts:
        return Counts(len(self.connections), len(self.people))


@dataclass(slots=True)
class _Activity:
    until_ms: int
    told_ms: int


class Roster:
    """The channels of one partition."""

    def __init__(self, partition: int, rules: Callable[[str], Rules]) -> None:
        self.partition = partition
        self.rooms: dict[str, Room] = {}
        self.size = 0
        """Connections in all rooms."""
        self._rules = rules
        self._origins: dict[str, dict[tuple[str, str], None]] = {}
        self._sequences: dict[str, int] = {}
        self._snapshots: dict[str, set[tuple[str, str]]] = {}
        self._graces: list[tuple[int, str, str]] = []
        self._activities: dict[tuple[str, str, str], _Activity] = {}
        self._activity_ends: list[tuple[int, tuple[str, str, str]]] = []
        self._uncounted: set[str] = set()
        self._number = 0
        self._settled_ms = 0

    @classmethod
    def restored(
        cls,
        partition: int,
        rules: Callable[[str], Rules],
        *,
        connections: Iterable[Connection],
        faces: Iterable[tuple[str, str, Face]],
        sequences: Iterable[tuple[str, int]],
        number: int,
        settled_ms: int,
    ) -> "Roster":
        """The roster as it was stored. `connections` come in the order they joined.

        Nobody expires before `settled_ms`: reports that waited while nobody held this
        partition come first.
        """
        roster = cls(partition, rules)
        roster._number = number
        roster._settled_ms = settled_ms
        for connection in connections:
            roster._number = max(roster._number, connection.joined_us)
            roster._put(connection)
            if connection.lost_until_ms:
                roster._await_return(connection)
        for channel, user, face in faces:
            if (room := roster.rooms.get(channel)) is not None:
                room.faces[user] = face
        for channel, room in roster.rooms.items():
            room.large = len(room.connections) > rules(channel).large_above
            if room.large and room.announces:
                roster._uncounted.add(channel)
        roster._sequences.update(sequences)
        return roster

    @property
    def origins(self) -> list[str]:
        """Processes that have rows here, or have reported."""
        return list(self._origins.keys() | self._sequences.keys())

    def sequence_of(self, origin: str) -> int:
        """The last report heard of a process; 0 if none is known."""
        return self._sequences.get(origin, 0)

    # -- Facts ---------------------------------------------------------------------------

    def hear(self, report: PresenceReport, now_ms: int, diff: Diff) -> bool:
        """Take a report; False if it had been heard before, and nothing happened."""
        origin, known = report.origin, self.sequence_of(report.origin)
        if report.sequence <= known:
            return False
        begins = report.snapshot_part == 1
        if report.sequence != known + 1 and not begins:
            self._snapshots.pop(origin, None)
            diff.resync.add((origin, self.partition))
        self._sequences[origin] = report.sequence
        diff.sequences[origin, self.partition] = report.sequence
        if begins:
            self._snapshots[origin] = set()
        for change in report.changes:
            match change:
                case Joined():
                    self._join(change, origin, now_ms, diff)
                case Left():
                    self._leave(change, now_ms, diff)
                case Active():
                    self._act(change, now_ms, diff)
        if report.snapshot_part:
            self._take_part(report, now_ms, diff)
        return True

    def lose(self, origin: str, now_ms: int, diff: Diff) -> None:
        """A process is gone, and all its connections with it, without a word."""
        if self._sequences.pop(origin, None) is not None:
            diff.sequences[origin, self.partition] = 0
        self._snapshots.pop(origin, None)
        for channel, client in self._origins.pop(origin, {}):
            self._lose(self.rooms[channel].connections[client], now_ms, diff)

    def tick(self, now_ms: int, diff: Diff) -> None:
        """Let time pass: graces end, activities end, large rooms hear their counts."""
        if now_ms >= self._settled_ms:
            self._end_graces(now_ms, diff)
        self._end_activities(now_ms, diff)
        for channel in list(self._uncounted):
            self._tell_counts(channel, now_ms, diff)

    # -- Joins and leaves ----------------------------------------------------------------

    def _join(self, joined: Joined, origin: str, now_ms: int, diff: Diff) -> None:
        key = (joined.channel, joined.client)
        if (seen := self._snapshots.get(origin)) is not None:
            seen.add(key)
        room = self.rooms.get(joined.channel)
        known = room.connections.get(joined.client) if room is not None else None
        if known is not None and known.user == joined.user:
            self._confirm(known, joined, origin, now_ms, diff)
            return
        if known is not None:
            # A connection never changes its user; one of the two reports is false.
            self._remove(known, now_ms, diff)
        connection = Connection(
            joined.channel,
            joined.client,
            joined.user,
            joined.conn_info,
            joined.chan_info,
            origin,
            self._next_number(now_ms),
            announce=joined.announce,
        )
        announced = self._is_known(connection)
        first = self._put(connection)
        diff.connections[key] = connection
        self._counted(connection.channel, diff)
        if self._told_of(connection) and not announced:
            self._tell(JOIN, connection, now_ms, diff)
        if not first and self._rules(connection.channel).merged:
            self._replace_lost(connection, diff)

    def _confirm(
        self,
        known: Connection,
        joined: Joined,
        origin: str,
        now_ms: int,
        diff: Diff,
    ) -> None:
        """A connection that is known: it may have been lost, or have new infos.

        One that was quiet may be told of from now on. Not the reverse: who has joined
        aloud is told of when they leave.
        """
        speaks = bool(joined.announce) and not self._told_of(known)
        same = (
            known.origin == origin
            and not speaks
            and not known.lost_until_ms
            and known.conn_info == joined.conn_info
            and known.chan_info == joined.chan_info
        )
        if same:
            return
        self._origins.get(known.origin, {}).pop((known.channel, known.client), None)
        known.origin = origin
        known.lost_until_ms = 0
        known.conn_info, known.chan_info = joined.conn_info, joined.chan_info
        self._origins.setdefault(origin, {})[known.channel, known.client] = None
        diff.connections[known.channel, known.client] = known
        if speaks:
            announced = self._is_known(known)
            known.announce = self.rooms[known.channel].announces = True
            if not announced:
                self._tell(JOIN, known, now_ms, diff)

    def _replace_lost(self, returned: Connection, diff: Diff) -> None:
        """The user is back: connections of theirs that were lost wait for nobody."""
        room = self.rooms[returned.channel]
        clients = room.people[returned.person]
        lost = [c for c in clients if room.connections[c].lost_until_ms]
        for client in lost:
            self._take_out(room, room.connections[client], diff)

    def _leave(self, left: Left, now_ms: int, diff: Diff) -> None:
        room = self.rooms.get(left.channel)
        known = room.connections.get(left.client) if room is not None else None
        if known is None:
            return
        if left.clean:
            self._remove(known, now_ms, diff)
        else:
            self._lose(known, now_ms, diff)

    def _lose(self, connection: Connection, now_ms: int, diff: Diff) -> None:
        if connection.lost_until_ms:
            return
        grace_ms = self._rules(connection.channel).grace_ms if connection.user else 0
        if not grace_ms or self._is_elsewhere(connection):
            self._remove(connection, now_ms, diff)
            return
        connection.lost_until_ms = now_ms + grace_ms
        diff.connections[connection.channel, connection.client] = connection
        diff.seen_ms[connection.user] = now_ms
        self._await_return(connection)

    def _is_elsewhere(self, connection: Connection) -> bool:
        """Whether the user is here by another connection, and so needs no grace."""
        room = self.rooms[connection.channel]
        return any(
            client != connection.client and not room.connections[client].lost_until_ms
            for client in room.people[connection.person]
        )

    def _remove(
        self,
        connection: Connection,
        now_ms: int,
        diff: Diff,
        *,
        seen_ms: int | None = None,
    ) -> None:
        """A connection is gone for good, and with its last one the user.

        The user was seen for the last time at `seen_ms`, or just now.
        """
        room = self.rooms[connection.channel]
        person = connection.person
        merged = self._rules(connection.channel).merged
        face = room.faces.get(person) if merged else None
        last = len(room.people[person]) == 1
        self._take_out(room, connection, diff)
        if connection.user and last:
            diff.seen_ms[connection.user] = now_ms if seen_ms is None else seen_ms
            typing = Active(connection.channel, connection.user, active=False)
            self._act(typing, now_ms, diff)
        if not self._told_of(connection) and face is None:
            return
        if last or not merged:
            self._tell(LEAVE, connection, now_ms, diff, face=face)

    # -- The books -----------------------------------------------------------------------

    def _put(self, connection: Connection) -> bool:
        """Enter a connection; says whether it is the first of its person."""
        room = self.rooms.setdefault(connection.channel, Room())
        room.connections[connection.client] = connection
        self.size += 1
        clients = room.people.setdefault(connection.person, {})
        clients[connection.client] = None
        room.announces = room.announces or self._told_of(connection)
        key = (connection.channel, connection.client)
        self._origins.setdefault(connection.origin, {})[key] = None
        return len(clients) == 1

    def _take_out(self, room: Room, connection: Connection, diff: Diff) -> None:
        channel, client, person = (
            connection.channel,
            connection.client,
            connection.person,
        )
        merged = self._rules(channel).merged
        shown = merged and self._shown_by(room, person) == client
        del room.connections[client]
        self.size -= 1
        clients = room.people[person]
        del clients[client]
        if not clients:
            del room.people[person]
            if room.faces.pop(person, None) is not None:
                diff.faces[channel, person] = None
        elif shown and person not in room.faces:
            face = Face(client, connection.conn_info, connection.chan_info)
            room.faces[person] = face
            diff.faces[channel, person] = face
        if (keys := self._origins.get(connection.origin)) is not None:
            keys.pop((channel, client), None)
        diff.connections[channel, client] = None
        self._counted(channel, diff)
        if not room.connections:
            del self.rooms[channel]

    def _told_of(self, connection: Connection) -> bool:
        if connection.announce is None:
            return self._rules(connection.channel).announce
        return connection.announce

    def _shown_by(self, room: Room, person: str) -> str | None:
        """The first connection of a person that is announced, of those still here."""
        if not room.announces:
            return None
        clients = room.people.get(person, ())
        return next((c for c in clients if self._told_of(room.connections[c])), None)

    def _is_known(self, connection: Connection) -> bool:
        """Whether others know of this person already, by whatever connection.

        Where joins are about connections, nobody is known before.
        """
        room = self.rooms.get(connection.channel)
        if room is None or not self._rules(connection.channel).merged:
            return False
        person = connection.person
        return person in room.faces or self._shown_by(room, person) is not None

    def _next_number(self, now_ms: int) -> int:
        """Ascends for ever: the time, or a little more than the number before."""
        self._number = max(self._number + 1, now_ms * 1000)
        return self._number

    def _counted(self, channel: str, diff: Diff) -> None:
        room = self.rooms[channel]
        diff.counts[channel] = room.counts
        above = len(room.connections) > self._rules(channel).large_above
        if not room.announces:
            room.large = above  # Nobody has to be told that it is small again.
            return
        room.large = room.large or above
        if room.large:
            self._uncounted.add(channel)

    def _await_return(self, connection: Connection) -> None:
        entry = (connection.lost_until_ms, connection.channel, connection.client)
        heapq.heappush(self._graces, entry)

    def _end_graces(self, now_ms: int, diff: Diff) -> None:
        while self._graces and self._graces[0][0] <= now_ms:
            until_ms, channel, client = heapq.heappop(self._graces)
            room = self.rooms.get(channel)
            connection = room.connections.get(client) if room is not None else None
            # It may have come back, or be lost for another, later, time.
            if connection is not None and connection.lost_until_ms == until_ms:
                lost_ms = until_ms - self._rules(channel).grace_ms
                self._remove(connection, now_ms, diff, seen_ms=lost_ms)

    def _take_part(self, report: PresenceReport, now_ms: int, diff: Diff) -> None:
        """One part of a snapshot; after the last, what no part named has gone."""
        seen = self._snapshots.get(report.origin)
        if seen is None:
            # The parts before went to a replica that is no more.
            diff.resync.add((report.origin, self.partition))
            return
        if report.snapshot_part < report.snapshot_parts:
            return
        del self._snapshots[report.origin]
        for channel, client in list(self._origins.get(report.origin, {})):
            if (channel, client) not in seen:
                self._lose(self.rooms[channel].connections[client], now_ms, diff)

    # -- What is told --------------------------------------------------------------------

    def _tell(
        self,
        kind: str,
        connection: Connection,
        now_ms: int,
        diff: Diff,
        *,
        face: Face | None = None,
    ) -> None:
        """A join or a leave; in a large room it only changes the counts."""
        channel = connection.channel
        if (room := self.rooms.get(channel)) is not None and room.large:
            self._tell_counts(channel, now_ms, diff)
            return
        client, conn_info, chan_info = face or (
            connection.client,
            connection.conn_info,
            connection.chan_info,
        )
        info = client_info(connection.user, client, conn_info, chan_info)
        number = self._next_number(now_ms)
        diff.news.append(News(channel, kind, encode_info(info), number))

    def _tell_counts(self, channel: str, now_ms: int, diff: Diff) -> None:
        room = self.rooms.get(channel)
        if room is None or room.counts == room.told:
            self._uncounted.discard(channel)
            return
        if room.told is not None and now_ms - room.told_ms < COUNTS_EVERY_MS:
            return
        self._uncounted.discard(channel)
        room.told, room.told_ms = room.counts, now_ms
        # Small again only together with the word of it: until then nobody listens to
        # joins and leaves.
        small = SMALL_AGAIN * self._rules(channel).large_above
        room.large = len(room.connections) > small
        data = {
            "type": PayloadType.COUNTS,
            "num_clients": room.counts.clients,
            "num_users": room.counts.users,
            "large": room.large,
        }
        diff.news.append(News(channel, PUB, _encode(data)))

    # -- Activities ----------------------------------------------------------------------

    def _act(self, act: Active, now_ms: int, diff: Diff) -> None:
        room = self.rooms.get(act.channel)
        if not act.user or (act.what == TYPING and room is not None and room.large):
            return
        key = (act.channel, act.user, act.what)
        known = self._activities.get(key)
        if not act.active:
            if known is not None:
                del self._activities[key]
                self._tell_activity(key, 0, diff)
            return
        if known is None:
            known = self._activities[key] = _Activity(0, 0)
            heapq.heappush(self._activity_ends, (now_ms + ACTIVITY_MS, key))
        known.until_ms = now_ms + ACTIVITY_MS
        if now_ms - known.told_ms >= ACTIVITY_RETOLD_MS:
            known.told_ms = now_ms
            self._tell_activity(key, ACTIVITY_MS, diff)

    def _end_activities(self, now_ms: int, diff: Diff) -> None:
        while self._activity_ends and self._activity_ends[0][0] <= now_ms:
            _, key = heapq.heappop(self._activity_ends)
            activity = self._activities.get(key)
            if activity is None:
                continue
            if activity.until_ms > now_ms:
                heapq.heappush(self._activity_ends, (activity.until_ms, key))
                continue
            del self._activities[key]
            self._tell_activity(key, 0, diff)

    @staticmethod
    def _tell_activity(key: tuple[str, str, str], ttl_ms: int, diff: Diff) -> None:
        channel, user, what = key
        data: dict[str, object] = (
            {"type": PayloadType.TYPING}
            if what == TYPING
            else {"type": PayloadType.ACTIVITY, "activity": what}
        )
        data |= {"user": user, "ttl_ms": ttl_ms}
        diff.news.append(News(channel, PUB, _encode(data)))


def person_of(user: str, client: str) -> str:
    """Whom a connection belongs to: anonymous ones only to themselves."""
    return user or f"{_ANONYMOUS}{client}"
