"""`make run`, as somebody at a terminal meets it."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import pytest

from chatmesh.local import ports
from support.eventually import eventually
from support.instances import Corner

SHIFTS = (0, 1, 1000, 1001, 1009, 1019, 1029)
UP_WITHIN_S = 60.0
STOPPED_WITHIN_S = 10.0


@dataclass
class Terminal:
    """A running `make run` and what it has printed so far."""

    process: "subprocess.Popen[str]"
    base_port: int
    lines: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def children(self) -> list[int]:
        folder = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in folder.read_text().split()]


def free_base() -> int:
    """A first port whose followers are free as well."""
    chance = random.SystemRandom()
    while True:
        base = chance.randint(10_000, 13_000)
        if not ports.busy(base + shift for shift in SHIFTS):
            return base


def environ(corner: Corner, database_url: str, base_port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "CHATMESH_AMQP_URL": corner.url,
        "CHATMESH_PREFIX": corner.prefix,
        "CHATMESH_DATABASE_URL": database_url,
        "CHATMESH_LOCAL_PORT": str(base_port),
    }


@contextmanager
def make_run(
    folder: Path, corner: Corner, database_url: str, base_port: int
) -> Generator[Terminal]:
    with subprocess.Popen(
        [sys.executable, "-m", "chatmesh.local"],
        cwd=folder,
        env=environ(corner, database_url, base_port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        terminal = Terminal(process, base_port)
        reader = Thread(target=terminal.read, daemon=True)
        reader.start()
        try:
            yield terminal
        finally:
            process.kill()
            reader.join(timeout=5)


@pytest.fixture
def terminal(tmp_path: Path, corner: Corner, database_url: str) -> Iterator[Terminal]:
    with make_run(tmp_path, corner, database_url, free_base()) as running:
        yield running


async def up(terminal: Terminal) -> None:
    def said() -> bool:
        assert terminal.process.poll() is None, terminal.text
        return "chatmesh is up" in terminal.text and "Ctrl-C" in terminal.text

    await eventually(said, within_s=UP_WITHIN_S, reason="chatmesh is up")


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_it_says_where_to_click_and_leaves_nothing(
    terminal: Terminal, number: signal.Signals
) -> None:
    """Ctrl-C, a polite kill and a closed terminal all end everything in time."""
    await up(terminal)
    assert f"ws://127.0.0.1:{terminal.base_port}/" in terminal.text
    started = terminal.children()
    assert len(started) >= 3

    asked_s = time.monotonic()
    terminal.process.send_signal(number)

    await eventually(
        lambda: terminal.process.poll() is not None, within_s=STOPPED_WITHIN_S
    )
    assert time.monotonic() - asked_s < STOPPED_WITHIN_S
    assert terminal.process.returncode == 0
    await eventually(lambda: gone(started))
    assert not ports.busy([terminal.base_port, terminal.base_port + 1])


async def test_a_crash_is_said_and_mended(terminal: Terminal) -> None:
    """The mesh goes on; the line names who crashed and when it comes back."""
    await up(terminal)
    (victim,) = [
        pid
        for pid in terminal.children()
        if b"CHATMESH_GATEWAY_NAME=gateway-1\0"
        in Path(f"/proc/{pid}/environ").read_bytes()
    ]

    os.kill(victim, signal.SIGKILL)

    await eventually(lambda: "gateway-1 is back" in terminal.text, within_s=30)
    assert re.search(
        r"gateway-1 was ended by SIGKILL; starting it again in \d+\.\d s", terminal.text
    )


async def test_even_its_sudden_death_leaves_nothing(terminal: Terminal) -> None:
    """`kill -9` of the supervisor: the kernel tells its children."""
    await up(terminal)
    started = terminal.children()

    terminal.process.kill()
    terminal.process.wait()

    await eventually(lambda: gone(started), within_s=STOPPED_WITHIN_S)


async def test_twice_in_one_checkout_is_one_sentence(
    terminal: Terminal, tmp_path: Path, corner: Corner, database_url: str
) -> None:
    """The second one names the reason and touches nothing."""
    await up(terminal)

    with make_run(tmp_path, corner, database_url, free_base()) as second:
        await eventually(lambda: second.process.poll() == 1, within_s=20)

    assert "this checkout is running already" in second.text
    assert "Traceback" not in second.text
    assert terminal.process.poll() is None


async def test_a_busy_port_is_one_sentence(
    tmp_path: Path, corner: Corner, database_url: str
) -> None:
    """With the port, and with the way out."""
    base = free_base()
    with socket.socket() as other:
        other.bind((ports.LOOPBACK, base + 1000))
        other.listen()

        with make_run(tmp_path, corner, database_url, base) as terminal:
            await eventually(lambda: terminal.process.poll() == 1, within_s=20)

    assert f"port {base + 1000} is in use" in terminal.text
    assert "CHATMESH_LOCAL_PORT=" in terminal.text
    assert "Traceback" not in terminal.text
