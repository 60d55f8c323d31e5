"""The traffic port before a conversation begins: who comes in, and the page."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.service.gateway.conftest import Running, StartGateway
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.eventually import eventually
from support.json_client import json_client

pytestmark = pytest.mark.timeout(120)

UPGRADE = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


async def said_to(
    gateway: Running, request: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to raw bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.settings.port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            status_line, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            size = int(headers.get("content-length", "0"))
            body = await reader.readexactly(size)
    finally:
        writer.close()
    return int(status_line.split(" ")[1]), headers, body


def request(path: str, *lines: str, method: str = "GET") -> bytes:
    head = [f"{method} {path} HTTP/1.1", *lines, "", ""]
    return "\r\n".join(head).encode()


def handshake(*more: str, path: str = "/connection/websocket") -> bytes:
    return request(
        path, *[f"{name}: {value}" for name, value in UPGRADE.items()], *more
    )


async def test_an_empty_list_of_subprotocols_is_none(alone: Running) -> None:
    """One SDK sends it."""
    status, headers, _ = await said_to(alone, handshake("Sec-WebSocket-Protocol: "))

    assert status == 101
    assert "sec-websocket-protocol" not in headers


@pytest.mark.parametrize("name", ["centrifuge-json", "centrifuge-protobuf"])
async def test_a_subprotocol_we_speak_is_echoed(alone: Running, name: str) -> None:
    """Or browsers would hang up."""
    status, headers, _ = await said_to(
        alone, handshake(f"Sec-WebSocket-Protocol: {name}")
    )

    assert (status, headers["sec-websocket-protocol"]) == (101, name)


async def test_another_subprotocol_is_served_json(alone: Running) -> None:
    """And not echoed."""
    status, headers, _ = await said_to(
        alone, handshake("Sec-WebSocket-Protocol: graphql-ws")
    )

    assert status == 101
    assert "sec-websocket-protocol" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/connection/websocket/",
        "/connection/websocket?cf_protocol_version=v2",
        "/connection/websocket?what=ever&cf_protocol=json",
    ],
)
async def test_query_keys_nobody_knows_are_ignored(alone: Running, path: str) -> None:
    """Leftovers of older SDKs."""
    assert (await said_to(alone, handshake(path=path)))[0] == 101


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ((), None, 101),
        ((), "http://127.0.0.1", 101),
        ((), "https://evil.example", 403),
        ((), "null", 403),
        ((), "http://[", 403),
        (("https://*.example.org",), "https://chat.example.org", 101),
        (("https://*.example.org",), "HTTPS://CHAT.EXAMPLE.ORG", 101),
        (("https://*.example.org",), "http://127.0.0.1", 403),
        (("https://*.example.org",), None, 101),
    ],
)
async def test_only_pages_of_allowed_origins_come_in(
    start_alone: StartGateway,
    allowed: tuple[str, ...],
    origin: str | None,
    status: int,
) -> None:
    """Its own host by default; programs that are no browsers say no origin."""
    gateway = await start_alone(allowed_origins=allowed)
    lines = [f"Origin: {origin}"] if origin is not None else []

    assert (await said_to(gateway, handshake(*lines)))[0] == status


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (handshake("Origin: http://a", "Origin: http://b"), 403),
        (handshake("Host: other"), 101),
        (handshake(path="//["), 400),
        (request("/connection/websocket", "Host: a"), 426),
        (request("/connection/websocket", "Host: a", method="POST"), 405),
        (request("/emulation", "Content-Length: 2", method="POST") + b"{}", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
    ids=[
        "two origins",
        "two hosts",
        "no address",
        "no upgrade",
        "post",
        "post with a body",
        "no http",
    ],
)
async def test_a_strange_handshake_gets_an_answer(
    alone: Running, raw: bytes, status: int
) -> None:
    """A status and a sentence, neither a traceback nor silence."""
    answered, _, body = await said_to(alone, raw)

    assert answered == status
    assert bool(body) == (status != 101)


async def test_too_many_connects_are_told_when_to_come_back(
    start_alone: StartGateway,
) -> None:
    """503 and Retry-After; those who are in stay in."""
    gateway = await start_alone(connects_per_s=0.5, connects_burst=2)
    async with json_client(gateway.url) as ada:
        await ada.connect()
        assert (await said_to(gateway, handshake()))[0] == 101

        status, headers, body = await said_to(gateway, handshake())

        assert (status, headers["retry-after"]) == (503, "2")
        assert body == b"too many connects\n"
        assert "unsubscribe" in await ada.ask(unsubscribe={"channel": "room:a"})


async def test_a_full_gateway_says_so(start_alone: StartGateway) -> None:
    """And has room again when somebody leaves."""
    gateway = await start_alone(connections_max=1)
    async with json_client(gateway.url) as ada:
        await ada.connect()
        status, headers, body = await said_to(gateway, handshake())
        assert (status, body) == (503, b"full\n")
        assert "retry-after" in headers

    async with json_client(gateway.url) as bob:
        await bob.connect()


async def test_a_draining_gateway_sends_everybody_elsewhere(
    start_alone: StartGateway,
) -> None:
    """Unready, nobody new, 3001 for those inside, and exit code 0."""
    gateway = await start_alone(drain_window_s=1.0)
    async with json_client(gateway.url) as ada, json_client(gateway.url) as bob:
        await ada.connect()
        await bob.connect()

        gateway.stopping.request("test")
        goodbyes = await asyncio.gather(ada.goodbye(), bob.goodbye())

        assert goodbyes == [(3001, "shutdown"), (3001, "shutdown")]
    with pytest.raises((OSError, InvalidStatus, ConnectionClosed)):
        async with json_client(gateway.url):
            pass
    async with asyncio.timeout(10):
        assert await gateway.served == 0


# -- The page and the development login -----------------------------------------------


@pytest.fixture
def page(tmp_path: Path) -> Path:
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>mesh")
    (folder / "assets" / "app-1234.js").write_text("let mesh")
    (tmp_path / "secret.txt").write_text("not for you")
    return folder


async def test_the_page_is_served_and_nothing_beside_it(
    start_alone: StartGateway, page: Path
) -> None:
    """Index, hashed files that never change, 404 for the rest."""
    gateway = await start_alone(page=str(page))

    status, headers, body = await said_to(gateway, request("/", "Host: a"))
    assert (status, body) == (200, b"<!doctype html>mesh")
    assert headers["cache-control"] == "no-cache"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]

    again = await said_to(
        gateway, request("/", "Host: a", f"If-None-Match: {headers['etag']}")
    )
    assert (again[0], again[2]) == (304, b"")

    status, headers, body = await said_to(
        gateway, request("/assets/app-1234.js", "Host: a")
    )
    assert (status, body) == (200, b"let mesh")
    assert "javascript" in headers["content-type"]
    assert "immutable" in headers["cache-control"]

    for path in (
        "/secret.txt",
        "/../secret.txt",
        "/assets/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets",
    ):
        assert (await said_to(gateway, request(path, "Host: a")))[0] == 404
    assert (await said_to(gateway, request("/", "Host: a", method="PUT")))[0] == 405


async def test_anybody_logs_in_by_name_in_development(
    start_alone: StartGateway,
) -> None:
    """The token is a real one."""
    gateway = await start_alone(development=True, insecure=False)

    post = request("/dev/token?user=Ada%20Lovelace", "Host: a", method="POST")
    status, _, body = await said_to(gateway, post)

    assert status == 200
    async with json_client(gateway.url) as ada:
        assert "connect" in await ada.connect(json.loads(body)["token"])
    for path in ("/dev/token", "/dev/token?user=", "/dev/token?user=%00"):
        assert (await said_to(gateway, request(path, "Host: a", method="POST")))[
            0
        ] == 400
    config = json.loads((await said_to(gateway, request("/dev/config", "Host: a")))[2])
    assert config["gateway"] == "g"


async def test_nobody_logs_in_by_name_elsewhere(alone: Running) -> None:
    """The paths do not exist without the flag."""
    for path, method in (("/dev/token?user=ada", "POST"), ("/dev/config", "GET")):
        assert (await said_to(alone, request(path, "Host: a", method=method)))[0] == 404


async def test_without_a_token_nobody_comes_in_where_it_is_not_allowed(
    start_alone: StartGateway,
) -> None:
    """3501, with the reason."""
    gateway = await start_alone(insecure=False)
    async with json_client(gateway.url) as client:
        await client.send({"id": 1, "connect": {}})
        code, reason = await client.goodbye()
        assert (code, "token" in reason) == (3501, True)
    async with json_client(gateway.url) as client:
        await client.send({"id": 1, "connect": {"token": "nonsense"}})
        code, reason = await client.goodbye()
        assert (code, bool(reason)) == (3500, True)


async def test_who_asks_for_pings_of_the_transport_gets_those(
    start_alone: StartGateway,
) -> None:
    """`cf_ws_frame_ping_pong`: nothing of it in the protocol, and it stays connected."""
    gateway = await start_alone(ping_interval_s=1, pong_within_s=0.5)
    pings: list[bytes] = []

    class Counting(ClientConnection):
        def data_received(self, data: bytes) -> None:
            pings.extend([b""] * data.count(b"\x89\x00"))
            super().data_received(data)

    url = f"{gateway.url}?cf_ws_frame_ping_pong=true"
    async with json_client(url, create_connection=Counting) as raw:
        reply = await raw.connect()
        assert not {"ping", "pong"} & reply["connect"].keys()
        await eventually(lambda: len(pings) >= 3, within_s=10)
        assert (await raw.ask(rpc={"method": "none"}))["error"]["code"]
        assert {} not in raw.heard


async def test_pings_that_want_no_answer_are_only_a_sign_of_life(
    start_alone: StartGateway,
) -> None:
    """With no time for pongs the client is told so, and not missed when it is silent."""
    gateway = await start_alone(ping_interval_s=1, pong_within_s=0)
    async with connect(gateway.url, compression=None, ping_interval=None) as socket:
        await socket.send('{"id":1,"connect":{}}')
        (welcome, *_) = json.loads(f"[{await socket.recv()}]")
        assert welcome["connect"]["ping"] == 1
        assert "pong" not in welcome["connect"]

        for _ in range(4):
            assert await asyncio.wait_for(socket.recv(), 10) == "{}"
