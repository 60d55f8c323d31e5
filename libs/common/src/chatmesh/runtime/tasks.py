"""The one place that creates tasks: it keeps them, watches them and ends them."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")
OnFailure = Callable[[str, BaseException], None]


def heed_cancellation() -> None:
    """End this task if somebody has asked it to end; for loops that go on for ever.

    Until Python 3.12, `asyncio.wait_for` swallows a cancellation that comes in the moment
    its inner work is done, and the libraries we use call it. A loop that does not look
    by itself would then outlive the owner that waits for its end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Tasks:
    """The background work of one owner.

    A task that fails is logged and reported to `on_failure`, never lost. The owner
    awaits `stop` before it goes; afterwards nothing more can be spawned.
    """

    def __init__(self, on_failure: OnFailure | None = None) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[Any]] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start work in the background. Raises RuntimeError once stopped."""
        if self._stopped:
            coro.close()
            raise RuntimeError(f"cannot start task {name}: its owner has stopped")
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, within_s: float) -> None:
        """Cancel everything and wait for it, at most `within_s` seconds.

        A task that asks for this itself is left to end by returning. What is still
        running at the deadline is named in the log: it ate its cancellation.
        """
        self._stopped = True
        others = self._running - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if not others:
            return
        _, stuck = await asyncio.wait(others, timeout=within_s)
        for task in stuck:
            _log.error(
                "task did not stop in time",
                extra={"task": task.get_name(), "within_s": within_s},
            )

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is None:
            return
        _log.error("task failed", extra={"task": task.get_name()}, exc_info=failure)
        if self._on_failure is not None:
            self._on_failure(task.get_name(), failure)
