"""`chatmesh chat` against the whole mesh: scripts and terminals, through what goes wrong."""

import asyncio
import os
import pty
import re
import secrets
import struct
import sys
import termios
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from fcntl import ioctl
from typing import Final

import pytest
import pytest_asyncio

from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Gateway, Mesh
from support.eventually import eventually
from support.meshes import shared_mesh

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

WITHIN_S: Final = 60.0
"""Coming back takes the SDK up to 20 s, on a machine that may be busy."""
PRESSED_AGAIN_AFTER_S: Final = 5.0
CHATMESH: Final = (sys.executable, "-m", "chatmesh.cli")
IN_FRONT: Final = ("setsid", "--ctty")
"""The terminal is its own: Ctrl-C reaches it also while it prints, as a signal."""
_TERMINAL_CODES: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>78]|\x1b\]\S*\x07"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Two gateways for all tests here; whoever stops one starts it again."""
    folder = tmp_path_factory.mktemp("logs")
    async with shared_mesh(instances, migrated_template, folder) as shared:
        yield shared


@pytest.fixture
def room() -> str:
    """A room that no other test knows."""
    return f"room-{secrets.token_hex(4)}"


async def chat(
    gateway: Gateway,
    room: str,
    user: str,
    typed: str,
    *words: str,
    later: Callable[[], Awaitable[str]] | None = None,
) -> tuple[int, list[str], str]:
    """Say some lines as a script does: exit code, messages shown, notices.

    What `later` returns is said after what is typed, when it returns.
    """
    process = await asyncio.create_subprocess_exec(
        *CHATMESH, "chat", room, "--user", user, "--url", gateway.ws_url, *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        process.stdin.write(typed.encode())
        rest = await later() if later else ""
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate(rest.encode())
    except BaseException:
        process.kill()
        raise
    shown = [line.partition(" ")[2] for line in out.decode().splitlines()]
    return process.returncode or 0, shown, err.decode()


class Terminal:
    """Somebody in front of a terminal, in which `chatmesh chat` runs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = b""
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            seen = os.read(self._descriptor, 65536)
        except OSError:
            seen = b""
        if not seen:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            return
        self._seen += seen
        if b"\x1b[6n" in seen:
            # Where is the cursor? A terminal answers that.
            os.write(self._descriptor, b"\x1b[1;1R")

    def types(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    @property
    def text(self) -> str:
        return _TERMINAL_CODES.sub("", self._seen.decode(errors="replace"))

    async def sees(self, text: str) -> None:
        def shown() -> bool:
            assert text in self.text, self.text.replace("\r", "\n")
            return True

        await eventually(shown, within_s=WITHIN_S)


@asynccontextmanager
async def terminal(
    gateway: Gateway, room: str, user: str
) -> AsyncGenerator[tuple[Terminal, asyncio.subprocess.Process]]:
    ours, theirs = pty.openpty()
    ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *IN_FRONT, *CHATMESH, "chat", room, "--user", user, "--url", gateway.ws_url,
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    front = Terminal(ours)
    try:
        yield front, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


async def left(front: Terminal, key: str, process: asyncio.subprocess.Process) -> int:
    """Press a key until it has worked: while a line is printed, one may be lost."""
    async with asyncio.timeout(WITHIN_S):
        while process.returncode is None:
            front.types(key)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), PRESSED_AGAIN_AFTER_S)
    return process.returncode


async def test_what_one_script_says_another_one_reads(mesh: Mesh, room: str) -> None:
    """Over two gateways, complete and in order, with those who said it."""
    first, second = mesh.gateways
    numbers = "".join(f"{number}\n" for number in range(50))

    code, own, notices = await chat(first, room, "ada", numbers)
    later, shown, _ = await chat(second, room, "bob", "hello\n", "--history", "100")

    assert code == later == 0, notices
    assert own == [f"ada: {number}" for number in range(50)]
    assert shown == [*own, "bob: hello"]


async def test_a_killed_gateway_costs_a_script_nothing(mesh: Mesh, room: str) -> None:
    """It goes on when the gateway is back: every line once, and in its order."""
    gateway, other = mesh.gateways
    numbers = [f"{number}\n" for number in range(400)]

    async def said() -> int:
        return len((await chat(other, room, "bob", "", "--history", "1000"))[1])

    async def after_the_kill() -> str:
        await eventually(said, within_s=WITHIN_S)
        gateway.kill()
        await gateway.start()
        return "".join(numbers[200:])

    code, _, notices = await chat(
        gateway, room, "ada", "".join(numbers[:200]), later=after_the_kill
    )
    _, shown, _ = await chat(other, room, "bob", "", "--history", "1000")
    assert code == 0, notices
    assert "connection lost, retrying" in notices
    assert shown == [f"ada: {number}" for number in range(400)]


async def test_a_reader_that_leaves_does_not_stop_a_script(
    mesh: Mesh, room: str
) -> None:
    """As with `| head -1`: everything is sent, and nothing is complained about."""
    url = mesh.gateways[0].ws_url
    command = f"{' '.join(CHATMESH)} chat {room} --user ada --url {url}"
    process = await asyncio.create_subprocess_shell(
        f"seq 50 | ( {command}; echo code $? >&2 ) | head -1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WITHIN_S):
        out, err = await process.communicate()

    _, shown, _ = await chat(mesh.gateways[1], room, "bob", "", "--history", "100")
    assert out.endswith(b"ada: 1\n")
    assert err.endswith(b"code 0\n"), err
    assert b"Traceback" not in err
    assert shown == [f"ada: {number}" for number in range(1, 51)]


async def test_two_terminals_talk(mesh: Mesh, room: str) -> None:
    """What arrives does not disturb what is being typed."""
    first, second = mesh.gateways
    async with (
        terminal(first, room, "ada") as (ada, _),
        terminal(second, room, "bob") as (bob, end),
    ):
        await ada.sees("on gateway-1")
        await bob.sees("on gateway-2")

        ada.types("hello there\r")
        await bob.sees("ada: hello there")
        ada.types("half typed")
        await ada.sees("half typed")
        bob.types("hi ada\r")
        await ada.sees("bob: hi ada")
        ada.types(" and sent\r")
        await bob.sees("ada: half typed and sent")
        bob.types("/help\r")
        await bob.sees("Ctrl-D leaves")
        assert await left(bob, "\x04", end) == 0


async def test_a_terminal_says_what_it_missed(mesh: Mesh, room: str) -> None:
    """The gateway dies and comes back; the reader is told and loses nothing."""
    gateway, other = mesh.gateways
    async with terminal(gateway, room, "ada") as (ada, end):
        await ada.sees("on gateway-1")
        gateway.kill()
        await ada.sees("connection lost, retrying")
        await chat(other, room, "bob", "one\ntwo\nthree\n")
        await gateway.start()

        await ada.sees("back; 3 messages caught up")
        assert ada.text.index("bob: one") < ada.text.index("bob: three")

        assert await left(ada, "\x03", end) == 0


async def test_a_token_of_a_stranger_ends_it(mesh: Mesh, room: str) -> None:
    """The script ends at once, says why, and does not pretend to have sent anything."""
    token = await asyncio.create_subprocess_exec(
        *CHATMESH, "token", "--user", "eve", "--secret", "x" * 32,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made, _ = await token.communicate()

    code, shown, notices = await chat(
        mesh.gateways[0], room, "eve", "hello\n", "--token", made.decode().strip()
    )

    assert code == 1
    assert shown == []
    assert "it is over: invalid token" in notices
