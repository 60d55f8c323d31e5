"""Fetches pages of the public internet, and of nowhere else.

Every connection is checked where it is made: the name is looked up once, every address
it has must be public, and the connection goes to an address that was checked. So neither
a redirect nor a name that answers differently the second time leads inside.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urljoin

import httpcore

from chatmesh.agent.tools.builtin import page_text
from chatmesh.agent.tools.builtin.addresses import is_public, url_refusal

PAGE_BYTES_MAX: Final = 1024 * 1024
TEXT_CHARS_MAX: Final = 40_000
TITLE_CHARS_MAX: Final = 500
REDIRECTS_MAX: Final = 5
FETCH_S: Final = 15.0
STEP_S: Final = 8.0
"""For a connection, and for each wait on it."""
READ_S: Final = 5.0
"""To find the text in a page: a second is plenty for an honest one."""
READ_MEMORY_BYTES_MAX: Final = 512 * 1024 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGENT: Final = b"chatmesh-fetch/1"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotFetched(Exception):
    """Why a page was not fetched, in a sentence for the model."""


class Page(NamedTuple):
    url: str
    """Where it was in the end."""
    status: int
    content_type: str
    title: str
    text: str
    cut: bool
    """There was more."""


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connections to public addresses only."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        *,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        """`allowed` says which addresses are; tests have servers of their own."""
        self._resolve = resolve or look_up
        self._allowed = allowed
        self._below = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._resolve(host, port)
        if not addresses:
            raise httpcore.ConnectError(f"{host} has no address")
        if not all(self._allowed(address) for address in addresses):
            raise NotFetched(f"{host} is not on the public internet")
        return await self._below.connect_tcp(
            addresses[0], port, timeout, local_address, socket_options
        )

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        del path, timeout, socket_options
        await asyncio.sleep(0)
        raise NotFetched("pages are fetched over the network")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def look_up(host: str, port: int) -> Sequence[str]:
    """All addresses of a host."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def fetch(url: str, network: httpcore.AsyncNetworkBackend | None = None) -> Page:
    """Fetch a page, over a few redirects at most. Raises NotFetched."""
    try:
        async with (
            asyncio.timeout(FETCH_S),
            httpcore.AsyncConnectionPool(
                network_backend=network or PublicNetwork(), max_connections=2
            ) as pool,
        ):
            for _ in range(REDIRECTS_MAX + 1):
                if reason := url_refusal(url):
                    raise NotFetched(reason)
                page, url = await _one(pool, url)
                if page is not None:
                    return page
    except TimeoutError as error:
        raise NotFetched(f"no page within {FETCH_S:g} s") from error
    except (httpcore.NetworkError, httpcore.TimeoutException) as error:
        raise NotFetched(f"no connection: {type(error).__name__}") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol, ValueError) as error:
        raise NotFetched(f"no proper answer: {type(error).__name__}") from error
    except OSError as error:
        raise NotFetched(
            f"no connection: {error.strerror or 'unknown host'}"
        ) from error
    raise NotFetched(f"more than {REDIRECTS_MAX} redirects")


async def _one(pool: httpcore.AsyncConnectionPool, url: str) -> tuple[Page | None, str]:
    """The page at a URL; or none, and the URL it sends us to."""
    headers = [(b"User-Agent", _AGENT), (b"Accept", b"text/*, application/json")]
    limits = dict.fromkeys(("connect", "read", "write", "pool"), STEP_S)
    async with pool.stream(
        "GET", url, headers=headers, extensions={"timeout": limits}
    ) as answer:
        known = {key.lower(): value.decode("latin-1") for key, value in answer.headers}
        if answer.status in _REDIRECTS and b"location" in known:
            return None, urljoin(url, known[b"location"])
        kind = known.get(b"content-type", "").partition(";")[0].strip().lower()
        if not (kind.startswith("text/") or kind.endswith(("json", "xml")) or not kind):
            raise NotFetched(f"{kind} is no text")
        body = bytearray()
        cut = False
        async for part in answer.aiter_stream():
            body += part
            if cut := len(body) > PAGE_BYTES_MAX:
                break
    text = bytes(body[:PAGE_BYTES_MAX]).decode(_charset(known), "replace")
    title = ""
    if "html" in kind or text.lstrip()[:15].lower().startswith(("<!doctype", "<html")):
        title, text, more = await _readable(text)
        cut = cut or more
    shown = text[:TEXT_CHARS_MAX]
    return Page(
        url, answer.status, kind, title, shown, cut or len(text) > len(shown)
    ), url


async def _readable(html: str) -> tuple[str, str, bool]:
    """Title and text of a page, and whether there was more. Raises NotFetched."""
    limits = {
        "cpu_s": int(READ_S) + 1,
        "memory_bytes": READ_MEMORY_BYTES_MAX,
        "text_chars": TEXT_CHARS_MAX,
        "title_chars": TITLE_CHARS_MAX,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-IS",
        page_text.__file__,
        json.dumps(limits),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    try:
        async with asyncio.timeout(READ_S):
            said, _ = await process.communicate(html.encode("utf-8", "replace"))
    except TimeoutError as error:
        raise NotFetched(f"its text was not found within {READ_S:g} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        raise NotFetched("its text cannot be read")
    return cast("tuple[str, str, bool]", tuple(json.loads(said)))


def _charset(headers: dict[bytes, str]) -> str:
    _, _, given = headers.get(b"content-type", "").lower().partition("charset=")
    name = given.split(";")[0].strip(" \"'") or "utf-8"
    try:
        "".encode(name)
    except (LookupError, ValueError):
        return "utf-8"
    return name
