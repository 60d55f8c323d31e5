"""A gateway that has missed something, as the published SDKs on it notice."""

import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from chaos.proxy import Wire, through
from chatmesh.local.amqp import DEFAULT_PORT
from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh, Plan
from chatmesh.local.ports import LOOPBACK
from support.eventually import eventually
from support.history_side import metric
from support.instances import corner_of, database_of
from support.meshes import plan_of
from support.sdks import PYTHON, Kind, Member, member, token, urls

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

FILLED: Final = "chatmesh_gateway_gaps_filled_total"
KEPT: Final = 2
NAMESPACES: Final = {"room": {}, "brief": {"history_size": KEPT}}
SETTINGS: Final = {
    "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
    "CHATMESH_HISTORY_RETENTION_EVERY_S": "0.2",
}


class WiredMesh(Mesh):
    """A mesh whose first gateway reaches the broker through a wire of its own."""

    def __init__(self, plan: Plan) -> None:
        broker = urlsplit(plan.amqp_url)
        target = broker.hostname or LOOPBACK, broker.port or DEFAULT_PORT
        self.wire = Wire("first gateway to broker", [target])
        super().__init__(plan)

    async def start(self) -> None:
        await self.wire.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self.wire.stop()

    @asynccontextmanager
    async def first_cut_off(self) -> AsyncGenerator[None]:
        """The first gateway has lost the broker, and its queue, and gets no other."""
        self.wire.stall()
        self.wire.reset()
        try:
            yield
        finally:
            self.wire.mend()

    def apart(self, name: str) -> Mapping[str, str]:
        if name != "gateway-1":
            return {}
        return {"CHATMESH_AMQP_URL": through(self.plan.amqp_url, self.wire.port)}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[WiredMesh]:
    """Two gateways, the first of which can be cut off, for all tests here."""
    folder = tmp_path_factory.mktemp("logs")
    async with (
        corner_of(instances) as corner,
        database_of(instances.database_url, migrated_template) as url,
        WiredMesh(plan_of(corner, url, folder, settings=SETTINGS)) as running,
    ):
        yield running


async def floor(mesh: Mesh, channel: str) -> int:
    """How far the channel's history is gone for good."""
    async with httpx.AsyncClient() as http:
        told = await http.get(f"{mesh.history.http_url}/v1/channels/{channel}")
    return told.raise_for_status().json()["floor"]


def changes(one: Member) -> list[str]:
    """What became of a client's connection and subscriptions, without publications."""
    return [told["event"] for told in one.sdk.events if told["event"] != "publication"]


async def test_what_a_gateway_missed_is_filled_in(mesh: WiredMesh, kind: Kind) -> None:
    """In order, once, while connection and subscriptions stand, the server's too."""
    mine, listed = (f"room:{secrets.token_hex(4)}" for _ in range(2))
    here, there = urls(mesh)
    async with (
        member(kind, here, token("ada", channels=[listed])) as ada,
        member(PYTHON, there, token("bob")) as bob,
    ):
        await ada.hears("server subscribed", channel=listed)
        for one in (ada, bob):
            await one.enters(mine)
        await bob.enters(listed)
        for channel in (mine, listed):
            await bob.send(channel, "m1")
            assert await ada.has_heard(channel, 1) == [1]
        before = changes(ada)
        filled = await metric(mesh.gateways[0], FILLED)

        async with mesh.first_cut_off():
            for channel in (mine, listed):
                for number in range(2, 8):
                    await bob.send(channel, f"m{number}")

        for channel in (mine, listed):
            await ada.has_heard(channel, 7)
            await bob.send(channel, "m8")
            assert await ada.has_heard(channel, 8) == list(range(1, 9))
        assert changes(ada) == before
        assert await metric(mesh.gateways[0], FILLED) >= filled + 2


async def test_who_stands_where_history_does_not_reach_is_told_and_comes_back(
    mesh: WiredMesh, kind: Kind
) -> None:
    """By 2500 or, where the server has subscribed, 3010; elsewhere nobody notices."""
    channel = f"brief:{secrets.token_hex(4)}"
    here, there = urls(mesh)
    async with (
        member(kind, here, token("ada")) as ada,
        member(kind, here, token("cat", channels=[channel])) as cat,
        member(PYTHON, there, token("bob")) as bob,
    ):
        await cat.hears("server subscribed", channel=channel)
        for one in (ada, bob):
            await one.enters(channel)
        await bob.send(channel, "m1")
        for one in (ada, cat):
            assert await one.has_heard(channel, 1) == [1]

        async with mesh.first_cut_off():
            for number in range(2, 8):
                await bob.send(channel, f"m{number}")

            async def gone() -> bool:
                return await floor(mesh, channel) == 7 - KEPT

            await eventually(gone, within_s=10)

        await ada.hears("subscribing", channel=channel, code=2500)
        await cat.hears("connecting", code=3010)
        for one, told in ((ada, "subscribed"), (cat, "server subscribed")):
            back = await one.hears(told, 2, channel=channel)
            assert (back["wasRecovering"], back["recovered"]) == (True, False)
        await bob.send(channel, "m8")
        for one in (ada, cat):
            assert await one.has_heard(channel, 8) == [1, 8]
        assert changes(ada).count("connected") == 1
        assert changes(cat).count("connected") == 2
        assert await bob.has_heard(channel, 8) == list(range(1, 9))
        assert changes(bob).count("subscribed") == changes(bob).count("connected") == 1
