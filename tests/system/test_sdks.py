"""The published SDKs, unchanged, over real sockets: one gateway each, one mesh."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Final

import jwt
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect as open_socket

from chaos.proxy import Wire
from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh, socket_url
from support.eventually import eventually
from support.json_client import json_client
from support.meshes import shared_mesh
from support.sdks import (
    Kind,
    Member,
    Refused,
    member,
    token,
    urls,
)

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

NAMESPACES: Final = {
    "": {"durable": True, "personal": True},
    "room": {"durable": True},
    "live": {"durable": False},
    "news": {"publish": "nobody"},
    "cache": {"cache_recovery": True},
    "team": {"presence": True, "join_leave": True},
    "feed": {"allow_delta": True},
}
SETTINGS: Final = {
    "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
    "CHATMESH_GATEWAY_PING_INTERVAL_S": "5",
    "CHATMESH_GATEWAY_PONG_WITHIN_S": "3",
    "CHATMESH_PRESENCE_GRACE_S": "1",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Two gateways and the real history, for all tests here."""
    folder = tmp_path_factory.mktemp("logs")
    async with shared_mesh(
        instances, migrated_template, folder, others=["presence"], settings=SETTINGS
    ) as running:
        yield running


@pytest.fixture
def room() -> str:
    return f"room:{secrets.token_hex(4)}"


@pytest.fixture
def user() -> str:
    return f"ada{secrets.token_hex(4)}"


# -- One mesh -------------------------------------------------------------------------


async def test_two_gateways_are_one_room(mesh: Mesh, kind: Kind, room: str) -> None:
    """Messages and publications of both are heard by both, once, in one order."""
    here, there = urls(mesh)
    async with (
        member(kind, here, token("ada")) as ada,
        member(kind, there, token("bob")) as bob,
    ):
        await ada.enters(room)
        await bob.enters(room)

        assert await ada.send(room, "m1", "from ada") == 1
        assert await bob.send(room, "m2", "from bob") == 2
        await ada.sdk.publish(room, {"free": ["form", 1, None]})

        for one in (ada, bob):
            assert await one.has_heard(room, 3) == [1, 2, 3]
            first, second, third = one.publications(room)
            assert (first["user"], first["data"]["text"]) == ("ada", "from ada")
            assert (second["user"], second["data"]["id"]) == ("bob", "m2")
            assert third["data"] == {"free": ["form", 1, None]}


async def test_the_same_id_is_the_same_message_everywhere(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """Sent again through another gateway: same place; with another text: refused."""
    here, there = urls(mesh)
    async with (
        member(kind, here, token("ada")) as ada,
        member(kind, there, token("ada")) as again,
    ):
        await ada.enters(room)
        await again.enters(room)
        assert await ada.send(room, "m1", "once") == 1
        assert await again.send(room, "m1", "once") == 1

        with pytest.raises(Refused) as refused:
            await again.send(room, "m1", "something else")

        assert refused.value.code == 409
        assert await ada.send(room, "m2") == 2
        assert await again.has_heard(room, 2) == [1, 2]


async def test_ephemeral_publications_cross_the_mesh_without_an_offset(
    mesh: Mesh, kind: Kind
) -> None:
    """Heard by both, kept by nobody."""
    here, there = urls(mesh)
    channel = f"live:{secrets.token_hex(4)}"
    async with (
        member(kind, here, token("ada")) as ada,
        member(kind, there, token("bob")) as bob,
    ):
        await ada.enters(channel)
        await bob.enters(channel)

        await ada.sdk.publish(channel, {"typing": True})

        for one in (ada, bob):
            heard = await one.hears("publication", channel=channel)
            assert (heard["offset"], heard["data"]) == (0, {"typing": True})
        with pytest.raises(Refused) as refused:
            await ada.sdk.history(channel, limit=1)
        assert refused.value.code == 108


async def test_history_is_paged_in_both_directions(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """Forward from a position, newest first, everything, and the position alone."""
    here, there = urls(mesh)
    async with (
        member(kind, here, token("ada")) as ada,
        member(kind, there, token("bob")) as bob,
    ):
        await ada.enters(room)
        for number in range(1, 8):
            await ada.send(room, f"m{number}")
        await bob.enters(room)

        async def page(**options: object) -> list[int]:
            got = await bob.sdk.history(room, **options)
            assert got["offset"] == 7
            assert got["epoch"]
            return [one["offset"] for one in got["publications"]]

        epoch = (await bob.sdk.history(room, limit=1))["epoch"]
        since = {"offset": 3, "epoch": epoch}
        assert await page(limit=2, since=since) == [4, 5]
        assert await page(limit=2, since=since, reverse=True) == [2, 1]
        assert await page(limit=3, reverse=True) == [7, 6, 5]
        assert await page(limit=-1) == [1, 2, 3, 4, 5, 6, 7]
        assert await page(limit=0) == []
        with pytest.raises(Refused) as refused:
            await page(limit=1, since={"offset": 1, "epoch": "another"})
        assert refused.value.code == 112


async def test_differences_add_up_to_what_was_published(mesh: Mesh, kind: Kind) -> None:
    """Live, and after a cut; a neighbour who did not ask for them hears it whole."""
    channel = f"feed:{secrets.token_hex(4)}"
    here, there = mesh.gateways
    wire = Wire("client", [("127.0.0.1", there.port)])
    await wire.start()
    table = {f"row {n}": "always the same, and long enough" for n in range(30)}

    def state(number: int) -> dict[str, object]:
        return {**table, "changed": number, "é": "€" * number}

    try:
        async with (
            member(kind, here.ws_url, token("writer")) as writer,
            member(kind, socket_url(wire.port), token("reader")) as reader,
        ):
            await writer.enters(channel)
            await reader.sdk.subscribe(channel, delta=True)
            await reader.hears("subscribed", channel=channel)
            for number in range(1, 6):
                await writer.sdk.publish(channel, state(number))
            await reader.has_heard(channel, 5)
            wire.cut()
            await reader.hears("connecting", 2)
            for number in range(6, 9):
                await writer.sdk.publish(channel, state(number))
            wire.mend()
            await reader.hears("subscribed", 2, channel=channel)
            await writer.sdk.publish(channel, state(9))

            for one in (reader, writer):
                assert await one.has_heard(channel, 9) == list(range(1, 10))
                heard = [pub["data"] for pub in one.publications(channel)]
                assert heard == [state(number) for number in range(1, 10)]
    finally:
        await wire.stop()


# -- Refusals -------------------------------------------------------------------------


async def test_what_is_refused_the_application_hears_with_its_code(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """Calls raise, subscriptions end, and the connection lives."""
    async with member(kind, urls(mesh)[0], token("ada")) as ada:
        for ask, code in (
            (lambda: ada.sdk.rpc("message.such", {}), 104),
            (lambda: ada.sdk.rpc("method", {}), 108),
            (lambda: ada.send(room, "m"), 103),
            (lambda: ada.sdk.publish("nowhere:a", {}), 102),
            (lambda: ada.sdk.history(room, limit=1), 103),
            (lambda: ada.sdk.rpc("message.send", {"channel": room}), 107),
        ):
            with pytest.raises(Refused) as refused:
                await ask()
            assert refused.value.code == code
            assert refused.value.message

        for channel, code in (
            ("nowhere:a", 102),
            ("room:$secret", 103),
            ("dm#bob", 103),
            ("room:with space", 107),
        ):
            await ada.sdk.subscribe(channel)
            gone = await ada.hears("unsubscribed", channel=channel)
            assert gone["code"] == code
        await ada.enters(room)
        await ada.enters("news:a")
        with pytest.raises(Refused) as refused:
            await ada.sdk.publish("news:a", {})
        assert refused.value.code == 103
        assert await ada.send(room, "m1") == 1


async def test_an_impatient_page_ends_as_it_last_said(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """Subscribe, unsubscribe, subscribe without waiting: subscribed, and it hears."""
    async with member(kind, urls(mesh)[0], token("ada")) as ada:
        await ada.sdk.subscribe(room)
        await ada.sdk.unsubscribe(room)
        await ada.sdk.resubscribe(room)

        await ada.hears("subscribed", channel=room)
        assert await ada.send(room, "m1") == 1
        assert await ada.has_heard(room, 1) == [1]


# -- Tokens ---------------------------------------------------------------------------


async def test_an_expired_token_is_replaced_and_an_invalid_one_is_the_end(
    mesh: Mesh, kind: Kind, user: str
) -> None:
    """109 asks getToken; 3500 does not come back."""
    url = urls(mesh)[0]
    async with member(kind, url, token(user, -10), token(user, 600)) as ada:
        await ada.hears("connected")

    wrong = jwt.encode({"sub": user}, "another secret " * 4, algorithm="HS256")
    async with member(kind, url, wrong, connect=False) as eve:
        await eve.sdk.connect()
        gone = await eve.hears("disconnected")
        assert gone["code"] == 3500
        assert gone["reason"]


async def test_a_token_that_ends_is_refreshed_without_a_pause(
    mesh: Mesh, kind: Kind, user: str, room: str
) -> None:
    """The connection and its subscriptions stay."""
    for lives_s in (2, 6, 12):
        tokens = [token(user, lives_s), token(user, 600)]
        async with member(kind, urls(mesh)[0], *tokens) as ada:
            if any(one["event"] == "error" for one in ada.sdk.events):
                continue  # It had ended before this machine had an SDK to show it.
            await _is_refreshed(ada, room)
            return
    pytest.fail("no SDK came in time with a token of 12 s")


async def _is_refreshed(ada: Member, room: str) -> None:
    await ada.enters(room)
    await ada.hears("token")
    # Commands are answered in order, so the refresh before this one has been.
    assert await ada.send(room, "m1") == 1
    assert await ada.has_heard(room, 1) == [1]
    kinds = [one["event"] for one in ada.sdk.events]
    assert kinds.count("connected") == 1
    assert "error" not in kinds


async def test_a_subscription_token_opens_a_private_channel(
    mesh: Mesh, kind: Kind, user: str
) -> None:
    """Its own user's, for its own channel; another's ends the connection."""
    channel = f"room:${secrets.token_hex(4)}"
    url = urls(mesh)[0]
    async with member(kind, url, token(user)) as ada:
        await ada.sdk.subscribe(channel, token=token(user, channel=channel))
        await ada.hears("subscribed", channel=channel)
        assert await ada.send(channel, "m1") == 1
    async with member(kind, url, token("eve")) as eve:
        await eve.sdk.subscribe(channel, token=token(user, channel=channel))
        assert (await eve.hears("disconnected"))["code"] == 3500


# -- Who is here ----------------------------------------------------------------------


async def test_everybody_sees_who_is_here_on_whichever_gateway(
    mesh: Mesh, kind: Kind
) -> None:
    """Joins, leaves, lists and counts; a user with two devices is one user."""
    channel = f"team:{secrets.token_hex(4)}"
    here, there = urls(mesh)
    async with member(kind, here, token("ada")) as ada:
        await ada.sdk.subscribe(channel, members=True)
        await ada.hears("subscribed", channel=channel)
        async with (
            member(kind, there, token("bob")) as bob,
            member(kind, there, token("ada")) as ada_too,
        ):
            await bob.enters(channel)
            await ada.hears("join", channel=channel, user="bob")
            await ada_too.enters(channel)

            for one in (ada, bob):

                async def everybody(one: Member = one) -> bool:
                    people = await one.sdk.presence(channel)
                    return [who["user"] for who in people] == ["ada", "ada", "bob"]

                await eventually(everybody, within_s=10)
                counts = await one.sdk.counts(channel)
                assert counts == {"clients": 3, "users": 2}

        await ada.hears("leave", channel=channel, user="bob")
        with pytest.raises(Refused) as refused:
            await ada.sdk.presence("team:elsewhere")
        assert refused.value.code == 103


# -- Coming back ----------------------------------------------------------------------


async def test_a_client_that_was_cut_off_hears_all_of_it_once(
    mesh: Mesh, kind: Kind, room: str, user: str
) -> None:
    """In the room and in its personal channel, and it is told that it recovered."""
    one, other = mesh.gateways
    wire = Wire("client", [("127.0.0.1", one.port)])
    await wire.start()
    personal = f"#{user}"
    try:
        async with (
            member(kind, socket_url(wire.port), token(user)) as ada,
            member(kind, other.ws_url, token(user)) as elsewhere,
        ):
            await ada.enters(room)
            await elsewhere.enters(room)
            for number in range(1, 4):
                await elsewhere.send(room, f"m{number}")
            await elsewhere.sdk.publish(personal, {"n": 1})
            assert await ada.has_heard(room, 3) == [1, 2, 3]
            assert await ada.has_heard(personal, 1) == [1]

            wire.cut()
            await ada.hears("connecting", 2)
            for number in range(4, 24):
                await elsewhere.send(room, f"m{number}")
            for number in range(2, 7):
                await elsewhere.sdk.publish(personal, {"n": number})
            wire.mend()

            assert await ada.has_heard(room, 23) == list(range(1, 24))
            assert await ada.has_heard(personal, 6) == list(range(1, 7))
            back = await ada.hears("subscribed", 2, channel=room)
            assert (back["wasRecovering"], back["recovered"]) == (True, True)
            back = await ada.hears("server subscribed", 2, channel=personal)
            assert (back["wasRecovering"], back["recovered"]) == (True, True)
            assert await ada.send(room, "m24") == 24
            assert await ada.has_heard(room, 24) == list(range(1, 25))
    finally:
        await wire.stop()


async def test_a_reader_from_the_beginning_gets_everything_in_one_subscribe(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """`since` offset 0: thousands of small messages are below the byte limit."""
    count = 1500
    here, there = urls(mesh)
    async with json_client(here) as raw:
        await raw.connect(token("writer"))
        await raw.subscribe(room)
        for start in range(0, count, 100):
            await raw.send(
                *[
                    {"id": 100 + n, "publish": {"channel": room, "data": n}}
                    for n in range(start, start + 100)
                ]
            )
        assert await raw.offsets(room, count) == list(range(1, count + 1))

    async with member(kind, there, token("reader")) as reader:
        await reader.sdk.subscribe(room, since={"offset": 0, "epoch": ""})
        assert await reader.has_heard(room, count) == list(range(1, count + 1))
        assert [one["data"] for one in reader.publications(room)] == list(range(count))


async def test_an_application_that_cannot_go_on_loads_its_state_again(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """A position of another life is 112; the SDK asks for a new one and recovers."""
    if kind.package == "centrifuge-5.5":
        pytest.skip("this release has no getState")
    here, there = urls(mesh)
    async with member(kind, here, token("writer")) as writer:
        await writer.enters(room)
        for number in range(1, 6):
            await writer.send(room, f"m{number}")
        epoch = (await writer.sdk.history(room, limit=1))["epoch"]

        async with member(kind, there, token("reader")) as reader:
            states = [
                {"offset": 3, "epoch": "another"},
                {"offset": 99, "epoch": epoch},
                {"offset": 3, "epoch": epoch},
            ]
            await reader.sdk.subscribe(room, states=states)

            assert await reader.has_heard(room, 5) == [4, 5]
            stands = await reader.hears("subscribed", channel=room)
            assert (stands["wasRecovering"], stands["recovered"]) == (True, True)


async def test_a_status_channel_gives_the_newest_alone(mesh: Mesh, kind: Kind) -> None:
    """Cache recovery, from the beginning and after what was seen."""
    channel = f"cache:{secrets.token_hex(4)}"
    here, there = urls(mesh)
    async with member(kind, here, token("writer")) as writer:
        await writer.enters(channel)
        for number in range(1, 6):
            await writer.sdk.publish(channel, {"n": number})

        async with member(kind, there, token("reader")) as reader:
            await reader.sdk.subscribe(channel, since={"offset": 0, "epoch": ""})
            assert await reader.has_heard(channel, 5) == [5]
            await writer.sdk.publish(channel, {"n": 6})
            assert await reader.has_heard(channel, 6) == [5, 6]


async def test_a_gateway_that_leaves_hands_its_clients_on(
    mesh: Mesh, kind: Kind, room: str
) -> None:
    """The balancer leads to the other one; nothing is lost and nothing comes twice."""
    third = await mesh.add_gateway()
    wire = Wire(
        "balancer",
        [("127.0.0.1", third.port), ("127.0.0.1", mesh.gateways[1].port)],
    )
    await wire.start()
    try:
        async with (
            member(kind, socket_url(wire.port), token("ada")) as ada,
            member(kind, mesh.gateways[0].ws_url, token("bob")) as bob,
        ):
            await ada.enters(room)
            await bob.enters(room)
            stop = asyncio.Event()
            sent = 0

            async def talk() -> None:
                nonlocal sent
                while not stop.is_set():
                    sent = await bob.send(room, f"m{sent + 1}")

            talking = asyncio.create_task(talk())
            await ada.hears("publication", channel=room)
            await third.stop()
            mesh.gateways.remove(third)
            await ada.hears("connected", 2)
            stop.set()
            await talking

            assert await ada.has_heard(room, sent) == list(range(1, sent + 1))
            assert await bob.has_heard(room, sent) == list(range(1, sent + 1))
    finally:
        await wire.stop()


# -- Quirks of SDKs that are older than those above -----------------------------------


async def test_an_empty_list_of_subprotocols_is_taken(mesh: Mesh) -> None:
    """As early releases for Python send it."""
    headers = {"Sec-WebSocket-Protocol": ""}
    async with open_socket(urls(mesh)[0], additional_headers=headers) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token("ada")}}))
        assert "connect" in json.loads(await socket.recv())


async def test_a_sub_refresh_without_a_channel_is_about_its_tokens_channel(
    mesh: Mesh, user: str
) -> None:
    """centrifuge-python 0.5 leaves it out."""
    channel = f"room:${secrets.token_hex(4)}"
    async with json_client(urls(mesh)[0]) as raw:
        await raw.connect(token(user))
        mine = token(user, 60, channel=channel)
        reply = await raw.subscribe(channel, token=mine)
        assert reply["subscribe"]["expires"]
        later = token(user, 600, channel=channel)
        reply = await raw.ask(sub_refresh={"token": later})
        assert reply["sub_refresh"]["ttl"] > 500


async def test_every_reply_has_what_older_sdks_index(mesh: Mesh, room: str) -> None:
    """Errors with code and message, unsubscribe pushes with a reason, no null error."""
    async with json_client(urls(mesh)[0]) as raw:
        await raw.connect(token("ada"))
        await raw.subscribe(room)
        for ask in (
            {"presence": {"channel": "nowhere:a"}},
            {"rpc": {"method": "x"}},
            {"history": {"channel": room}},
            {"unsubscribe": {"channel": room}},
            {"publish": {"channel": room, "data": 1}},
        ):
            reply = await raw.ask(**ask)
            if "error" in reply:
                assert reply["error"]["code"]
                assert reply["error"]["message"]
            else:
                assert len(reply) == 2
