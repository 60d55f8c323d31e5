"""Which reporting processes live: one lease each, renewed by one message.

Every replica hears every lease by itself, so nothing of this is stored. Leases run
only while somebody listens: after a pause, whatever its reason, each process that was
known gets a whole lease to be heard again. Time is an argument.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from chatmesh.wire.presence import PresenceLease

RESYNC_EVERY_MS: Final = 6000
"""A process that was asked for snapshots gets this long before it is asked again."""
FORGET_LEASES: Final = 10
"""A process that has not been heard for this many leases is forgotten."""


@dataclass(slots=True)
class _Heart:
    until_ms: int
    reply_to: str
    sequences: list[int]
    """Of the last report sent, by partition, as the last heartbeat had them."""
    heard: dict[int, int]
    """Of the last report heard by then."""
    asked_ms: int


class Hearts:
    """The processes that report, as one replica hears them."""

    def __init__(self, lease_ms: int, now_ms: int) -> None:
        self._lease_ms = lease_ms
        self._listening_ms = now_ms
        self._hearts: dict[str, _Heart] = {}

    def __len__(self) -> int:
        return len(self._hearts)

    def listens_again(self, now_ms: int) -> None:
        """For a while nobody has listened; what was not heard says nothing."""
        self._listening_ms = now_ms

    def hear(
        self,
        lease: PresenceLease,
        now_ms: int,
        held: Iterable[int],
        known: Callable[[str, int], int],
    ) -> list[int]:
        """Take a heartbeat; says for which of the `held` partitions reports are missing.

        `known(origin, partition)` is the last report heard. Reports travel by other ways
        than heartbeats and may wait in a queue, so what is missing is only what the
        heartbeat *before* named, and only where nothing was heard in between.
        """
        heart = self._heart(lease.origin, lease.reply_to, now_ms)
        heart.until_ms = 0 if lease.ended else now_ms + self._lease_ms
        sent, heart.sequences = heart.sequences, lease.sequences
        heard = {partition: known(lease.origin, partition) for partition in held}
        heard_before, heart.heard = heart.heard, heard
        if lease.ended or now_ms - heart.asked_ms < RESYNC_EVERY_MS:
            return []
        missing = [
            partition
            for partition, number in heard.items()
            if partition < len(sent)
            and number < sent[partition]
            and number == heard_before.get(partition)
        ]
        if missing:
            heart.asked_ms = now_ms
        return missing

    def touch(self, origin: str, reply_to: str, now_ms: int) -> None:
        """A report is a sign of life too."""
        heart = self._heart(origin, reply_to, now_ms)
        if heart.until_ms:
            heart.until_ms = max(heart.until_ms, now_ms + self._lease_ms)

    def reply_to(self, origin: str) -> str:
        """Where a process is reached; empty when it was never heard."""
        heart = self._hearts.get(origin)
        return heart.reply_to if heart is not None else ""

    def is_gone(self, origin: str, now_ms: int) -> bool:
        """Whether a process has ended, or its lease has run out while we listened."""
        heart = self._hearts.get(origin)
        if heart is not None and not heart.until_ms:
            return True
        heard_ms = self._listening_ms + self._lease_ms
        return now_ms >= max(heard_ms, heart.until_ms if heart is not None else 0)

    def forget(self, now_ms: int) -> None:
        """Drop processes nobody has heard of for long."""
        long_ago_ms = now_ms - FORGET_LEASES * self._lease_ms
        for origin, heart in list(self._hearts.items()):
            last_ms = max(heart.until_ms, heart.asked_ms, self._listening_ms)
            if last_ms < long_ago_ms:
                del self._hearts[origin]

    def _heart(self, origin: str, reply_to: str, now_ms: int) -> _Heart:
        heart = self._hearts.get(origin)
        if heart is None:
            # A whole lease, also for an ended process whose last reports come late.
            heart = _Heart(
                now_ms + self._lease_ms, reply_to, [], {}, now_ms - RESYNC_EVERY_MS
            )
            self._hearts[origin] = heart
        heart.reply_to = reply_to
        return heart
