"""What of a room has been shown: every committed publication once, without holes.

Pure: it is told what arrives and says what to do about it. Whoever asks reads missing
pages and shows lines.
"""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What to do with a publication that arrived."""

    SHOW = "show"
    REPEAT = "repeat"
    """Shown before; drop it."""
    GAP = "gap"
    """Something before it is missing; read that first."""


@dataclass(slots=True)
class Transcript:
    """How far one room has been shown. Offsets of a room are dense and start at 1."""

    position: int = 0
    """Offset of the newest publication that needs no more showing."""
    epoch: str = ""
    started: bool = False

    def start(self, top: int, epoch: str) -> None:
        """Begin (again) behind everything up to `top`, in that life of the log."""
        self.position = top
        self.epoch = epoch
        self.started = True

    def belongs(self, epoch: str) -> bool:
        """Whether that is the life of the log this transcript is about."""
        return not self.epoch or not epoch or epoch == self.epoch

    def judge(self, offset: int) -> Verdict:
        """Decide about a publication; offset 0 is ephemeral and always shown."""
        if not offset or not self.started:
            return Verdict.SHOW
        if offset <= self.position:
            return Verdict.REPEAT
        return Verdict.SHOW if offset == self.position + 1 else Verdict.GAP

    def shown(self, offset: int) -> None:
        """Move on; never back."""
        self.position = max(self.position, offset)
