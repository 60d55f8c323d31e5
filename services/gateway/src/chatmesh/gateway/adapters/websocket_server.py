"""The traffic port: handshakes, frames, and the bytes of one socket.

The protocol engine of the `websockets` library runs without I/O of its own; this driver
feeds it what a socket says and writes what it answers. A connection costs no task: bytes
arrive by callback and leave by `write`.
"""

import asyncio
import http
import logging
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage, InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from chatmesh.gateway.adapters.door import Door
from chatmesh.gateway.adapters.web_page import WebPage
from chatmesh.gateway.codecs import JSON, PROTOBUF, ClientCodec
from chatmesh.gateway.connection import Connection
from chatmesh.gateway.gateway import Gateway
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.http import listen
from chatmesh.wire.close_codes import Disconnect

log = logging.getLogger(__name__)

WEBSOCKET_PATH: Final = "/connection/websocket"
JSON_SUBPROTOCOL: Final = "centrifuge-json"
PROTOBUF_SUBPROTOCOL: Final = "centrifuge-protobuf"
_SUBPROTOCOLS: Final = [
    Subprotocol(PROTOBUF_SUBPROTOCOL),
    Subprotocol(JSON_SUBPROTOCOL),
]
NATIVE_PINGS: Final = "cf_ws_frame_ping_pong"
"""Query key of clients that want pings of the WebSocket protocol: debugging tools."""
_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)
HANDSHAKE_WITHIN_S: Final = 10.0
CLOSE_WITHIN_S: Final = 5.0
"""A client that does not answer a close by then is let go of."""
_MEANT: Final = frozenset({CloseCode.NORMAL_CLOSURE, CloseCode.NO_STATUS_RCVD})
"""A client that closes like this has left; one that only goes away may be reloading."""
GOODBYE_WITHIN_S: Final = 1.0
"""When the process ends, clients have this long to answer their goodbye."""
WRITE_HIGH_WATER_BYTES: Final = 64 * 1024
"""More than this in a transport means that the client does not keep up."""


class SocketServer:
    """Listens, admits, and hands sockets to the gateway."""

    def __init__(
        self,
        gateway: Gateway,
        page: WebPage,
        *,
        settings: GatewaySettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.gateway = gateway
        self.page = page
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.door = Door(
            settings,
            connections=lambda: len(gateway.connections),
            clock=clock,
            metrics=metrics,
        )
        self._server: asyncio.Server | None = None
        self.port = settings.port

    async def start(self) -> None:
        """Listen. Raises PortInUse."""
        listener = await listen(self.settings.host, self.settings.port)
        self.port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Socket(self), sock=listener)

    def refuse_new(self) -> None:
        """Turn new handshakes away from now on; open connections stay."""
        self.door.draining = True

    async def stop(self) -> None:
        """Stop listening; sockets still open are let go of."""
        if self._server is not None:
            self._server.close()
        deadline_s = self.clock.monotonic_s() + GOODBYE_WITHIN_S
        while self.gateway.connections and self.clock.monotonic_s() < deadline_s:
            await self.clock.sleep(GOODBYE_WITHIN_S / 20)
        for connection in list(self.gateway.connections):
            connection.sink.abort()

    def refuses(self, request: Request) -> Response | None:
        """The answer to a handshake that is not even looked at, or None."""
        origin = header(request, "Origin")
        refusal = self.door.refuses(origin, header(request, "Host") or "")
        if refusal is None:
            return None
        return _refusal(refusal.status, refusal.reason, refusal.retry_s)


class Socket(asyncio.Protocol):
    """One TCP connection: a plain request for the page, or a client's WebSocket."""

    __slots__ = (
        "_connection",
        "_fragments",
        "_protocol",
        "_server",
        "_transport",
        "due_slot",
    )

    def __init__(self, server: SocketServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._connection: Connection | None = None
        self._fragments: list[bytes] = []
        self.due_slot = 0
        self._protocol = ServerProtocol(
            max_size=server.settings.frame_bytes_max,
            logger=_QUIET,
            select_subprotocol=_select_subprotocol,
            subprotocols=_SUBPROTOCOLS,
        )

    # -- Called by the event loop -----------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._go_within(HANDSHAKE_WITHIN_S)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        self._run()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._run()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # However it ended, the client is gone.
        self._server.gateway.wheel.leave(self)
        self._transport = None
        if self._connection is not None:
            self._server.gateway.disconnected(self._connection)

    def pause_writing(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume_writing(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    # -- The wheel: a handshake or a goodbye that takes too long ----------------------

    def turn(self, now_s: float) -> float | None:
        del now_s
        self.abort()
        return None

    def _go_within(self, seconds: float) -> None:
        now_s = self._server.clock.monotonic_s()
        self._server.gateway.wheel.board(self, now_s + seconds)

    # -- Sink -------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def close(self, disconnect: Disconnect) -> None:
        if self._transport is None:
            return
        try:
            self._protocol.send_close(disconnect.code, disconnect.reason)
        except InvalidState:
            self.abort()
            return
        self._write_out()
        self._go_within(CLOSE_WITHIN_S)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # -- What the protocol engine says ------------------------------------------------

    def _run(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._on_request(event)
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._write_out()
        connection = self._connection
        if connection is None:
            return
        if self._protocol.state is not State.OPEN and not connection.closed:
            # The client said goodbye, or broke the framing: the session is over.
            said = self._protocol.close_rcvd
            clean = said is not None and said.code in _MEANT
            connection.disconnected(clean=clean)
            # One that reads no more would keep the end of the stream waiting for ever.
            self._go_within(CLOSE_WITHIN_S)
        elif (
            connection.paused
            and self._unread_bytes() > self._server.settings.outbox_bytes_max
        ):
            # Answers of the engine's own, to pings, know no outbox.
            self.abort()

    def _on_request(self, request: Request) -> None:
        try:
            url = urlsplit(request.path)
        except ValueError:
            self._respond(_refusal(http.HTTPStatus.BAD_REQUEST, "no such address", 0))
            return
        if url.path.rstrip("/") != WEBSOCKET_PATH:
            self._respond(self._server.page.answer(request))
            return
        refusal = self._server.refuses(request)
        if refusal is not None:
            self._respond(refusal)
            return
        query = parse_qs(url.query)
        codec = _codec_of(query, request)
        native = query.get(NATIVE_PINGS) == ["true"]
        response = self._protocol.accept(request)
        self._protocol.send_response(response)
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            self._server.metrics.connects.labels("bad handshake").inc()
            return
        self._server.metrics.connects.labels("accepted").inc()
        self._write_out()
        self._server.gateway.wheel.leave(self)
        self._connection = self._server.gateway.connect(
            codec, self, native_ping=_PING if native else b""
        )

    def _respond(self, response: Response) -> None:
        self._protocol.send_response(response)
        self._go_within(CLOSE_WITHIN_S)

    def _on_frame(self, frame: Frame) -> None:
        connection = self._connection
        if connection is None or connection.closed:
            return
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.fin and not self._fragments:
                    connection.receive(bytes(frame.data))
                    return
                if frame.data:  # Empty ones could come for ever and count for nothing.
                    self._fragments.append(bytes(frame.data))
                if frame.fin:
                    whole = b"".join(self._fragments)
                    self._fragments = []
                    connection.receive(whole)
            case Opcode.PONG:
                connection.heard_pong()
            case Opcode.PING | Opcode.CLOSE:
                pass  # The engine answers these itself.

    def _unread_bytes(self) -> int:
        """What the transport holds because the client does not read."""
        if self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    def _write_out(self) -> None:
        """Write what the engine has to say; an empty piece means: end the stream."""
        for data in self._protocol.data_to_send():
            if self._transport is None:
                return
            if data:
                self._transport.write(data)
                continue
            if isinstance(self._protocol.handshake_exc, InvalidMessage):
                # The engine would end the stream without a word.
                self._transport.write(_NO_HANDSHAKE.serialize())
            self._transport.close()


def _codec_of(query: dict[str, list[str]], request: Request) -> ClientCodec:
    """The encoding a client asks for, by subprotocol or by query; else JSON."""
    wanted = [*query.get("format", []), *query.get("cf_protocol", [])]
    if header(request, "Sec-WebSocket-Protocol") == "":
        # One SDK sends an empty list of subprotocols; the library would refuse it.
        del request.headers["Sec-WebSocket-Protocol"]
    offered = ",".join(request.headers.get_all("Sec-WebSocket-Protocol"))
    if "protobuf" in wanted or PROTOBUF_SUBPROTOCOL in offered:
        return PROTOBUF
    return JSON


def header(request: Request, name: str) -> str | None:
    """A header's value; all of them, where a client sends one that should be unique."""
    values = request.headers.get_all(name)
    return ", ".join(values) if values else None


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Echo an encoding we speak; a client that offers others is served JSON."""
    for subprotocol in protocol.available_subprotocols or ():
        if subprotocol in offered:
            return subprotocol
    return None


def _refusal(status: http.HTTPStatus, reason: str, retry_s: int) -> Response:
    body = f"{reason}\n".encode()
    headers = Headers(
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    if retry_s:
        headers["Retry-After"] = str(retry_s)
    return Response(status.value, status.phrase, headers, body)


_NO_HANDSHAKE: Final = _refusal(
    http.HTTPStatus.BAD_REQUEST,
    "no WebSocket handshake and no GET; fallbacks and APIs are on the HTTP port",
    0,
)
_QUIET = logging.getLogger(f"{__name__}.engine")
_QUIET.setLevel(logging.WARNING)
