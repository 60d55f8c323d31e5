"""Where a conversation is read and typed: a terminal, or a pair of pipes."""

import asyncio
import os
import shutil
import sys
import textwrap
import threading
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, TextIO

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from chatmesh.cli import lines
from chatmesh.cli.desk import COMMANDS, Command
from chatmesh.cli.lines import Message, count
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import limits

HELP: Final = (
    "Enter sends. /quit or Ctrl-D leaves, Ctrl-C leaves at once,"
    " // at the start sends a text that begins with a slash."
    " Agents: /stop [NAME], /retry [NAME], /approve ID [JSON], /deny ID [REASON]."
)
_COLOURS: Final = (
    "ansicyan",
    "ansigreen",
    "ansiyellow",
    "ansimagenta",
    "ansiblue",
    "ansibrightcyan",
    "ansibrightgreen",
    "ansibrightmagenta",
)
_STOP_S: Final = 1.0
_LIVE_LINES_MAX: Final = 7
_WIDTH_MIN: Final = 20

_READ_BYTES: Final = 64 * limits.KIB
_LINE_BYTES_MAX: Final = 2 * limits.COMMAND_BYTES_MAX
"""A line beyond this is cut; either part is too large to be sent anyway."""
_LINES_AHEAD: Final = 100


class Terminal:
    """A prompt at the bottom that incoming messages do not disturb."""

    def __init__(self, user: str, channel: str) -> None:
        self.left_at_once = False
        self._user = lines.plain(user) or "anonymous"
        self._channel = lines.plain(channel)
        self._link = ""
        self._waiting: list[str] = []
        self._day = ""
        self._tasks = Tasks()
        self._typed: asyncio.Queue[str | Command | None] = asyncio.Queue()
        self._live: list[str] = []
        self._prompt: PromptSession[str] = PromptSession(
            erase_when_done=True,
            bottom_toolbar=self.toolbar,
            key_bindings=self._keys(),
        )

    @contextmanager
    def open(self) -> Generator[None]:
        with patch_stdout(raw=True):
            yield

    def message(self, message: Message) -> None:
        day = lines.day(message.at_ms)
        if day != self._day:
            self._day = day
            self._print(("ansibrightblack", f"— {day} —"))
        author = lines.who(message)
        colour = _COLOURS[zlib.crc32(author.encode()) % len(_COLOURS)]
        self._print(
            ("ansibrightblack", lines.clock_time(message.at_ms)),
            ("", " "),
            (f"{colour} bold", author),
            ("", f": {lines.body(message)}"),
        )

    def notice(self, text: str) -> None:
        self._print(("ansibrightblack italic", f"· {lines.plain(text)}"))

    def status(self, link: str, waiting: list[str]) -> None:
        self._link = link
        self._waiting = waiting
        self._prompt.app.invalidate()

    def live(self, shown: list[str]) -> None:
        if shown != self._live:
            self._live = shown
            self._prompt.app.invalidate()

    async def lines(self) -> AsyncIterator[str | Command]:
        try:
            self._tasks.spawn(self._keep_prompting(), name="prompt")
            while (text := await self._typed.get()) is not None:
                yield text
        finally:
            await self._tasks.stop(_STOP_S)

    async def _keep_prompting(self) -> None:
        """One prompt for the whole conversation.

        Between two prompts the terminal would be in its ordinary mode for a moment,
        and keys pressed just then would be mangled.
        """
        try:
            await self._prompt.prompt_async(f"{self._user}> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            self.left_at_once = True
        finally:
            self._typed.put_nowait(None)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def enter(event: KeyPressEvent) -> None:
            text = event.current_buffer.text.strip()
            event.current_buffer.reset(append_to_history=True)
            if text == "/quit":
                event.app.exit(result="")
            elif text.startswith("//"):
                self._typed.put_nowait(text[1:])
            elif text.startswith("/"):
                name, _, rest = text[1:].partition(" ")
                if name in COMMANDS:
                    self._typed.put_nowait(Command(name, rest))
                else:
                    self.notice(HELP)
            elif text:
                self._typed.put_nowait(text)

        del enter
        return keys

    def toolbar(self) -> str:
        """The line at the bottom: where one is, and what is on its way."""
        shown = f" {self._channel} {self._link}"
        if self._waiting:
            first = lines.plain(lines.shortened(self._waiting[0]))
            shown += f" · sending {count(len(self._waiting), 'message')}: {first}"
        return "\n".join([*self._live_lines(), shown])

    def _live_lines(self) -> list[str]:
        """The end of what agents write; the rest comes with the message."""
        width = max(_WIDTH_MIN, shutil.get_terminal_size().columns - 2)
        wrapped = [
            f" {part}"
            for line in self._live
            for part in textwrap.wrap(lines.plain(line), width) or [""]
        ]
        if len(wrapped) <= _LIVE_LINES_MAX:
            return wrapped
        return [wrapped[0], *wrapped[1 - _LIVE_LINES_MAX :]]

    def _print(self, *parts: tuple[str, str]) -> None:
        print_formatted_text(FormattedText(parts))


class Pipes:
    """Lines in, lines out: messages on standard output, notices on standard error."""

    left_at_once = False

    def __init__(self, stdin: int, stdout: BinaryIO, stderr: TextIO) -> None:
        self.reader_left = asyncio.Event()
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr

    @contextmanager
    def open(self) -> Generator[None]:
        yield

    def message(self, message: Message) -> None:
        if self.reader_left.is_set():
            return
        try:
            # UTF-8 whatever the locale says, as in the room.
            self._stdout.write(f"{lines.line(message)}\n".encode(errors="replace"))
            self._stdout.flush()
        except BrokenPipeError:
            # As with `| head`: what there is to send is sent all the same.
            self.reader_left.set()
            discard(self._stdout)

    def notice(self, text: str) -> None:
        self._stderr.write(f"chatmesh: {lines.plain(text)}\n")
        self._stderr.flush()

    def status(self, link: str, waiting: list[str]) -> None:
        """Nobody watches a pipe for its state."""

    def live(self, shown: list[str]) -> None:
        """A pipe gets whole messages only."""

    async def lines(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        read: asyncio.Queue[str | None] = asyncio.Queue(_LINES_AHEAD)

        def pump() -> None:
            try:
                for text in _lines_of(self._stdin):
                    asyncio.run_coroutine_threadsafe(read.put(text), loop).result()
                asyncio.run_coroutine_threadsafe(read.put(None), loop).result()
            except RuntimeError:
                # The loop has closed: nobody wants to read any more.
                return

        # A thread, because a regular file cannot be waited for; a daemon, because one
        # that waits for input must not keep the process from ending.
        threading.Thread(target=pump, name="stdin", daemon=True).start()
        while (text := await read.get()) is not None:
            if text.strip():
                yield text


def _lines_of(descriptor: int) -> Iterator[str]:
    """Lines of a file descriptor, read below Python's buffers.

    A thread blocked inside `sys.stdin` holds its lock, and the interpreter cannot end.
    """
    pending = b""
    while chunk := os.read(descriptor, _READ_BYTES):
        *whole, pending = (pending + chunk).split(b"\n")
        for raw in whole:
            yield raw.decode(errors="replace").rstrip("\r")
        if len(pending) > _LINE_BYTES_MAX:
            yield pending.decode(errors="replace")
            pending = b""
    if pending:
        yield pending.decode(errors="replace").rstrip("\r")


def discard(output: BinaryIO | TextIO) -> None:
    """Let what is still in its buffers go nowhere, also when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output.fileno())
    os.close(nowhere)


def both_are_terminals() -> bool:
    """Whether somebody sits in front of this process, at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()
