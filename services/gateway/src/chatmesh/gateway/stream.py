"""One channel's log as this gateway hears it: strictly by offset, each entry once.

Events may come twice, late, or with a hole where the broker link was lost. The stream
lets through what is next, drops what it has had, and says when it has to be filled from
history before going on. Its tail answers clients that come back.
"""

import enum
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from chatmesh.gateway.publications import Committed
from chatmesh.wire import limits
from chatmesh.wire.client import StreamPosition
from chatmesh.wire.messages import Entry, Page

HELD_BACK_BYTES_MAX: Final = 1 * limits.MIB
"""What a stream keeps while it waits for a hole to be filled; the rest is read again."""

_MS_PER_S: Final = 1000


class Kept(NamedTuple):
    """What a namespace keeps of each channel; 0 sets no bound."""

    size: int = 0
    age_s: int = 0


KEEP_ALL: Final = Kept()


class State(enum.Enum):
    COLD = "cold"
    """Nothing is known yet; what is heard is held back until a page says where we are."""
    LIVE = "live"
    BEHIND = "behind"
    """Something is missing, or may be: nobody joins until it is filled."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a returning client missed; `recovered` False is an honest no."""

    recovered: bool
    publications: Sequence[Committed]


class EpochChanged(Exception):
    """The log began a new life: what clients hold can no longer be continued."""


class Stream:
    """The log of one channel: position, tail, and what is held back behind a hole."""

    __slots__ = (
        "_doubtful",
        "_held",
        "_held_bytes",
        "_kept",
        "_known_top",
        "deepest",
        "duplicates",
        "epoch",
        "state",
        "tail",
        "tail_bytes",
        "top",
    )

    def __init__(self, kept: Kept = KEEP_ALL) -> None:
        self._kept = kept
        self.state = State.COLD
        self.epoch = ""
        self.top = 0
        """Offset of the last entry let through."""
        self.tail: deque[Committed] = deque()
        """The newest entries, dense, the last one at `top`."""
        self.tail_bytes = 0
        self.deepest = False
        """The tail reaches as far back as it is allowed to, or to the first entry."""
        self.duplicates = 0
        self._held: list[Entry] = []
        self._held_bytes = 0
        self._known_top = 0
        self._doubtful = False

    @property
    def tail_first(self) -> int:
        """Offset of the oldest entry in the tail; top + 1 when it is empty."""
        return self.tail[0].offset if self.tail else self.top + 1

    def hear(self, epoch: str, entries: Sequence[Entry]) -> list[Committed]:
        """Hear committed entries; gives those that may be delivered now, in order.

        Raises EpochChanged when they belong to another life of the log.
        """
        self._check_epoch(epoch)
        if self.state is State.COLD:
            self._hold(entries)
            return []
        let_through: list[Committed] = []
        for index, entry in enumerate(entries):
            if entry.offset <= self.top:
                self.duplicates += 1
            elif entry.offset == self.top + 1:
                let_through.append(self._append(entry))
            else:
                self._hold(entries[index:])
                break
        if let_through:
            self._doubtful = False  # What came is next, so nothing lies between.
        return let_through + self._release()

    def open(self, page: Page) -> list[Committed]:
        """Learn where the log stands from a page that ends at its top.

        The page's entries are newest first, as a reverse read gives them.
        """
        self.epoch = page.epoch
        self.top = page.top
        self.state = State.LIVE
        full = self._put_in_front(page.entries)
        self.deepest = full or self.tail_first <= page.floor + 1
        return self._release()

    def deepen(self, page: Page) -> None:
        """Extend the tail backwards with a page, newest first, read up to its start.

        It may take several pages until a client can be answered. Raises EpochChanged.
        """
        self._check_epoch(page.epoch)
        first = self.tail_first
        full = self._put_in_front([e for e in page.entries if e.offset < first])
        at_the_floor = self.tail_first <= page.floor + 1
        # A page that adds nothing would be asked for again and again.
        self.deepest = full or at_the_floor or self.tail_first == first

    def fill(self, page: Page) -> list[Committed]:
        """Continue with entries read from history, oldest first; the hole may remain.

        Raises EpochChanged, also when the hole cannot be filled any more because
        retention has removed what was in it.
        """
        self._check_epoch(page.epoch)
        if page.floor > self.top:
            raise EpochChanged(f"log starts behind {page.floor}, after {self.top}")
        self._known_top = max(self._known_top, page.top)
        self._doubtful = False
        filled = [
            self._append(entry)
            for entry in page.entries
            if entry.offset == self.top + 1
        ]
        return filled + self._release()

    def compare(self, epoch: str, top: int) -> None:
        """Learn where the log stands after silence. Raises EpochChanged."""
        self._check_epoch(epoch)
        # A lower top is no news: an event overtook the answer.
        self._known_top = max(self._known_top, top)
        self._doubtful = False
        self._settle()

    def doubt(self) -> None:
        """The link was lost: what was said meanwhile is unknown."""
        if self.state is State.LIVE:
            self._doubtful = True
            self.state = State.BEHIND

    def can_recover(self, since: StreamPosition) -> bool:
        """Whether `recover` can answer from what is here, without a deeper read."""
        if since.epoch and since.epoch != self.epoch:
            return True
        return self.deepest or since.offset >= self.tail_first - 1

    def is_ahead(self, since: StreamPosition) -> bool:
        """Whether a client has seen, elsewhere, what has not been heard here yet."""
        return since.epoch == self.epoch and since.offset > self.top

    def recover(self, since: StreamPosition, *, newest_only: bool) -> Recovery:
        """What a client at `since` missed: all of it, or an honest no."""
        if newest_only:
            newest = [self.tail[-1]] if self.tail else []
            seen = since.epoch == self.epoch and since.offset == self.top
            return Recovery(
                recovered=seen or bool(newest), publications=[] if seen else newest
            )
        same_life = not since.epoch or since.epoch == self.epoch
        if not same_life or since.offset > self.top:
            return Recovery(recovered=False, publications=())
        if since.offset < self.tail_first - 1:
            return Recovery(recovered=False, publications=())
        missed = self.after(since.offset)
        return Recovery(recovered=True, publications=missed)

    def after(self, offset: int) -> list[Committed]:
        """Entries of the tail behind an offset, oldest first."""
        skipped = offset + 1 - self.tail_first
        if skipped <= 0:
            return list(self.tail)
        # From the end: a deque is slow in the middle, and little was missed.
        newest = [self.tail[-1 - index] for index in range(len(self.tail) - skipped)]
        return newest[::-1]

    def expire(self, now_ms: int) -> None:
        """Drop what is older than its namespace keeps; call it before the tail is shown.

        History raises the floor of its log later, in its own time.
        """
        if not self._kept.age_s:
            return
        oldest_ms = now_ms - self._kept.age_s * _MS_PER_S
        while self.tail and self.tail[0].entry.at_ms < oldest_ms:
            self._drop_oldest()

    def forget_tail(self) -> int:
        """Drop the tail to save memory; gives the bytes saved."""
        saved = self.tail_bytes
        self.tail.clear()
        self.tail_bytes = 0
        self.deepest = False
        return saved

    @property
    def hole(self) -> bool:
        """Entries are missing between `top` and what is known to exist."""
        return self.state is State.BEHIND

    def _check_epoch(self, epoch: str) -> None:
        if self.epoch and epoch != self.epoch:
            raise EpochChanged(f"epoch {epoch}, not {self.epoch}")

    def _append(self, entry: Entry) -> Committed:
        committed = Committed(entry)
        self.top = entry.offset
        self.tail.append(committed)
        self.tail_bytes += committed.size
        self._trim()
        return committed

    def _put_in_front(self, newest_first: Iterable[Entry]) -> bool:
        """Extend the tail backwards; True when it holds as much as it may."""
        for entry in newest_first:
            if entry.offset != self.tail_first - 1:
                break
            if self._kept.size and entry.offset <= self.top - self._kept.size:
                return True
            committed = Committed(entry)
            if self.tail_bytes + committed.size > limits.RECOVERY_BYTES_MAX:
                return True
            self.tail.appendleft(committed)
            self.tail_bytes += committed.size
        return False

    def _trim(self) -> None:
        while self.tail_bytes > limits.RECOVERY_BYTES_MAX or (
            0 < self._kept.size < len(self.tail)
        ):
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self.tail_bytes -= self.tail.popleft().size
        self.deepest = True

    def _hold(self, entries: Sequence[Entry]) -> None:
        self._known_top = max(self._known_top, entries[-1].offset)
        for entry in entries:
            if self._held_bytes > HELD_BACK_BYTES_MAX:
                break  # It will be read from history when its turn comes.
            self._held.append(entry)
            self._held_bytes += len(entry.data)
        if self.state is State.LIVE:
            self.state = State.BEHIND

    def _release(self) -> list[Committed]:
        """Let through what was held back and is next now."""
        let_through: list[Committed] = []
        if self._held:
            self._held.sort(key=lambda entry: entry.offset)
            still_held: list[Entry] = []
            for entry in self._held:
                if entry.offset == self.top + 1:
                    let_through.append(self._append(entry))
                elif entry.offset > self.top:
                    still_held.append(entry)
                else:
                    self.duplicates += 1
            self._held = still_held
            self._held_bytes = sum(len(entry.data) for entry in still_held)
        self._settle()
        return let_through

    def _settle(self) -> None:
        behind = self._doubtful or self._known_top > self.top
        self.state = State.BEHIND if behind else State.LIVE
