"""Who hears which channel on this gateway, and what they hear, encoded once for all.

The hub knows nothing of offsets: a connection joins a channel at the instant its
snapshot was taken, so whatever the stream lets through from then on is news to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chatmesh.gateway.hearing import PLAIN, Hearing, matches
from chatmesh.gateway.outbox import Chunk
from chatmesh.gateway.publications import Committed
from chatmesh.wire.messages import PUBLICATION, LivePublication


class Codec(Protocol):
    """One encoding of the client protocol; its name tells variants apart."""

    name: str

    def committed_chunk(
        self, channel: str, publications: Sequence[Committed]
    ) -> Chunk | None:
        """Pushes of committed publications; None when a payload has no such encoding."""
        ...

    def live_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk | None: ...

    def delta_chunk(
        self, channel: str, publications: Sequence[Committed], base: bytes
    ) -> Chunk | None:
        """Pushes as differences, each to the one before; the first to `base`, if any."""
        ...

    def live_delta_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk | None:
        """Pushes in full, in the form that deltas may begin from; never given up."""
        ...


class Listener(Protocol):
    """A connection, as far as the hub cares."""

    @property
    def codec(self) -> Codec: ...

    def deliver(self, chunk: Chunk) -> None:
        """Take a chunk, at once and without waiting."""
        ...

    def cannot_read(self) -> None:
        """A payload on a channel it hears cannot be encoded for it."""
        ...


@dataclass(slots=True)
class _Seat:
    """One listener in one channel."""

    hearing: Hearing = PLAIN
    fresh: bool = True
    """It has not been told a payload yet that a delta could begin from."""


@dataclass(slots=True)
class _Room:
    """A channel's listeners: those who share everything, and those who do not."""

    plain: dict[Listener, Hearing] = field(default_factory=dict[Listener, Hearing])
    others: dict[Listener, _Seat] = field(default_factory=dict[Listener, _Seat])
    base: bytes = b""
    """The payload told last, from which the next delta begins."""
    told: int = 0
    """Offset of the last entry let through while somebody was here."""

    def __len__(self) -> int:
        return len(self.plain) + len(self.others)


class Hub:
    """Local fan-out: one chunk per codec and batch, handed to every listener."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}
        self.deliveries = 0
        """Publications handed to listeners so far, one per listener."""
        self.gaps = 0
        """Times a channel went on behind a hole, in front of its listeners: a bug."""
        self.repeats = 0
        """Times a channel went on with an offset it had had: a bug."""

    def __contains__(self, channel: str) -> bool:
        return channel in self._rooms

    def __len__(self) -> int:
        return len(self._rooms)

    def channels(self) -> list[str]:
        return list(self._rooms)

    @property
    def subscriptions(self) -> int:
        """Listeners of all channels, a connection counted once for each."""
        return sum(map(len, self._rooms.values()))

    def join(self, channel: str, listener: Listener, hearing: Hearing = PLAIN) -> None:
        room = self._rooms.setdefault(channel, _Room())
        if hearing.shared:
            room.plain[listener] = hearing
        else:
            room.others[listener] = _Seat(hearing)

    def leave(self, channel: str, listener: Listener) -> bool:
        """Take a listener out; True when nobody is left in the channel."""
        room = self._rooms.get(channel)
        if room is None:
            return False
        room.plain.pop(listener, None)
        room.others.pop(listener, None)
        if not room:
            del self._rooms[channel]
            return True
        return False

    def listeners(self, channel: str) -> list[Listener]:
        room = self._rooms.get(channel)
        return [*room.plain, *room.others] if room is not None else []

    def count(self, channel: str) -> int:
        room = self._rooms.get(channel)
        return len(room) if room is not None else 0

    def publish(self, channel: str, publications: Sequence[Committed]) -> None:
        """Let everyone in the channel hear committed publications."""
        room = self._rooms.get(channel)
        if room is None or not publications:
            return
        self._check_order(room, publications)
        chunks: dict[str, Chunk | None] = {}
        # Copies: a listener that is too slow leaves while it is being served.
        self.deliveries += len(room) * len(publications)
        for listener in list(room.plain):
            codec = listener.codec
            if codec.name not in chunks:
                chunks[codec.name] = codec.committed_chunk(channel, publications)
            _hand_over(listener, chunks[codec.name])
        if room.others:
            self._publish_apart(channel, room, publications)

    def publish_live(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> None:
        """Let everyone in the channel hear ephemeral publications."""
        room = self._rooms.get(channel)
        if room is None or not publications:
            return
        news = [one for one in publications if one.kind == PUBLICATION]
        chunks: dict[tuple[str, bool], Chunk | None] = {}
        seats = list(room.plain.items())
        seats += [(one, seat.hearing) for one, seat in room.others.items()]
        for listener, hearing in seats:
            heard = publications if hearing.members else news
            if hearing.tags is not None:
                tags = hearing.tags
                heard = [
                    one
                    for one in heard
                    if one.kind != PUBLICATION
                    or one.unfiltered
                    or matches(tags, one.tags)
                ]
            if not heard:
                continue
            self.deliveries += len(heard)
            codec = listener.codec
            if hearing.delta:
                self._live_apart(channel, room, listener, heard)
                continue
            if hearing.tags is not None:
                _hand_over(listener, codec.live_chunk(channel, heard))
                continue
            key = codec.name, hearing.members
            if key not in chunks:
                chunks[key] = codec.live_chunk(channel, heard)
            _hand_over(listener, chunks[key])
        if news and room.others:
            room.base = news[-1].data

    def _check_order(self, room: _Room, publications: Sequence[Committed]) -> None:
        """Count what must never happen, apart from the stream that sees to it."""
        first = publications[0].offset
        if room.told and first != room.told + 1:
            if first > room.told:
                self.gaps += 1
            else:
                self.repeats += 1
        room.told = publications[-1].offset

    def _publish_apart(
        self, channel: str, room: _Room, publications: Sequence[Committed]
    ) -> None:
        """Serve those who hear deltas or by tags; deltas are shared where they can be."""
        deltas: dict[tuple[str, bool], Chunk | None] = {}
        for listener, seat in list(room.others.items()):
            codec = listener.codec
            tags = seat.hearing.tags
            if tags is not None:
                heard = [p for p in publications if matches(tags, p.entry.tags)]
                if heard:
                    _hand_over(listener, codec.committed_chunk(channel, heard))
                continue
            key = codec.name, seat.fresh
            if key not in deltas:
                base = b"" if seat.fresh else room.base
                deltas[key] = codec.delta_chunk(channel, publications, base)
            seat.fresh = False
            _hand_over(listener, deltas[key])
        room.base = publications[-1].entry.data

    def _live_apart(
        self,
        channel: str,
        room: _Room,
        listener: Listener,
        publications: Sequence[LivePublication],
    ) -> None:
        chunk = listener.codec.live_delta_chunk(channel, publications)
        seat = room.others.get(listener)
        if seat is not None and any(one.kind == PUBLICATION for one in publications):
            seat.fresh = False
        _hand_over(listener, chunk)


def _hand_over(listener: Listener, chunk: Chunk | None) -> None:
    if chunk is None:
        listener.cannot_read()
    else:
        listener.deliver(chunk)
