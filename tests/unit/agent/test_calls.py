"""Who may stop a run, how much a snapshot holds, and who waits for whom."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import msgspec
import pytest

from chatmesh.agent.agents import shipped
from chatmesh.agent.calls import Calls, fitting, may_stop
from chatmesh.agent.draft import Shown, StepShown, ToolShown
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.ports import RunBookUnavailable
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import limits
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from support.manual_clock import ManualClock, settle


@pytest.mark.parametrize(
    ("role", "user", "whose"),
    [
        ("owner", "ada", "*"),
        ("moderator", "ada", "*"),
        ("member", "ada", "*"),
        ("guest", "ada", "ada"),
        ("guest", "", None),
        ("", "ada", "ada"),
        ("owner", "agent:owl", None),
    ],
)
def test_who_may_stop(role: str, user: str, whose: str | None) -> None:
    """Members everything, guests their own, agents nothing."""
    assert may_stop(role, user) == whose


def shown(number: int, text: str, result: str) -> Shown:
    tools = [ToolShown("c", "t", result=result)]
    return Shown(
        run=str(number),
        agent="owl",
        title="Owl",
        picture="",
        trigger="m",
        requester="ada",
        attempt=1,
        epoch=1,
        step=1,
        seq=1,
        status="streaming",
        status_detail={},
        started_ms=0,
        steps=[StepShown(1, text, tools)],
    )


def test_a_snapshot_of_a_busy_room_fits_into_one_answer() -> None:
    """Results of tools are cut before any text is."""
    runs = [shown(n, "x" * 10_000, "y" * 8000) for n in range(70)]
    found = fitting(runs)
    assert len(msgspec.json.encode(found)) <= limits.SERVICE_ANSWER_BYTES_MAX
    assert len(found) == len(runs)
    assert all(len(run["steps"][0]["text"]) == 10_000 for run in found)


def test_a_snapshot_leaves_out_no_run() -> None:
    """What does not fit even so is there without its text."""
    runs = [shown(n, "x" * 20_000, "y" * 8000) for n in range(200)]
    found = fitting(runs)
    assert len(msgspec.json.encode(found)) <= limits.SERVICE_ANSWER_BYTES_MAX
    assert [run["run"] for run in found] == [str(n) for n in range(200)]
    whole = [bool(run["steps"]) for run in found]
    assert whole[0]
    assert not whole[-1]


def test_a_small_snapshot_is_whole() -> None:
    """Nothing is cut that fits."""
    assert fitting([shown(1, "x", "y" * 8000)]) == [shown(1, "x", "y" * 8000)]


class Book:
    """A book whose snapshots take until the test lets them go on."""

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.open = asyncio.Event()
        self.down = False

    async def open_in(self, channel: str) -> Sequence[object]:
        self.looked.append(channel)
        await self.open.wait()
        if self.down:
            raise RunBookUnavailable("down")
        return []

    async def stop(self, **_: object) -> list[str]:
        await asyncio.sleep(0)
        return []


class Asking:
    """Calls of clients, and what they were answered."""

    def __init__(self) -> None:
        self.book = Book()
        self.answers: list[ServiceAnswer] = []
        self.tasks = Tasks()
        nothing: Callable[..., Any] = lambda *_: None  # noqa: E731 - of any kind
        self.calls = Calls(
            book=cast("Any", self.book),
            room=cast("Any", None),
            link=self,
            agents=shipped,
            shown=nothing,
            wake=nothing,
            others={},
            tasks=self.tasks,
            clock=ManualClock(),
            metrics=Metrics(),
        )
        self._asked = 0

    async def answer(self, reply_to: str, answer: ServiceAnswer) -> None:
        del reply_to
        await asyncio.sleep(0)
        self.answers.append(answer)

    def ask(self, method: str, channel: str = "room:a") -> int:
        self._asked += 1
        self.calls.hear(
            ServiceCall(
                self._asked,
                "replies",
                method,
                channel,
                "ada",
                "c",
                "member",
                b"",
                10**15,
            )
        )
        return self._asked


@pytest.fixture
async def asking() -> AsyncIterator[Asking]:
    asking = Asking()
    yield asking
    await asking.tasks.stop(1)


async def test_a_stop_does_not_wait_for_snapshots(asking: Asking) -> None:
    """However many rooms are opened at the same time, and however slow that is."""
    for number in range(100):
        asking.ask("run.snapshot", f"room:{number}")
    await settle()
    stop = asking.ask("run.stop")
    await settle()
    assert [one.request for one in asking.answers] == [stop]


async def test_a_room_is_looked_at_once_for_all_who_open_it(asking: Asking) -> None:
    """But anew for who comes after the look: they have heard what is newer."""
    first = [asking.ask("run.snapshot") for _ in range(3)]
    await settle()
    later = [asking.ask("run.snapshot") for _ in range(50)]
    await settle()
    assert asking.book.looked == ["room:a"]
    asking.book.open.set()
    await settle(50)
    assert sorted(one.request for one in asking.answers) == first + later
    assert {bytes(one.data) for one in asking.answers} == {b'{"runs":[]}'}
    assert asking.book.looked == ["room:a"] * 2


async def test_everybody_hears_that_a_look_has_failed(asking: Asking) -> None:
    """And the next one is made all the same."""
    asking.book.down = True
    asking.book.open.set()
    for _ in range(3):
        asking.ask("run.snapshot")
    await settle(50)
    assert [one.error_code for one in asking.answers] == [100] * 3
    asking.book.down = False
    asking.ask("run.snapshot")
    await settle(50)
    assert asking.answers[-1].error_code == 0
