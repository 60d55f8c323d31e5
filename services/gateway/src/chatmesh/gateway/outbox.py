"""What waits for one client, within a byte budget, and what is given up when it is slow.

Three steps, each only for the client that is slow: over a quarter of the budget
ephemeral publications are dropped; over half of it the fullest subscription is dropped
and told to recover; over all of it so are the next ones, and when none is left to recover
the connection is closed. Nobody else notices.
"""

import enum
from dataclasses import dataclass
from typing import Final

EPHEMERAL_SHARE: Final = 0.25
RECOVER_SHARE: Final = 0.5


class Chunk:
    """Bytes for a client: one or more encoded messages, shared by all who get them."""

    __slots__ = ("channel", "ephemeral", "frame", "payload")

    def __init__(
        self, payload: bytes, *, channel: str = "", ephemeral: bool = False
    ) -> None:
        self.payload = payload
        self.channel = channel
        """The channel it can be recovered from; empty for what cannot be given up."""
        self.ephemeral = ephemeral
        self.frame: bytes | None = None
        """The payload as one WebSocket frame, once somebody has made it."""


class Verdict(enum.Enum):
    FINE = "fine"
    RECOVER = "recover"
    """Drop the fullest subscription and tell it to recover."""
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that may wait for one client that does not read."""

    bytes_max: int

    @property
    def ephemeral_bytes(self) -> int:
        return int(self.bytes_max * EPHEMERAL_SHARE)

    @property
    def recover_bytes(self) -> int:
        return int(self.bytes_max * RECOVER_SHARE)


class Outbox:
    """Chunks in order. Costs are counted only while the client does not read."""

    __slots__ = ("_bytes", "_chunks", "dropped")

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._bytes = 0
        self.dropped = 0
        """Ephemeral chunks given up so far."""

    def __bool__(self) -> bool:
        return bool(self._chunks)

    @property
    def bytes(self) -> int:
        return self._bytes

    def put(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._bytes += len(chunk.payload)

    def put_slow(self, chunk: Chunk, budget: Budget) -> Verdict:
        """Put a chunk for a client that is not reading; says what has to be given up."""
        if chunk.ephemeral and self._bytes > budget.ephemeral_bytes:
            self.dropped += 1
            return Verdict.FINE
        self.put(chunk)
        if self._bytes > budget.bytes_max:
            return Verdict.CLOSE
        if self._bytes > budget.recover_bytes:
            return Verdict.RECOVER
        return Verdict.FINE

    def fullest(self) -> list[str]:
        """Channels with bytes waiting, the one with the most of them first."""
        weights: dict[str, int] = {}
        for chunk in self._chunks:
            if chunk.channel:
                weight = weights.get(chunk.channel, 0) + len(chunk.payload)
                weights[chunk.channel] = weight
        return sorted(weights, key=weights.__getitem__, reverse=True)

    def drop(self, channel: str) -> None:
        """Give up everything of one channel, ephemeral or not."""
        kept = [chunk for chunk in self._chunks if chunk.channel != channel]
        self._chunks = kept
        self._bytes = sum(len(chunk.payload) for chunk in kept)

    def take(self) -> list[Chunk]:
        """Everything that waits, in order; the outbox is empty afterwards."""
        chunks, self._chunks = self._chunks, []
        self._bytes = 0
        return chunks
