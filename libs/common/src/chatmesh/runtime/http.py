"""The HTTP port every process has: uvicorn inside our loop, and the operations routes."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Generator
from typing import Final

import fastapi
import prometheus_client
import prometheus_client.exposition
import pydantic
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from chatmesh.runtime.health import Health
from chatmesh.runtime.startup import CannotStart

GRACE_S: Final = 5
"""Requests still being answered when the server stops get this long."""

TRANSPORT: Final = "transport"
"""Where in a request's `state` its transport stands."""

_BACKLOG: Final = 1024


class PortInUse(CannotStart):
    """Somebody else listens where we want to."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is already in use; "
            "stop what listens there or choose another port"
        )
        self.host = host
        self.port = port


class HttpServer:
    """An ASGI application on a port of its own, without a process or signals of its own."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens; with port 0 the one the machine chose, once started."""
        return self._port

    async def start(self) -> None:
        """Return when it answers. Raises PortInUse, or CannotStart with the cause."""
        assert self._serving is None, "an HttpServer starts once"
        listener = await listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._serving = asyncio.get_running_loop().create_task(
            self._server.serve([listener]), name=f"http on port {self._port}"
        )
        up = asyncio.get_running_loop().create_task(self._server.up.wait())
        try:
            await asyncio.wait({self._serving, up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            if not self._server.up.is_set():
                listener.close()
                self._serving.cancel()
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Close the port, let running requests end, at most GRACE_S seconds."""
        if self._serving is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._serving})
        if not self._serving.cancelled():
            await self._serving


async def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises PortInUse, or CannotStart with the cause."""
    try:
        family, kind, protocol, _, address = (
            await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )[0]
    except socket.gaierror as error:
        raise CannotStart(f"cannot listen on {host!r}: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        # A port whose last connections are still closing is free for a new listener.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - its only form
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotStart(
            f"cannot listen on port {port} of {host}: {reason}"
        ) from error
    return listener


class _Protocol(H11Protocol):
    """Shows a request the transport that carries it, as `scope["state"]["transport"]`.

    A response without an end has to be cut off when its reader no longer reads, and
    ASGI has no word for that.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as the class it extends
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _Server(uvicorn.Server):
    """Uvicorn without its habit of taking the process's signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise CannotStart(
                "the HTTP application did not start; the log has its error"
            ) from error
        self.up.set()


class CheckReport(pydantic.BaseModel):
    ok: bool
    reason: str
    """Why it is not ok; may be empty when it is."""


class ReadinessReport(pydantic.BaseModel):
    """Whether this process does its work, check by check."""

    ready: bool
    checks: dict[str, CheckReport]


def operations(
    health: Health, registry: prometheus_client.CollectorRegistry
) -> fastapi.APIRouter:
    """Routes for those who run it: /livez, /readyz and /metrics."""
    router = fastapi.APIRouter(tags=["operations"])

    # Coroutines, so that answering proves that the loop runs.
    @router.get("/livez", response_class=fastapi.responses.PlainTextResponse)
    async def livez() -> str:
        """Alive: the event loop runs."""
        return "ok\n"

    @router.get(
        "/readyz",
        responses={
            200: {"model": ReadinessReport},
            503: {"model": ReadinessReport, "description": "Not ready"},
        },
    )
    async def readyz() -> fastapi.responses.JSONResponse:
        """Ready: every check is good and nothing drains."""
        return fastapi.responses.JSONResponse(
            health.report(), status_code=200 if health.ready else 503
        )

    @router.get(
        "/metrics",
        response_class=fastapi.responses.PlainTextResponse,
        responses={
            200: {"content": {"application/openmetrics-text": {}, "text/plain": {}}}
        },
    )
    async def metrics(request: fastapi.Request) -> fastapi.Response:
        """Metrics for Prometheus: OpenMetrics when asked for, else the text format."""
        encode, content_type = prometheus_client.exposition.choose_encoder(
            request.headers.get("accept", "")
        )
        return fastapi.Response(
            encode(registry), headers={"content-type": content_type}
        )

    # Used by their decorators.
    del livez, readyz, metrics
    return router
