"""Wait for something to become true, with a deadline instead of a sleep."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")

_FIRST_LOOKS_S = 0.01
_LATER_LOOKS_S = 0.1
"""A probe may be a request or a process: those that wait for long ask less often."""


async def eventually(
    probe: Callable[[], T | Awaitable[T | None] | None],
    *,
    within_s: float = 15.0,
    reason: str = "",
) -> T:
    """Ask until the answer is true-ish, and return it.

    A probe that raises AssertionError says "not yet" as well, so it may hold asserts.
    """
    last: object = None
    pause_s = _FIRST_LOOKS_S
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        try:
            answer = probe()
            value = cast(T, await answer if inspect.isawaitable(answer) else answer)
        except AssertionError as error:
            last = error
        else:
            if value:
                return value
            last = value
        if loop.time() > deadline:
            raise AssertionError(
                f"not within {within_s:g} s: {reason or probe}; last answer: {last!r}"
            )
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LATER_LOOKS_S)
