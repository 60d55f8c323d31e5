"""Rooms that a gateway does not hear yet, while others talk in them."""

import asyncio
import secrets
from typing import Final

import pytest

from support.json_client import JsonClient, json_client
from support.meshes import StartMesh
from support.sdks import token, urls

pytestmark = pytest.mark.timeout(180)

ROOMS: Final = 30
MESSAGES: Final = 25
PAUSE_S: Final = 0.001


async def talk(writer: JsonClient, room: str) -> None:
    """Say all messages, one a moment, and wait until each is committed."""
    for number in range(MESSAGES):
        command = {"id": 1000 + number, "publish": {"channel": room, "data": number}}
        await writer.send(command)
        await asyncio.sleep(PAUSE_S)
    for number in range(MESSAGES):
        if not any(said.get("id") == 1000 + number for said in writer.heard):
            await writer.until(lambda said, n=number: said.get("id") == 1000 + n)
    writer.heard.clear()


async def test_whoever_comes_first_to_a_busy_room_misses_nothing(
    start_mesh: StartMesh,
) -> None:
    """Whatever is committed while its gateway binds and reads, which it does at once."""
    mesh = await start_mesh()
    first, second = urls(mesh)[:2]
    in_the_middle = 0
    async with json_client(first) as writer, json_client(second) as reader:
        await writer.connect(token("ada"))
        await reader.connect(token("bob"))
        for number in range(ROOMS):
            room = f"room:{secrets.token_hex(4)}"
            await writer.subscribe(room)
            talking = asyncio.create_task(talk(writer, room))
            await asyncio.sleep(PAUSE_S * (number % MESSAGES))

            reply = await reader.subscribe(room)
            await talking

            position = reply["subscribe"].get("offset", 0)
            if position < MESSAGES:
                in_the_middle += 1
                heard = await reader.offsets(room, MESSAGES)
                assert heard == list(range(position + 1, MESSAGES + 1))
            await writer.ask(unsubscribe={"channel": room})
    assert in_the_middle > ROOMS // 4, "the rooms were not busy"
