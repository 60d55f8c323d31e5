"""Streams over HTTP at a real gateway: the door, the bytes, and who does not read."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import jwt
import pytest
from tests.service.gateway.conftest import Running, StartGateway

from chatmesh.wire import close_codes, limits
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.eventually import eventually
from support.scripted_history import ScriptedHistory

pytestmark = pytest.mark.timeout(120)

WITHIN_S: Final = 10.0
STREAM: Final = "/connection/http_stream"
EVENTS: Final = "/connection/sse"
EMULATION: Final = "/emulation"
CONNECT: Final = '{"id":1,"connect":{}}'
STRANGE: Final = {"Origin": "https://elsewhere.example"}


def url(gateway: Running, path: str) -> str:
    return f"http://127.0.0.1:{gateway.settings.http_port}{path}"


class Stream:
    """A client on an HTTP stream."""

    def __init__(
        self, gateway: Running, http: httpx.AsyncClient, response: httpx.Response
    ) -> None:
        self.response = response
        self.welcome: dict[str, Any] = {}
        self._gateway = gateway
        self._http = http
        self._lines = response.aiter_lines()

    async def line(self) -> str:
        async with asyncio.timeout(WITHIN_S):
            return await anext(self._lines)

    async def hear(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await self.line())
        return told

    async def ends(self) -> bool:
        async with asyncio.timeout(WITHIN_S):
            return [line async for line in self._lines] == []

    async def say(self, *commands: dict[str, Any]) -> int:
        data = "\n".join(json.dumps(command) for command in commands)
        body = {**self.welcome, "data": data}
        answer = await self._http.post(url(self._gateway, EMULATION), json=body)
        return answer.status_code


@asynccontextmanager
async def opened(
    gateway: Running,
    commands: str = CONNECT,
    *,
    greet: bool = True,
    **headers: str,
) -> AsyncGenerator[Stream]:
    async with (
        httpx.AsyncClient(timeout=WITHIN_S) as http,
        http.stream(
            "POST", url(gateway, STREAM), content=commands, headers=headers
        ) as response,
    ):
        stream = Stream(gateway, http, response)
        if greet:
            told = (await stream.hear())["connect"]
            stream.welcome = {"session": told["session"], "node": told["node"]}
        yield stream


async def connections(gateway: Running) -> int:
    return int(await gateway.metric("chatmesh_gateway_connections"))


# -- The door -------------------------------------------------------------------------


async def test_a_stream_is_not_stored_or_held_back_on_the_way(alone: Running) -> None:
    """Proxies are told, in the words they know."""
    async with opened(alone) as stream:
        headers = stream.response.headers

        assert stream.response.status_code == 200
        assert "no-store" in headers["cache-control"]
        assert headers["x-accel-buffering"] == "no"
        assert "content-length" not in headers


async def test_pages_of_our_own_ports_may_use_the_fallbacks(alone: Running) -> None:
    """The page comes from the traffic port, which is another origin."""
    own = f"http://127.0.0.1:{alone.settings.port}"
    async with opened(alone, Origin=own) as stream:
        assert stream.response.headers["access-control-allow-origin"] == own
        assert "origin" in stream.response.headers["vary"].lower()
    for path in (STREAM, EVENTS, EMULATION):
        answer = await alone.http.options(url(alone, path), headers={"Origin": own})
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == own
        assert "content-type" in answer.headers["access-control-allow-headers"].lower()


async def test_strange_pages_may_not(alone: Running) -> None:
    """Not to open a stream, not to speak on one, not even to ask."""
    http = alone.http
    answers = [
        await http.post(url(alone, STREAM), content=CONNECT, headers=STRANGE),
        await http.get(
            url(alone, EVENTS), params={"cf_connect": CONNECT}, headers=STRANGE
        ),
        await http.post(url(alone, EMULATION), json={}, headers=STRANGE),
        await http.options(url(alone, EMULATION), headers=STRANGE),
    ]

    assert [answer.status_code for answer in answers] == [403] * 4
    assert not any("access-control-allow-origin" in a.headers for a in answers)


async def test_a_storm_of_streams_is_told_when_to_come_back(
    start_alone: StartGateway,
) -> None:
    """The same door as for sockets: a rate, and a place to wait outside."""
    gateway = await start_alone(connects_per_s=0.01, connects_burst=1)
    async with opened(gateway):
        answer = await gateway.http.post(url(gateway, STREAM), content=CONNECT)

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 1


async def test_a_full_gateway_says_so(start_alone: StartGateway) -> None:
    """Streams count as connections."""
    gateway = await start_alone(connections_max=1)
    async with opened(gateway):
        answer = await gateway.http.get(
            url(gateway, EVENTS), params={"cf_connect": CONNECT}
        )

        assert answer.status_code == 503
        assert "retry-after" in answer.headers


# -- Bodies ---------------------------------------------------------------------------


async def test_bodies_are_bounded_before_they_are_read(alone: Running) -> None:
    """By what they say of themselves, and by what comes when they say nothing."""
    large = b"x" * (alone.settings.frame_bytes_max + 1)

    async def chunks() -> AsyncIterator[bytes]:  # noqa: RUF029 - an iterator
        yield large

    emulated = json.dumps({"session": "s", "node": "n", "data": large.decode()})
    answers = [
        await alone.http.post(url(alone, STREAM), content=large),
        await alone.http.post(url(alone, STREAM), content=chunks()),
        await alone.http.post(url(alone, EMULATION), content=large + large + large),
        await alone.http.post(url(alone, EMULATION), content=emulated),
    ]

    assert [answer.status_code for answer in answers] == [413] * 4


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"session":"s","node":"n"}', "application/json"),
        (b'{"session":1,"node":"n","data":"d"}', "application/json"),
        (b'{"session":"","node":"n","data":"d"}', "application/json"),
        (b"[" * 2000, "application/json"),
        (b"\xff\xff\xff", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
async def test_what_is_no_emulation_request_is_refused(
    alone: Running, body: bytes, kind: str
) -> None:
    """With 400, and nobody is disturbed."""
    answer = await alone.http.post(
        url(alone, EMULATION), content=body, headers={"Content-Type": kind}
    )

    assert answer.status_code == 400
    assert answer.text.strip()


async def test_without_a_broker_only_own_streams_are_reached(alone: Running) -> None:
    """Commands for this gateway work; those for another are to be tried again."""
    async with opened(alone) as ada:
        assert await ada.say({"id": 2, "rpc": {"method": "none"}}) == 204
        assert (await ada.hear())["id"] == 2
        ada.welcome["node"] = "another"
        assert await ada.say({"id": 3, "rpc": {"method": "none"}}) == 503


# -- The protocol ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "commands", ["", "nonsense", '{"id":1}', '{"id":1,"subscribe":{"channel":"a"}}']
)
async def test_what_is_no_connect_gets_a_goodbye(alone: Running, commands: str) -> None:
    """As a push with its code, and then the response is complete."""
    async with opened(alone, commands, greet=False) as stream:
        goodbye = (await stream.hear())["push"]["disconnect"]

        assert goodbye["code"] == close_codes.BAD_REQUEST.code
        assert goodbye["reason"]
        assert await stream.ends()


async def test_commands_behind_the_connect_are_heard_in_order(alone: Running) -> None:
    """The first request may hold several."""
    more = '{"id":2,"rpc":{"method":"a"}}\n{"id":3,"rpc":{"method":"b"}}'
    async with opened(alone, f"{CONNECT}\n{more}") as stream:
        assert [(await stream.hear())["id"] for _ in range(2)] == [2, 3]


async def test_events_are_framed_as_browsers_read_them(alone: Running) -> None:
    """An empty line first, then one event for each message."""
    more = f'{CONNECT}\n{{"id":2,"rpc":{{"method":"a"}}}}'
    async with (
        httpx.AsyncClient(timeout=WITHIN_S) as http,
        http.stream("GET", url(alone, EVENTS), params={"cf_connect": more}) as response,
    ):
        stream = Stream(alone, http, response)
        lines = [await stream.line() for _ in range(5)]

    assert response.headers["content-type"].startswith("text/event-stream")
    assert [line[:6] for line in lines] == ["", "data: ", "", "data: ", ""]
    assert json.loads(lines[3][6:])["id"] == 2


async def test_a_client_that_does_not_answer_pings_is_gone(
    start_alone: StartGateway,
) -> None:
    """Answers come by the emulation endpoint, like everything it says."""
    gateway = await start_alone(ping_interval_s=1, pong_within_s=0.9)
    async with opened(gateway) as lively, opened(gateway) as dead:
        for _ in range(3):
            assert await lively.hear() == {}
            assert await lively.say({}) == 204
        assert await dead.hear() == {}
        goodbye = (await dead.hear())["push"]["disconnect"]

        assert goodbye["code"] == close_codes.NO_PONG.code
        assert await dead.ends()
        assert await lively.say({"id": 2, "rpc": {"method": "a"}}) == 204


async def test_a_refused_client_is_not_kept(start_alone: StartGateway) -> None:
    """Who is told that a token has expired, and stays anyway, is let go of."""
    gateway = await start_alone(connect_within_s=1)
    old = {"sub": "ada", "exp": int(time.time()) - 60}
    token = jwt.encode(old, DEVELOPMENT_SECRET, algorithm="HS256")
    connect = json.dumps({"id": 1, "connect": {"token": token}})
    async with opened(gateway, connect, greet=False) as stream:
        assert (await stream.hear())["error"]["code"] == 109

        goodbye = (await stream.hear())["push"]["disconnect"]

        assert close_codes.Disconnect(goodbye["code"], "").reconnects
        assert await stream.ends()


async def test_an_aborted_stream_is_noticed_at_once(alone: Running) -> None:
    """Also on a quiet stream, where nothing is written that could fail."""
    for _ in range(3):
        async with opened(alone):
            assert await connections(alone) == 1

        async def nobody() -> bool:
            return await connections(alone) == 0

        await eventually(nobody, within_s=1.0)


async def test_a_drain_says_goodbye_on_every_stream(start_alone: StartGateway) -> None:
    """Clients are sent elsewhere, and the process does not wait for them."""
    gateway = await start_alone(drain_window_s=0.2)
    async with opened(gateway) as one, opened(gateway) as two:
        gateway.stopping.request("deploy")

        for stream in (one, two):
            goodbye = (await stream.hear())["push"]["disconnect"]
            assert goodbye["code"] == close_codes.SHUTDOWN.code
            assert await stream.ends()


# -- Who does not read ----------------------------------------------------------------


async def stalled(gateway: Running, channel: str) -> asyncio.StreamWriter:
    """A stream whose client subscribes and then reads nothing any more."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", gateway.settings.http_port, limit=1024
    )
    commands = f'{CONNECT}\n{{"id":2,"subscribe":{{"channel":"{channel}"}}}}'
    writer.write(
        f"POST {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Length: {len(commands)}\r\n\r\n{commands}".encode()
    )
    async with asyncio.timeout(WITHIN_S):
        await reader.readuntil(b'"subscribe"')
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return writer


async def test_a_slow_reader_costs_only_itself(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """It is told to recover, then closed as slow; whoever reads gets everything."""
    gateway = await start_gateway(outbox_bytes_max=256 * limits.KIB)
    slow = await stalled(gateway, "room:a")
    try:
        async with opened(gateway) as reader:
            await reader.say({"id": 2, "subscribe": {"channel": "room:a"}})
            assert "subscribe" in await reader.hear()
            text = json.dumps("x" * 60_000).encode()
            offsets: list[int] = []
            for _ in range(240):
                await history.say("room:a", data=text)
                told = await reader.hear()
                offsets.append(told["push"]["pub"]["offset"])

            assert offsets == list(range(1, 241))
            step = 'chatmesh_gateway_slow_client_steps_total{step="recover"}'
            assert await gateway.metric(step) == 1
    finally:
        slow.close()


async def test_a_frozen_reader_is_cut_off(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """It takes not even its goodbye, and is gone all the same."""
    gateway = await start_gateway(
        ping_interval_s=2, pong_within_s=1, outbox_bytes_max=128 * limits.KIB
    )
    frozen = await stalled(gateway, "room:a")
    try:
        text = json.dumps("x" * 60_000).encode()
        await history.say("room:a", 200, data=text)

        async def nobody() -> bool:
            return await connections(gateway) == 0

        await eventually(nobody, within_s=15.0)
    finally:
        frozen.close()
