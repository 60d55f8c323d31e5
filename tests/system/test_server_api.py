"""The server API by its official client: called on one gateway, felt on the other."""

import base64
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import cent
import httpx
import jwt
import pytest
import pytest_asyncio
from centrifuge import (
    Client,
    ClientEventHandler,
    ConnectedContext,
    DisconnectedContext,
    PublicationContext,
    ServerPublicationContext,
    ServerSubscribedContext,
    ServerUnsubscribedContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Gateway, Mesh
from chatmesh.wire import close_codes, errors
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.eventually import eventually
from support.meshes import shared_mesh

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

KEY: Final = "an-api-key-for-tests"
WITHIN_S: Final = 10.0
NAMESPACES: Final = {
    "room": {"durable": True, "presence": True},
    "live": {"durable": False, "subscribe": "users"},
}


SETTINGS: Final = {
    "CHATMESH_GATEWAY_API_KEYS": f"another-key,{KEY}",
    "CHATMESH_NAMESPACES": json.dumps(NAMESPACES),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keyed(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Two gateways whose API has a key, for all tests here."""
    folder = tmp_path_factory.mktemp("logs")
    async with shared_mesh(
        instances,
        migrated_template,
        folder,
        others=["presence"],
        settings=SETTINGS,
    ) as mesh:
        yield mesh


@pytest.fixture
def room() -> str:
    """A room that no other test knows."""
    return f"room:{secrets.token_hex(4)}"


@asynccontextmanager
async def backend(gateway: Gateway, key: str = KEY) -> AsyncGenerator[cent.AsyncClient]:
    url = f"http://127.0.0.1:{gateway.http_port}/api"
    async with aiohttp.ClientSession() as session:
        yield cent.AsyncClient(url, key, session=session)


@dataclass
class Person:
    """A client of the official SDK, and what happened to it."""

    client: Client
    ids: list[str] = field(default_factory=list[str])
    """The client id of each of its connections."""
    publications: list[tuple[str, Any, int]] = field(
        default_factory=list[tuple[str, Any, int]]
    )
    subscribed: list[str] = field(default_factory=list[str])
    unsubscribed: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    disconnected: list[int] = field(default_factory=list[int])
    tags: list[dict[str, str]] = field(default_factory=list[dict[str, str]])


class _Told(ClientEventHandler):
    def __init__(self, person: Callable[[], Person]) -> None:
        self._person = person

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self._person().ids.append(ctx.client)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        self._person().disconnected.append(ctx.code)

    async def on_subscribed(self, ctx: ServerSubscribedContext) -> None:
        self._person().subscribed.append(ctx.channel)

    async def on_unsubscribed(self, ctx: ServerUnsubscribedContext) -> None:
        self._person().unsubscribed.append((ctx.channel, 0))

    async def on_publication(self, ctx: ServerPublicationContext) -> None:
        self._person().publications.append((ctx.channel, ctx.pub.data, ctx.pub.offset))


class _Heard(SubscriptionEventHandler):
    def __init__(self, person: Person, channel: str) -> None:
        self._person = person
        self._channel = channel

    async def on_publication(self, ctx: PublicationContext) -> None:
        pub = ctx.pub
        self._person.publications.append((self._channel, pub.data, pub.offset))
        self._person.tags.append(dict(pub.tags or {}))

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self._person.unsubscribed.append((self._channel, ctx.code))


@asynccontextmanager
async def connected(
    gateway: Gateway, user: str, *channels: str, **claims: int
) -> AsyncGenerator[Person]:
    token = jwt.encode({"sub": user, **claims}, DEVELOPMENT_SECRET, algorithm="HS256")
    client = Client(gateway.ws_url, token=token, events=_Told(lambda: person))
    person = Person(client)
    await client.connect()
    await client.ready(WITHIN_S)
    for channel in channels:
        sub = client.new_subscription(channel, events=_Heard(person, channel))
        await sub.subscribe()
        await sub.ready(WITHIN_S)
    try:
        yield person
    finally:
        await client.disconnect()


async def refusal_of(call: Awaitable[object]) -> int:
    with pytest.raises(cent.CentApiResponseError) as refused:
        await call
    return refused.value.code


async def test_a_publication_is_committed_before_it_is_answered(
    keyed: Mesh, room: str
) -> None:
    """The backend's answer names the place that subscribers elsewhere see."""
    here, there = keyed.gateways
    async with connected(there, "ada", room) as ada, backend(here) as api:
        first = await api.publish(
            cent.PublishRequest(
                channel=room, data={"text": "één"}, tags={"kind": "news"}
            )
        )
        second = await api.publish(cent.PublishRequest(channel=room, data=[1, 2]))

        assert (first.offset, second.offset) == (1, 2)
        assert first.epoch == second.epoch != ""
        await eventually(lambda: len(ada.publications) == 2)
        assert ada.publications == [
            (room, {"text": "één"}, 1),
            (room, [1, 2], 2),
        ]
        assert ada.tags == [{"kind": "news"}, {}]
        page = await api.history(cent.HistoryRequest(channel=room, limit=10))
        assert [p.offset for p in page.publications] == [1, 2]
        assert page.publications[0].tags == {"kind": "news"}
        assert (page.offset, page.epoch) == (2, first.epoch)


async def test_an_idempotency_key_is_honoured_for_ever_on_every_gateway(
    keyed: Mesh, room: str
) -> None:
    """A backend that does not know whether it was heard says it again, anywhere."""
    here, there = keyed.gateways
    request = cent.PublishRequest(
        channel=room, data={"n": 1}, idempotency_key="order-17"
    )
    async with backend(here) as one, backend(there) as other:
        first = await one.publish(request)
        await one.publish(cent.PublishRequest(channel=room, data={"n": 2}))
        again = await other.publish(request)

        assert again == first
        changed = request.model_copy(update={"data": {"n": 3}})
        assert await refusal_of(other.publish(changed)) == errors.CONFLICT.code
        page = await one.history(cent.HistoryRequest(channel=room, limit=-1))
        assert [p.data for p in page.publications] == [{"n": 1}, {"n": 2}]


async def test_a_version_that_is_not_newer_is_dropped_on_every_gateway(
    keyed: Mesh, room: str
) -> None:
    """State that comes over several ways: what is out of date is not shown any more."""
    here, there = keyed.gateways
    asked = [
        (here, 5, "a"),
        (there, 4, "a"),  # late
        (there, 5, "a"),  # known, with other data
        (here, 7, "a"),
        (there, 1, "b"),  # a new source counts anew
        (here, 6, "a"),  # late
    ]
    headers = {"X-API-Key": KEY}
    async with (
        httpx.AsyncClient(timeout=WITHIN_S, headers=headers) as http,
        connected(there, "ada", room) as ada,
    ):

        async def publish(gateway: Gateway, **more: object) -> dict[str, Any]:
            url = f"http://127.0.0.1:{gateway.http_port}/api/publish"
            said = {"channel": room, "data": {"of": more}, **more}
            answer: dict[str, Any] = (await http.post(url, json=said)).json()
            return answer

        answers = [
            await publish(gateway, version=version, version_epoch=epoch, n=place)
            for place, (gateway, version, epoch) in enumerate(asked)
        ]
        refused = await publish(here, version=1, skip_history=True)
        offsets = [answer["result"]["offset"] for answer in answers]
        await eventually(lambda: len(ada.publications) >= 3, within_s=WITHIN_S)

    assert offsets == [1, 1, 1, 2, 3, 3]
    assert len({answer["result"]["epoch"] for answer in answers}) == 1
    assert [data["of"]["n"] for _, data, _ in ada.publications] == [0, 3, 4]
    assert refused["error"]["code"] == errors.NOT_AVAILABLE.code


async def test_what_skips_history_is_heard_and_forgotten(
    keyed: Mesh, room: str
) -> None:
    """Ephemeral publications have no offset, whichever way they are asked for."""
    here, there = keyed.gateways
    async with (
        connected(there, "ada", room, "live:now") as ada,
        backend(here) as api,
    ):
        skipped = await api.publish(
            cent.PublishRequest(channel=room, data="typing", skip_history=True)
        )
        live = await api.publish(cent.PublishRequest(channel="live:now", data="on"))

        assert skipped.offset == live.offset == 0
        await eventually(lambda: len(ada.publications) == 2)
        assert sorted(ada.publications) == [
            ("live:now", "on", 0),
            (room, "typing", 0),
        ]
        page = await api.history(cent.HistoryRequest(channel=room, limit=10))
        assert page.publications == []


async def test_a_broadcast_answers_for_each_channel(keyed: Mesh, room: str) -> None:
    """One channel that does not exist does not hold up the others."""
    here, _ = keyed.gateways
    async with backend(here) as api:
        told = await api.broadcast(
            cent.BroadcastRequest(
                channels=[room, "nowhere:b", f"{room}-2"], data={"n": 1}
            )
        )

        offsets = [r.result.offset if r.result else None for r in told.responses]
        assert offsets == [1, None, 1]
        failed = told.responses[1].error
        assert failed is not None
        assert failed.code == errors.UNKNOWN_CHANNEL.code


async def test_bytes_that_are_no_json_are_given_back_as_they_were(
    keyed: Mesh, room: str
) -> None:
    """A backend of binary clients publishes and reads base64."""
    here, _ = keyed.gateways
    given = base64.b64encode(b"\x00\xff").decode()
    async with backend(here) as api:
        await api.publish(cent.PublishRequest(channel=room, data=None, b64data=given))
        page = await api.history(cent.HistoryRequest(channel=room, limit=1))

        (publication,) = page.publications
        assert publication.data is None
        assert (publication.model_extra or {})["b64data"] == given


async def test_the_server_subscribes_and_unsubscribes_a_user(
    keyed: Mesh, room: str
) -> None:
    """A backend decides what a user hears, from any gateway."""
    here, there = keyed.gateways
    async with connected(there, "ada") as ada, backend(here) as api:
        await api.publish(cent.PublishRequest(channel=room, data="before"))
        top = await api.history(cent.HistoryRequest(channel=room))
        await api.publish(cent.PublishRequest(channel=room, data="missed"))

        await api.subscribe(
            cent.SubscribeRequest(
                user="ada",
                channel=room,
                info={"vip": True},
                recover_since=cent.StreamPosition(offset=top.offset, epoch=top.epoch),
            )
        )
        await eventually(lambda: ada.subscribed == [room])
        await api.publish(cent.PublishRequest(channel=room, data="live"))
        await eventually(lambda: len(ada.publications) == 2)
        assert ada.publications == [(room, "missed", 2), (room, "live", 3)]

        await api.unsubscribe(cent.UnsubscribeRequest(user="ada", channel=room))
        await eventually(lambda: ada.unsubscribed == [(room, 0)])
        await api.publish(cent.PublishRequest(channel=room, data="gone"))
        listed = await api.channels(cent.ChannelsRequest(pattern=f"{room}*"))
        assert listed.channels == {}
        assert len(ada.publications) == 2


async def test_unsubscribing_ends_a_subscription_that_the_client_made(
    keyed: Mesh, room: str
) -> None:
    """Removal from a room reaches open sockets, and is final for the SDK."""
    here, there = keyed.gateways
    async with connected(there, "ada", room) as ada, backend(here) as api:
        await api.unsubscribe(cent.UnsubscribeRequest(user="ada", channel=room))

        final = close_codes.UNSUBSCRIBED_BY_SERVER.code
        await eventually(lambda: ada.unsubscribed == [(room, final)])


async def test_disconnecting_spares_who_is_to_be_spared(keyed: Mesh) -> None:
    """All devices of a user but the one that asked for it, with a reason of one's own."""
    here, there = keyed.gateways
    async with (
        connected(here, "ada") as phone,
        connected(there, "ada") as laptop,
        connected(there, "bob") as bob,
        backend(here) as api,
    ):
        await api.disconnect(
            cent.DisconnectRequest(
                user="ada",
                whitelist=phone.ids,
                disconnect=cent.Disconnect(code=4501, reason="signed out"),
            )
        )

        await eventually(lambda: laptop.disconnected == [4501])
        await api.disconnect(cent.DisconnectRequest(user="bob", client=bob.ids[0]))
        final = close_codes.FORCE_DISCONNECT.code
        await eventually(lambda: bob.disconnected == [final])
        assert phone.disconnected == []


async def test_refresh_moves_the_expiry_or_ends_it(keyed: Mesh) -> None:
    """A session is ended as expired; the SDK asks for a new token, not for a login."""
    here, there = keyed.gateways
    later = int(time.time()) + 3600
    async with connected(there, "ada", exp=later) as ada, backend(here) as api:
        await api.refresh(cent.RefreshRequest(user="ada", expire_at=2 * later))
        assert len(ada.ids) == 1

        await api.refresh(cent.RefreshRequest(user="ada", expired=True))

        await eventually(lambda: len(ada.ids) == 2, within_s=WITHIN_S)


async def test_removing_history_keeps_the_numbering(keyed: Mesh, room: str) -> None:
    """What was said is gone everywhere, also from memory; what comes goes on from there."""
    here, there = keyed.gateways
    async with connected(there, "ada", room), backend(here) as api:
        key = cent.PublishRequest(channel=room, data="x", idempotency_key="k")
        first = await api.publish(key)
        await api.publish(cent.PublishRequest(channel=room, data="y"))

        await api.history_remove(cent.HistoryRemoveRequest(channel=room))

        page = await api.history(cent.HistoryRequest(channel=room, limit=10))
        assert (page.publications, page.offset) == ([], 2)
        assert page.epoch == first.epoch
        third = await api.publish(cent.PublishRequest(channel=room, data="z"))
        assert (third.offset, third.epoch) == (3, first.epoch)
        assert await api.publish(key) == first


async def test_everybody_is_counted_wherever_they_are(keyed: Mesh, room: str) -> None:
    """Channels and info speak for all gateways, at once."""
    here, there = keyed.gateways
    async with (
        connected(here, "ada", room, f"{room}-2"),
        connected(there, "ada", room),
        connected(there, "bob", room, "live:x"),
        backend(there) as api,
    ):
        listed = await api.channels(cent.ChannelsRequest())
        rooms = await api.channels(cent.ChannelsRequest(pattern=f"{{{room}-2,live:?}}"))
        told = await api.info(cent.InfoRequest())

        counts = {name: c.num_clients for name, c in listed.channels.items()}
        assert counts == {room: 3, f"{room}-2": 1, "live:x": 1}
        assert set(rooms.channels) == {f"{room}-2", "live:x"}
        assert [node.name for node in told.nodes] == ["gateway-1", "gateway-2"]
        assert [node.num_clients for node in told.nodes] == [1, 2]
        assert [node.num_users for node in told.nodes] == [1, 2]
        assert [node.num_subs for node in told.nodes] == [2, 3]
        assert [node.num_channels for node in told.nodes] == [2, 2]
        assert len({node.uid for node in told.nodes}) == 2


async def test_who_is_in_a_channel_is_told_for_all_gateways(
    keyed: Mesh, room: str
) -> None:
    """Presence by connection, and counts with several devices of one user."""
    here, there = keyed.gateways
    async with (
        connected(here, "ada", room) as phone,
        connected(there, "ada", room) as laptop,
        connected(there, "bob", room) as bob,
        backend(here) as api,
    ):
        everybody = {*phone.ids, *laptop.ids, *bob.ids}

        async def all_there() -> bool:
            told = await api.presence(cent.PresenceRequest(channel=room))
            assert set(told.presence) == everybody
            return {one.user for one in told.presence.values()} == {"ada", "bob"}

        await eventually(all_there, within_s=WITHIN_S)
        stats = await api.presence_stats(cent.PresenceStatsRequest(channel=room))

        assert (stats.num_clients, stats.num_users) == (3, 2)
        without = cent.PresenceRequest(channel="live:now")
        assert await refusal_of(api.presence(without)) == errors.NOT_AVAILABLE.code


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_answers_in_order(keyed: Mesh, parallel: bool, room: str) -> None:  # noqa: FBT001 - a case of the test
    """Many calls in one request, one after the other or all at once."""
    here, _ = keyed.gateways
    async with backend(here) as api:
        told = await api.batch(
            cent.BatchRequest(
                requests=[
                    cent.PublishRequest(channel=room, data=1),
                    cent.PublishRequest(channel=f"{room}-2", data=2),
                    cent.InfoRequest(),
                ],
                parallel=parallel,
            )
        )

        one, two, info = told.replies
        assert isinstance(one, cent.PublishResult)
        assert isinstance(two, cent.PublishResult)
        assert (one.offset, two.offset) == (1, 1)
        assert isinstance(info, cent.InfoResult)


async def test_errors_come_with_their_codes(keyed: Mesh, room: str) -> None:
    """Every mistake has its own number."""
    here, _ = keyed.gateways
    async with backend(here) as api:
        big = "x" * 70_000
        cases = [
            (cent.PublishRequest(channel="nowhere:a", data=1), errors.UNKNOWN_CHANNEL),
            (cent.PublishRequest(channel="", data=1), errors.BAD_REQUEST),
            (cent.PublishRequest(channel=room, data=big), errors.TOO_LARGE),
            (cent.PublishRequest(channel="a b", data=1), errors.BAD_REQUEST),
        ]
        for request, error in cases:
            assert await refusal_of(api.publish(request)) == error.code
        since = cent.StreamPosition(offset=0, epoch="another")
        history = cent.HistoryRequest(channel=room, limit=1, since=since)
        unrecoverable = errors.UNRECOVERABLE_POSITION.code
        assert await refusal_of(api.history(history)) == unrecoverable
        live = cent.HistoryRequest(channel="live:a", limit=1)
        assert await refusal_of(api.history(live)) == errors.NOT_AVAILABLE.code
        nobody = cent.DisconnectRequest(user="")
        assert await refusal_of(api.disconnect(nobody)) == errors.BAD_REQUEST.code


async def test_without_a_key_there_is_nothing(
    keyed: Mesh,
) -> None:
    """A wrong key or none answers 401, whatever is asked; there are three ways to say it."""
    here, _ = keyed.gateways
    async with backend(here, "wrong") as api:
        with pytest.raises(cent.CentUnauthorizedError):
            await api.info(cent.InfoRequest())
    url = f"http://127.0.0.1:{here.http_port}/api"
    async with httpx.AsyncClient(timeout=WITHIN_S) as http:
        answers = [
            await http.post(f"{url}/info", headers={"X-API-Key": KEY}),
            await http.post(f"{url}/info", headers={"Authorization": f"apikey {KEY}"}),
            await http.post(f"{url}/info", params={"api_key": KEY}),
            await http.post(f"{url}/info"),
            await http.post(f"{url}/no_such_method"),
            await http.post(f"{url}/no_such_method", headers={"X-API-Key": KEY}),
        ]

        assert [a.status_code for a in answers] == [200, 200, 200, 401, 401, 404]


async def test_errors_become_statuses_where_that_is_asked_for(
    keyed: Mesh, room: str
) -> None:
    """Proxies and retrying clients may prefer HTTP's own words."""
    here, _ = keyed.gateways
    url = f"http://127.0.0.1:{here.http_port}/api"
    headers = {"X-API-Key": KEY, "X-Centrifugo-Error-Mode": "transport"}
    async with httpx.AsyncClient(timeout=WITHIN_S, headers=headers) as http:
        answers = [
            await http.post(f"{url}/publish", json={"channel": "nowhere:a", "data": 1}),
            await http.post(f"{url}/publish", json={"channel": room}),
            await http.post(f"{url}/history", content=b"no JSON"),
            await http.post(f"{url}/info", content=b"x" * (5 * 1024 * 1024)),
        ]

        assert [a.status_code for a in answers] == [404, 400, 400, 400]
        assert all(a.json()["error"]["message"] for a in answers)


async def test_calls_may_come_one_per_line(keyed: Mesh, room: str) -> None:
    """The older form of the API: each line names its method."""
    here, _ = keyed.gateways
    lines: list[dict[str, Any]] = [
        {"method": "publish", "params": {"channel": room, "data": 1}},
        {"method": "nonsense", "params": {}},
        {"method": "info"},
    ]
    async with httpx.AsyncClient(timeout=WITHIN_S) as http:
        told = await http.post(
            f"http://127.0.0.1:{here.http_port}/api",
            headers={"X-API-Key": KEY},
            content="\n".join(map(json.dumps, lines)),
        )
        alone = await http.post(
            f"http://127.0.0.1:{here.http_port}/api",
            headers={"X-API-Key": KEY},
            content=json.dumps(lines[2], indent=2),
        )

        one, two, three = map(json.loads, told.text.splitlines())
        assert one["result"]["offset"] == 1
        assert two["error"]["code"] == errors.METHOD_NOT_FOUND.code
        assert len(three["result"]["nodes"]) == 2
        assert len(alone.json()["result"]["nodes"]) == 2
