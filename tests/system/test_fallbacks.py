"""Clients whose WebSockets are blocked: streams over HTTP, and commands beside them."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
import pytest_asyncio

from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Gateway, Mesh
from chatmesh.wire import close_codes
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.eventually import eventually
from support.json_client import json_client
from support.meshes import shared_mesh
from support.sdks import KINDS, Kind, missing

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

WITHIN_S: Final = 10.0
KEY: Final = "an-api-key-for-tests"
NAMESPACES: Final = {
    "room": {},
    "team": {"presence": True, "join_leave": True, "grace_s": 60},
    "yard": {"presence": True, "join_leave": True, "grace_s": 0.5},
}
HERE: Final = Path(__file__).parent


def token(user: str) -> str:
    return jwt.encode({"sub": user}, DEVELOPMENT_SECRET, algorithm="HS256")


class Stream:
    """A client on http_stream that says what it is told to."""

    def __init__(self, response: httpx.Response, http: httpx.AsyncClient) -> None:
        self.response = response
        self.session = ""
        self.node = ""
        self._lines = response.aiter_lines()
        self._http = http

    async def hear(self) -> dict[str, Any]:
        """The next message that is no ping."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                message: dict[str, Any] = json.loads(await anext(self._lines))
                if message:
                    return message

    async def ended(self) -> bool:
        async with asyncio.timeout(WITHIN_S):
            return [line async for line in self._lines] == []

    async def say(self, gateway: Gateway, *commands: dict[str, Any]) -> httpx.Response:
        """Send commands by way of a gateway, which may be another one."""
        data = "\n".join(json.dumps(command) for command in commands)
        body = {"session": self.session, "node": self.node, "data": data}
        return await self._http.post(
            f"http://127.0.0.1:{gateway.http_port}/emulation", json=body
        )


@asynccontextmanager
async def streaming(gateway: Gateway, user: str) -> AsyncGenerator[Stream]:
    async with httpx.AsyncClient(timeout=WITHIN_S) as http:
        url = f"http://127.0.0.1:{gateway.http_port}/connection/http_stream"
        connect = json.dumps({"id": 1, "connect": {"token": token(user)}})
        async with http.stream("POST", url, content=connect) as response:
            stream = Stream(response, http)
            told = (await stream.hear())["connect"]
            stream.session, stream.node = told["session"], told["node"]
            yield stream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Two gateways and presence for all tests here; the API has a key."""
    folder = tmp_path_factory.mktemp("logs")
    settings = {
        "CHATMESH_GATEWAY_API_KEYS": KEY,
        "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
    }
    async with shared_mesh(
        instances, migrated_template, folder, others=["presence"], settings=settings
    ) as mesh:
        yield mesh


@pytest.fixture
def room() -> str:
    """A room that no other test knows."""
    return f"room:{secrets.token_hex(4)}"


async def test_commands_reach_their_stream_by_way_of_any_gateway(
    two: Mesh, room: str
) -> None:
    """No load balancer has to know which gateway holds a client's stream."""
    here, there = two.gateways
    async with streaming(here, "ada") as ada, streaming(there, "bob") as bob:
        for stream, other in ((ada, there), (bob, here)):
            said = await stream.say(other, {"id": 2, "subscribe": {"channel": room}})
            assert said.status_code == httpx.codes.NO_CONTENT
            assert "subscribe" in await stream.hear()
        rpc = {"channel": room, "id": "m1", "text": "hello"}
        await ada.say(there, {"id": 3, "rpc": {"method": "message.send", "data": rpc}})

        heard = [await ada.hear(), await ada.hear(), await bob.hear()]

        pushes = [one["push"]["pub"] for one in heard if "push" in one]
        assert [push["offset"] for push in pushes] == [1, 1]
        assert {push["data"]["text"] for push in pushes} == {"hello"}
        assert {push["info"]["user"] for push in pushes} == {"ada"}


async def test_a_node_that_is_gone_is_said_to_be_gone(two: Mesh) -> None:
    """The client then leaves its stream and comes back, instead of waiting."""
    here, _ = two.gateways
    async with streaming(here, "ada") as ada:
        ada.node = "gateway-1.of-yesterday"

        said = await ada.say(here, {"id": 2, "subscribe": {"channel": "room:x"}})

        assert said.status_code == httpx.codes.NOT_FOUND


async def test_a_session_has_to_be_known_to_be_spoken_for(two: Mesh) -> None:
    """Guessing is answered like success, and does nothing."""
    here, there = two.gateways
    async with streaming(here, "ada") as ada:
        known, ada.session = ada.session, secrets.token_urlsafe(24)

        said = await ada.say(there, {"id": 2, "subscribe": {"channel": "room:x"}})

        assert said.status_code == httpx.codes.NO_CONTENT
        ada.session = known
        await ada.say(there, {"id": 3, "history": {"channel": "room:y"}})
        assert (await ada.hear())["id"] == 3


async def test_a_goodbye_is_the_last_thing_on_a_stream(two: Mesh) -> None:
    """Close codes come as a push, and then the response is complete."""
    here, there = two.gateways
    async with streaming(here, "eve") as eve:
        await eve.say(there, {"id": 2, "connect": {}})

        push = (await eve.hear())["push"]["disconnect"]

        assert push["code"] == close_codes.BAD_REQUEST.code
        assert push["reason"]
        assert await eve.ended()


async def test_a_client_that_leaves_is_forgotten_promptly(two: Mesh) -> None:
    """An aborted stream leaves no connection and no subscription behind."""
    here, there = two.gateways

    async def streams() -> int:
        async with httpx.AsyncClient() as http:
            told = await http.post(
                f"http://127.0.0.1:{there.http_port}/api/channels",
                headers={"X-API-Key": KEY},
                json={"pattern": "room:leaving"},
            )
        counts = told.json()["result"]["channels"]
        return counts.get("room:leaving", {"num_clients": 0})["num_clients"]

    for _ in range(5):
        async with streaming(here, "ada") as ada:
            await ada.say(there, {"id": 2, "subscribe": {"channel": "room:leaving"}})
            await ada.hear()
            assert await streams() == 1

        async def gone() -> bool:
            return await streams() == 0

        await eventually(gone, within_s=2.0)


# -- The official SDK -------------------------------------------------------------------


@dataclass(frozen=True)
class Over:
    """A release of the SDK, in an encoding, over a transport."""

    transport: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind}-{self.transport}"


class Sdk:
    """The npm SDK in a process of its own, over one transport."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, step: str, **how: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": step, **how}).encode() + b"\n")
        await self._process.stdin.drain()

    async def hears(self, what: str) -> dict[str, Any]:
        """What it tells next; it has to be this."""
        told = await self.hears_any()
        assert told["heard"] == what, told
        return told

    async def hears_any(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            line = await self._process.stdout.readline()
        told: dict[str, Any] = json.loads(line)
        return told


@asynccontextmanager
async def sdk(
    stream: Gateway, emulation: Gateway, over: Over, user: str
) -> AsyncGenerator[Sdk]:
    if reason := missing(over.kind):
        pytest.skip(reason)
    spec = {
        "transport": over.transport,
        "endpoint": f"http://127.0.0.1:{stream.http_port}/connection/{over.transport}",
        "emulation": f"http://127.0.0.1:{emulation.http_port}/emulation",
        "token": token(user),
        "protobuf": over.kind.protobuf,
    }
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "js" / "fallback.mjs"),
        over.kind.package,
        json.dumps(spec),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    client = Sdk(process)
    try:
        await client.hears("connecting")
        connected = await client.hears("connected")
        assert connected["over"] == over.transport
        yield client
        await client.do("stop")
        async with asyncio.timeout(WITHIN_S):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


OVERS: Final = [
    Over(transport, kind)
    for kind in KINDS
    for transport in ("http_stream", "sse")
    # Neither other languages nor events of bytes are there.
    if kind.package and not (kind.protobuf and transport == "sse")
]


@pytest.mark.parametrize("over", OVERS, ids=str)
async def test_the_official_sdk_converses_over_a_fallback(
    two: Mesh, room: str, over: Over
) -> None:
    """Commands by way of one gateway, the stream on the other: all that a chat does."""
    here, there = two.gateways
    async with sdk(here, there, over, "ada") as ada:
        await ada.do("subscribe", channel=room)
        await ada.hears("subscribed")
        for number in (1, 2):
            await ada.do("send", channel=room, id=f"m{number}", text=f"é {number}")
            told = {}
            for _ in range(2):
                line = await ada.hears_any()
                told[line["heard"]] = line
            assert told["sent"]["data"]["offset"] == number
            assert told["publication"]["offset"] == number
            assert told["publication"]["data"]["text"] == f"é {number}"
        await ada.do("history", channel=room)
        assert (await ada.hears("history"))["offsets"] == [1, 2]
        await ada.do("unsubscribe", channel=room)
        await ada.hears("unsubscribed")
        await ada.do("subscribe", channel=room)
        await ada.hears("subscribed")


@pytest.mark.parametrize("over", OVERS, ids=str)
async def test_the_official_sdk_misses_nothing_over_a_fallback(
    two: Mesh, room: str, over: Over
) -> None:
    """Thrown out and back again, it recovers what was said meanwhile."""
    here, there = two.gateways
    user = f"user-{room}"
    async with (
        sdk(here, there, over, user) as ada,
        httpx.AsyncClient(headers={"X-API-Key": KEY}) as http,
    ):
        url = f"http://127.0.0.1:{there.http_port}/api"
        await ada.do("subscribe", channel=room)
        await ada.hears("subscribed")
        force = {"code": 3011, "reason": "force reconnect"}
        await http.post(f"{url}/disconnect", json={"user": user, "disconnect": force})
        publish = {"channel": room, "data": {"n": 1}}
        await http.post(f"{url}/publish", json=publish)

        assert (await ada.hears("connecting"))["code"] == 3011
        heard = [await ada.hears_any() for _ in range(3)]

        kinds = [one["heard"] for one in heard]
        assert kinds == ["connected", "subscribed", "publication"]
        assert heard[2]["offset"] == 1


@pytest.mark.parametrize("over", OVERS, ids=str)
async def test_the_official_sdk_sees_who_is_here_over_a_fallback(
    two: Mesh, over: Over
) -> None:
    """Joins, leaves, the list and the counts, of people on streams and on WebSockets."""
    here, there = two.gateways
    channel = f"team:{secrets.token_hex(4)}"
    async with (
        sdk(here, there, over, "ada") as ada,
        json_client(there.ws_url) as bob,
        sdk(there, here, over, "cat") as cat,
    ):
        await bob.connect(token("bob"))
        await ada.do("subscribe", channel=channel, members=True)
        await ada.hears("subscribed")
        assert (await ada.hears("join"))["user"] == "ada"
        await bob.subscribe(channel, join_leave=True)
        assert (await ada.hears("join"))["user"] == "bob"
        await cat.do("subscribe", channel=channel)
        await cat.hears("subscribed")
        assert (await ada.hears("join"))["user"] == "cat"

        for one in (ada, cat):
            await one.do("presence", channel=channel)
            assert (await one.hears("presence"))["users"] == ["ada", "bob", "cat"]
            await one.do("counts", channel=channel)
            counts = await one.hears("counts")
            assert (counts["clients"], counts["users"]) == (3, 3)

        await bob.ask(unsubscribe={"channel": channel})
        assert (await ada.hears("leave"))["user"] == "bob"
        await bob.subscribe(channel, join_leave=True)
        assert (await ada.hears("join"))["user"] == "bob"
        await cat.do("unsubscribe", channel=channel)
        await cat.hears("unsubscribed")
        assert (await ada.hears("leave"))["user"] == "cat"
        await bob.until(lambda said: _is_leave(said, "cat"))


def _is_leave(said: dict[str, Any], user: str) -> bool:
    leave = said.get("push", {}).get("leave")
    return leave is not None and leave["info"]["user"] == user


@pytest.mark.parametrize("over", OVERS[:2], ids=str)
async def test_a_stream_that_ends_is_a_leave_when_the_grace_is_over(
    two: Mesh, over: Over
) -> None:
    """Nobody heard a goodbye, so its user might have come back."""
    here, there = two.gateways
    name = secrets.token_hex(4)
    hasty, patient = f"yard:{name}", f"team:{name}"
    async with json_client(there.ws_url) as bob:
        await bob.connect(token("bob"))
        for channel in (hasty, patient):
            await bob.subscribe(channel, join_leave=True)
        async with sdk(here, there, over, "ada") as ada:
            for channel in (hasty, patient):
                await ada.do("subscribe", channel=channel)
                await ada.hears("subscribed")
        left = await bob.until(lambda said: _is_leave(said, "ada"), within_s=WITHIN_S)

        assert left["push"]["channel"] == hasty
        for channel, here_still in ((hasty, 1), (patient, 2)):
            reply = await bob.ask(presence_stats={"channel": channel})
            assert reply["presence_stats"]["num_users"] == here_still
