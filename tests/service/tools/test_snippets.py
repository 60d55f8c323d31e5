"""Python snippets in confinement, on the machine the tests run on."""

import asyncio
import time

import pytest

from chatmesh.agent.tools.builtin import snippets

TRIES = """
import os, socket, subprocess
def attempt(name, action):
    try:
        action()
    except OSError as error:
        print(name, "refused")
    else:
        print(name, "DONE")
attempt("socket", lambda: socket.socket())
attempt("connect", lambda: socket.create_connection(("127.0.0.1", 1), 1))
attempt("passwd", lambda: open("/etc/passwd").read())
attempt("environ", lambda: open(f"/proc/{os.getppid()}/environ").read())
attempt("fork", lambda: os.fork())
attempt("process", lambda: subprocess.run(["true"]))
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("outside", lambda: open("/tmp/outside", "w"))
attempt("large", lambda: open("large", "wb").write(b"x" * 20_000_000))
"""


async def test_a_snippet_runs_in_its_own_directory() -> None:
    """The library is there, files can be written, output comes back."""
    ran = await snippets.run(
        "import math, pathlib\n"
        "pathlib.Path('note').write_text('kept')\n"
        "print(math.factorial(5), pathlib.Path('note').read_text())\n"
    )
    assert (ran.exit_code, ran.output) == (0, "120 kept\n"), ran.errors


async def test_a_snippet_gets_nowhere_else() -> None:
    """No network, no files of others, no processes, no signals, no large files."""
    ran = await snippets.run(TRIES)
    lines = ran.output.splitlines()
    assert [line for line in lines if "DONE" in line] == [], ran
    assert len(lines) >= 8, ran


async def test_a_snippet_that_does_not_end_is_ended() -> None:
    """Also when it sleeps, where no processor time is used."""
    with pytest.raises(TimeoutError):
        await snippets.run("import time; time.sleep(60)", within_s=2)


async def test_files_are_bounded_together() -> None:
    """Many that are small enough each would fill what all snippets share."""
    ran = await snippets.run(
        "import time\n"
        "for number in range(12):\n"
        "    open(str(number), 'wb').write(b'x' * 3_500_000)\n"
        "time.sleep(8)\n"
        "print('DONE')\n"
    )
    assert (ran.exit_code, ran.output) == (-9, "")
    assert "too large" in ran.errors


async def test_snippets_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than fit the container wait, and are told when none comes free in time."""
    monkeypatch.setattr(snippets, "TURN_S", 0.5)
    sleeping = "import time; time.sleep(4)"
    busy = [
        asyncio.create_task(snippets.run(sleeping)) for _ in range(snippets.AT_ONCE_MAX)
    ]
    await asyncio.sleep(0)
    started_s = time.monotonic()

    with pytest.raises(snippets.NotRun, match="try again"):
        await snippets.run("print(1)")

    assert time.monotonic() - started_s < 4
    await asyncio.gather(*busy)
    assert (await snippets.run("print(1)")).output == "1\n"


async def test_errors_and_floods_come_back() -> None:
    """A traceback is an answer; output beyond the limit is not kept."""
    ran = await snippets.run("print('y' * 200_000); 1 / 0")
    assert ran.exit_code == 1
    assert "ZeroDivisionError" in ran.errors
    assert ran.cut
    assert len(ran.output) == snippets.OUTPUT_BYTES_MAX


async def test_memory_is_bounded() -> None:
    """More than it may have is a MemoryError of the snippet, not of the machine."""
    ran = await snippets.run("x = bytearray(2_000_000_000)")
    assert "MemoryError" in ran.errors
