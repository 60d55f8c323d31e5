"""A room over the official SDK and a real socket, against a gateway that is scripted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from chatmesh.cli.lines import Message
from chatmesh.cli.room import (
    EVENTS_WAITING_MAX,
    TEXT_BYTES_MAX,
    Access,
    Connected,
    Ended,
    Event,
    Joined,
    Lost,
    Room,
    Said,
    Unreachable,
    reason_of,
)
from chatmesh.cli.sending import Confirmed, Draft, RefusedError, TryAgainError
from support.eventually import eventually

CHANNEL = "room:x"
Reply = dict[str, Any] | None
Answer = Callable[[dict[str, Any]], Reply]


def publication(offset: int, text: str = "hi") -> dict[str, Any]:
    return {
        "data": {"type": "message", "id": f"i{offset}", "text": text},
        "info": {"user": "bob", "client": "c"},
        "offset": offset,
        "time": 1000 + offset,
    }


class ScriptedGateway:
    """Answers each kind of command as the test says; None is no answer at all."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.answers: dict[str, Reply | Answer] = {
            "connect": {"connect": {"client": "c1", "data": {"gateway": "gw-1"}}},
            "subscribe": {
                "subscribe": {
                    "recoverable": True,
                    "positioned": True,
                    "epoch": "e1",
                    "offset": 3,
                }
            },
        }
        self.sockets: list[ServerConnection] = []
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/connection/websocket"

    def commands(self, kind: str) -> list[Any]:
        return [command[kind] for command in self.heard if kind in command]

    async def push(self, kind: str, value: dict[str, Any]) -> None:
        pushed = {"push": {"channel": CHANNEL, kind: value}}
        await self.sockets[-1].send(json.dumps(pushed))

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        async for frame in socket:
            for line in str(frame).split("\n"):
                command = json.loads(line)
                self.heard.append(command)
                kind = next((key for key in command if key != "id"), "")
                answer = self.answers.get(kind)
                reply = answer(command[kind]) if callable(answer) else answer
                if reply is not None:
                    await socket.send(json.dumps({"id": command["id"], **reply}))


@pytest.fixture
async def gateway() -> AsyncIterator[ScriptedGateway]:
    gateway = ScriptedGateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
async def room(gateway: ScriptedGateway) -> AsyncIterator[Room]:
    room = Room(Access(gateway.url, token="t", direct=True), CHANNEL)
    yield room
    await room.leave()


async def next_event(room: Room) -> Event:
    async with asyncio.timeout(10):
        return await room.events.get()


async def joined(room: Room) -> Joined:
    await room.join()
    assert await next_event(room) == Connected("gw-1")
    event = await next_event(room)
    assert isinstance(event, Joined)
    return event


async def test_joining_tells_where_the_room_stands(
    room: Room, gateway: ScriptedGateway
) -> None:
    """Which gateway, which log, and how far it is."""
    assert await joined(room) == Joined(
        durable=True, top=3, epoch="e1", recovered=False
    )
    assert gateway.commands("connect")[0]["token"] == "t"


async def test_a_channel_without_positions_is_not_durable(
    room: Room, gateway: ScriptedGateway
) -> None:
    """There is nothing to page through there."""
    gateway.answers["subscribe"] = {"subscribe": {}}

    assert not (await joined(room)).durable


async def test_publications_arrive_with_their_author_and_time(
    room: Room, gateway: ScriptedGateway
) -> None:
    """Also those nobody shows, for their place in the log."""
    await joined(room)

    await gateway.push("pub", publication(4))
    await gateway.push("pub", {"data": {"type": "typing"}})

    assert await next_event(room) == Said(4, Message("bob", "hi", 1004))
    assert await next_event(room) == Said(0, None)


async def test_a_lost_connection_comes_back_and_recovers(
    room: Room, gateway: ScriptedGateway
) -> None:
    """From where this client stood, in the order in which it happened."""
    await joined(room)
    await gateway.push("pub", publication(4))
    await next_event(room)
    gateway.answers["subscribe"] = {
        "subscribe": {
            "recoverable": True,
            "positioned": True,
            "recovered": True,
            "was_recovering": True,
            "epoch": "e1",
            "offset": 4,
            "publications": [publication(5)],
        }
    }

    await gateway.sockets[-1].close(3001, "shutdown")

    assert await next_event(room) == Lost()
    assert await next_event(room) == Connected("gw-1")
    back = await next_event(room)
    assert back == Joined(durable=True, top=4, epoch="e1", recovered=True)
    assert await next_event(room) == Said(5, Message("bob", "hi", 1005))
    assert gateway.commands("subscribe")[-1]["offset"] == 4


async def test_a_message_is_sent_with_its_id(
    room: Room, gateway: ScriptedGateway
) -> None:
    """And its place in the room comes back."""
    await joined(room)
    gateway.answers["rpc"] = {"rpc": {"data": {"offset": 9, "id": "i", "at": 1}}}

    assert await room.send(Draft("hi", id="i")) == Confirmed(9)

    assert gateway.commands("rpc") == [
        {
            "method": "message.send",
            "data": {"channel": CHANNEL, "id": "i", "text": "hi"},
        }
    ]


async def test_a_message_waits_until_the_room_is_joined(
    room: Room, gateway: ScriptedGateway
) -> None:
    """Who is not in the room yet may not speak in it."""
    gateway.answers["rpc"] = {"rpc": {"data": {"offset": 1}}}
    answer = gateway.answers.pop("subscribe")
    await room.join()
    assert await next_event(room) == Connected("gw-1")
    sending = asyncio.ensure_future(room.send(Draft("hi")))
    await asyncio.sleep(0)
    assert not gateway.commands("rpc")

    # The reply that was withheld.
    await gateway.sockets[-1].send(json.dumps({"id": 2, **(answer or {})}))  # type: ignore[dict-item]

    assert await sending == Confirmed(1)


@pytest.mark.parametrize("answer", [None, [], "x", {"offset": "1"}, {}])
async def test_a_strange_confirmation_is_still_one(
    room: Room, gateway: ScriptedGateway, answer: object
) -> None:
    """What was answered without an error was committed."""
    await joined(room)
    gateway.answers["rpc"] = {"rpc": {"data": answer}}

    assert await room.send(Draft("hi")) == Confirmed(0)


def refusing(code: int, *, temporary: bool) -> dict[str, Any]:
    return {"error": {"code": code, "message": "no", "temporary": temporary}}


async def test_a_refusal_is_told_apart_from_a_later(
    room: Room, gateway: ScriptedGateway
) -> None:
    """The server says which of the two it is."""
    await joined(room)

    gateway.answers["rpc"] = refusing(103, temporary=False)
    with pytest.raises(RefusedError, match="no") as refused:
        await room.send(Draft("hi"))
    gateway.answers["rpc"] = refusing(504, temporary=True)
    with pytest.raises(TryAgainError, match="no") as later:
        await room.send(Draft("hi"))

    assert refused.value.code == 103
    assert later.value.sent


async def test_a_connection_lost_before_the_answer_leaves_doubt(
    room: Room, gateway: ScriptedGateway
) -> None:
    """It may have been committed, so it has to be sent again."""
    await joined(room)
    sending = asyncio.ensure_future(room.send(Draft("hi")))
    await eventually(lambda: gateway.commands("rpc"))

    await gateway.sockets[-1].close(3001, "shutdown")

    with pytest.raises(TryAgainError) as later:
        await sending
    assert later.value.sent


async def test_a_text_that_fits_no_command_is_not_sent(
    room: Room, gateway: ScriptedGateway
) -> None:
    """The frame would end the connection for everything else too."""
    await joined(room)

    with pytest.raises(RefusedError, match="too large"):
        await room.send(Draft("ü" * (TEXT_BYTES_MAX // 6)))

    assert not gateway.commands("rpc")


async def test_history_is_read_in_both_directions(
    room: Room, gateway: ScriptedGateway
) -> None:
    """The newest ones, oldest first; and what stands behind an offset."""
    await joined(room)
    newest_first = [publication(3), publication(2)]
    gateway.answers["history"] = {
        "history": {"publications": newest_first, "offset": 3, "epoch": "e1"}
    }

    page = await room.newest(2)
    gateway.answers["history"] = {
        "history": {"publications": [publication(3)], "offset": 3, "epoch": "e1"}
    }
    behind = await room.after(2, "e1", 10)

    assert [entry.offset for entry in page.entries] == [2, 3]
    assert (page.top, page.epoch) == (3, "e1")
    assert [entry.offset for entry in behind.entries] == [3]
    assert gateway.commands("history") == [
        {"channel": CHANNEL, "limit": 2, "reverse": True},
        {
            "channel": CHANNEL,
            "limit": 10,
            "reverse": False,
            "since": {"offset": 2, "epoch": "e1"},
        },
    ]


async def test_a_final_goodbye_ends_it(room: Room, gateway: ScriptedGateway) -> None:
    """With the gateway's reason; what is asked afterwards is refused with it."""
    await joined(room)

    await gateway.sockets[-1].close(3503, "force disconnect")

    assert await next_event(room) == Ended("force disconnect")
    with pytest.raises(RefusedError, match="force disconnect"):
        await room.send(Draft("hi"))


async def test_a_room_one_may_not_enter_ends_it(
    room: Room, gateway: ScriptedGateway
) -> None:
    """There is nothing to wait for."""
    gateway.answers["subscribe"] = refusing(103, temporary=False)

    await room.join()

    assert await next_event(room) == Connected("gw-1")
    assert await next_event(room) == Ended("no")


async def test_an_expired_token_that_cannot_be_replaced_ends_it(
    room: Room, gateway: ScriptedGateway
) -> None:
    """The reason is told before the end."""
    gateway.answers["connect"] = {"error": {"code": 109, "message": "token expired"}}

    await room.join()

    assert await next_event(room) == Unreachable("token expired")
    assert isinstance(await next_event(room), Unreachable)
    assert isinstance(await next_event(room), Ended)


async def test_a_new_token_is_made_when_the_old_one_has_expired(
    gateway: ScriptedGateway,
) -> None:
    """As the development login does."""
    made: list[str] = []

    async def make() -> str:
        await asyncio.sleep(0)
        made.append(f"t{len(made)}")
        return made[-1]

    def connect(asked: dict[str, Any]) -> Reply:
        if asked["token"] == "t0":
            return {"error": {"code": 109, "message": "token expired"}}
        return {"connect": {"client": "c1"}}

    gateway.answers["connect"] = connect
    room = Room(Access(gateway.url, get_token=make, direct=True), CHANNEL)

    await room.join()

    assert await next_event(room) == Unreachable("token expired")
    assert await next_event(room) == Connected("")
    await room.leave()


async def test_an_address_without_a_gateway_is_tried_again(free_port: int) -> None:
    """It may be starting just now."""
    address = f"ws://127.0.0.1:{free_port}/connection/websocket"
    room = Room(Access(address, direct=True), CHANNEL)

    await room.join()

    assert await next_event(room) == Unreachable("connection refused")
    assert await next_event(room) == Unreachable("connection refused")
    await room.leave()


async def test_leaving_is_not_an_end_worth_telling(
    room: Room, gateway: ScriptedGateway
) -> None:
    """One knows that one has left."""
    await joined(room)

    await room.leave()

    assert room.events.empty()
    assert gateway.heard


async def test_nobody_who_looks_at_nothing_fills_the_memory(
    room: Room, gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have left, are told so after what they had not looked at, and are gone."""
    assert room.events.maxsize > EVENTS_WAITING_MAX, "there is room for the end itself"
    await joined(room)
    monkeypatch.setattr("chatmesh.cli.room.EVENTS_WAITING_MAX", 3)

    for offset in range(4, 9):
        await gateway.push("pub", publication(offset))

    await eventually(lambda: room.events.qsize() == 4)
    await gateway.sockets[-1].wait_closed()
    seen = [await next_event(room) for _ in range(4)]
    assert [one.offset for one in seen if isinstance(one, Said)] == [4, 5, 6]
    assert seen[-1] == Ended("more happens here than can be shown")
    assert room.events.empty()
    with pytest.raises(RefusedError, match="more happens"):
        await room.send(Draft("hi"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "connection refused"),
        (OSError("odd"), "no connection"),
        (OSError(-2, "Name or service not known"), "name or service not known"),
        (TimeoutError(), "no answer in time"),
        (ValueError(), "ValueError"),
        (ValueError("odd"), "odd"),
    ],
)
def test_failures_read_like_sentences(error: Exception, told: str) -> None:
    """For a person who did not write the network stack."""
    assert reason_of(error) == told
