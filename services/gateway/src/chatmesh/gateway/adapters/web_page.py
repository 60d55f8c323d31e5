"""The built web page, read once, and the development login beside it."""

import hashlib
import http
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from chatmesh.gateway.settings import GatewaySettings

INDEX: Final = "/index.html"
HASHED_FOLDER: Final = "/assets/"
"""Files below it carry a digest in their name, so they never change."""
USER_CHARS_MAX: Final = 64

_POLICY: Final = (
    "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
)
_POLICY_HEADER: Final = "Content-Security-Policy"
_SECURITY: Final = {
    _POLICY_HEADER: _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_HOST: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?")
_NO_PAGE: Final = (
    b"<!doctype html><title>chatmesh</title><p>This gateway is up. Its web page has not "
    b"been built: run <code>make page</code>, or connect a client to "
    b"<code>/connection/websocket</code>.\n"
)


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str
    hashed: bool


class WebPage:
    """Answers plain HTTP requests on the traffic port; knows files and nothing else."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        gateway: str,
        make_token: Callable[[str], str] | None,
    ) -> None:
        folder = Path(settings.page) if settings.page else None
        self._files = _read(folder) if folder is not None else {}
        self._settings = settings
        self._gateway = gateway
        self._make_token = make_token
        """Signs a token for anybody; only in development."""

    def answer(self, request: Request) -> Response:
        """The response to a request that is no WebSocket handshake."""
        url = urlsplit(request.path)
        if url.path.startswith("/dev/"):
            return self._development(request, url.path, parse_qs(url.query))
        if request.method not in {"GET", "HEAD"}:
            return _text(http.HTTPStatus.METHOD_NOT_ALLOWED, "only GET here\n")
        path = INDEX if url.path == "/" else url.path
        file = self._files.get(path)
        if file is None and path == INDEX:
            return _response(http.HTTPStatus.OK, _NO_PAGE, "text/html; charset=utf-8")
        if file is None:
            return _text(http.HTTPStatus.NOT_FOUND, "no such page\n")
        if file.etag in request.headers.get_all("If-None-Match"):
            status, body = http.HTTPStatus.NOT_MODIFIED, b""
        else:
            status = http.HTTPStatus.OK
            body = b"" if request.method == "HEAD" else file.body
        response = _response(status, body, file.content_type)
        del response.headers[_POLICY_HEADER]
        response.headers[_POLICY_HEADER] = self._policy(request)
        response.headers["ETag"] = file.etag
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if file.hashed else "no-cache"
        )
        return response

    def _policy(self, request: Request) -> str:
        """What the page may do: in development, reach the HTTP port of any neighbour.

        Under the name by which the browser called us, because the page does so too.
        """
        if not self._settings.development:
            return _POLICY
        called = _HOST.fullmatch(request.headers.get("Host", ""))
        urls = [urlsplit(one.http) for one in self._settings.neighbours if one.http]
        origins = {f"{url.scheme}://{url.netloc}" for url in urls}
        if called is not None:
            here = called[1]
            origins |= {f"{u.scheme}://{here}:{u.port}" for u in urls if u.port}
        allowed = " ".join(["connect-src 'self' ws: wss:", *sorted(origins)])
        return _POLICY.replace("connect-src 'self' ws: wss:", allowed)

    def _development(
        self, request: Request, path: str, query: dict[str, list[str]]
    ) -> Response:
        if not self._settings.development or self._make_token is None:
            return _text(http.HTTPStatus.NOT_FOUND, "no development login here\n")
        if path == "/dev/config" and request.method == "GET":
            return _json(
                {
                    "development": True,
                    "gateway": self._gateway,
                    "gateways": [
                        {"name": n.name, "url": n.url, "http": n.http}
                        for n in self._settings.neighbours
                    ],
                }
            )
        if path == "/dev/token" and request.method == "POST":
            user = query.get("user", [""])[0].strip()
            if not 0 < len(user) <= USER_CHARS_MAX or not user.isprintable():
                return _text(http.HTTPStatus.BAD_REQUEST, "who? say ?user=name\n")
            return _json({"token": self._make_token(user)})
        return _text(http.HTTPStatus.NOT_FOUND, "no such page\n")


def _read(folder: Path) -> dict[str, _File]:
    """Every file below a folder by its URL path; read once, served from memory."""
    files: dict[str, _File] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = f"/{path.relative_to(folder).as_posix()}"
        body = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if kind.startswith("text/") or kind.endswith(("javascript", "json")):
            kind += "; charset=utf-8"
        digest = hashlib.blake2b(body, digest_size=12).hexdigest()
        files[name] = _File(body, kind, f'"{digest}"', name.startswith(HASHED_FOLDER))
    return files


def _response(status: http.HTTPStatus, body: bytes, content_type: str) -> Response:
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
            **_SECURITY,
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _text(status: http.HTTPStatus, text: str) -> Response:
    return _response(status, text.encode(), "text/plain; charset=utf-8")


def _json(value: object) -> Response:
    response = _response(
        http.HTTPStatus.OK, msgspec.json.encode(value), "application/json"
    )
    response.headers["Cache-Control"] = "no-store"
    return response
