"""Where a conversation is read and typed: pipes at either end, or a person."""

import asyncio
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

from chatmesh.cli.desk import Command
from chatmesh.cli.lines import Message
from chatmesh.cli.screens import Pipes, Terminal
from chatmesh.wire import limits

NOON_MS = 1_795_348_800_000

Typed = Callable[[bytes], int]


@pytest.fixture
def typed() -> Iterator[Typed]:
    """A pipe that holds what was typed, and ends."""
    ends: list[int] = []

    def type_it(text: bytes) -> int:
        here, there = os.pipe()
        ends.append(here)

        def write() -> None:
            with os.fdopen(there, "wb") as pipe:
                pipe.write(text)

        threading.Thread(target=write).start()
        return here

    yield type_it
    for end in ends:
        os.close(end)


async def read(descriptor: int) -> list[str]:
    screen = Pipes(descriptor, io.BytesIO(), io.StringIO())
    return [text async for text in screen.lines()]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"one\n", ["one"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\n\n  \ntwo\r\n", ["one", "two"]),
        ("grüße 👋\n".encode(), ["grüße 👋"]),
        (b"bad \xff byte\n", ["bad \ufffd byte"]),
    ],
)
async def test_every_line_is_a_message(
    typed: Typed, text: bytes, lines: list[str]
) -> None:
    """Empty ones are not; a last one without an end is."""
    assert await read(typed(text)) == lines


async def test_many_lines_arrive_complete_and_in_order(typed: Typed) -> None:
    """However many are written at once."""
    numbers = [str(number) for number in range(20_000)]

    assert await read(typed("\n".join(numbers).encode())) == numbers


async def test_an_endless_line_does_not_fill_the_memory(typed: Typed) -> None:
    """It is cut where no message could be as long anyway."""
    lines = await read(typed(b"x" * (5 * limits.COMMAND_BYTES_MAX)))

    assert len(lines) > 1
    assert "".join(lines) == "x" * (5 * limits.COMMAND_BYTES_MAX)


async def test_a_file_is_as_good_as_a_pipe(tmp_path: Path) -> None:
    """`< lines.txt` works, although a file cannot be waited for."""
    file = tmp_path / "lines.txt"
    file.write_text("one\ntwo\n")

    with file.open("rb") as opened:
        assert await read(opened.fileno()) == ["one", "two"]


def test_messages_go_to_one_end_and_notices_to_the_other() -> None:
    """A script can use what was said without what was remarked."""
    out, err = io.BytesIO(), io.StringIO()
    screen = Pipes(0, out, err)

    screen.message(Message("ada", "grüße", NOON_MS))
    screen.notice("connection lost,\n retrying…")
    screen.status("on gateway-1", ["waiting"])

    assert out.getvalue().decode().endswith(" ada: grüße\n")
    assert err.getvalue() == "chatmesh: connection lost,\ufffd retrying…\n"


def test_a_reader_that_has_left_is_not_written_to() -> None:
    """As with `| head`: no traceback, now or when the process ends."""
    here, there = os.pipe()
    os.close(here)
    with os.fdopen(there, "wb") as out:
        screen = Pipes(0, out, io.StringIO())

        screen.message(Message("ada", "one", NOON_MS))
        screen.message(Message("ada", "two", NOON_MS))

    assert screen.reader_left.is_set()


# -- A terminal -----------------------------------------------------------------------


class Front:
    """A terminal, somebody who types, and what they see."""

    def __init__(self, keys: PipeInput, paper: io.StringIO) -> None:
        self.screen = Terminal("ada", "room:x")
        self._keys = keys
        self._paper = paper

    async def types(self, text: str) -> list[str | Command]:
        """What the keys amount to, until the terminal is left."""
        self._keys.send_text(text)
        async with asyncio.timeout(10):
            return [said async for said in self.screen.lines()]

    @property
    def seen(self) -> str:
        return self._paper.getvalue()


@pytest.fixture
def front() -> Iterator[Front]:
    paper = io.StringIO()
    output = Vt100_Output(paper, lambda: Size(rows=30, columns=100), term="xterm")
    output.enable_cpr = False
    with create_pipe_input() as keys, create_app_session(input=keys, output=output):
        yield Front(keys, paper)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("hello\r\x04", ["hello"]),
        ("one\rtwo\r/quit\r", ["one", "two"]),
        ("  spaced \r\r   \r\x04", ["spaced"]),
        ("//shrug\r\x04", ["/shrug"]),
        ("/unknown\rstill here\r\x04", ["still here"]),
        ("unsent\x15\x04", []),
    ],
)
async def test_enter_sends_and_commands_do_not(
    front: Front, keys: str, said: list[str]
) -> None:
    """What was typed ahead counts too, in its order."""
    assert await front.types(keys) == said
    assert not front.screen.left_at_once


async def test_ctrl_c_leaves_at_once(front: Front) -> None:
    """Also in the middle of a sentence, which is not sent."""
    assert await front.types("half a sen\x03") == []
    assert front.screen.left_at_once


async def test_an_unknown_command_is_answered_with_help(front: Front) -> None:
    """Nobody reads a manual before they type."""
    await front.types("/what\r\x04")

    assert "/quit or Ctrl-D leaves" in front.seen


async def test_commands_to_agents_are_no_messages(front: Front) -> None:
    """They come out apart from what is said, in their order."""
    typed = await front.types("/stop\r/approve a1 {}\rhello\r\x04")

    assert typed == [Command("stop"), Command("approve", "a1 {}"), "hello"]


def test_live_lines_are_the_end_of_what_is_written(front: Front) -> None:
    """Above the state of the connection, and never more than a few of them."""
    front.screen.live(["Owl is writing · /stop", *(f"line {n}" for n in range(20))])

    shown = front.screen.toolbar().split("\n")

    assert shown[0] == " Owl is writing · /stop"
    assert shown[-2] == " line 19"
    assert len(shown) == 8
    front.screen.live([])
    assert "\n" not in front.screen.toolbar()


def test_a_terminal_shows_days_authors_and_notices(front: Front) -> None:
    """The day once, then times; remarks apart from messages."""
    front.screen.message(Message("bob", "one", NOON_MS))
    front.screen.message(Message("helper", "two", NOON_MS, agent=True))
    front.screen.notice("connection lost")

    assert front.seen.count("November 2026") == 1
    for part in ("bob", ": one", "helper (agent)", ": two", "· connection lost"):
        assert part in front.seen


def test_the_status_line_says_what_is_on_its_way(front: Front) -> None:
    """Where one is connected, and the first of what waits."""
    front.screen.status("on gateway-1", ["x" * 100, "second"])

    assert front.screen.toolbar() == (
        f" room:x on gateway-1 · sending 2 messages: {'x' * 60}…"
    )


async def test_what_others_write_cannot_touch_the_terminal(front: Front) -> None:
    """Not through their names, nor their texts, nor a gateway's reasons."""
    evil = "\x1b]0;owned\x07"
    front.screen.message(Message(evil, evil, NOON_MS))
    front.screen.notice(evil)
    front.screen.status("on gateway-1", [evil])
    await front.types("\x04")

    shown = front.seen + front.screen.toolbar()
    assert evil not in shown
    assert "\x07" not in shown
