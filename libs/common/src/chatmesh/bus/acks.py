"""Turns finished deliveries into as few acknowledgements as possible."""

from collections.abc import Iterable


class AckWindow:
    """Finished deliveries of one broker channel, whose tags ascend from 1 without gaps.

    Batches may finish out of order; one acknowledgement covers everything up to the
    first delivery that is still at work.
    """

    def __init__(self) -> None:
        self._covered = 0
        self._finished: set[int] = set()

    @property
    def covered(self) -> int:
        """Everything up to this tag has been handed out for acknowledgement."""
        return self._covered

    def finish(self, tags: Iterable[int]) -> int | None:
        """Record finished deliveries; the tag to acknowledge up to, if that moved.

        A tag is covered once and never again.
        """
        self._finished.update(tag for tag in tags if tag > self._covered)
        before = self._covered
        while self._covered + 1 in self._finished:
            self._covered += 1
            self._finished.remove(self._covered)
        return self._covered if self._covered > before else None
