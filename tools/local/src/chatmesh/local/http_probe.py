"""Is that port ready? One GET, without a client library's start-up time."""

import asyncio
from http import HTTPStatus
from typing import Final

PROBE_WITHIN_S: Final = 2.0
_BODY_BYTES_MAX: Final = 65_536


async def get(host: str, port: int, path: str) -> tuple[int, str] | None:
    """Status and body, or None if nobody answers in time."""
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                request = (
                    f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                )
                writer.write(request.encode())
                answer = await reader.read(_BODY_BYTES_MAX)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    _, _, rest = head.partition(" ")
    status, _, _ = rest.partition(" ")
    return (int(status), body) if status.isdigit() else None


async def is_ready(host: str, port: int) -> bool:
    """Whether /readyz says yes."""
    answer = await get(host, port, "/readyz")
    return answer is not None and answer[0] == HTTPStatus.OK
