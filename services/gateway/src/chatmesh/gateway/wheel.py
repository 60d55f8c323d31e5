"""One shared wheel for everything that has to look at the clock per connection.

Pings, missing pongs, unfinished handshakes and expiring tokens all ask to be turned to
at some second; the wheel keeps them in slots, so that a second costs what is due in it.
"""

from typing import Protocol


class Rider(Protocol):
    """Something that has to be looked at from time to time."""

    due_slot: int

    def turn(self, now_s: float) -> float | None:
        """Look at the clock; gives the next time to be turned to, None for never."""
        ...


class Wheel:
    """Slots of one second, by any steadily growing clock."""

    def __init__(self, now_s: float) -> None:
        self._slots: dict[int, dict[Rider, None]] = {}
        self._turned = int(now_s)

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def board(self, rider: Rider, at_s: float) -> None:
        """Turn to a rider at the first whole second from `at_s`; replaces its last time."""
        self.leave(rider)
        slot = max(int(at_s) + (at_s > int(at_s)), self._turned + 1)
        rider.due_slot = slot
        self._slots.setdefault(slot, {})[rider] = None

    def leave(self, rider: Rider) -> None:
        slot = self._slots.get(rider.due_slot)
        if slot is not None:
            slot.pop(rider, None)
            if not slot:
                del self._slots[rider.due_slot]

    def turn(self, now_s: float) -> int:
        """Turn to every rider that is due; gives how many there were."""
        turned = 0
        last = int(now_s)
        # After a pause of the process a single pass serves all the slots it slept over.
        for slot in sorted(slot for slot in self._slots if slot <= last):
            for rider in self._slots.pop(slot, {}):
                next_s = rider.turn(now_s)
                turned += 1
                if next_s is not None:
                    self._turned = max(self._turned, slot)
                    self.board(rider, max(next_s, now_s))
        self._turned = max(self._turned, last)
        return turned
