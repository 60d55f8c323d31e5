"""What others are shown of a member, and by which of its tokens, over two gateways."""

import base64
import json
import secrets
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
import pytest_asyncio

from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh
from support.eventually import eventually
from support.json_client import json_client
from support.meshes import shared_mesh
from support.sdks import (
    PYTHON,
    PYTHON_PROTOBUF,
    Event,
    Kind,
    Member,
    member,
    token,
    urls,
)

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

KEY: Final = "an-api-key-for-tests"
NAMESPACES: Final = {
    "team": {"presence": True, "join_leave": True, "grace_s": 0},
    "quiet": {"presence": True, "grace_s": 0},
}
SETTINGS: Final = {
    "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
    "CHATMESH_GATEWAY_API_KEYS": KEY,
}
CONN: Final = b"\xff\x00{"
CHAN: Final = b"\x80 in the room"
DATA: Final = b'{"cut": "\xe2\x82'
"""None of these is JSON."""


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


@pytest.fixture
def team() -> str:
    """A channel whose members hear of each other."""
    return f"team:{secrets.token_hex(4)}"


@pytest.fixture
def user() -> str:
    return f"ada{secrets.token_hex(4)}"


async def be_known(one: Member, channel: str, user: str, mine: str = "") -> None:
    """Come in, and go on when everybody in the mesh can know of it."""
    await one.enters(channel, token=mine, members=True)
    await one.hears("join", channel=channel, user=user)


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def with_bytes(user: str, channel: str) -> str:
    """A subscription token with an info and data that are no JSON."""
    info, data = in_base64(CHAN), in_base64(DATA)
    return token(user, channel=channel, b64info=info, b64data=data)


def seen_by(kind: Kind, data: bytes) -> bytes | None:
    """SDKs that speak JSON know no field for bytes that are none."""
    return data if kind.protobuf else None


def users(one: Member, change: str) -> list[str]:
    """Whose joins or leaves it has heard, in order."""
    return [told["user"] for told in one.sdk.events if told["event"] == change]


async def present(one: Member, channel: str) -> list[str]:
    return [who["user"] for who in await one.sdk.presence(channel)]


# -- Bytes that are no JSON -----------------------------------------------------------


async def test_infos_that_are_no_json_are_shown_to_those_who_speak_protobuf(
    mesh: Mesh, kind: Kind, team: str
) -> None:
    """In joins, publications, history and presence; the others miss nothing else."""
    here, there = urls(mesh)
    other = PYTHON if kind.protobuf else PYTHON_PROTOBUF
    async with (
        member(kind, there, token("bob")) as bob,
        member(other, there, token("cat", info={"seat": 7})) as cat,
    ):
        await be_known(bob, team, "bob")
        await be_known(cat, team, "cat")
        async with member(kind, here, token("ada", b64info=in_base64(CONN))) as ada:
            await ada.enters(team, token=with_bytes("ada", team), members=True)
            stands = await ada.hears("subscribed", channel=team)
            assert stands["data"] == seen_by(kind, DATA)
            await ada.sdk.publish(team, {"n": 1})

            for one, its in ((ada, kind), (bob, kind), (cat, other)):
                shown: Event = {
                    "user": "ada",
                    "connInfo": seen_by(its, CONN),
                    "chanInfo": seen_by(its, CHAN),
                }
                await one.hears("join", channel=team, **shown)
                said = await one.hears("publication", channel=team, **shown)
                assert (said["offset"], said["data"]) == (1, {"n": 1})
                page = await one.sdk.history(team, limit=1)
                assert shown.items() <= page["publications"][0].items()
                people = await one.sdk.presence(team)
                assert people[0] == shown
                assert people[2] == {
                    "user": "cat",
                    "connInfo": {"seat": 7},
                    "chanInfo": None,
                }
            await ada.sdk.unsubscribe(team)
            for one, its in ((bob, kind), (cat, other)):
                await one.hears("leave", user="ada", connInfo=seen_by(its, CONN))


async def test_a_backend_subscribes_somebody_with_bytes_that_are_no_json(
    mesh: Mesh, kind: Kind, team: str, user: str
) -> None:
    """The subscriber is told its data, the others are shown its info."""
    here, there = urls(mesh)
    other = PYTHON if kind.protobuf else PYTHON_PROTOBUF
    async with (
        member(kind, here, token(user)) as ada,
        member(kind, there, token("bob")) as bob,
        member(other, there, token("cat")) as cat,
    ):
        await be_known(bob, team, "bob")
        await be_known(cat, team, "cat")
        body = {
            "user": user,
            "channel": team,
            "b64info": in_base64(CHAN),
            "b64data": in_base64(DATA),
        }
        url = f"http://127.0.0.1:{mesh.gateways[1].http_port}/api/subscribe"
        async with httpx.AsyncClient(headers={"X-API-Key": KEY}) as http:
            answer = await http.post(url, json=body)
        assert answer.json() == {"result": {}}

        stands = await ada.hears("server subscribed", channel=team)
        assert stands["data"] == seen_by(kind, DATA)
        for one, its in ((bob, kind), (cat, other)):
            chan = seen_by(its, CHAN)
            shown: Event = {"user": user, "connInfo": None, "chanInfo": chan}
            await one.hears("join", channel=team, **shown)
            assert (await one.sdk.presence(team))[0] == shown


async def test_json_clients_find_bytes_that_are_no_json_in_base64(
    mesh: Mesh, team: str
) -> None:
    """In fields that SDKs pass over, on the wire for whoever looks."""
    shown = {"b64conn_info": in_base64(CONN), "b64chan_info": in_base64(CHAN)}
    async with json_client(urls(mesh)[0]) as raw:
        await raw.connect(token("ada", b64info=in_base64(CONN)))
        mine = with_bytes("ada", team)
        reply = await raw.subscribe(team, token=mine, join_leave=True)
        assert reply["subscribe"]["b64data"] == in_base64(DATA)
        assert "data" not in reply["subscribe"]
        joined = await raw.until(lambda said: "join" in said.get("push", {}))
        assert joined["push"]["channel"] == team
        reply = await raw.ask(presence={"channel": team})
        (listed,) = reply["presence"]["presence"].values()

        for info in (joined["push"]["join"]["info"], listed):
            assert shown.items() <= info.items()
            assert not {"conn_info", "chan_info"} & info.keys()


# -- What tokens decide ---------------------------------------------------------------


async def test_a_refreshed_subscription_may_show_another_info(
    mesh: Mesh, kind: Kind, user: str
) -> None:
    """In presence and publications from there on, without a leave or a join."""
    async with member(PYTHON, urls(mesh)[1], token("bob")) as bob:
        for lives_s in (2, 6, 12):
            channel = f"team:{secrets.token_hex(4)}"
            await be_known(bob, channel, "bob")
            async with member(kind, urls(mesh)[0], token(user)) as ada:
                seats = [
                    token(user, seconds, channel=channel, info={"seat": seat})
                    for seat, seconds in ((1, lives_s), (2, 600))
                ]
                await ada.sdk.subscribe(channel, token=seats[0], renewals=seats[1:])
                joined = await bob.hears("join", channel=channel, user=user)
                if joined["chanInfo"] == {"seat": 1}:
                    await _is_shown_on_another_seat(ada, bob, channel, user)
                    return
                # It had ended before this machine had an SDK to show it.
        pytest.fail("no SDK came in time with a token of 12 s")


async def _is_shown_on_another_seat(
    ada: Member, bob: Member, channel: str, user: str
) -> None:
    async def moved() -> bool:
        people = await bob.sdk.presence(channel)
        return people[0] == {
            "user": user,
            "connInfo": None,
            "chanInfo": {"seat": 2},
        }

    await eventually(moved)
    await ada.sdk.publish(channel, "from here")
    said = await bob.hears("publication", channel=channel)
    assert (said["user"], said["chanInfo"]) == (user, {"seat": 2})
    kinds = [told["event"] for told in ada.sdk.events]
    assert kinds.count("subscribed") == kinds.count("connected") == 1
    heard = [told for told in bob.sdk.events if told.get("channel") == channel]
    changes = [told for told in heard if told["event"] in {"join", "leave"}]
    assert [told["user"] for told in changes] == ["bob", user]


def deciding(user: str, channel: str, *, join_leave: bool) -> str:
    """A subscription token that says whether others hear of this connection."""
    override = {"join_leave": {"value": join_leave}}
    return token(user, channel=channel, override=override)


async def test_tokens_let_members_of_a_quiet_channel_hear_of_each_other(
    mesh: Mesh, kind: Kind
) -> None:
    """Those who have such a token of each other, and nobody else of anybody."""
    channel = f"quiet:{secrets.token_hex(4)}"
    here, there = urls(mesh)
    async with (
        member(kind, there, token("bob")) as bob,
        member(PYTHON, here, token("dan")) as dan,
        member(kind, here, token("ada")) as ada,
    ):
        mine = deciding("bob", channel, join_leave=True)
        await be_known(bob, channel, "bob", mine)
        await dan.enters(channel, members=True)
        mine = deciding("ada", channel, join_leave=True)
        await be_known(ada, channel, "ada", mine)
        await bob.hears("join", user="ada")
        assert await present(bob, channel) == ["ada", "bob", "dan"]

        await bob.sdk.unsubscribe(channel)
        await ada.hears("leave", user="bob")
        await bob.sdk.resubscribe(channel)
        await ada.hears("join", user="bob")
        # Beside ada's on its gateway; what it had been told would have come before this.
        assert await present(dan, channel) == ["ada", "bob", "dan"]
        await dan.sdk.unsubscribe(channel)
        await ada.sdk.unsubscribe(channel)
        await bob.hears("leave", user="ada")

        assert users(bob, "join") == ["bob", "ada", "bob"]
        assert users(bob, "leave") == ["ada"]
        assert users(ada, "join") == ["ada", "bob"]
        assert users(dan, "join") == users(dan, "leave") == []


async def test_a_token_keeps_a_member_quiet_where_others_are_announced(
    mesh: Mesh, kind: Kind, team: str
) -> None:
    """Neither its join nor its leave is told; whoever asks finds it in presence."""
    here, there = urls(mesh)
    async with (
        member(kind, there, token("bob")) as bob,
        member(kind, here, token("eve")) as eve,
        member(PYTHON, here, token("ada")) as ada,
    ):
        await be_known(bob, team, "bob")
        await eve.enters(
            team, token=deciding("eve", team, join_leave=False), members=True
        )
        await be_known(ada, team, "ada")
        await bob.hears("join", user="ada")
        for one in (bob, eve):
            assert await present(one, team) == ["ada", "bob", "eve"]
            counts = await one.sdk.counts(team)
            assert counts == {"clients": 3, "users": 3}

        await eve.sdk.unsubscribe(team)
        await ada.sdk.unsubscribe(team)
        await bob.hears("leave", user="ada")

        assert users(bob, "join") == ["bob", "ada"]
        assert users(bob, "leave") == ["ada"]
        assert users(eve, "join") == users(eve, "leave") == []
