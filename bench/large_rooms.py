"""What it costs when members of a room leave and come back, as gateways see it.

All members are connected to two gateways, and some of them leave and come back, in bursts
at an even pace: in a room where nobody is told, so that there is nothing but the change;
and in one that hears of it. What the processes take in the same time without any change is
taken off.
"""

import asyncio
import json
import secrets
import statistics
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import jwt

from bench.load import LoadClient, open_clients, reading_in_turns
from bench.measures import Figures
from bench.mesh import measured_mesh
from bench.processes import seconds_between, spent
from bench.sending import DRAIN_WITHIN_S
from chatmesh.local.guard import take_descriptors
from chatmesh.local.mesh import Mesh

CHANGES: Final = 2_000
BURST: Final = 40
BURSTS_PER_S: Final = 20
"""In bursts: what one by one shares a batch differs with the mood of the machine."""
MOVERS_MAX: Final = 50
"""So many leave, one after the other, before the first of them comes back."""
IDLE_S: Final = 3.0
LAST_TOLD_S: Final = 1.5
"""Counts come once a second at most: after so long the last of them have come."""
ASKED_TIMES: Final = 50
PAGE: Final = 100
WITHIN_S: Final = 120.0
LOOK_EVERY_S: Final = 0.2
SUBSCRIBING_AT_ONCE: Final = 100

USUAL: Final = "room"
EACH: Final = "each"
"""However many there are, everyone hears each join and each leave."""
SILENT: Final = "silent"
NAMESPACES: Final = {
    USUAL: {"presence": True, "join_leave": True},
    EACH: {"presence": True, "join_leave": True, "large_above": 1_000_000},
    SILENT: {"presence": True},
}
INFO: Final = {"name": "Ada Lovelace", "avatar": "/pictures/ada.png"}
_SECRET: Final = secrets.token_hex(32)
SETTINGS: Final = {
    "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
    "CHATMESH_GATEWAY_TOKENS_HMAC_SECRETS": _SECRET,
    # Pings are what connections cost, and there are thousands of connections.
    "CHATMESH_GATEWAY_PING_INTERVAL_S": "0",
}


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who is in the room, and whether it may be large."""

    members: int
    namespace: str = USUAL


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of time: what it took, and what members heard."""

    seconds: float
    cpu_s: dict[str, float]
    pushes: int = 0
    """To all members together."""
    pushes_each: float = 0.0
    """To one of those who only listen, in the median."""

    def us_per_change(self, part: str, idle: "Phase") -> float:
        usual_s = idle.cpu_s[part] / idle.seconds * self.seconds
        return (self.cpu_s[part] - usual_s) / CHANGES * 1e6


class LargeRoom:
    """Connected members, some of whom move."""

    def __init__(self, mesh: Mesh, crowd: Crowd, members: list[LoadClient]) -> None:
        movers = min(len(members) // 10, MOVERS_MAX)
        self._mesh = mesh
        self._members = members
        self._movers = members[:movers]
        self._listeners = members[movers:]
        self._told = f"{crowd.namespace}:crowd"
        self._untold = f"{SILENT}:crowd"

    async def enter(self) -> None:
        """Everyone subscribes, and presence knows of it."""
        for room in (self._untold, self._told):
            for start in range(0, len(self._members), SUBSCRIBING_AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    for member in self._members[start : start + SUBSCRIBING_AT_ONCE]:
                        group.create_task(member.call(_entering(room)))
            await self._until_counted(room)
        # Not measured: the database puts in order what thousands have just written.
        for room in (self._untold, self._told):
            await self._come_and_go(room)

    async def measure(self) -> Figures:
        await asyncio.sleep(LAST_TOLD_S)
        idle = await self._phase(asyncio.sleep(IDLE_S))
        untold = await self._phase(self._come_and_go(self._untold))
        told = await self._phase(self._come_and_go(self._told))
        stats_s = await self._asked({"presence_stats": {"channel": self._told}})
        page = {"channel": self._told, "limit": PAGE}
        page_s = await self._asked(
            {"rpc": {"method": "presence.members", "data": page}}
        )
        parts = list(idle.cpu_s)
        telling_us = told.us_per_change("gateways", idle) - untold.us_per_change(
            "gateways", idle
        )
        return Figures(
            "presence",
            {
                "members": len(self._members),
                "changes": CHANGES,
                "changes_per_burst": BURST,
                "bursts_per_s": BURSTS_PER_S,
                "members_per_page": PAGE,
            },
            {
                **{
                    f"untold_{part}_cpu_us_per_change": untold.us_per_change(part, idle)
                    for part in parts
                },
                **{
                    f"{part}_cpu_us_per_change": told.us_per_change(part, idle)
                    for part in parts
                },
                "pushes_per_change": told.pushes / CHANGES,
                "pushes_to_one_member": told.pushes_each,
                "seconds": told.seconds,
                "gateways_cpu_us_per_push": telling_us * CHANGES / max(told.pushes, 1),
                "stats_ms_median": statistics.median(stats_s) * 1e3,
                "first_page_ms_median": statistics.median(page_s) * 1e3,
            },
        )

    async def _come_and_go(self, room: str) -> None:
        """Members leave cleanly and come back, until there were so many changes."""
        pending: list[asyncio.Future[bytes]] = []
        begun = time.perf_counter()
        for number in range(CHANGES):
            due = begun + number // BURST / BURSTS_PER_S
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            back, mover = divmod(number, len(self._movers))
            request = _entering(room) if back % 2 else _leaving(room)
            command, waiting = self._movers[mover].expect()
            self._movers[mover].write(json.dumps({"id": command, **request}).encode())
            pending.append(waiting)
        async with asyncio.timeout(DRAIN_WITHIN_S):
            for waiting in pending:
                _sound(await waiting)
        await asyncio.sleep(LAST_TOLD_S)

    async def _phase(self, done: Coroutine[object, object, None]) -> Phase:
        own = {
            "presence": [one.pid for one in self._mesh.others],
            "gateways": [one.pid for one in self._mesh.gateways],
        }
        heard = [member.pushes for member in self._members]
        before, begun = spent(own), time.perf_counter()
        # Nobody waits for what the others read, and their reading takes a core.
        async with reading_in_turns(self._listeners):
            await done
            seconds = time.perf_counter() - begun
            cpu_s = seconds_between(before, spent(own))
        await self._until_read()
        got = [
            member.pushes - so_far
            for member, so_far in zip(self._members, heard, strict=True)
        ]
        return Phase(
            seconds, cpu_s, sum(got), statistics.median(got[len(self._movers) :])
        )

    async def _until_read(self) -> None:
        """Until no more comes of what was on its way."""
        so_far = -1
        while (now := sum(member.pushes for member in self._members)) != so_far:
            so_far = now
            await asyncio.sleep(LOOK_EVERY_S)

    async def _until_counted(self, room: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while True:
                request: dict[str, object] = {"presence_stats": {"channel": room}}
                answer = json.loads(await self._asker.call(request))
                counts: dict[str, Any] = answer.get("presence_stats", {})
                if counts.get("num_clients") == len(self._members):
                    return
                await asyncio.sleep(LOOK_EVERY_S)

    async def _asked(self, request: dict[str, object]) -> list[float]:
        """Seconds until the answer was there, asked again and again."""
        took: list[float] = []
        for _ in range(ASKED_TIMES):
            begun = time.perf_counter()
            answer = await self._asker.call(request)
            took.append(time.perf_counter() - begun)
            _sound(answer)
        return took

    @property
    def _asker(self) -> LoadClient:
        return self._listeners[-1]


@asynccontextmanager
async def measured_room(crowd: Crowd) -> AsyncGenerator[LargeRoom]:
    """Two gateways with everyone connected and in the room."""
    # This process holds the client's end of each socket.
    take_descriptors()
    tokens = [
        jwt.encode({"sub": f"user-{number}", "info": INFO}, _SECRET, algorithm="HS256")
        for number in range(crowd.members)
    ]
    async with measured_mesh(settings=SETTINGS, others=["presence"]) as mesh:
        urls = [gateway.ws_url for gateway in mesh.gateways]
        members = await open_clients(urls, crowd.members, tokens=tokens)
        room = LargeRoom(mesh, crowd, members)
        await room.enter()
        yield room
        for member in members:
            member.close()


def _entering(room: str) -> dict[str, object]:
    return {"subscribe": {"channel": room, "join_leave": True}}


def _leaving(room: str) -> dict[str, object]:
    return {"unsubscribe": {"channel": room}}


def _sound(answer: bytes) -> None:
    if b'"error"' in answer:
        raise RuntimeError(answer.decode())
