"""People who only talk: on a raw socket, so that much is said quickly."""

import uuid
from collections.abc import Iterable

import jwt

from chatmesh.local.mesh import Gateway
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.json_client import json_client


async def talk(gateway: Gateway, user: str, room: str, texts: Iterable[str]) -> None:
    """Say these things one after the other; return when all are committed."""
    token = jwt.encode({"sub": user}, DEVELOPMENT_SECRET, algorithm="HS256")
    channel = f"room:{room}"
    async with json_client(gateway.ws_url) as client:
        await client.connect(token)
        await client.subscribe(channel)
        for text in texts:
            message = {"channel": channel, "id": str(uuid.uuid4()), "text": text}
            said = await client.ask(rpc={"method": "message.send", "data": message})
            assert "rpc" in said, said
