"""Group commit without timers: batches by themselves, bounded by count and by weight."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from support.manual_clock import settle


class Door:
    """Where batches go; it is shut until the test opens it."""

    def __init__(self, tasks: Tasks, **bounds: int) -> None:
        self.batches: list[list[str]] = []
        self.open = asyncio.Event()
        self.gatherer = Gatherer[str](
            self._send,
            tasks=tasks,
            name="test",
            weigh=len,
            **{"batch_max": 3, "waiting_max": 5, **bounds},
        )

    async def _send(self, batch: list[str]) -> None:
        self.batches.append(batch)
        await self.open.wait()

    def put(self, *items: str) -> list[bool]:
        return [self.gatherer.put(item) for item in items]


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.stop(1)


async def all_out(door: Door) -> list[list[str]]:
    door.open.set()
    await settle()
    return door.batches


async def test_one_alone_goes_at_once_and_the_others_gather_behind_it(
    tasks: Tasks,
) -> None:
    """Batches grow while one is on its way, up to their bound."""
    door = Door(tasks)
    door.put("a")
    await asyncio.sleep(0)
    assert door.batches == [["a"]]

    door.put("b", "c", "d", "e")

    assert await all_out(door) == [["a"], ["b", "c", "d"], ["e"]]


async def test_too_many_waiting_are_refused(tasks: Tasks) -> None:
    """And room comes back when a batch goes."""
    door = Door(tasks)

    assert door.put(*"abcdef") == [True] * 5 + [False]

    await all_out(door)
    assert door.put("g") == [True]
    await asyncio.sleep(0)


async def test_a_batch_has_a_weight_and_something_heavier_goes_alone(
    tasks: Tasks,
) -> None:
    """Nothing is too heavy to go at all."""
    door = Door(tasks, weight_max=4)

    door.put("aa", "bb", "c", "heavyweight", "d")

    assert await all_out(door) == [["aa", "bb"], ["c"], ["heavyweight"], ["d"]]


async def test_what_waits_has_a_weight_too(tasks: Tasks) -> None:
    """Refused beyond it, unless nothing else waits; taken back, it weighs nothing."""
    door = Door(tasks, waiting_weight_max=6)

    assert door.put("heavyweight", "a") == [True, False]
    assert door.gatherer.clear() == ["heavyweight"]
    assert door.put("aaa", "bbb", "c") == [True, True, False]

    await all_out(door)
    assert door.put("cccccc", "d") == [True, False]
    await asyncio.sleep(0)


async def test_a_batch_that_fails_does_not_hold_up_those_behind_it() -> None:
    """The failure is reported, once, and the next batch goes without waiting for a put."""
    failures: list[str] = []
    tasks = Tasks(lambda _, failure: failures.append(str(failure)))
    sent: list[list[str]] = []

    async def send(batch: list[str]) -> None:
        await asyncio.sleep(0)
        if batch == ["bad"]:
            raise ValueError("no such thing")
        sent.append(batch)

    gatherer = Gatherer[str](send, tasks=tasks, name="test", batch_max=1, waiting_max=9)
    assert [gatherer.put(item) for item in ("a", "bad", "b", "bad")] == [True] * 4
    await settle()

    assert (sent, failures) == ([["a"], ["b"]], ["no such thing"] * 2)
    assert gatherer.put("c")
    await settle()
    assert sent[-1] == ["c"]
    await tasks.stop(1)
