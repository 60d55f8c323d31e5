"""Which agents are where, and what presence is told of it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatmesh.agent.agents import Agent, Trigger
from chatmesh.agent.attendance import ACTIVE_EVERY_S, Attendance, Doing, Where, present
from chatmesh.agent.ports import Place
from chatmesh.bus.presence_reports import PresenceReports
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire.presence import Active, Change, Joined, PresenceLease, PresenceReport
from chatmesh.wire.runs import IDLE, RunStatus
from support.manual_clock import ManualClock, settle

OWL = Agent(
    name="owl",
    title="Owl",
    rooms=("room:*",),
    trigger=Trigger(direct=("room:owl", "room:owl-*", "elsewhere:owl")),
)
AGENTS = {"owl": OWL}
HERE = Where("room:a", "owl")


def place(room: str, *, performed: bool = False, position: int = 0) -> Place:
    return Place("owl", room, performed, position, queued=position > 0)


def test_an_agent_is_in_its_own_rooms_and_where_it_is_asked() -> None:
    """Idle, or waiting for its turn; what another replica performs, that one tells."""
    places = [
        place("room:a"),
        place("room:b", position=3),
        place("room:c", performed=True),
        Place("gone", "room:a", performed=False, position=0, queued=False),
    ]
    assert present(AGENTS, places, {}, on_duty=True) == {
        Where("room:owl", "owl"): Doing(IDLE),
        Where("room:a", "owl"): Doing(IDLE),
        Where("room:b", "owl"): Doing(RunStatus.QUEUED, (("position", 3),)),
    }


def test_what_is_performed_here_is_told_here() -> None:
    """Whoever has the duty, and whatever the book has seen so far."""
    streaming = Doing(RunStatus.STREAMING)
    for on_duty in (True, False):
        told = present(AGENTS, [place("room:a")], {HERE: streaming}, on_duty=on_duty)
        assert told[HERE] == streaming
    assert present(AGENTS, [place("room:a")], {}, on_duty=False) == {}


@dataclass
class Reported:
    """What came to presence of one replica's reports."""

    connected: bool = True
    reply_to: str = "me"
    reports: list[PresenceReport] = field(default_factory=list[PresenceReport])

    async def send_report(self, report: PresenceReport) -> None:
        await asyncio.sleep(0)
        self.reports.append(report)

    async def send_lease(self, lease: PresenceLease) -> None:
        await asyncio.sleep(0)

    def news(self) -> Sequence[str]:
        """Everything since the last look, in words."""
        changes = [one for report in self.reports for one in report.changes]
        self.reports.clear()
        return [_in_words(one) for one in changes]


def _in_words(change: Change) -> str:
    match change:
        case Joined():
            return f"{change.user} in {change.channel}: {json.loads(change.chan_info)}"
        case Active():
            return f"{change.what} {'on' if change.active else 'off'}"
        case _:
            return f"left {change.channel}"


class NoPlaces:
    """A book that nobody looks into."""

    async def take_duty(self, duty: str, lease_s: float) -> bool:
        raise NotImplementedError

    async def places(self, within_s: float, most: int) -> list[Place]:
        raise NotImplementedError


async def test_a_change_is_told_once_and_an_activity_again_and_again() -> None:
    """An activity that is not told again is forgotten by those who show it."""
    clock, way, doings = ManualClock(), Reported(), dict[Where, Doing]()
    reports = PresenceReports(way, origin="r1", clock=clock, tasks=Tasks())
    attendance = Attendance(
        NoPlaces(),
        reports,
        me="r1",
        agents=lambda: AGENTS,
        here=lambda: doings,
        clock=clock,
        linger_s=0,
    )

    async def news() -> Sequence[str]:
        attendance.tell()
        await settle()
        return way.news()

    doings[HERE] = Doing(RunStatus.THINKING)
    assert await news() == [
        "agent:owl in room:a: {'status': 'thinking'}",
        "thinking on",
    ]
    assert await news() == []
    clock.pass_time(ACTIVE_EVERY_S)
    assert await news() == ["thinking on"]
    doings[HERE] = Doing(RunStatus.TOOL, (("tool", "add"),))
    assert await news() == [
        "thinking off",
        "agent:owl in room:a: {'status': 'tool', 'tool': 'add'}",
        "tool on",
    ]
    doings.clear()
    assert await news() == ["tool off", "left room:a"]
