"""A WebSocket client without tasks or queues, so that hundreds cost next to nothing.

Built on the protocol engine of the `websockets` library. Unlike its ready-made client
it can be made slow, frozen, or torn off in the middle.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

OPEN_WITHIN_S = 5.0
_FRAME_BYTES_MAX = 16 * 1024 * 1024
_SMALL_BUFFER_BYTES = 4096
_QUIET = logging.getLogger("chaos.websocket")
_QUIET.setLevel(logging.CRITICAL)


class Refused(ConnectionError):
    """The handshake was answered with another status than 101."""

    def __init__(self, status: int, retry_after_s: float) -> None:
        super().__init__(f"handshake refused with {status}")
        self.status = status
        self.retry_after_s = retry_after_s


class WebSocket(asyncio.Protocol):
    """One connection. `on_text` hears frames, `on_closed` the code and the reason."""

    def __init__(
        self,
        url: str,
        on_text: Callable[[bytes], None],
        on_closed: Callable[[int, str], None],
    ) -> None:
        self._engine = ClientProtocol(
            parse_uri(url), max_size=_FRAME_BYTES_MAX, logger=_QUIET
        )
        self._on_text = on_text
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fragments: list[bytes] = []

    @classmethod
    async def open(
        cls,
        url: str,
        on_text: Callable[[bytes], None],
        on_closed: Callable[[int, str], None],
        *,
        small_buffer: bool = False,
    ) -> "WebSocket":
        """Connect and shake hands. Raises OSError (Refused among them), TimeoutError.

        `small_buffer`: the kernel takes little for us, so that a pause of our reading
        is soon felt at the other end.
        """
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        loop = asyncio.get_running_loop()
        made = cls(url, on_text, on_closed)
        try:
            async with asyncio.timeout(OPEN_WITHIN_S):
                if small_buffer:
                    await made._open_small(parts.hostname, parts.port)
                else:
                    await loop.create_connection(
                        lambda: made, parts.hostname, parts.port
                    )
                await made._opened
        except BaseException:
            made.tear()
            raise
        return made

    async def _open_small(self, host: str, port: int) -> None:
        """With a buffer that has to be small before the connection is there."""
        loop = asyncio.get_running_loop()
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
        try:
            await loop.sock_connect(plain, (host, port))
        except BaseException:
            plain.close()
            raise
        try:
            await loop.create_connection(lambda: self, sock=plain)
        except BaseException:
            # The loop has closed it. A second time the number may be somebody else's.
            plain.detach()
            raise

    @property
    def is_open(self) -> bool:
        return self._transport is not None and self._engine.state is State.OPEN

    def send(self, text: bytes) -> None:
        """Write one text frame; lost if the connection is."""
        if self.is_open:
            self._engine.send_text(text)
            self._write_out()

    def close(self) -> None:
        """Say goodbye properly."""
        if self.is_open:
            self._engine.send_close(1000)
            self._write_out()

    def tear(self) -> None:
        """Reset the connection, as a lost network would."""
        if self._transport is not None:
            self._transport.abort()

    def freeze(self) -> None:
        """Read nothing more."""
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def thaw(self) -> None:
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()

    # -- Called by the event loop -----------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._engine.send_request(self._engine.connect())
        self._write_out()

    def data_received(self, data: bytes) -> None:
        self._engine.receive_data(data)
        self._run()

    def eof_received(self) -> bool:
        self._engine.receive_eof()
        self._run()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._opened.done():
            self._opened.set_exception(exc or ConnectionResetError("cut in handshake"))
            return
        if self._opened.exception() is None:
            code = self._engine.close_code or 1006
            self._on_closed(code, self._engine.close_reason or "")

    def _run(self) -> None:
        for event in self._engine.events_received():
            if isinstance(event, Response):
                self._shaken()
            elif isinstance(event, Frame):
                self._hear(event)
        self._write_out()

    def _shaken(self) -> None:
        error = self._engine.handshake_exc
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
            return
        refused: Exception = ConnectionError(str(error))
        if isinstance(error, InvalidStatus):
            retry = error.response.headers.get("Retry-After", "0")
            refused = Refused(error.response.status_code, float(retry))
        elif not isinstance(error, WebSocketException):
            refused = error
        self._opened.set_exception(refused)
        self.tear()

    def _hear(self, frame: Frame) -> None:
        if frame.opcode not in {Opcode.TEXT, Opcode.CONT}:
            return  # The engine answers pings and closes itself.
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            text = b"".join(self._fragments)
            self._fragments.clear()
            self._on_text(text)

    def _write_out(self) -> None:
        for data in self._engine.data_to_send():
            if self._transport is None:
                return
            if data:
                self._transport.write(data)
            else:
                self._transport.close()
