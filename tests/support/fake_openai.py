"""An OpenAI-compatible server in the test's own loop, which says what the test wants.

It speaks the chat completions API, streamed and whole, over HTTP/1.1. Each request is
answered by the next scripted `Reply` or, when none is left, by the rule in `otherwise`.
What came of each request is written down, above all whether the client hung up.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

_HEAD_BYTES_MAX: Final = 64 * 1024
_OK: Final = 200
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_REASONS: Final = {200: "OK", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The model calls a tool."""

    name: str
    arguments: dict[str, Any]
    id: str = "call_1"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model does with one request."""

    pieces: Sequence[str] = ()
    """The text, one piece a delta."""
    thoughts: Sequence[str] = ()
    """What it thinks before it says anything, one a delta."""
    tools: Sequence[ToolUse] = ()
    """Called after the text; their arguments come in two deltas."""
    pause_s: float = 0.0
    """From one piece to the next."""
    think_s: float = 0.0
    """Before the first piece."""
    status: int = 200
    retry_after_s: float | None = None
    """Said with an error status."""
    stall_after: int | None = None
    """After so many pieces nothing comes any more, and the connection stays open."""
    break_after: int | None = None
    """After so many pieces the connection is cut, without a word."""
    ends: str = ""
    """What it says it ended for; none: that it was done, or calls tools."""
    usage: bool = True
    """Whether the server says what was used."""

    @classmethod
    def of(
        cls,
        text: str,
        *,
        piece_chars: int = 4,
        pause_s: float = 0.0,
        think_s: float = 0.0,
        stall_after: int | None = None,
        break_after: int | None = None,
        tools: Sequence[ToolUse] = (),
    ) -> "Reply":
        """A text in pieces of so many characters."""
        pieces = [
            text[at : at + piece_chars] for at in range(0, len(text), piece_chars)
        ]
        return cls(
            pieces,
            tools=tools,
            pause_s=pause_s,
            think_s=think_s,
            stall_after=stall_after,
            break_after=break_after,
        )

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def too_many(retry_after_s: float = 0.05) -> Reply:
    """429, with the time after which to come again."""
    return Reply(status=_TOO_MANY, retry_after_s=retry_after_s)


def broken(status: int = _SERVER_ERROR) -> Reply:
    return Reply(status=status)


@dataclass(slots=True)
class Asked:
    """One request, and what came of it."""

    body: dict[str, Any]
    key: str
    """What the client authenticates with."""
    at_s: float
    """By the monotonic clock, as everything here."""
    reply: Reply | None = None
    sent: int = 0
    """Pieces of text written so far."""
    sent_s: list[float] = field(default_factory=list[float])
    """When each piece was written."""
    finished: bool = False
    """The whole answer was written."""
    cut: bool = False
    """The connection was cut, as scripted."""
    hung_up_s: float | None = None
    """When the client closed the connection before that; None if it did not."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body.get("messages", [])

    @property
    def prompt(self) -> str:
        """The newest text of a user."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return _text_of(message.get("content"))
        return ""

    @property
    def tool_results(self) -> list[str]:
        """What tools have answered so far, oldest first."""
        return [
            _text_of(one.get("content"))
            for one in self.messages
            if one.get("role") == "tool"
        ]

    @property
    def sent_text(self) -> str:
        return "".join(self.reply.pieces[: self.sent]) if self.reply else ""


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return ""


def echo(asked: Asked) -> Reply:
    """The model that repeats what it was told."""
    return Reply.of(f"You said: {asked.prompt}")


class FakeOpenAI:
    """The server; an async context manager. `url` is its base URL, with `/v1`."""

    def __init__(self, otherwise: Callable[[Asked], Reply] = echo) -> None:
        self.otherwise = otherwise
        self.script: deque[Reply] = deque()
        self.asked: list[Asked] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        """Listen, at a port of its own choice unless told one."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", port, limit=_HEAD_BYTES_MAX
        )

    async def stop(self) -> None:
        """Hang up on everybody."""
        assert self._server is not None, "start comes before stop"
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None, "start comes first"
        return self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def says(self, *replies: Reply | str) -> None:
        """Answer the next requests so, in this order."""
        self.script += [
            Reply.of(one) if isinstance(one, str) else one for one in replies
        ]

    @property
    def open(self) -> list[Asked]:
        """Requests that are being answered just now."""
        return [one for one in self.asked if not one.finished and one.hung_up_s is None]

    async def _connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # It was written down where it matters.
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One request; no other follows, for its connection is listened to meanwhile."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = first.split(" ")[1]
        if not path.endswith("/chat/completions"):
            await _write_whole(writer, 404, {"error": {"message": f"no {path}"}})
            return
        asked = Asked(
            json.loads(body),
            headers.get("authorization", "").removeprefix("Bearer "),
            time.monotonic(),
        )
        self.asked.append(asked)
        asked.reply = self.script.popleft() if self.script else self.otherwise(asked)
        answering = asyncio.ensure_future(_answer(writer, asked, asked.reply))
        # A client that hangs up is heard of by reading, however long we pause.
        listening = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait(
                {answering, listening}, return_when=asyncio.FIRST_COMPLETED
            )
            if answering.done():
                await answering
            else:
                asked.hung_up_s = time.monotonic()
        except ConnectionError:
            if not writer.transport.is_closing() or asked.reply.break_after is None:
                asked.hung_up_s = time.monotonic()
            else:
                asked.cut = True
        finally:
            for one in (answering, listening):
                one.cancel()
            await asyncio.gather(answering, listening, return_exceptions=True)


async def _answer(writer: asyncio.StreamWriter, asked: Asked, reply: Reply) -> None:
    if reply.status != _OK:
        await _refuse(writer, reply)
        asked.finished = True
        return
    if not asked.body.get("stream"):
        await asyncio.sleep(reply.think_s)
        await _write_whole(writer, _OK, _completion(asked, reply))
        asked.sent = len(reply.pieces)
        asked.finished = True
        return
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    await _chunk(writer, _delta(asked, {"role": "assistant", "content": ""}))
    await asyncio.sleep(reply.think_s)
    for thought in reply.thoughts:
        await _chunk(writer, _delta(asked, {"reasoning_content": thought}))
    began_s = time.monotonic()
    for number, piece in enumerate(reply.pieces):
        await _misbehave(writer, reply, number)
        # By the clock: what one pause is too long, the next ones are shorter.
        early_s = began_s + number * reply.pause_s - time.monotonic()
        if early_s > 0:
            await asyncio.sleep(early_s)
        asked.sent_s.append(time.monotonic())
        await _chunk(writer, _delta(asked, {"content": piece}))
        asked.sent += 1
    await _misbehave(writer, reply, len(reply.pieces))
    for index, tool in enumerate(reply.tools):
        for delta in _tool_deltas(index, tool):
            await _chunk(writer, _delta(asked, {"tool_calls": [delta]}))
    why = reply.ends or ("tool_calls" if reply.tools else "stop")
    await _chunk(writer, _delta(asked, {}, finish_reason=why))
    if reply.usage:
        await _chunk(writer, {**_frame(asked), "choices": [], "usage": _usage(reply)})
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()
    asked.finished = True


async def _misbehave(
    writer: asyncio.StreamWriter, reply: Reply, pieces_sent: int
) -> None:
    """Cut the connection or fall silent, where the script says so."""
    if pieces_sent == reply.break_after:
        writer.transport.abort()
        raise ConnectionAbortedError("as scripted")
    if pieces_sent == reply.stall_after:
        await asyncio.Event().wait()


async def _refuse(writer: asyncio.StreamWriter, reply: Reply) -> None:
    headers = {}
    if reply.retry_after_s is not None:
        headers["Retry-After"] = f"{reply.retry_after_s:g}"
        headers["Retry-After-Ms"] = f"{reply.retry_after_s * 1000:g}"
    said = {"error": {"message": f"scripted {reply.status}", "type": "scripted"}}
    await _write_whole(writer, reply.status, said, headers)


async def _write_whole(
    writer: asyncio.StreamWriter,
    status: int,
    body: object,
    headers: dict[str, str] | None = None,
) -> None:
    data = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(data)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + data)
    await writer.drain()


async def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    if writer.is_closing():
        raise ConnectionResetError("the client has gone")
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    writer.write(b"%x\r\n" % len(data) + data + b"\r\n")
    await writer.drain()


def _frame(asked: Asked) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": asked.body.get("model", "fake"),
    }


def _delta(
    asked: Asked, delta: dict[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**_frame(asked), "choices": [choice]}


def _tool_deltas(index: int, tool: ToolUse) -> list[dict[str, Any]]:
    said = json.dumps(tool.arguments)
    half = len(said) // 2
    opening = {
        "index": index,
        "id": tool.id,
        "type": "function",
        "function": {"name": tool.name, "arguments": said[:half]},
    }
    return [opening, {"index": index, "function": {"arguments": said[half:]}}]


def _usage(reply: Reply) -> dict[str, int]:
    out = len(reply.pieces) + len(reply.tools)
    return {"prompt_tokens": 10, "completion_tokens": out, "total_tokens": 10 + out}


def _completion(asked: Asked, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tools:
        message["tool_calls"] = [
            {
                "id": tool.id,
                "type": "function",
                "function": {
                    "name": tool.name,
                    "arguments": json.dumps(tool.arguments),
                },
            }
            for tool in reply.tools
        ]
    why = "tool_calls" if reply.tools else "stop"
    choice = {"index": 0, "message": message, "finish_reason": why}
    said = {**_frame(asked), "object": "chat.completion", "choices": [choice]}
    return {**said, "usage": _usage(reply)} if reply.usage else said
