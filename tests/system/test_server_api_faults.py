"""The server API while parts of the mesh die."""

from typing import Final

import aiohttp
import cent
import pytest

from support.eventually import eventually
from support.meshes import StartMesh

pytestmark = pytest.mark.timeout(120)

KEY: Final = "an-api-key-for-tests"


async def test_a_gateway_that_dies_does_not_hold_up_the_others(
    start_mesh: StartMesh,
) -> None:
    """After kill -9 the API speaks for those who live, within its deadline."""
    mesh = await start_mesh(settings={"CHATMESH_GATEWAY_API_KEYS": KEY})
    here, there = mesh.gateways
    url = f"http://127.0.0.1:{here.http_port}/api"
    async with aiohttp.ClientSession() as session:
        api = cent.AsyncClient(url, KEY, session=session)

        async def names() -> list[str]:
            return [node.name for node in (await api.info(cent.InfoRequest())).nodes]

        async def both() -> bool:
            return await names() == ["gateway-1", "gateway-2"]

        await eventually(both)
        there.kill()

        assert await names() == ["gateway-1"]
        await api.disconnect(cent.DisconnectRequest(user="nobody"))
