"""Clients that write and never read: they cost a budget and end, whatever they write."""

import asyncio
import socket

import pytest
from tests.service.gateway.conftest import Running, StartGateway
from websockets.frames import Close, CloseCode, Frame, Opcode

from chatmesh.wire import limits
from support.eventually import eventually
from support.scripted_history import ScriptedHistory

ROOM = "room:a"
PINGS_MAX = 200_000
"""Answers to so many would be 25 MB: more than kernels keep for one socket."""
HELLO = (
    b"GET /connection/websocket HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n"
    b"connection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
JOIN = (
    b'{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:a"}}'  # Two commands.
)


async def opened(gateway: Running) -> socket.socket:
    """A WebSocket whose owner will not read a byte beyond the handshake's answer."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * limits.KIB)
    plain.setblocking(False)  # noqa: FBT003 - the library has no keyword for it
    loop = asyncio.get_running_loop()
    await loop.sock_connect(plain, ("127.0.0.1", gateway.settings.port))
    await loop.sock_sendall(plain, HELLO)
    answer = await loop.sock_recv(plain, 4096)
    assert answer.startswith(b"HTTP/1.1 101")
    await loop.sock_sendall(plain, Frame(Opcode.TEXT, JOIN).serialize(mask=True))
    return plain


async def test_a_flood_of_pings_is_no_way_around_the_budget(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """Their answers belong to the engine and know no outbox; memory is bounded all the same."""
    assert not history.silent
    gateway = await start_gateway(outbox_bytes_max=64 * limits.KIB)
    flooding = await opened(gateway)
    loop = asyncio.get_running_loop()
    hundred = Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 100

    with pytest.raises(ConnectionError):  # noqa: PT012 - at whichever piece it is
        for _ in range(PINGS_MAX // 100):
            await loop.sock_sendall(flooding, hundred)

    await eventually(lambda: _is_empty(gateway))
    flooding.close()


async def test_a_goodbye_that_nobody_reads_does_not_keep_the_socket(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """The client closes in order while its buffer is full: it is let go of all the same."""
    gateway = await start_gateway()
    leaving = await opened(gateway)
    waiting = "chatmesh_gateway_outbox_bytes"
    payload = b'"%s"' % (b"x" * 60 * limits.KIB)
    for _ in range(100):
        await history.say(ROOM, data=payload)
        if await gateway.metric(waiting):
            break
    assert await gateway.metric("chatmesh_gateway_connections") == 1

    goodbye = Close(CloseCode.NORMAL_CLOSURE, "").serialize()
    frame = Frame(Opcode.CLOSE, goodbye).serialize(mask=True)
    await asyncio.get_running_loop().sock_sendall(leaving, frame)

    await eventually(lambda: _is_empty(gateway), within_s=15)
    leaving.close()


async def _is_empty(gateway: Running) -> bool:
    return await gateway.metric("chatmesh_gateway_connections") == 0
