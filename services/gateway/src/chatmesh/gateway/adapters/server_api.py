"""The server API over HTTP, in the shape that clients such as `cent` know.

Every answer is 200 with a `result` or an `error` in it, so that an error of the API is
never taken for one of the way to it; who wants HTTP statuses asks for them by a header.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import fastapi
import msgspec
from fastapi.responses import Response
from msgspec import Raw

from chatmesh.gateway.adapters import server_api_models as api
from chatmesh.gateway.adapters.http_bodies import BadBody, read_body
from chatmesh.gateway.adapters.server_api_calls import (
    BATCH_COMMANDS_MAX,
    Calls,
    Refused,
    bad,
    failure,
    together,
)
from chatmesh.gateway.metrics import Metrics
from chatmesh.wire import errors, limits
from chatmesh.wire.errors import ErrorReply

BODY_BYTES_MAX: Final = 4 * limits.MIB
"""One request; a batch is one, too."""
ERROR_MODE: Final = "X-Centrifugo-Error-Mode"
"""`transport` in this header turns errors into HTTP statuses."""
_JSON: Final = "application/json"
_COMPONENTS: Final = "#/components/schemas/{name}"

STATUSES: Final[Mapping[int, int]] = {
    errors.INTERNAL.code: 500,
    errors.UNAUTHORIZED.code: 401,
    errors.UNKNOWN_CHANNEL.code: 404,
    errors.PERMISSION_DENIED.code: 403,
    errors.METHOD_NOT_FOUND.code: 404,
    errors.LIMIT_EXCEEDED.code: 400,
    errors.BAD_REQUEST.code: 400,
    errors.NOT_AVAILABLE.code: 404,
    errors.TOO_MANY_REQUESTS.code: 429,
    errors.UNRECOVERABLE_POSITION.code: 416,
    errors.CONFLICT.code: 409,
    errors.TOO_LARGE.code: 413,
    errors.OUTCOME_UNKNOWN.code: 504,
}
"""What an error is in HTTP; others are 400."""


class _Call(msgspec.Struct):
    """One line of the form without a method in the path."""

    method: str
    params: Raw = Raw(b"{}")


Said = TypeVar("Said")
_encode = msgspec.json.Encoder().encode
_call = msgspec.json.Decoder(_Call)
_DECODERS: Final = {
    method: msgspec.json.Decoder(request) for method, (request, _) in api.SHAPES.items()
}
_BATCH: Final = "batch"


class Keys:
    """Who may use the API: whoever names one of its keys."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys if key]

    def admit(self, request: fastapi.Request) -> bool:
        given = request.headers.get("x-api-key") or _authorized(request)
        given = given or request.query_params.get("api_key", "")
        # Every key is compared, so that the time taken does not tell which is near.
        same = [hmac.compare_digest(key, given.encode()) for key in self._keys]
        return any(same)


def _authorized(request: fastapi.Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "apikey" else ""


class ServerApi:
    """The routes below /api."""

    def __init__(self, calls: Calls, keys: Keys, metrics: Metrics) -> None:
        self._calls = calls
        self._keys = keys
        self._metrics = metrics

    def router(self) -> fastapi.APIRouter:
        router = fastapi.APIRouter(tags=["server API"])
        for method in api.SHAPES:
            router.add_api_route(
                f"/api/{method}",
                self._endpoint(method),
                methods=["POST"],
                operation_id=method,
                summary=method.replace("_", " "),
                response_class=Response,
                responses=_documented_answers(method),
                openapi_extra=_documented_request(method),
            )
        router.add_api_route(
            "/api", self._lines, methods=["POST"], include_in_schema=False
        )
        router.add_api_route(
            "/api/{method:path}",
            self._unknown,
            methods=["POST"],
            include_in_schema=False,
        )
        return router

    def _endpoint(
        self, method: str
    ) -> Callable[[fastapi.Request], Awaitable[Response]]:
        async def endpoint(request: fastapi.Request) -> Response:
            if not self._keys.admit(request):
                return _unauthorized()
            try:
                body = await read_body(request, BODY_BYTES_MAX)
                result = await self._perform(method, body or b"{}")
            except BadBody as bad_body:
                return _failed(errors.because(errors.BAD_REQUEST, str(bad_body)), 400)
            except Refused as refused:
                return _failed(refused.error, _status(request, refused.error))
            # A batch is its replies, without a wrapper: so clients know it.
            body = _encode(result) if method == _BATCH else _wrapped(result)
            return _answer(body)

        return endpoint

    async def _lines(self, request: fastapi.Request) -> Response:
        """Calls one per line, each naming its method; answers one per line, in order."""
        if not self._keys.admit(request):
            return _unauthorized()
        try:
            body = await read_body(request, BODY_BYTES_MAX)
        except BadBody as bad_body:
            return _failed(errors.because(errors.BAD_REQUEST, str(bad_body)), 400)
        lines = _lines_of(body)
        if not 0 < len(lines) <= BATCH_COMMANDS_MAX:
            reason = f"1 to {BATCH_COMMANDS_MAX} calls in one request"
            return _failed(errors.because(errors.BAD_REQUEST, reason), 400)
        answers: list[bytes] = []
        for line in lines:
            try:
                call = _decoded(_call, line)
                result = await self._perform(call.method, bytes(call.params))
                answers.append(_wrapped(result))
            except Refused as refused:
                answers.append(_encode({"error": failure(refused.error)}))
        return _answer(b"\n".join(answers))

    async def _unknown(self, request: fastapi.Request, method: str) -> Response:
        del method
        if not self._keys.admit(request):
            return _unauthorized()
        return _failed(errors.METHOD_NOT_FOUND, 404)

    async def _perform(self, method: str, body: bytes) -> msgspec.Struct:
        """Raises Refused."""
        try:
            said = _decoded(_decoder(method), body)
            if isinstance(said, api.BatchRequest):
                result = await self._batch(said)
            else:
                result = await self._calls.perform(said)
        except Refused as refused:
            known = method if method in _DECODERS else "unknown"
            self._metrics.api_calls.labels(known, str(refused.error.code)).inc()
            raise
        self._metrics.api_calls.labels(method, "ok").inc()
        return result

    async def _batch(self, batch: api.BatchRequest) -> api.BatchResult:
        if len(batch.commands) > BATCH_COMMANDS_MAX:
            raise bad(f"more than {BATCH_COMMANDS_MAX} commands")
        if batch.parallel:
            calls = [self._of_batch(command) for command in batch.commands]
            return api.BatchResult(await together(calls))
        return api.BatchResult(
            [await self._of_batch(command) for command in batch.commands]
        )

    async def _of_batch(self, command: dict[str, Raw]) -> Raw:
        try:
            if len(command) != 1:
                raise bad("a command is an object with one key, its method")
            ((method, params),) = command.items()
            if method == _BATCH:
                raise bad("a batch within a batch")
            return Raw(_encode({method: await self._perform(method, bytes(params))}))
        except Refused as refused:
            return Raw(_encode({"error": failure(refused.error)}))


def _lines_of(body: bytes) -> list[bytes]:
    """The calls of a body; one that stands alone may go over several lines."""
    try:
        _call.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [line for line in body.splitlines() if line.strip()]
    return [body]


def _wrapped(result: msgspec.Struct) -> bytes:
    return b'{"result":' + _encode(result) + b"}"


def _decoder(method: str) -> "msgspec.json.Decoder[Any]":
    decoder = _DECODERS.get(method)
    if decoder is None:
        raise Refused(errors.METHOD_NOT_FOUND)
    return decoder


def _decoded(decoder: "msgspec.json.Decoder[Said]", body: bytes) -> Said:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(str(error) or "malformed JSON") from error


def _status(request: fastapi.Request, error: ErrorReply) -> int:
    if request.headers.get(ERROR_MODE, "").lower() != "transport":
        return 200
    return STATUSES.get(error.code, 400)


def _answer(body: bytes, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(body, status_code=status, media_type=_JSON, headers=headers)


def _failed(error: ErrorReply, status: int) -> Response:
    return _answer(_encode({"error": failure(error)}), status)


def _unauthorized() -> Response:
    return _failed(errors.UNAUTHORIZED, 401)


# -- OpenAPI --------------------------------------------------------------------------


def schemas() -> dict[str, Any]:
    """What the documented requests and answers refer to."""
    shapes = [shape for pair in api.SHAPES.values() for shape in pair]
    _, components = msgspec.json.schema_components(
        [*shapes, api.Failure], ref_template=_COMPONENTS
    )
    return dict(components)


SECURITY: Final[Mapping[str, Any]] = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"}
}


def _reference(shape: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _COMPONENTS.format(name=shape.__name__)}


def _documented_request(method: str) -> dict[str, Any]:
    request, _ = api.SHAPES[method]
    return {
        "security": [{name: []} for name in SECURITY],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": _reference(request)}},
        },
    }


def _documented_answers(method: str) -> dict[int | str, dict[str, Any]]:
    _, result = api.SHAPES[method]
    error = {
        "type": "object",
        "properties": {"error": _reference(api.Failure)},
        "required": ["error"],
    }
    done = {
        "type": "object",
        "properties": {"result": _reference(result)},
        "required": ["result"],
    }
    return {
        200: {
            "description": "Done, or why not",
            "content": {
                _JSON: {
                    "schema": {
                        "anyOf": [
                            _reference(result) if method == _BATCH else done,
                            error,
                        ]
                    }
                }
            },
        },
        **{
            status: {
                "description": description,
                "content": {_JSON: {"schema": error}},
            }
            for status, description in (
                (400, "The body could not be read"),
                (401, "No valid API key"),
            )
        },
    }
