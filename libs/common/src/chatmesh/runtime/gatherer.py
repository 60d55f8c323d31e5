"""Group commit without timers: while one batch is on its way, the next one gathers.

One item alone never waits, and under load batches grow by themselves. The same shape
serves every hop: gateway to broker, broker to database, reads, bindings.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from chatmesh.runtime.tasks import Tasks

Item = TypeVar("Item")


class Gatherer(Generic[Item]):
    """Collects items and hands them over in batches, one batch at a time.

    `send` owns its failures: it answers for every item it was given, and an exception
    from it is a bug that the task set reports; what waits behind that batch goes all the
    same. `waiting_max` bounds what gathers, and
    `waiting_weight_max` what all of it weighs; `put` says no when either is reached,
    and the caller tells whoever asked.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[None]],
        *,
        tasks: Tasks,
        name: str,
        batch_max: int,
        waiting_max: int,
        weigh: Callable[[Item], int] | None = None,
        weight_max: int = 0,
        waiting_weight_max: int = 0,
    ) -> None:
        self._send = send
        self._tasks = tasks
        self._name = name
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._weigh = weigh
        self._weight_max = weight_max
        self._waiting_weight_max = waiting_weight_max
        self._weight = 0
        self._waiting: deque[Item] = deque()
        self._running = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Item) -> bool:
        """Take an item for the next batch; False when too many wait already."""
        if len(self._waiting) >= self._waiting_max:
            return False
        weight = self._weight_of(item)
        heavy = self._weight + weight > self._waiting_weight_max > 0
        if heavy and self._waiting:
            return False
        self._weight += weight
        self._waiting.append(item)
        if not self._running:
            self._start()
        return True

    def clear(self) -> list[Item]:
        """Take back everything that has not been handed over yet."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self._weight = 0
        return waiting

    def _start(self) -> None:
        self._running = True
        self._tasks.spawn(self._drain(), name=self._name)

    async def _drain(self) -> None:
        failed = False
        try:
            while self._waiting:
                await self._send(self._take())
        except Exception:
            failed = True
            raise  # Reported by the task set.
        finally:
            self._running = False
            if failed and self._waiting:
                # Those behind have done nothing to be stuck for.
                self._start()

    def _take(self) -> list[Item]:
        batch: list[Item] = []
        weight = 0
        while self._waiting and len(batch) < self._batch_max:
            own = self._weight_of(self._waiting[0])
            if batch and weight + own > self._weight_max > 0:
                break
            weight += own
            batch.append(self._waiting.popleft())
        self._weight -= weight
        return batch

    def _weight_of(self, item: Item) -> int:
        return self._weigh(item) if self._weigh is not None else 0
