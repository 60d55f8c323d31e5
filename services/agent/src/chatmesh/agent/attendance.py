"""Agents as members of their rooms, with what they do there, for as long as they live.

An agent is present in rooms that are named for it, and where it was asked of late. Whoever
performs a run says what the agent does in that room; one replica says the rest for all. Both
is told to presence by lease, as gateways tell of their connections: it ends with the process.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from chatmesh.agent.agents import Agent
from chatmesh.agent.ports import Place, RunBookUnavailable
from chatmesh.agent.triggers import matches
from chatmesh.bus.presence_reports import PresenceReports
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import heed_cancellation
from chatmesh.wire.channels import ROOM_NAMESPACE, namespace_of
from chatmesh.wire.presence import Active, Joined, Left
from chatmesh.wire.runs import IDLE, RunStatus, agent_face, agent_user

_log = logging.getLogger(__name__)

TICK_S: Final = 0.25
"""A status that lasted for less is not told; the events of the run have told it."""
LOOK_EVERY_S: Final = 1.0
"""How often the book is asked where agents are."""
DUTY: Final = "attendance"
DUTY_S: Final = 5.0
"""A replica that does not renew its duty for so long has it no more."""
ACTIVE_EVERY_S: Final = 2.0
"""An activity is told again before those who heard of it forget it."""
PLACES_MAX: Final = 2000
_WILD: Final = frozenset("*?[")

_encode: Final = msgspec.json.Encoder().encode


class Where(NamedTuple):
    """An agent in a room."""

    channel: str
    agent: str


class Doing(NamedTuple):
    """What an agent does in a room."""

    status: str
    """A `RunStatus`, or `IDLE`."""
    detail: tuple[tuple[str, object], ...] = ()
    """What the status event of the run says besides: tool, position."""

    @property
    def busy(self) -> bool:
        return self.status != IDLE


def present(
    agents: Mapping[str, Agent],
    places: Iterable[Place],
    here: Mapping[Where, Doing],
    *,
    on_duty: bool,
) -> dict[Where, Doing]:
    """Who is where, as this replica has to say it. `here`: what is performed by it."""
    found: dict[Where, Doing] = {}
    if on_duty:
        for agent in agents.values():
            found |= {
                Where(room, agent.name): Doing(IDLE) for room in _own_rooms(agent)
            }
        for place in places:
            agent = agents.get(place.agent)
            if agent is None or not matches(place.channel, agent.rooms):
                continue
            where = Where(place.channel, place.agent)
            if place.performed:
                # Whoever performs it says so.
                found.pop(where, None)
            elif place.queued:
                position = (("position", place.position),) if place.position else ()
                found[where] = Doing(RunStatus.QUEUED, position)
            else:
                found[where] = Doing(IDLE)
    return found | dict(here)


def _own_rooms(agent: Agent) -> list[str]:
    """The rooms that its declaration names, and does not only describe."""
    named = {*agent.rooms, *agent.trigger.direct}
    return [
        room
        for room in named
        if not _WILD & set(room)
        and namespace_of(room) == ROOM_NAMESPACE
        and matches(room, agent.rooms)
    ]


class Places(Protocol):
    """The part of the book of runs that says where agents are; see `ports.RunBook`."""

    async def take_duty(self, duty: str, lease_s: float) -> bool: ...

    async def places(self, within_s: float, most: int) -> list[Place]: ...


class Attendance:
    """What one replica tells presence."""

    def __init__(
        self,
        book: Places,
        reports: PresenceReports,
        *,
        me: str,
        agents: Callable[[], Mapping[str, Agent]],
        here: Callable[[], Mapping[Where, Doing]],
        clock: Clock,
        linger_s: float,
    ) -> None:
        """`linger_s`: an agent stays for so long where it was asked last."""
        self._book = book
        self._reports = reports
        self._me = me
        self._agents = agents
        self._here = here
        self._clock = clock
        self._linger_s = linger_s
        self._places: Sequence[Place] = ()
        self._on_duty = False
        self._looked_s = -LOOK_EVERY_S
        self._told: dict[Where, Doing] = {}
        self._faces: dict[Where, bytes] = {}
        self._active_s: dict[Where, float] = {}

    async def run(self) -> None:
        """Tell what changes, and stay alive, until cancelled."""
        while True:
            heed_cancellation()
            await self._look()
            self.tell()
            self._reports.tend()
            await self._clock.sleep(TICK_S)

    async def _look(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        try:
            self._on_duty = await self._book.take_duty(DUTY, DUTY_S)
            self._places = (
                await self._book.places(self._linger_s, PLACES_MAX)
                if self._on_duty
                else ()
            )
        except RunBookUnavailable as error:
            # What was known last goes on to be told; whoever else takes the duty over
            # tells the same of the same agents.
            _log.debug("places of agents not read", extra={"cause": str(error)})

    def tell(self) -> None:
        """Tell what is different from what was told before."""
        agents = self._agents()
        now = present(agents, self._places, self._here(), on_duty=self._on_duty)
        for where in [one for one in self._told if one not in now]:
            self._active(where, self._told.pop(where), goes_on=False)
            self._faces.pop(where, None)
            # Not for good: another replica may go on with it in a moment.
            self._reports.left(Left(where.channel, self._client(where)))
        for where, doing in now.items():
            agent = agents.get(where.agent)
            face = agent_face(agent.title, agent.picture) if agent else b""
            before = self._told.get(where)
            if before == doing and self._faces.get(where) == face:
                self._active(where, doing, goes_on=True)
                continue
            if before is not None and before.status != doing.status:
                self._active(where, before, goes_on=False)
            self._told[where], self._faces[where] = doing, face
            self._reports.joined(
                Joined(
                    where.channel,
                    self._client(where),
                    agent_user(where.agent),
                    face,
                    _encode({"status": doing.status, **dict(doing.detail)}),
                )
            )
            self._active(where, doing, goes_on=True)

    def _active(self, where: Where, doing: Doing, *, goes_on: bool) -> None:
        """Somebody who does something is shown doing it, a few seconds at a time."""
        if not doing.busy:
            return
        if not goes_on:
            self._active_s.pop(where, None)
        else:
            now_s = self._clock.monotonic_s()
            if now_s - self._active_s.get(where, -ACTIVE_EVERY_S) < ACTIVE_EVERY_S:
                return
            self._active_s[where] = now_s
        user = agent_user(where.agent)
        self._reports.tell(Active(where.channel, user, goes_on, str(doing.status)))

    def _client(self, where: Where) -> str:
        return f"{agent_user(where.agent)}@{self._me}"
