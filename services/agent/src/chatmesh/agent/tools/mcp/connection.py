"""One MCP server: connected, listed, called, and connected again when it is lost."""

import asyncio
import hashlib
import json
import logging
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import anyio
import httpx2
import mcp_types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from chatmesh.agent.tools.mcp.servers_file import McpServer
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock
from chatmesh.tools import OutcomeUnknown, RetryLater, ToolContext, ToolFailed
from chatmesh.tools.declaration import Served
from chatmesh.wire import limits
from chatmesh.wire import tools as wire
from chatmesh.wire.tools import ToolDescription

_log = logging.getLogger(__name__)

CONNECT_S: Final = 30.0
LIST_S: Final = 15.0
LOOK_EVERY_S: Final = 10.0
"""How often the list is read again: it notices a dead server, and new tools."""
PAGES_MAX: Final = 20
_RETRY_BASE_S: Final = 0.5
_RETRY_CAP_S: Final = 15.0
_SEPARATOR: Final = "__"
_NAME_CHARS_MAX: Final = 64
_DIGEST_CHARS: Final = 8
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_-]")


class Connection:
    """The connection to one server, for as long as `run` runs."""

    def __init__(
        self,
        name: str,
        server: McpServer,
        *,
        offer: Callable[[Sequence[Served]], None],
        clock: Clock,
    ) -> None:
        """`offer` hears which tools there are, and that there are none."""
        self.name: Final = name
        self.server: Final = server
        self._offer = offer
        self._clock = clock
        self._client: Client | None = None
        self._broken = asyncio.Event()
        self._offered: list[ToolDescription] = []

    async def run(self) -> None:
        """Stay connected until cancelled."""
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, random.Random())  # noqa: S311 - jitter
        while True:
            try:
                await self._live(backoff)
            except Exception as error:  # noqa: BLE001 - the library raises whatever its transports raise
                told = _innermost(error)
                _log.warning(
                    "MCP server not connected",
                    extra={"server": self.name, "cause": type(told).__name__},
                )
            finally:
                self._client = None
                self._publish(())
            await self._clock.sleep(backoff.next_s())

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        context: ToolContext,
        *,
        read_only: bool,
    ) -> object:
        """Call a tool of the server. Raises ToolFailed, RetryLater, OutcomeUnknown."""
        client = self._client
        if client is None:
            raise RetryLater(f"the MCP server {self.name} is not connected")

        async def progressed(
            progress: float, total: float | None, message: str | None
        ) -> None:
            await asyncio.sleep(0)
            context.progress(progress / total if total else None, message or "")

        try:
            result = await client.call_tool(
                tool, dict(arguments), self.server.timeout_s, progressed
            )
        except MCPError as error:
            if error.code != mcp_types.CONNECTION_CLOSED:
                raise ToolFailed(f"MCP server {self.name}: {error.message}") from error
            self._broken.set()
            raise self._lost(read_only=read_only) from error
        except (
            anyio.ClosedResourceError,
            anyio.BrokenResourceError,
            httpx2.HTTPError,
            OSError,
        ) as error:
            self._broken.set()
            raise self._lost(read_only=read_only) from error
        if result.is_error:
            raise ToolFailed(_text(result) or "the MCP server reports an error")
        if result.structured_content is not None:
            return result.structured_content
        return _text(result)

    def _lost(self, *, read_only: bool) -> ToolFailed:
        if read_only:
            return RetryLater(f"the MCP server {self.name} was lost")
        return OutcomeUnknown(
            f"the MCP server {self.name} was lost while the call ran;"
            " it may or may not have taken effect"
        )

    async def _live(self, backoff: Backoff) -> None:
        self._broken.clear()
        async with _client_of(self.server) as client:
            await self._list(client)
            self._client = client
            backoff.reset()
            _log.info("MCP server connected", extra={"server": self.name})
            while not self._broken.is_set():
                await self._list(client)
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._broken.wait()
                except TimeoutError:
                    continue

    async def _list(self, client: Client) -> None:
        listed: dict[str, mcp_types.Tool] = {}
        cursor: str | None = None
        async with asyncio.timeout(LIST_S):
            for _ in range(PAGES_MAX):
                page = await client.list_tools(cursor=cursor, cache_mode="bypass")
                listed |= {tool.name: tool for tool in page.tools}
                cursor = page.next_cursor
                if cursor is None:
                    break
        names = agent_names(self.name, listed)
        made = [self._made(names[tool], one) for tool, one in listed.items()]
        tools = [one for one in made if one is not None]
        self._publish(tools[: limits.TOOLS_PER_WORKER_MAX])

    def _publish(self, tools: Sequence["McpTool"]) -> None:
        descriptions = [tool.description for tool in tools]
        if descriptions != self._offered:
            self._offered = descriptions
            self._offer(tools)

    def _made(self, name: str, tool: mcp_types.Tool) -> "McpTool | None":
        description = described(name, self.server, tool)
        if reason := wire.refusal(description):
            _log.warning(
                "tool of an MCP server left out",
                extra={"server": self.name, "tool": tool.name, "cause": reason},
            )
            return None
        return McpTool(self, tool.name, description)


class McpTool:
    """`Served`: one tool of an MCP server."""

    def __init__(
        self, connection: Connection, name: str, description: ToolDescription
    ) -> None:
        self.description: Final = description
        self._connection = connection
        self._name = name

    async def run(
        self, arguments: Mapping[str, Any], context: ToolContext, executor: Executor
    ) -> object:
        """`Served.run`."""
        del executor
        read_only = self.description.read_only
        return await self._connection.call(
            self._name, arguments, context, read_only=read_only
        )


def described(name: str, server: McpServer, tool: mcp_types.Tool) -> ToolDescription:
    """A tool as agents see it, by this name, with what the file says of it."""
    read_only = server.is_read_only(tool.name)
    text = tool.description or tool.title or ""
    return ToolDescription(
        name=name,
        description=text[: limits.TOOL_DESCRIPTION_CHARS_MAX],
        parameters=tool.input_schema,
        result=tool.output_schema,
        read_only=read_only,
        needs_approval=server.needs_approval(tool.name),
        approvers=list(server.approvers),
        timeout_ms=int(server.timeout_s * 1000),
    )


def agent_names(server: str, tools: Iterable[str]) -> dict[str, str]:
    """What agents call the tools of a server: `<server>__<tool>`, in letters they may use.

    A name that had to be shortened ends in a digest of the whole one, and so does one that
    would be another tool's after its letters were replaced: no two tools share a name.
    """
    whole = {tool: _agent_name(server, tool) for tool in tools}
    taken = Counter(whole.values())
    return {
        tool: name
        if len(name) <= _NAME_CHARS_MAX and (taken[name] == 1 or _is_plain(tool))
        else _with_digest(name, f"{server}\0{tool}")
        for tool, name in whole.items()
    }


def _agent_name(server: str, tool: str) -> str:
    plain = _FOREIGN.sub("_", tool)
    return f"{server.replace('-', '_')}{_SEPARATOR}{plain}"


def _is_plain(tool: str) -> bool:
    return _FOREIGN.search(tool) is None


def _with_digest(name: str, whole: str) -> str:
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[
        :_DIGEST_CHARS
    ]
    return f"{name[: _NAME_CHARS_MAX - _DIGEST_CHARS - 1]}_{digest}"


@asynccontextmanager
async def _client_of(server: McpServer) -> AsyncGenerator[Client]:
    if server.command:
        command, *words = server.command
        parameters = StdioServerParameters(command=command, args=words, env=server.env)
        async with asyncio.timeout(CONNECT_S) as limit, Client(parameters) as client:
            limit.reschedule(None)
            yield client
        return
    headers = dict(server.headers)
    patience = httpx2.Timeout(CONNECT_S, read=server.timeout_s)
    async with httpx2.AsyncClient(headers=headers, timeout=patience) as http:
        transport = streamable_http_client(server.url, http_client=http)
        async with asyncio.timeout(CONNECT_S) as limit, Client(transport) as client:
            limit.reschedule(None)
            yield client


def _text(result: mcp_types.CallToolResult) -> str:
    """What a result says; what is no text is named."""
    parts: list[str] = []
    for block in result.content:
        match block:
            case mcp_types.TextContent():
                parts.append(block.text)
            case _:
                parts.append(json.dumps({"left_out": block.type}))
    return "\n".join(parts)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error
