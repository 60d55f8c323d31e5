"""Request bodies, bounded before they are read and while they are."""

import asyncio
import http
from typing import Final

import fastapi
from starlette.requests import ClientDisconnect

BODY_WITHIN_S: Final = 10.0
"""A body is here by then, or it is not coming."""


class BadBody(Exception):
    """A body that cannot be used; says why, and with which status that is answered."""

    status: int = http.HTTPStatus.BAD_REQUEST


class BodyTooLarge(BadBody):
    status = http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"more than {bytes_max} bytes")


class BodyTooSlow(BadBody):
    status = http.HTTPStatus.REQUEST_TIMEOUT

    def __init__(self) -> None:
        super().__init__("the body did not come in time")


async def read_body(request: fastapi.Request, bytes_max: int) -> bytes:
    """Read a body. Raises BodyTooLarge, without reading when it says its size itself.

    Raises BodyTooSlow, also when the client has gone in the middle of it.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > bytes_max:
        raise BodyTooLarge(bytes_max)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for part in request.stream():
                size += len(part)
                if size > bytes_max:
                    raise BodyTooLarge(bytes_max)
                parts.append(part)
    except (TimeoutError, ClientDisconnect) as error:
        raise BodyTooSlow from error
    return b"".join(parts)
