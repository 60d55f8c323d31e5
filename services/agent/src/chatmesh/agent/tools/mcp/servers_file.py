"""The file that declares MCP servers; what is wrong in it is told with its line."""

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, cast

import pydantic

from chatmesh.runtime import settings_file
from chatmesh.runtime.settings_file import Document, SettingsError
from chatmesh.wire import limits
from chatmesh.wire.tools import REQUESTER

_NAME: Final = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
SERVERS_MAX: Final = 50


class McpServer(pydantic.BaseModel):
    """One server: a command that speaks MCP on its standard streams, or a URL."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str = ""
    # May hold a key, so it is not shown with the rest.
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


def read(path: Path) -> dict[str, McpServer]:
    """The servers of a file, by name. Raises SettingsError, one line per mistake."""
    return servers(settings_file.read(path))


def servers(document: Document) -> dict[str, McpServer]:
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
        if not _NAME.match(name):
            reason = "a name has small letters, digits and -, at most 31"
            mistakes.append(_told(document, where, reason))
            continue
        try:
            found[name] = McpServer.model_validate(content)
        except pydantic.ValidationError as error:
            for one in error.errors():
                path = (*where, *(str(part) for part in one["loc"]))
                reason = one["msg"].removeprefix("Value error, ")
                mistakes.append(_told(document, path, reason))
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return found


def _told(document: Document, path: tuple[str, ...], reason: str) -> str:
    key = ".".join(path)
    place = document.place(path)
    return f"{place}: {key}: {reason}" if place else f"{key}: {reason}"
