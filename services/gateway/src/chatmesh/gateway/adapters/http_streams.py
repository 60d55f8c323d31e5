"""HTTP fallbacks of the client protocol: a stream down, and commands beside it.

For clients whose WebSockets are blocked on the way. A stream is a connection like any
other, with the same rules, limits and byte budget; only its commands come by requests
of their own, to whichever gateway is asked, and are taken to the one that holds it.
"""

import asyncio
import http
import logging
import secrets
from collections.abc import Callable
from typing import Final

import fastapi
import msgspec
from fastapi.responses import Response, StreamingResponse
from google.protobuf.message import DecodeError
from starlette.types import Receive, Scope, Send

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.adapters.door import Door
from chatmesh.gateway.adapters.http_bodies import BadBody, BodyTooLarge, read_body
from chatmesh.gateway.codecs import ClientCodec
from chatmesh.gateway.connection import Connection
from chatmesh.gateway.control import Control
from chatmesh.gateway.gateway import Gateway
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.gateway.stream_codecs import JSON_EVENTS, JSON_LINES, PROTOBUF_STREAM
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.http import TRANSPORT
from chatmesh.wire.client import DisconnectPush, Push
from chatmesh.wire.close_codes import Disconnect
from chatmesh.wire.protobuf import client_pb2 as pb

log = logging.getLogger(__name__)

STREAM_PATH: Final = "/connection/http_stream"
EVENTS_PATH: Final = "/connection/sse"
EMULATION_PATH: Final = "/emulation"

SESSION_BYTES: Final = 24
"""Randomness of a session: whoever knows it speaks for the connection."""
WRITE_HIGH_WATER_BYTES: Final = 64 * 1024
"""More than this behind a full transport means that the client does not keep up."""
CLOSE_WITHIN_S: Final = 5.0
"""A client that has not taken its goodbye by then is cut off."""
PREFLIGHT_AGE_S: Final = 7200
"""Browsers ask again after this long whether a page may speak to us."""
ESCAPED: Final = 2
"""A JSON string of commands takes up to this many times their bytes: quotes escape."""
ENVELOPE_BYTES: Final = 1024
"""What stands around the commands in an emulation request."""
PROTOBUF_TYPE: Final = "application/octet-stream"

_UNBUFFERED: Final = {
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


class Stream:
    """One client's stream as a `Sink`: what is written goes out in chunks, in order."""

    def __init__(
        self, codec: ClientCodec, board: Callable[["Stream", float], None]
    ) -> None:
        self.due_slot = 0
        self._codec = codec
        self._board = board
        """Has the wheel turn to it after so many seconds."""
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._paused = False
        self._ended = False
        self._gone = False

    # -- Sink -------------------------------------------------------------------------

    def write(self, frame: bytes) -> None:
        if self._gone or self._ended:
            return
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        self._wake.set()
        if self._pending_bytes > WRITE_HIGH_WATER_BYTES and not self._paused:
            self._paused = True
            if self._connection is not None:
                self._connection.pause()

    def close(self, disconnect: Disconnect) -> None:
        if self._gone or self._ended:
            return
        push = Push(disconnect=DisconnectPush(disconnect.code, disconnect.reason))
        self.write(self._codec.frame(self._codec.push(push).payload))
        self._ended = True
        self._board(self, CLOSE_WITHIN_S)

    def abort(self) -> None:
        self._gone = True
        self._wake.set()
        if self._transport is not None:
            self._transport.abort()

    # -- The wheel: a goodbye that is not taken ---------------------------------------

    def turn(self, now_s: float) -> float | None:
        del now_s
        self.abort()
        return None

    # -- The response -----------------------------------------------------------------

    async def serve(
        self,
        connection: Connection,
        transport: asyncio.Transport | None,
        receive: Receive,
        send: Send,
    ) -> None:
        """Write until the goodbye is written, or the client is gone."""
        self._connection = connection
        self._transport = transport
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self._watch(receive), name="stream watch")
            await self._pump(send)
            watcher.cancel()

    async def _watch(self, receive: Receive) -> None:
        """Notice that the client has gone; it says nothing else on this connection."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake.set()

    async def _pump(self, send: Send) -> None:
        while not self._gone:
            if self._pending:
                body = b"".join(self._pending)
                self._pending.clear()
                self._pending_bytes = 0
                # Waits while the transport is full; meanwhile the next body gathers.
                await send(_body(body, more=True))
                if self._paused and self._pending_bytes <= WRITE_HIGH_WATER_BYTES:
                    self._paused = False
                    if self._connection is not None:
                        self._connection.resume()
            elif self._ended:
                break
            else:
                await self._wake.wait()
                self._wake.clear()
        await send(_body(b"", more=False))


class StreamResponse(StreamingResponse):
    """A response that is one client's connection, from its first command to its end."""

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        codec: ClientCodec,
        commands: bytes,
        *,
        media_type: str,
        preamble: bytes,
        headers: dict[str, str],
    ) -> None:
        super().__init__((), media_type=media_type, headers={**_UNBUFFERED, **headers})
        self._gateway = gateway
        self._clock = clock
        self._codec = codec
        self._commands = commands
        self._preamble = preamble

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        if self._preamble:
            await send(_body(self._preamble, more=True))
        gateway = self._gateway
        stream = Stream(self._codec, self._board)
        session_id = secrets.token_urlsafe(SESSION_BYTES)
        connection = gateway.connect(self._codec, stream, session_id=session_id)
        try:
            connection.receive(self._commands)
            transport: asyncio.Transport | None = scope["state"].get(TRANSPORT)
            await stream.serve(connection, transport, receive, send)
        finally:
            gateway.wheel.leave(stream)
            gateway.disconnected(connection)

    def _board(self, stream: Stream, after_s: float) -> None:
        self._gateway.wheel.board(stream, self._clock.monotonic_s() + after_s)


class _Emulation(msgspec.Struct):
    session: str
    node: str
    data: str


_emulation = msgspec.json.Decoder(_Emulation)


class Fallbacks:
    """The routes of the fallbacks."""

    def __init__(
        self,
        gateway: Gateway,
        control: Control,
        door: Door,
        *,
        settings: GatewaySettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        frame_bytes_max = settings.frame_bytes_max
        self._gateway = gateway
        self._control = control
        self._door = door
        self._frame_bytes_max = frame_bytes_max
        self._emulation_bytes_max = ESCAPED * frame_bytes_max + ENVELOPE_BYTES
        self._clock = clock
        self._metrics = metrics

    def router(self) -> fastapi.APIRouter:
        # Not part of the service API: what goes on here is the client protocol.
        router = fastapi.APIRouter(include_in_schema=False)
        router.add_api_route(STREAM_PATH, self.stream, methods=["POST"])
        router.add_api_route(EVENTS_PATH, self.events, methods=["GET"])
        router.add_api_route(EMULATION_PATH, self.emulation, methods=["POST"])
        for path in (STREAM_PATH, EVENTS_PATH, EMULATION_PATH):
            router.add_api_route(path, self.preflight, methods=["OPTIONS"])
        return router

    async def stream(self, request: fastapi.Request) -> Response:
        """The body is the first commands; the response is the stream."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            commands = await read_body(request, self._frame_bytes_max)
        except BadBody as bad:
            return self._answer(request, bad.status, str(bad))
        if request.headers.get("content-type", "").startswith(PROTOBUF_TYPE):
            return self._open(request, PROTOBUF_STREAM, commands, PROTOBUF_TYPE)
        return self._open(request, JSON_LINES, commands, "application/x-ndjson")

    async def events(self, request: fastapi.Request) -> Response:
        """The query holds the first commands; the response is a stream of events."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        commands = request.query_params.get("cf_connect", "").encode()
        return self._open(
            request, JSON_EVENTS, commands, "text/event-stream", preamble=b"\n"
        )

    async def emulation(self, request: fastapi.Request) -> Response:
        """Take commands to the gateway that holds their stream; its replies go there."""
        if not self._allows(request):
            return self._answer(request, 403, "origin not allowed")
        try:
            body = await read_body(request, self._emulation_bytes_max)
            content_type = request.headers.get("content-type", "")
            node, session, data = _read_emulation(body, content_type)
            self._check_size(data)
        except BadBody as bad:
            return self._answer(request, bad.status, str(bad))
        try:
            await self._control.emulate(node, session, data)
        except PublishFailed as failed:
            if failed.unroutable:
                # The client reconnects at once: its stream has ended with its gateway.
                return self._answer(request, 404, "no such node")
            return self._answer(request, 503, "try again", retry_s=1)
        return self._answer(request, 204, "")

    def _check_size(self, data: bytes) -> None:
        if len(data) > self._frame_bytes_max:
            raise BodyTooLarge(self._frame_bytes_max)

    async def preflight(self, request: fastapi.Request) -> Response:
        """May a page of another origin speak to us?"""
        if not self._allows(request):
            return self._answer(request, 403, "origin not allowed")
        response = self._answer(request, 204, "")
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = "Content-Type, Cache-Control"
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_AGE_S)
        return response

    def _open(
        self,
        request: fastapi.Request,
        codec: ClientCodec,
        commands: bytes,
        media_type: str,
        *,
        preamble: bytes = b"",
    ) -> Response:
        self._metrics.connects.labels("accepted").inc()
        return StreamResponse(
            self._gateway,
            self._clock,
            codec,
            commands,
            media_type=media_type,
            preamble=preamble,
            headers=self._cors(request),
        )

    def _refusal(self, request: fastapi.Request) -> Response | None:
        refusal = self._door.refuses(
            request.headers.get("origin"), request.headers.get("host", "")
        )
        if refusal is None:
            return None
        return self._answer(
            request, refusal.status.value, refusal.reason, retry_s=refusal.retry_s
        )

    def _answer(
        self, request: fastapi.Request, status: int, text: str, *, retry_s: int = 0
    ) -> Response:
        headers = {**_UNBUFFERED, **self._cors(request)}
        if retry_s:
            headers["Retry-After"] = str(retry_s)
        if status == http.HTTPStatus.NO_CONTENT:
            return Response(status_code=status, headers=headers)
        return Response(
            f"{text}\n",
            status_code=status,
            headers=headers,
            media_type="text/plain; charset=utf-8",
        )

    def _cors(self, request: fastapi.Request) -> dict[str, str]:
        """Let pages read our answers, where we let them ask."""
        origin = request.headers.get("origin")
        if origin is None or not self._allows(request):
            return {"Vary": "Origin"}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}

    def _allows(self, request: fastapi.Request) -> bool:
        return self._door.allows_origin(
            request.headers.get("origin"), request.headers.get("host", "")
        )


def _read_emulation(body: bytes, content_type: str) -> tuple[str, str, bytes]:
    """Node, session and commands of a request. Raises BadBody."""
    try:
        if content_type.startswith(PROTOBUF_TYPE):
            said = pb.EmulationRequest.FromString(body)
            node, session, data = said.node, said.session, said.data
        else:
            told = _emulation.decode(body)
            node, session, data = told.node, told.session, told.data.encode()
    except (DecodeError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadBody("no emulation request") from error
    if not (node and session and data):
        raise BadBody("an emulation request names node, session and data")
    return node, session, data


def _body(body: bytes, *, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}
