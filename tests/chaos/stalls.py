"""When the machine kept everybody waiting, so that a limit in seconds can be fair to it.

Two ask for 50 ms of sleep, again and again, and note when they were given more: a process
that does nothing else, which shows what the machine is short of, and the loop that plays
all clients, which shows what it could not see in time.

    python -m chaos.stalls        writes a line for each stall; ends with its input
"""

import asyncio
import bisect
import json
import select
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from chatmesh.runtime.tasks import Tasks

TESTS: Final = Path(__file__).parents[1]
NAP_S: Final = 0.05
WORTH_NOTING_S: Final = 0.05
"""Less is how any machine is; limits have room for it."""
END_WITHIN_S: Final = 5.0


class Stalls:
    """Spans of time in which somebody who wanted to run could not; they do not overlap."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def add(self, since_s: float, until_s: float) -> None:
        """Note one. Two that overlap, as two see the same one, count once."""
        later: list[tuple[float, float]] = []
        while self._spans and self._spans[-1][0] > until_s:
            later.append(self._spans.pop())
        while self._spans and self._spans[-1][1] >= since_s:
            began_s, ended_s = self._spans.pop()
            since_s, until_s = min(since_s, began_s), max(until_s, ended_s)
        self._spans.append((since_s, until_s))
        self._spans += reversed(later)

    def within(self, since_s: float, until_s: float) -> float:
        """Seconds of a window that were stalled."""
        first = bisect.bisect_right(self._spans, since_s, key=lambda span: span[1])
        total_s = 0.0
        for began_s, ended_s in self._spans[first:]:
            if began_s >= until_s:
                break
            total_s += min(ended_s, until_s) - max(began_s, since_s)
        return total_s


@asynccontextmanager
async def watched() -> AsyncGenerator[Stalls]:
    """Stalls of the machine and of this loop, as they come."""
    stalls = Stalls()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos.stalls"),
        cwd=TESTS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    tasks = Tasks()
    tasks.spawn(_hear(process, stalls), name="stalls of the machine")
    tasks.spawn(_watch_loop(stalls), name="stalls of the loop")
    try:
        yield stalls
    finally:
        await tasks.stop(END_WITHIN_S)
        process.kill()
        await process.wait()


async def _hear(process: asyncio.subprocess.Process, stalls: Stalls) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        # Its clock is ours: all processes of a machine have the same monotonic one.
        since_s, until_s = json.loads(line)
        stalls.add(since_s, until_s)


async def _watch_loop(stalls: Stalls) -> None:
    while True:
        due_s = time.monotonic() + NAP_S
        await asyncio.sleep(NAP_S)
        now_s = time.monotonic()
        if now_s - due_s > WORTH_NOTING_S:
            stalls.add(due_s, now_s)


def watch() -> None:
    """Until standard input closes, which is the end of whoever asked."""
    while True:
        due_s = time.monotonic() + NAP_S
        ready, _, _ = select.select([sys.stdin], [], [], NAP_S)
        if ready:
            return
        now_s = time.monotonic()
        if now_s - due_s > WORTH_NOTING_S:
            sys.stdout.write(json.dumps([due_s, now_s]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    watch()
