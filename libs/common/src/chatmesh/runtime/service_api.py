"""What the HTTP APIs of all services have alike: keys, problems, names in paths.

Names may hold any printable character, slashes too, so they stand percent-encoded in
the path and are taken from it undecoded.
"""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote

import fastapi
import msgspec
import pydantic
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chatmesh.runtime.addresses import is_loopback
from chatmesh.wire import channels, errors, limits

_log = logging.getLogger(__name__)

PROBLEM: Final = "application/problem+json"
JSON: Final = "application/json"
_CHANNEL_PATTERN: Final = rf"^[!-~]{{1,{limits.CHANNEL_CHARS_MAX}}}$"
_UNAUTHORIZED: Final = 401

_TITLES: Final = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid request",
    503: "Unavailable",
    504: "Outcome unknown",
}

_encode: Final = msgspec.json.Encoder().encode


class Problem(pydantic.BaseModel):
    """Why a request was not done (RFC 9457)."""

    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    code: int = 0
    """The error code a client of the socket protocol would have got; 0 when there is none."""


class Refusal(Exception):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, code: int = 0) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = code


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the service API."""

    keys: Sequence[str] = field(repr=False)
    host: str

    @property
    def open(self) -> bool:
        """Nobody is asked for a key: only where nobody else can reach the port."""
        return not self.keys and is_loopback(self.host)

    def allows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        # Every key is compared, so that the time taken does not tell which is near.
        matches = [
            secrets.compare_digest(key.encode(), given.strip().encode())
            for key in self.keys
        ]
        return any(matches)

    def warn(self, service: str) -> None:
        """Say in the log what an operator may not have meant."""
        if self.open:
            _log.warning(
                "the service API is open to everyone on this machine",
                extra={"setting": f"{service}.api_keys"},
            )
        elif not self.keys:
            _log.warning(
                "the service API is closed: it wants keys when it listens beyond"
                " loopback",
                extra={"setting": f"{service}.api_keys", "host": self.host},
            )

    async def admit(self, request: fastapi.Request) -> None:
        """Let a request in. Raises Refusal."""
        if self.open:
            return
        if not self.keys:
            raise Refusal(403, "no API key is configured, so the service API is closed")
        if not self.allows(request.headers.get("authorization", "")):
            raise Refusal(401, "a valid API key is needed: Authorization: Bearer …")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems a route may answer with, for its OpenAPI document."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": _TITLES[status],
            "content": {PROBLEM: {"schema": schema}},
        }
        for status in statuses
    }


def answer(body: object, status: int = 200) -> Response:
    return Response(_encode(body), status_code=status, media_type=JSON)


async def channel_name(  # noqa: RUF029 - on the loop, not on a thread
    channel: Annotated[
        str,
        fastapi.Path(
            description="Name of the channel, percent-encoded.",
            json_schema_extra={"pattern": _CHANNEL_PATTERN},
        ),
    ],
) -> str:
    """The channel named in the path. Raises Refusal."""
    name = unquote(channel)
    if reason := channels.refusal(name):
        raise Refusal(422, reason, errors.BAD_REQUEST.code)
    return name


ChannelName = Annotated[str, fastapi.Depends(channel_name)]


def application(
    *,
    service: str,
    summary: str,
    access: Access,
    operations: fastapi.APIRouter,
    api: fastapi.APIRouter,
    models: Sequence[type[pydantic.BaseModel]] = (),
) -> ASGIApp:
    """The ASGI application of a service's HTTP port.

    `api` has its routes below /v1; `models` are bodies that its routes read themselves.
    """
    access.warn(service)
    app = fastapi.FastAPI(
        title=f"chatmesh {service}",
        version="1",
        summary=summary,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_exception_handler(Refusal, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.include_router(operations)
    app.include_router(api)
    _document(app, models)
    return _UndecodedPaths(app)


class _UndecodedPaths:
    """Routes by the path as it was sent: an encoded slash is part of a name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path"):
            raw: bytes = scope["raw_path"]
            scope = {**scope, "path": raw.partition(b"?")[0].decode("latin-1")}
        await self._app(scope, receive, send)


def _problem(
    status: int, detail: str, code: int = 0, headers: dict[str, str] | None = None
) -> Response:
    title = _TITLES.get(status, "Error")
    problem = Problem(title=title, status=status, detail=detail or title, code=code)
    return Response(
        problem.model_dump_json(),
        status_code=status,
        media_type=PROBLEM,
        headers=headers,
    )


async def _on_refusal(  # noqa: RUF029 - called by the framework
    request: fastapi.Request, refusal: Exception
) -> Response:
    del request
    assert isinstance(refusal, Refusal)
    challenge = {"WWW-Authenticate": "Bearer"}
    headers = challenge if refusal.status == _UNAUTHORIZED else None
    return _problem(refusal.status, refusal.detail, refusal.code, headers)


async def _on_http_exception(  # noqa: RUF029 - called by the framework
    request: fastapi.Request, error: Exception
) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else {}
    if "Allow" in headers:
        headers["Allow"] = _allowed(request)
    return _problem(error.status_code, str(error.detail), headers=headers)


def _allowed(request: fastapi.Request) -> str:
    """All methods of a path; the framework names those of the first route only."""
    routes = [
        route
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE
    ]
    return ", ".join(sorted({m for route in routes for m in route.methods or ()}))


async def _on_invalid(  # noqa: RUF029 - called by the framework
    request: fastapi.Request, error: Exception
) -> Response:
    del request
    assert isinstance(error, RequestValidationError)
    mistakes = "; ".join(
        f"{'.'.join(str(part) for part in mistake['loc'])}: {mistake['msg']}"
        for mistake in error.errors()
    )
    return _problem(422, mistakes, errors.BAD_REQUEST.code)


def _document(app: fastapi.FastAPI, models: Sequence[type[pydantic.BaseModel]]) -> None:
    """Say in the OpenAPI document what FastAPI cannot know: problems, bodies, the key."""
    document = app.openapi()
    schemas = document["components"]["schemas"]
    for model in (Problem, *models):
        schemas[model.__name__] = model.model_json_schema()
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"}
    }
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"key": []}]
    app.openapi_schema = document
