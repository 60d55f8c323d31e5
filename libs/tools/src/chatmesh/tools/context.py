"""What a tool knows of the call it serves, and how it says how far it is."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from chatmesh.wire.tools import Call, Progress

PROGRESS_CHARS_MAX: Final = 1000
"""A line for people; what is longer is cut."""


class ToolFailed(Exception):
    """The call failed; the sentence is for the model and for people."""


class RetryLater(ToolFailed):
    """The call failed before anything happened, and may succeed in a moment."""


class OutcomeUnknown(ToolFailed):
    """Whether the call took effect cannot be said, and it must not be repeated blindly."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call. A parameter of this type gets it; models do not see the parameter."""

    key: str
    """The same for every repetition of the call: what an idempotency key has to be."""
    room: str
    agent: str
    requester: str
    """The person at the root of the run."""
    run: str
    deadline_ms: int
    traceparent: str = ""
    tell: Callable[[Progress], None] = lambda _: None
    """Takes progress reports, from any thread."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(
        cls, call: Call, tell: Callable[[Progress], None], traceparent: str
    ) -> "ToolContext":
        return cls(
            key=call.key,
            room=call.room,
            agent=call.agent,
            requester=call.requester,
            run=call.run,
            deadline_ms=call.deadline_ms,
            traceparent=traceparent,
            tell=tell,
        )

    def progress(self, share: float | None, text: str = "") -> None:
        """Say how far the call is: 0 to 1, or None when that is not known.

        Call it as often as you like, from any thread; not every report is sent.
        """
        bounded = None if share is None else min(1.0, max(0.0, share))
        cut = text[:PROGRESS_CHARS_MAX]
        self.tell(Progress(key=self.key, progress=bounded, text=cut))

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the call to end: functions in threads have to look.

        Async functions get a CancelledError instead.
        """
        return self._stop.is_set()

    def stop(self) -> None:
        """Make `cancelled` true."""
        self._stop.set()


class Reporter:
    """Hands on the latest progress of a call, but not more often than people can read."""

    def __init__(
        self,
        send: Callable[[Progress], None],
        loop: asyncio.AbstractEventLoop,
        every_s: float,
    ) -> None:
        self._send = send
        self._loop = loop
        self._every_s = every_s
        self._latest: Progress | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._next_s = 0.0

    def tell(self, progress: Progress) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._note, progress)

    def close(self) -> None:
        """Nothing is sent after this; from the loop."""
        self._latest = None
        if self._waiting is not None:
            self._waiting.cancel()

    def _note(self, progress: Progress) -> None:
        self._latest = progress
        if self._waiting is None:
            delay_s = max(0.0, self._next_s - self._loop.time())
            self._waiting = self._loop.call_later(delay_s, self._flush)

    def _flush(self) -> None:
        self._waiting = None
        latest, self._latest = self._latest, None
        if latest is not None:
            self._next_s = self._loop.time() + self._every_s
            self._send(latest)
