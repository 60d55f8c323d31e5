"""The file that declares MCP servers; what is wrong in it is told with its line."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, cast

import pydantic

from chatmesh.runtime import settings_file
from chatmesh.runtime.settings_file import Document, SettingsError
from chatmesh.wire import limits
from chatmesh.wire.tools import REQUESTER

NAME: Final = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
SERVERS_MAX: Final = 50
_SECRET_FIELDS: Final = ("env", "headers")
"""Where `${NAME}` means a variable of the process, so that the file holds no secret."""
_VARIABLE: Final = re.compile(r"(\$?)\$\{([^}]*)\}")


class McpServer(pydantic.BaseModel):
    """One server: a command that speaks MCP on its standard streams, or a URL."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    command: tuple[str, ...] = ()
    # Both may hold a key, so they are not shown with the rest.
    env: Annotated[dict[str, str], pydantic.Field(repr=False)] = {}
    url: str = ""
    headers: Annotated[dict[str, str], pydantic.Field(repr=False)] = {}
    read_only: tuple[str, ...] = ()
    """Tools (`*` for any characters) that change nothing; the server's own word is no proof."""
    without_approval: tuple[str, ...] = ()
    """Tools with side effects that nobody has to allow."""
    approvers: tuple[str, ...] = ("owner", "moderator", REQUESTER)
    timeout_s: Annotated[float, pydantic.Field(gt=0, le=limits.TOOL_TIMEOUT_S_MAX)] = 60
    concurrency: Annotated[int, pydantic.Field(ge=1, le=64)] = 4

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> "McpServer":
        if bool(self.command) == bool(self.url):
            raise ValueError("wants either a command or a url")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("the url is neither http nor https")
        return self

    def is_read_only(self, tool: str) -> bool:
        return any(fnmatchcase(tool, pattern) for pattern in self.read_only)

    def needs_approval(self, tool: str) -> bool:
        free = any(fnmatchcase(tool, pattern) for pattern in self.without_approval)
        return not free and not self.is_read_only(tool)


def read(path: Path, environ: Mapping[str, str]) -> dict[str, McpServer]:
    """The servers of a file, by name. Raises SettingsError, one line per mistake."""
    return servers(settings_file.read(path), environ)


def servers(document: Document, environ: Mapping[str, str]) -> dict[str, McpServer]:
    """The servers of a document. Raises SettingsError, one line per mistake."""
    mistakes = [
        _told(document, (key,), "unknown key; did you mean servers?")
        for key in document.values
        if key != "servers"
    ]
    given: object = document.values.get("servers") or {}
    if not isinstance(given, dict):
        raise SettingsError(_told(document, ("servers",), "wants names below it"))
    declared = cast("dict[str, Any]", given)
    if len(declared) > SERVERS_MAX:
        mistakes.append(f"more than {SERVERS_MAX} servers; use another process")
    found: dict[str, McpServer] = {}
    for name, content in declared.items():
        where = ("servers", name)
        if not NAME.match(name):
            reason = "a name has small letters, digits and -, at most 31"
            mistakes.append(_told(document, where, reason))
            continue
        try:
            server = McpServer.model_validate(content)
            for path, variable in _absent(server, environ):
                reason = f"the variable {variable} is not set"
                mistakes.append(_told(document, (*where, *path), reason))
            found[name] = _filled(server, environ)
        except pydantic.ValidationError as error:
            for one in error.errors():
                path = (*where, *(str(part) for part in one["loc"]))
                reason = one["msg"].removeprefix("Value error, ")
                mistakes.append(_told(document, path, reason))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return found


def _absent(
    server: McpServer, environ: Mapping[str, str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys that name a variable which is not there, and that variable."""
    for field in _SECRET_FIELDS:
        given: dict[str, str] = getattr(server, field)
        for key, text in given.items():
            for escape, variable in _VARIABLE.findall(text):
                if not escape and variable not in environ:
                    yield (field, key), variable


def _filled(server: McpServer, environ: Mapping[str, str]) -> McpServer:
    """The server with its variables put in; `$${` stands for `${` itself."""

    def put(found: re.Match[str]) -> str:
        escape, variable = found.groups()
        return found[0][1:] if escape else environ.get(variable, "")

    filled = {
        field: {
            key: _VARIABLE.sub(put, text)
            for key, text in cast("dict[str, str]", getattr(server, field)).items()
        }
        for field in _SECRET_FIELDS
    }
    return server.model_copy(update=filled)


def _told(document: Document, path: tuple[str, ...], reason: str) -> str:
    key = ".".join(path)
    place = document.place(path)
    return f"{place}: {key}: {reason}" if place else f"{key}: {reason}"
