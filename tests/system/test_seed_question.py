"""The question this project began with: who sees what when there are many servers.

A thousand users on five gateways in twenty rooms, and everyone posts. Every member of a
room has to see the same list: complete, once, in the same order.
"""

import asyncio
import json
import time
from collections import Counter
from typing import Any, Final

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect

from chatmesh.local.mesh import Mesh
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.meshes import StartMesh

pytestmark = pytest.mark.timeout(240)

USERS: Final = 1000
GATEWAYS: Final = 5
ROOMS: Final = 20
POSTS_EACH: Final = 3
CONNECTS_AT_ONCE: Final = 50
ALL_HEARD_WITHIN_S: Final = 60.0

Seen = list[tuple[int, str, str]]


class Member:
    """One user in one room: posts, and notes what it sees, as it sees it."""

    def __init__(self, number: int) -> None:
        self.user = f"user-{number}"
        self.room = f"room:seed-{number % ROOMS}"
        self.gateway = number // ROOMS % GATEWAYS
        self.seen: Seen = []
        self.offsets: dict[str, int] = {}
        """Where its own posts are, as it was answered."""
        self.complete = asyncio.Event()
        self._socket: ClientConnection | None = None

    async def enter(self, mesh: Mesh) -> None:
        url = mesh.gateways[self.gateway].ws_url
        self._socket = await connect(
            url, compression=None, ping_interval=None, open_timeout=30
        )
        claims = {"sub": self.user}
        token = jwt.encode(claims, DEVELOPMENT_SECRET, algorithm="HS256")
        await self._send(
            {"id": 1, "connect": {"token": token}},
            {"id": 2, "subscribe": {"channel": self.room}},
        )
        entered = False
        while not entered:
            for said in await self._read():
                assert "error" not in said, said
                entered = entered or "subscribe" in said

    async def post(self) -> None:
        """Everything this user has to say, without waiting for answers."""
        await self._send(
            *[
                {
                    "id": 10 + number,
                    "rpc": {
                        "method": "message.send",
                        "data": {
                            "channel": self.room,
                            "id": f"{self.user}-{number}",
                            "text": f"post {number} of {self.user}",
                        },
                    },
                }
                for number in range(POSTS_EACH)
            ]
        )

    async def listen(self, expected: int) -> None:
        while len(self.seen) < expected or len(self.offsets) < POSTS_EACH:
            for said in await self._read():
                self._hear(said)
        self.complete.set()

    def _hear(self, said: dict[str, Any]) -> None:
        if "push" in said:
            pub = said["push"]["pub"]
            assert said["push"]["channel"] == self.room
            seen = pub["offset"], pub["data"]["id"], pub["info"]["user"]
            self.seen.append(seen)
        elif said:
            assert "error" not in said, said
            place = said["rpc"]["data"]
            self.offsets[place["id"]] = place["offset"]

    async def leave(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def _send(self, *commands: dict[str, Any]) -> None:
        assert self._socket is not None
        await self._socket.send("\n".join(json.dumps(one) for one in commands))

    async def _read(self) -> list[dict[str, Any]]:
        assert self._socket is not None
        said = [json.loads(line) for line in str(await self._socket.recv()).split("\n")]
        if {} in said:
            await self._socket.send("{}")
        return said


async def together(members: list[Member], mesh: Mesh) -> None:
    """Everyone enters, a few at a time."""
    waiting = iter(members)

    async def usher() -> None:
        for one in waiting:
            await one.enter(mesh)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTS_AT_ONCE):
            group.create_task(usher())


async def test_a_thousand_users_on_five_gateways_see_the_same(
    start_mesh: StartMesh,
) -> None:
    """Twenty rooms, everyone posts, and every list is the same list."""
    mesh = await start_mesh(gateways=GATEWAYS, histories=2)
    members = [Member(number) for number in range(USERS)]
    expected = USERS // ROOMS * POSTS_EACH
    try:
        await together(members, mesh)
        began_s = time.monotonic()
        async with asyncio.timeout(ALL_HEARD_WITHIN_S), asyncio.TaskGroup() as group:
            for one in members:
                group.create_task(one.listen(expected))
                group.create_task(one.post())
        took_s = time.monotonic() - began_s
    finally:
        await asyncio.gather(*[one.leave() for one in members])

    for number in range(ROOMS):
        agree([one for one in members if one.room == f"room:seed-{number}"], expected)
    deliveries = sum(len(one.seen) for one in members)
    assert deliveries == USERS * expected
    print(f"{deliveries} deliveries in {took_s:.1f} s")  # noqa: T201 - shown by -s


def agree(room: list[Member], expected: int) -> None:
    """All members of a room saw one list, and it is everything everyone posted."""
    assert len({one.gateway for one in room}) == GATEWAYS
    told = room[0].seen
    assert [offset for offset, _, _ in told] == list(range(1, expected + 1))
    posts = {f"{one.user}-{n}": one for one in room for n in range(POSTS_EACH)}
    assert Counter(post for _, post, _ in told) == Counter(dict.fromkeys(posts, 1))
    assert all(posts[post].user == user for _, post, user in told)
    assert all(one.seen == told for one in room)
    places = {post: offset for offset, post, _ in told}
    for one in room:
        assert one.offsets == {post: places[post] for post in one.offsets}
        own = [post for _, post, user in told if user == one.user]
        assert own == [f"{one.user}-{n}" for n in range(POSTS_EACH)]
