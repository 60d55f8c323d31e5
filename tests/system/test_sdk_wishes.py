"""What applications wish and tokens grant, by the published SDKs, over two gateways."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh
from support.meshes import shared_mesh
from support.sdks import Kind, member, token, urls

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

KEY: Final = "an-api-key-for-tests"
NAMESPACES: Final = {
    "": {"durable": True},
    "room": {"durable": True},
    "live": {"durable": False},
    "tagged": {"allow_tags_filter": True},
    "team": {"presence": True, "join_leave": True, "grace_s": 0},
}
SETTINGS: Final = {
    "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
    "CHATMESH_GATEWAY_API_KEYS": KEY,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Two gateways, history and presence, for all tests here."""
    folder = tmp_path_factory.mktemp("logs")
    async with shared_mesh(
        instances, migrated_template, folder, others=["presence"], settings=SETTINGS
    ) as running:
        yield running


async def say(mesh: Mesh, channel: str, number: int, tags: dict[str, str]) -> None:
    """A backend publishes, at the other gateway."""
    body = {"channel": channel, "data": {"n": number}, "tags": tags}
    url = f"http://127.0.0.1:{mesh.gateways[1].http_port}/api/publish"
    async with httpx.AsyncClient() as http:
        answer = await http.post(url, json=body, headers={"X-API-Key": KEY})
    assert answer.json()["result"]["offset"] == number


async def test_a_filter_lets_through_what_its_tags_say(mesh: Mesh, kind: Kind) -> None:
    """Live and recovered alike; offsets that were kept from it are no gap."""
    if kind.package == "centrifuge-5.5":
        pytest.skip("this release has no tags filter")
    channel = f"tagged:{secrets.token_hex(4)}"
    wanted = {
        "op": "and",
        "nodes": [
            {"key": "team", "cmp": "in", "vals": ["red", "blue"]},
            {"op": "not", "nodes": [{"key": "score", "cmp": "lt", "val": "10"}]},
        ],
    }
    tags = [
        {"team": "red", "score": "12"},
        {"team": "green", "score": "99"},
        {"team": "blue", "score": "9"},
        {"team": "blue", "score": "10"},
    ]
    async with member(kind, urls(mesh)[0], token("ada")) as ada:
        await ada.sdk.subscribe(channel, tags=wanted)
        await ada.hears("subscribed", channel=channel)
        for number, said in enumerate(tags, start=1):
            await say(mesh, channel, number, said)
        assert await ada.has_heard(channel, 4) == [1, 4]

        await ada.sdk.unsubscribe(channel)
        await ada.hears("unsubscribed", channel=channel)
        for number, said in enumerate(tags, start=5):
            await say(mesh, channel, number, said)
        await ada.sdk.resubscribe(channel)
        assert await ada.has_heard(channel, 8) == [1, 4, 5, 8]
        back = await ada.hears("subscribed", 2, channel=channel)
        assert (back["wasRecovering"], back["recovered"]) == (True, True)


async def test_a_filter_that_the_namespace_does_not_allow_ends_the_subscription(
    mesh: Mesh, kind: Kind
) -> None:
    """107, with a reason, and the connection lives."""
    if kind.package == "centrifuge-5.5":
        pytest.skip("this release has no tags filter")
    channel = f"room:{secrets.token_hex(4)}"
    async with member(kind, urls(mesh)[0], token("ada")) as ada:
        await ada.sdk.subscribe(channel, tags={"key": "k", "cmp": "ex"})
        gone = await ada.hears("unsubscribed", channel=channel)
        assert (gone["code"], bool(gone["reason"])) == (107, True)


async def test_tokens_name_channels_that_the_server_subscribes(
    mesh: Mesh, kind: Kind
) -> None:
    """`channels` and `subs`, on another gateway than who publishes there."""
    mine, listed = (f"room:{secrets.token_hex(4)}" for _ in range(2))
    here, there = urls(mesh)
    claims: dict[str, Any] = {
        "channels": [mine],
        "subs": {listed: {"info": {"as": "guest"}}},
    }
    async with (
        member(kind, here, token("ada", **claims)) as ada,
        member(kind, there, token("bob")) as bob,
    ):
        for channel in (mine, listed):
            await ada.hears("server subscribed", channel=channel)
            await bob.sdk.subscribe(channel)
            await bob.hears("subscribed", channel=channel)
            await bob.send(channel, "m1")
            assert await ada.has_heard(channel, 1) == [1]


async def test_a_subscription_token_brings_info_and_its_own_end(
    mesh: Mesh, kind: Kind
) -> None:
    """Others see its info beside the join."""
    channel = f"team:${secrets.token_hex(4)}"
    here, there = urls(mesh)
    claims = {"channel": channel, "info": {"seat": 7}}
    until = {"expire_at": int(time.time() + 3600)}
    async with (
        member(kind, here, token("bob")) as bob,
        member(kind, there, token("ada")) as ada,
    ):
        mine = token("bob", channel=channel)
        await bob.sdk.subscribe(channel, token=mine, members=True)
        await bob.hears("subscribed", channel=channel)
        await ada.sdk.subscribe(channel, token=token("ada", **claims, **until))
        await ada.hears("subscribed", channel=channel)

        joined = await bob.hears("join", channel=channel, user="ada")
        assert joined["chanInfo"] == {"seat": 7}


async def test_ones_own_join_comes_after_ones_own_subscription(
    mesh: Mesh, kind: Kind
) -> None:
    """Whoever asks for joins hears of itself, and not before it is in."""
    channel = f"team:{secrets.token_hex(4)}"
    async with member(kind, urls(mesh)[0], token("ada")) as ada:
        await ada.sdk.subscribe(channel, members=True)
        await ada.hears("join", channel=channel, user="ada")

        kinds = [one["event"] for one in ada.sdk.events if one.get("channel")]
        assert kinds.index("subscribed") < kinds.index("join")


@pytest.mark.parametrize("namespace", ["live", ""])
async def test_bytes_that_are_no_json_arrive_as_they_were(
    mesh: Mesh, kind: Kind, namespace: str
) -> None:
    """Between clients that speak Protobuf, ephemeral and durable, and from history."""
    if not kind.protobuf:
        pytest.skip("JSON clients have JSON payloads")
    name = secrets.token_hex(4)
    channel = f"{namespace}:{name}" if namespace else name
    payload = bytes(range(256)) + b"\xff\xfe{not json"
    here, there = urls(mesh)
    async with (
        member(kind, here, token("ada")) as ada,
        member(kind, there, token("bob")) as bob,
    ):
        for one in (ada, bob):
            await one.sdk.subscribe(channel)
            await one.hears("subscribed", channel=channel)
        await ada.sdk.publish(channel, payload)

        assert (await bob.hears("publication", channel=channel))["data"] == payload
