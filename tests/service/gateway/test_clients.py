"""Real sockets at a real gateway: who reads, who does not, and who says nonsense."""

import asyncio
import socket

import jwt
import pytest
from tests.service.gateway.conftest import Running, StartGateway

from chatmesh.wire import limits
from chatmesh.wire.development import DEVELOPMENT_SECRET
from chatmesh.wire.namespaces import NamespaceOptions
from support.eventually import eventually
from support.json_client import JsonClient, json_client
from support.scripted_history import ScriptedHistory

pytestmark = pytest.mark.timeout(120)

ROOM = "room:a"


async def in_the_room(client: JsonClient, channel: str = ROOM) -> JsonClient:
    await client.connect()
    reply = await client.subscribe(channel)
    assert "subscribe" in reply, reply
    return client


async def test_what_one_says_the_other_hears_with_its_place(gateway: Running) -> None:
    """Publish, message.send, history and recovery over the broker."""
    async with json_client(gateway.url) as ada, json_client(gateway.url) as bob:
        await in_the_room(ada)
        await in_the_room(bob)
        assert await ada.ask(publish={"channel": ROOM, "data": {"n": 1}}) == {
            "id": 3,
            "publish": {},
        }
        message = {"channel": ROOM, "id": "m1", "text": "hi"}
        sent = await ada.ask(rpc={"method": "message.send", "data": message})
        assert sent["rpc"]["data"]["offset"] == 2
        again = await ada.ask(rpc={"method": "message.send", "data": message})
        assert again["rpc"]["data"]["offset"] == 2
        assert await bob.offsets(ROOM, 2) == [1, 2]

        page = await bob.ask(history={"channel": ROOM, "limit": -1})
        assert [one["offset"] for one in page["history"]["publications"]] == [1, 2]

    async with json_client(gateway.url) as late:
        await late.connect()
        place = {"recover": True, "offset": 1, "epoch": "e1"}
        reply = await late.subscribe(ROOM, **place)
        missed = reply["subscribe"]["publications"]
        assert [one["offset"] for one in missed] == [2]


async def test_a_thousand_come_back_at_the_cost_of_one_read(
    gateway: Running, history: ScriptedHistory
) -> None:
    """However many clients resume a cold channel at once."""
    await history.say(ROOM, 50)
    clients = 200
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(resume(gateway, number % 50))

    reads = [read for read in history.reads if read.channel == ROOM]
    assert len(reads) == 1


async def resume(gateway: Running, offset: int) -> None:
    async with json_client(gateway.url) as client:
        await client.connect()
        reply = await client.subscribe(ROOM, recover=True, offset=offset, epoch="e1")
        missed = [one["offset"] for one in reply["subscribe"].get("publications", [])]
        assert missed == list(range(offset + 1, 51))


# -- Frames ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", 3501),
        ("nonsense", 3501),
        ('{"id":1}', 3501),
        ('{"id":1,"subscribe":{"channel":"room:a"}}', 3501),
        (b"\xff\xfe", 3501),
        ("x" * (4 * limits.COMMAND_BYTES_MAX + 1), 1009),
    ],
    ids=["empty", "no json", "no request", "no connect", "no text", "too big"],
)
async def test_a_frame_that_makes_no_sense_is_a_goodbye_with_a_reason(
    gateway: Running, frame: str | bytes, code: int
) -> None:
    """And the room does not notice."""
    async with json_client(gateway.url) as ada, json_client(gateway.url) as eve:
        await in_the_room(ada)

        await eve.socket.send(frame)
        said = await eve.goodbye()

        assert said[0] == code
        assert said[1] or code == 1009
        await ada.ask(publish={"channel": ROOM, "data": 1})
        assert await ada.offsets(ROOM, 1) == [1]


async def test_a_command_too_large_is_refused_and_the_connection_lives(
    gateway: Running,
) -> None:
    """64 KiB each, several in one frame."""
    async with json_client(gateway.url) as ada:
        await in_the_room(ada)

        data = "x" * limits.COMMAND_BYTES_MAX
        refused = await ada.ask(publish={"channel": ROOM, "data": data})

        assert refused["error"]["code"] == 413
        assert "publish" in await ada.ask(publish={"channel": ROOM, "data": 1})


async def test_a_frame_in_fragments_is_one_frame(gateway: Running) -> None:
    """Also when some of them are empty."""
    async with json_client(gateway.url) as ada:
        whole = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:a"}}'

        await ada.socket.send(["", whole[:5], "", whole[5:30], whole[30:], ""])

        await ada.until(lambda said: "subscribe" in said)
        assert [sorted(said) for said in ada.heard] == [
            ["connect", "id"],
            ["id", "subscribe"],
        ]


async def test_fragments_together_have_the_limit_of_a_frame(gateway: Running) -> None:
    """1009, however small the pieces are."""
    async with json_client(gateway.url) as eve:
        pieces = ["x" * 10_000] * 30

        await eve.socket.send(pieces)

        assert (await eve.goodbye())[0] == 1009


async def test_a_payload_that_is_no_text_reaches_nobody(gateway: Running) -> None:
    """The sender is told; one bad byte would end every reader's connection."""
    async with json_client(gateway.url) as ada, json_client(gateway.url) as eve:
        await in_the_room(ada)
        await in_the_room(eve)

        await eve.socket.send(
            b'{"id":3,"publish":{"channel":"room:a","data":"\xff"}}', text=True
        )

        assert (await eve.goodbye())[0] == 3501
        await ada.ask(publish={"channel": ROOM, "data": 1})
        assert await ada.offsets(ROOM, 1) == [1]


# -- Who does not read ----------------------------------------------------------------

PERSONAL = {"": NamespaceOptions(personal=True), "room": NamespaceOptions()}
KIB_60 = b'"%s"' % (b"x" * 60 * limits.KIB)


def stalling_socket(gateway: Running) -> socket.socket:
    """A socket that takes little before its reader has to read."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * limits.KIB)
    plain.connect(("127.0.0.1", gateway.settings.port))
    plain.setblocking(False)  # noqa: FBT003 - the library has no keyword for it
    return plain


async def test_a_slow_client_alone_is_told_to_recover_and_loses_nothing(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """It stalls, hears 2500, and gets the rest by recovery; its neighbour hears on."""
    gateway = await start_gateway()
    options = {"sock": stalling_socket(gateway), "max_queue": 1}
    async with (
        json_client(gateway.url, **options) as slow,
        json_client(gateway.url) as quick,
    ):
        await in_the_room(slow)
        await in_the_room(quick)

        reading = asyncio.create_task(quick.offsets(ROOM, 200))
        for _ in range(200):
            await history.say(ROOM, data=KIB_60)
        assert await reading == list(range(1, 201))
        assert await gateway.metric(
            'chatmesh_gateway_slow_client_steps_total{step="recover"}'
        )

        told = await slow.until(lambda said: "unsubscribe" in said.get("push", {}))
        assert told["push"]["unsubscribe"]["code"] == 2500
        heard = await slow.offsets(ROOM, slow.heard[-2]["push"]["pub"]["offset"])
        assert heard == list(range(1, heard[-1] + 1))
        place = heard[-1]
        while place < 200:
            reply = await slow.ask(
                history={
                    "channel": ROOM,
                    "limit": 20,
                    "since": {"offset": place, "epoch": "e1"},
                }
            )
            page = [one["offset"] for one in reply["history"]["publications"]]
            assert page == list(range(place + 1, page[-1] + 1))
            place = page[-1]


async def test_a_client_that_never_reads_is_closed_as_slow_and_costs_its_budget(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """What cannot be recovered piles up to the budget, then 3008; others hear on."""
    gateway = await start_gateway(namespaces=PERSONAL, insecure=False, development=True)
    token = await login(gateway, "ada")
    options = {"sock": stalling_socket(gateway), "max_queue": 1}
    async with (
        json_client(gateway.url, **options) as slow,
        json_client(gateway.url) as quick,
    ):
        await slow.connect(token)
        await quick.connect(token)

        reading = asyncio.create_task(quick.offsets("#ada", 250, within_s=25))
        for _ in range(250):
            await history.say("#ada", data=KIB_60)

        assert await reading == list(range(1, 251))
        closed = 'chatmesh_gateway_closes_total{code="3008"}'

        async def is_closed() -> bool:
            return await gateway.metric(closed) == 1

        await eventually(is_closed)


async def login(gateway: Running, user: str) -> str:
    answer = await gateway.http.post(f"{gateway.page}/dev/token?user={user}")
    assert answer.status_code == 200
    return answer.json()["token"]


async def test_a_frozen_client_is_gone_within_the_ping_deadline(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """No read, no pong: its connection is let go of, its transport too."""
    assert not history.silent
    gateway = await start_gateway(ping_interval_s=1, pong_within_s=0.5)
    async with json_client(gateway.url, sock=stalling_socket(gateway)) as frozen:
        await in_the_room(frozen)
        assert await gateway.metric("chatmesh_gateway_connections") == 1

        async def is_gone() -> bool:
            return await gateway.metric("chatmesh_gateway_connections") == 0

        await eventually(is_gone, within_s=4.5)
        frozen.socket.transport.abort()


async def test_who_opens_a_socket_and_says_nothing_is_sent_away(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """3502 after the time to connect."""
    assert not history.silent
    gateway = await start_gateway(connect_within_s=1)
    async with json_client(gateway.url) as mute:
        assert await mute.goodbye() == (3502, "stale")


async def test_a_hasty_client_is_refused_then_sent_away_and_nobody_else(
    start_alone: StartGateway,
) -> None:
    """111 over its rate, 3013 when it does not listen; its neighbour is answered."""
    gateway = await start_alone(commands_per_s=0.01, commands_burst=10)
    async with json_client(gateway.url) as ada, json_client(gateway.url) as bob:
        await ada.connect()
        await bob.connect()
        await ada.send(*[{"id": n, "rpc": {"method": "none"}} for n in range(100, 160)])

        code, reason = await ada.goodbye()
        assert (code, bool(reason)) == (3013, True)
        codes = [said["error"]["code"] for said in ada.heard if "error" in said]
        assert codes == [108] * 10 + [111] * 19
        answered = await bob.ask(rpc={"method": "none"})
        assert answered["error"]["code"] == 108

        async def counted() -> bool:
            return await gateway.metric("chatmesh_gateway_hasty_commands_total") == 19

        await eventually(counted, within_s=20)


async def test_users_share_a_rate_over_their_sockets(
    start_alone: StartGateway,
) -> None:
    """One user by two sockets is one user; another one is another."""
    gateway = await start_alone(user_commands_per_s=0.01, user_commands_burst=3)
    told: list[int] = []
    async with json_client(gateway.url) as phone, json_client(gateway.url) as desk:
        for one in (phone, desk):
            await one.connect(token("ada"))
        for one in (phone, desk, phone, desk):
            reply = await one.ask(rpc={"method": "none"})
            told.append(reply["error"]["code"])
    async with json_client(gateway.url) as bob:
        await bob.connect(token("bob"))
        told.append((await bob.ask(rpc={"method": "none"}))["error"]["code"])

    assert told == [108, 108, 108, 111, 108]


def token(user: str) -> str:
    return jwt.encode({"sub": user}, DEVELOPMENT_SECRET, algorithm="HS256")
