"""Where time comes from, so that everything that waits can be tested without waiting."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Production reads the machine's clocks; tests bring one that they move by hand."""

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back. For measuring and deadlines."""
        ...

    def unix_ms(self) -> int:
        """Milliseconds since the Unix epoch. For timestamps; may jump."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def unix_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
