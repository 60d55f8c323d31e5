"""The service API: channels, publications by page, publish, counts."""

import base64
from collections.abc import Awaitable, Mapping
from typing import Annotated, Any, Final, TypeVar

import fastapi
import msgspec
from fastapi.responses import Response
from starlette.types import ASGIApp

from chatmesh.history import paging
from chatmesh.history.adapters.http_models import (
    ChannelInfo,
    ChannelPage,
    Counts,
    NewPublication,
    PublicationPage,
    Published,
)
from chatmesh.history.ports import (
    Catalogue,
    Log,
    LogRefused,
    LogUnavailable,
    OutcomeUnknown,
    Publisher,
    Standing,
)
from chatmesh.runtime import service_api
from chatmesh.runtime.service_api import (
    JSON,
    Access,
    ChannelName,
    Refusal,
    answer,
    documented,
)
from chatmesh.wire import channels, errors, limits, nesting
from chatmesh.wire.messages import Entry, Outcome, PublishCommand, Read
from chatmesh.wire.namespaces import NamespaceOptions

T = TypeVar("T")

_PAGE_DEFAULT: Final = 100
_BODY_BYTES_MAX: Final = 2 * limits.PUBLICATION_BYTES_MAX
"""A payload, its envelope, and some white space."""
_BODY_DEPTH_MAX: Final = limits.JSON_DEPTH_MAX + 1
"""A payload, and its envelope."""
_NAME_PART_PATTERN: Final = "^[!-~]*$"

Limit = Annotated[int, fastapi.Query(ge=1, le=limits.PAGE_ENTRIES_MAX)]
Offset = Annotated[int, fastapi.Query(ge=0, le=limits.OFFSET_MAX)]
NamePart = Annotated[
    str,
    fastapi.Query(max_length=limits.CHANNEL_CHARS_MAX, pattern=_NAME_PART_PATTERN),
]


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    """What `NewPublication` documents, with the payload as it was sent."""

    id: str
    data: msgspec.Raw
    user: str = ""


_decode_body = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


def application(
    *,
    log: Log,
    catalogue: Catalogue,
    publisher: Publisher,
    namespaces: Mapping[str, NamespaceOptions],
    access: Access,
    operations: fastapi.APIRouter,
) -> ASGIApp:
    """The ASGI application of the HTTP port."""
    api = _ServiceApi(log, catalogue, publisher, namespaces, access)
    return service_api.application(
        service="history",
        summary="The log of every channel.",
        access=access,
        operations=operations,
        api=api.router(),
        models=(NewPublication,),
    )


def _body_document() -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{NewPublication.__name__}"}
    return {"required": True, "content": {JSON: {"schema": schema}}}


class _ServiceApi:
    """The routes below /v1."""

    def __init__(
        self,
        log: Log,
        catalogue: Catalogue,
        publisher: Publisher,
        namespaces: Mapping[str, NamespaceOptions],
        access: Access,
    ) -> None:
        self._log = log
        self._catalogue = catalogue
        self._publisher = publisher
        self._namespaces = namespaces
        self._access = access

    def router(self) -> fastapi.APIRouter:
        router = fastapi.APIRouter(
            prefix="/v1",
            tags=["history"],
            dependencies=[fastapi.Depends(self._access.admit)],
            responses=documented(401, 403, 422, 503),
            default_response_class=Response,
        )
        router.get("/channels", responses={200: {"model": ChannelPage}})(
            self.list_channels
        )
        router.get("/channels/{channel}", responses={200: {"model": ChannelInfo}})(
            self.get_channel
        )
        publications = "/channels/{channel}/publications"
        router.get(publications, responses={200: {"model": PublicationPage}})(
            self.list_publications
        )
        router.post(
            publications,
            responses={
                200: {"model": Published},
                **documented(400, 404, 409, 413, 415, 504),
            },
            openapi_extra={"requestBody": _body_document()},
        )(self.publish)
        router.get("/counts", responses={200: {"model": Counts}})(self.counts)
        return router

    async def admit(self, request: fastapi.Request) -> None:
        if self._access.open:
            return
        if not self._access.keys:
            raise Refusal(403, "no API key is configured, so the service API is closed")
        if not self._access.allows(request.headers.get("authorization", "")):
            raise Refusal(401, "a valid API key is needed: Authorization: Bearer …")

    async def list_channels(
        self, prefix: NamePart = "", after: NamePart = "", limit: Limit = _PAGE_DEFAULT
    ) -> Response:
        """Channels that have ever had a durable publication, in name order."""
        found = await _answered(self._catalogue.channels(after, prefix, limit + 1))
        page = found[:limit]
        return answer(
            {
                "channels": [_info(name, standing) for name, standing in page],
                "after": page[-1][0] if len(found) > limit else None,
            }
        )

    async def get_channel(self, channel: ChannelName) -> Response:
        """Where a channel stands. One that never had a publication stands at 0."""
        (standing,) = await _answered(self._log.heads([channel]))
        return answer(_info(channel, standing))

    async def list_publications(
        self,
        channel: ChannelName,
        since: Offset = 0,
        limit: Limit = _PAGE_DEFAULT,
        *,
        reverse: bool = False,
    ) -> Response:
        """A page of a channel's log: after `since`, or with `reverse` before it."""
        read = Read(0, channel, since, limit, reverse)
        (found,) = await _answered(self._log.read([paging.bounded(read)]))
        return answer(
            {
                "channel": channel,
                **found.standing._asdict(),
                "publications": [_publication(entry) for entry in found.entries],
                "since": paging.next_since(read, found),
            }
        )

    async def publish(self, channel: ChannelName, request: fastapi.Request) -> Response:
        """Publish; answered once it is committed.

        The same id and data again get the same answer; the same id with other data or
        another user is a conflict. After 504, send the same again.
        """
        options = self._namespaces.get(channels.namespace_of(channel))
        if options is None:
            raise Refusal(404, "unknown namespace", errors.UNKNOWN_CHANNEL.code)
        if not options.durable:
            raise Refusal(403, "the namespace keeps nothing", errors.NOT_AVAILABLE.code)
        command = _command(channel, await _read_body(request))
        try:
            outcome = await self._publisher.publish(command)
        except OutcomeUnknown as unknown:
            code = errors.OUTCOME_UNKNOWN.code
            raise Refusal(504, str(unknown), code) from unknown
        except LogUnavailable as away:
            raise Refusal(503, str(away), errors.INTERNAL.code) from away
        return _published(outcome)

    async def counts(self) -> Response:
        """How much there is."""
        there = await _answered(self._catalogue.counts())
        return answer(there._asdict())


async def _answered(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except (LogUnavailable, LogRefused) as error:
        raise Refusal(503, "the database does not answer") from error


# -- Bodies ------------------------------------------------------------------------------


async def _read_body(request: fastapi.Request) -> _Body:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if media_type.lower() != JSON:
        raise Refusal(415, f"the body has to be {JSON}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise Refusal(413, f"a body over {_BODY_BYTES_MAX} bytes")
    if nesting.too_deep(bytes(body), levels=_BODY_DEPTH_MAX):
        reason = f"data of more than {limits.JSON_DEPTH_MAX} levels"
        raise Refusal(422, reason, errors.BAD_REQUEST.code)
    try:
        return _decode_body(bytes(body))
    except msgspec.ValidationError as error:
        raise Refusal(422, str(error), errors.BAD_REQUEST.code) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"not JSON: {error}", errors.BAD_REQUEST.code) from error


def _command(channel: str, body: _Body) -> PublishCommand:
    try:
        # Compact: a payload travels inside line-delimited JSON. Everything else of it
        # stays as it was sent.
        data = msgspec.json.format(bytes(body.data), indent=-1)
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"data is not JSON: {error}") from error
    info = _encode({"user": body.user, "client": ""}) if body.user else b""
    return PublishCommand(channel, body.id, data, info, body.user)


def _published(outcome: Outcome) -> Response:
    if not outcome.error_code:
        return answer(
            {
                "channel": outcome.channel,
                "id": outcome.id,
                "offset": outcome.offset,
                "epoch": outcome.epoch,
                "at_ms": outcome.at_ms,
            }
        )
    status = {
        errors.CONFLICT.code: 409,
        errors.TOO_LARGE.code: 413,
        errors.BAD_REQUEST.code: 422,
    }.get(outcome.error_code, 503)
    raise Refusal(status, outcome.error_message, outcome.error_code)


def _info(channel: str, standing: Standing) -> dict[str, object]:
    return {
        "channel": channel,
        **standing._asdict(),
        "publications": standing.top - standing.floor,
    }


def _publication(entry: Entry) -> dict[str, object]:
    shown: dict[str, object] = {
        "offset": entry.offset,
        "id": entry.id,
        "at_ms": entry.at_ms,
    }
    if _is_json(entry.data):
        shown["data"] = msgspec.Raw(entry.data)
    else:
        shown["data_base64"] = base64.b64encode(entry.data).decode()
    shown["info"] = msgspec.Raw(entry.info) if entry.info else None
    shown["tags"] = entry.tags
    return shown


def _is_json(data: bytes) -> bool:
    """Whether a payload is JSON that every decoder can read."""
    if nesting.too_deep(data):
        return False  # From before there was a bound.
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
