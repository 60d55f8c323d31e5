"""A gateway that has stood still hears what was said meanwhile before it judges anybody."""

import asyncio
import json

import jwt
import pytest
from websockets.asyncio.client import connect

from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.meshes import StartMesh

pytestmark = pytest.mark.timeout(120)

CONNECT_WITHIN_S = 1


async def test_a_connect_that_waited_in_the_socket_is_answered(
    start_mesh: StartMesh,
) -> None:
    """The client was in time; 3502 would keep its SDK away for good."""
    within = str(CONNECT_WITHIN_S)
    mesh = await start_mesh(settings={"CHATMESH_GATEWAY_CONNECT_WITHIN_S": within})
    gateway = mesh.gateways[0]
    token = jwt.encode({"sub": "ada"}, DEVELOPMENT_SECRET, algorithm="HS256")
    sockets = [
        await connect(gateway.ws_url, compression=None, ping_interval=None)
        for _ in range(20)
    ]

    gateway.pause()
    for socket in sockets:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
    await asyncio.sleep(CONNECT_WITHIN_S + 2)
    gateway.resume()

    for socket in sockets:
        answer = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert answer["connect"]["client"]
        await socket.close()
