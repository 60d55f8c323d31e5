"""Clients made for load: they count what comes and parse only what they wait for.

The load runs on the same machine as the mesh, so whatever a client does is taken from
the mesh; an SDK would measure itself.
"""

import asyncio
import base64
import itertools
import json
import os
import struct
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast
from urllib.parse import urlsplit

PUSH: Final = b'{"push":'
_HEAD_END: Final = b"\r\n\r\n"
_SMALL: Final = 126
_MEDIUM: Final = 65536
_MASK: Final = b"\x00\x00\x00\x00"
"""A mask of zeros is a mask, and leaves the bytes as they are."""
OPEN_WITHIN_S: Final = 20.0
TURNS: Final = 25
TURN_S: Final = 0.01


class LoadClient(asyncio.Protocol):
    """One WebSocket client of the JSON encoding, without any check on what comes."""

    def __init__(self) -> None:
        self.pushes = 0
        self.closed = False
        self.replies: dict[int, asyncio.Future[bytes]] = {}
        self.seen: deque[tuple[bytes, float]] | None = None
        """Each push with the time it came; None counts them only."""
        self.in_turns = False
        """It has read what was there, and waits for its turn to read again."""
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer = b""
        self._handshaken = False
        self._last_id = 0

    # -- Transport --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.in_turns:
            assert self._transport is not None
            self._transport.pause_reading()
        if not self._handshaken:
            head, found, rest = (self._buffer + data).partition(_HEAD_END)
            if not found:
                self._buffer += data
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self._opened.set_exception(ConnectionError(head.decode()))
                return
            self._handshaken, self._buffer, data = True, b"", rest
            self._opened.set_result(None)
        if self._buffer:
            data = self._buffer + data
        self._buffer = self._take_frames(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def _take_frames(self, data: bytes) -> bytes:
        at, size = 0, len(data)
        while size - at >= 2:
            length, begin = data[at + 1] & 0x7F, at + 2
            if length == _SMALL:
                if size - at < 4:
                    break
                (length,) = struct.unpack_from("!H", data, at + 2)
                begin = at + 4
            elif length > _SMALL:
                if size - at < 10:
                    break
                (length,) = struct.unpack_from("!Q", data, at + 2)
                begin = at + 10
            end = begin + length
            if end > size:
                break
            self._take_payload(data[begin:end])
            at = end
        return data[at:]

    def _take_payload(self, payload: bytes) -> None:
        pushes = payload.count(PUSH)
        self.pushes += pushes
        if self.seen is not None and pushes:
            now = time.perf_counter()
            for line in payload.split(b"\n"):
                if line.startswith(PUSH):
                    self.seen.append((line, now))
        if not self.replies and payload != b"{}":
            return
        for line in payload.split(b"\n"):
            if line.startswith(b'{"id":'):
                number = int(line[6 : line.index(b",", 6)])
                waiting = self.replies.pop(number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(line)
            elif line == b"{}":
                self.write(b"{}")

    # -- Commands ---------------------------------------------------------------------

    async def open(self, url: str, token: str = "") -> None:
        """Connect to a gateway in insecure mode, as nobody if without a token."""
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        assert parts.port is not None, url
        host, port = parts.hostname, parts.port
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(OPEN_WITHIN_S):
            await loop.create_connection(lambda: self, host, port)
            key = base64.b64encode(os.urandom(16)).decode()
            assert self._transport is not None
            self._transport.write(
                (
                    f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
                ).encode()
            )
            await self._opened
            await self.call({"connect": {"token": token} if token else {}})

    async def subscribe(self, channel: str) -> None:
        await self.call({"subscribe": {"channel": channel}})

    async def call(self, request: dict[str, object]) -> bytes:
        """Send one command and wait for its reply."""
        number, waiting = self.expect()
        self.write(json.dumps({"id": number, **request}).encode())
        return await waiting

    def expect(self) -> tuple[int, "asyncio.Future[bytes]"]:
        """A command number, and the reply that will come for it."""
        self._last_id += 1
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.replies[self._last_id] = waiting
        return self._last_id, waiting

    def write(self, payload: bytes) -> None:
        if self._transport is None:
            return
        size = len(payload)
        if size < _SMALL:
            head = struct.pack("!BB", 0x81, 0x80 | size)
        elif size < _MEDIUM:
            head = struct.pack("!BBH", 0x81, 0x80 | _SMALL, size)
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, size)
        self._transport.write(head + _MASK + payload)

    def read_on(self) -> None:
        """It is its turn."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def message(channel: str, message_id: str, text: str) -> dict[str, object]:
    """The request of one durable message."""
    data = {"channel": channel, "id": message_id, "text": text}
    return {"rpc": {"method": "message.send", "data": data}}


async def open_clients(
    urls: list[str], count: int, at_once: int = 50, tokens: Sequence[str] = ()
) -> list[LoadClient]:
    """Clients spread over the gateways in turn, all connected; without tokens as nobody."""
    clients = [LoadClient() for _ in range(count)]
    for start in range(0, count, at_once):
        async with asyncio.TaskGroup() as group:
            for index in range(start, min(start + at_once, count)):
                token = tokens[index] if tokens else ""
                group.create_task(clients[index].open(urls[index % len(urls)], token))
    return clients


@asynccontextmanager
async def reading_in_turns(clients: Sequence[LoadClient]) -> AsyncGenerator[None]:
    """Meanwhile each of these reads only a few times a second, and much at once.

    What is sent to them costs the senders the same; but thousands that each wake up for
    every push would take the machine from those who are measured.
    """
    for client in clients:
        client.in_turns = True
    turning = asyncio.ensure_future(_turn(clients))
    try:
        yield
    finally:
        turning.cancel()
        for client in clients:
            client.in_turns = False
            client.read_on()
        await asyncio.wait({turning})


async def _turn(clients: Sequence[LoadClient]) -> None:
    groups = [clients[number::TURNS] for number in range(TURNS)]
    for group in itertools.cycle(groups):
        for client in group:
            client.read_on()
        await asyncio.sleep(TURN_S)
