"""Who is here, as clients see it, while gateways and presence itself die."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import jwt
import pytest
from websockets.exceptions import WebSocketException

from chatmesh.local.mesh import Mesh
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.eventually import eventually
from support.instances import Corner
from support.json_client import JsonClient, json_client
from support.meshes import StartMesh
from support.presence_side import ReporterSide

pytestmark = pytest.mark.timeout(180)

TEAM: Final = "team:tea"
NAMESPACES: Final = json.dumps({"team": {"presence": True, "join_leave": True}})
SETTINGS: Final = {"CHATMESH_NAMESPACES": NAMESPACES}
HASTY: Final = {
    "CHATMESH_PRESENCE_PROCESS_LEASE_S": "7",
    "CHATMESH_PRESENCE_GRACE_S": "4",
    "CHATMESH_PRESENCE_SETTLE_S": "3",
    "CHATMESH_PRESENCE_LEASE_S": "1.5",
    "CHATMESH_PRESENCE_TICK_S": "0.3",
}


@pytest.fixture
async def listener(corner: Corner) -> AsyncIterator[ReporterSide]:
    """Hears what every gateway hears, and outlives them all."""
    async with ReporterSide.open(corner.url, corner.prefix, "listener") as opened:
        await opened.hear(TEAM)
        yield opened


def token(user: str) -> str:
    return jwt.encode({"sub": user}, DEVELOPMENT_SECRET, algorithm="HS256")


async def come_in(client: JsonClient, user: str) -> None:
    await client.connect(token(user))
    answer = await client.subscribe(TEAM, join_leave=True)
    assert "subscribe" in answer, answer


def users(listener: ReporterSide, kind: str) -> list[str]:
    """Whose joins or leaves have been told, in order of name."""
    told = [news.split(" ") for news in listener.news(TEAM)]
    return sorted(who.partition("/")[0] for what, who in told if what == kind)


class Wanderer:
    """A client that comes back by itself, to the next gateway in turn."""

    def __init__(self, mesh: Mesh, user: str, start: int) -> None:
        self.user = user
        self.here = False
        self._mesh = mesh
        self._next = start

    async def stay(self) -> None:
        while True:
            gateway = self._mesh.gateways[self._next % len(self._mesh.gateways)]
            self._next += 1
            try:
                async with json_client(gateway.ws_url) as client:
                    await come_in(client, self.user)
                    self.here = True
                    await client.goodbye(within_s=3600)
            except (WebSocketException, OSError, TimeoutError):
                # A gateway that is going, gone, or not yet there: try the next one.
                await asyncio.sleep(0.2)
            self.here = False


async def test_users_of_a_killed_gateway_are_gone_once(
    start_mesh: StartMesh, listener: ReporterSide
) -> None:
    """Who comes back elsewhere in time never left; the others leave, once each."""
    mesh = await start_mesh(others=["presence"], settings={**SETTINGS, **HASTY})
    steady, doomed = mesh.gateways
    names = [f"u{number}" for number in range(6)]
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(json_client(steady.ws_url))
        await come_in(watcher, "watcher")
        for name in names:
            client = await stack.enter_async_context(json_client(doomed.ws_url))
            await come_in(client, name)
        await eventually(
            lambda: users(listener, "join") == sorted([*names, "watcher"]), within_s=15
        )
        doomed.kill()
        for name in names[:2]:
            client = await stack.enter_async_context(json_client(steady.ws_url))
            await come_in(client, name)
        reading = asyncio.get_running_loop().create_task(watcher.goodbye(3600))
        try:
            await eventually(lambda: users(listener, "leave") == names[2:], within_s=40)
            await eventually(lambda: _leaves(watcher) == names[2:], within_s=5)
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    assert users(listener, "join") == sorted([*names, "watcher"])


def _leaves(watcher: JsonClient) -> list[str]:
    pushes = [said["push"] for said in watcher.heard if "push" in said]
    return sorted(push["leave"]["info"]["user"] for push in pushes if "leave" in push)


async def test_a_rolling_restart_of_all_gateways_is_no_storm(
    start_mesh: StartMesh, listener: ReporterSide
) -> None:
    """Every gateway is replaced under its users; nobody is told to have moved."""
    mesh = await start_mesh(others=["presence"], gateways=3, settings=SETTINGS)
    wanderers = [Wanderer(mesh, f"u{number:02}", number) for number in range(24)]
    names = [one.user for one in wanderers]
    loop = asyncio.get_running_loop()
    staying = [loop.create_task(one.stay()) for one in wanderers]
    try:
        await eventually(lambda: users(listener, "join") == names, within_s=30)
        for gateway in mesh.gateways:
            await gateway.restart()
            await eventually(lambda: all(one.here for one in wanderers), within_s=30)
        await eventually(lambda: _counted(listener, len(names)), within_s=30)

        assert users(listener, "join") == names
        assert users(listener, "leave") == []
    finally:
        for task in staying:
            task.cancel()
        await asyncio.wait(staying)


async def _counted(listener: ReporterSide, clients: int) -> bool:
    counts = await listener.counts(TEAM)
    return (counts.num_clients, counts.num_users) == (clients, clients)


async def test_a_killed_presence_is_not_noticed(
    start_mesh: StartMesh, listener: ReporterSide
) -> None:
    """Who came and went while it was down is told when it is back; nobody else is."""
    mesh = await start_mesh(others=["presence"], settings={**SETTINGS, **HASTY})
    here, there = mesh.gateways
    (presence,) = mesh.others
    async with (
        json_client(here.ws_url) as ada,
        json_client(there.ws_url) as cem,
        AsyncExitStack() as later,
    ):
        await come_in(ada, "ada")
        await come_in(cem, "cem")
        async with json_client(there.ws_url) as bob:
            await come_in(bob, "bob")
            await eventually(
                lambda: users(listener, "join") == ["ada", "bob", "cem"], within_s=15
            )
            presence.kill()
        dan = await later.enter_async_context(json_client(here.ws_url))
        await come_in(dan, "dan")
        await presence.restart()

        await eventually(lambda: users(listener, "leave") == ["bob"], within_s=30)
        assert users(listener, "join") == ["ada", "bob", "cem", "dan"]
