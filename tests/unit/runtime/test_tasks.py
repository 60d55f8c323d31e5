"""Background work: kept, watched, ended."""

import asyncio
import gc
import logging

import pytest

from chatmesh.runtime.tasks import Tasks


async def forever() -> None:
    await asyncio.Event().wait()


async def fail(reason: str) -> None:
    await asyncio.sleep(0)
    raise RuntimeError(reason)


async def test_a_task_gives_its_result() -> None:
    """Whoever spawned may still await what comes out."""

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert await Tasks().spawn(answer(), name="answer") == 42


async def test_a_task_is_kept_while_it_runs() -> None:
    """Nobody else holds it, and it is not collected in the middle of its work."""
    tasks = Tasks()
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        done.set()

    tasks.spawn(work(), name="work")
    gc.collect()
    await asyncio.wait_for(done.wait(), 5)

    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_a_failure_is_logged_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A task that dies is never silent: name, traceback, and a call to the owner."""
    heard: list[tuple[str, str]] = []
    tasks = Tasks(on_failure=lambda name, error: heard.append((name, str(error))))

    await asyncio.wait({tasks.spawn(fail("broken"), name="feed")})

    assert heard == [("feed", "broken")]
    assert [record.message for record in caplog.records] == ["task failed"]
    assert caplog.records[0].exc_info is not None


async def test_a_failure_without_a_listener_is_still_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not asking to be told does not make errors quiet."""
    await asyncio.wait({Tasks().spawn(fail("broken"), name="feed")})

    assert "task failed" in caplog.text


async def test_stop_ends_everything_and_reports_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Being stopped is no failure."""
    heard: list[str] = []
    tasks = Tasks(on_failure=lambda name, _: heard.append(name))
    spawned = [tasks.spawn(forever(), name=f"loop {n}") for n in range(3)]
    await asyncio.sleep(0)

    await tasks.stop(within_s=5)

    assert all(task.cancelled() for task in spawned)
    assert heard == []
    assert caplog.records == []


async def test_stop_waits_for_tasks_that_clean_up() -> None:
    """A task may finish its sentence before it goes."""
    tasks = Tasks()
    cleaned = asyncio.Event()

    async def tidy() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    tasks.spawn(tidy(), name="tidy")
    await asyncio.sleep(0)

    await tasks.stop(within_s=5)

    assert cleaned.is_set()


async def test_a_task_that_eats_its_cancellation_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Stop keeps its deadline and says who did not."""
    tasks = Tasks()
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = tasks.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)

    await tasks.stop(within_s=0.02)

    assert [vars(record)["task"] for record in caplog.records] == ["stubborn"]
    release.set()
    await task


async def test_a_task_may_stop_its_own_owner() -> None:
    """It is not asked to cancel itself."""
    tasks = Tasks()

    async def last() -> str:
        await tasks.stop(within_s=5)
        return "done"

    assert await tasks.spawn(last(), name="last") == "done"


async def test_nothing_is_spawned_after_stop() -> None:
    """Work that nobody would end is refused, without a never-awaited warning."""
    tasks = Tasks()
    await tasks.stop(within_s=1)

    with pytest.raises(RuntimeError, match="late"):
        tasks.spawn(forever(), name="late")


@pytest.fixture(autouse=True)
def _collect_records(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
