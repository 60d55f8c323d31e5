"""Python snippets in confinement, on the machine the tests run on."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from chatmesh.agent.tools.builtin import confinement, snippets

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


CHANGES = """
import os
name = {name!r}
own = open("own", "wb+")
own.write(b"12345678")
own.truncate(4)
print(os.path.getsize("own"))
def attempt(what, action):
    try:
        action()
    except OSError:
        print(what, "refused")
    else:
        print(what, "DONE")
attempt("truncate", lambda: os.truncate(name, 0))
attempt("chmod", lambda: os.chmod(name, 0o777))
attempt("chown", lambda: os.chown(name, os.getuid(), os.getgid()))
attempt("utime", lambda: os.utime(name, (1, 1)))
attempt("setxattr", lambda: os.setxattr(name, "user.note", b"x"))
attempt("empty", lambda: os.open(name, os.O_RDONLY | os.O_TRUNC))
"""
_NOBODY_ELSE = 61234
_EVERYBODYS_PYTHON = "/usr/bin/python3"


async def test_a_snippet_changes_no_files_of_others(tmp_path: Path) -> None:
    """Neither their length nor their mode, owner, times and attributes."""
    other = tmp_path / "other"
    await asyncio.to_thread(other.write_text, "kept")
    other.chmod(0o666)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    before = other.stat()
    ran = await snippets.run(CHANGES.format(name=str(other)))
    assert "DONE" not in ran.output, ran
    assert ran.output.splitlines()[0] == "4", ran
    assert len(ran.output.splitlines()) == 7, ran
    after = other.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert after.st_mode == before.st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
async def test_a_snippet_of_an_ordinary_user_changes_no_other_file_of_theirs(
    tmp_path: Path,
) -> None:
    """Where the user does not change, what is theirs is kept from the snippet as well."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    mine = tmp_path / "mine"
    mine.mkdir()
    other = mine / "other"
    await asyncio.to_thread(other.write_text, "kept")
    for path in (mine, other):
        os.chown(path, _NOBODY_ELSE, _NOBODY_ELSE)
    script = mine / "confinement.py"
    source = await asyncio.to_thread(Path(confinement.__file__).read_bytes)
    await asyncio.to_thread(script.write_bytes, source)
    own = mine / "own"
    own.mkdir()
    os.chown(own, _NOBODY_ELSE, _NOBODY_ELSE)
    limits = {
        "folder": str(own),
        "cpu_s": 5,
        "memory_bytes": snippets.MEMORY_BYTES_MAX,
        "file_bytes": snippets.FILE_BYTES_MAX,
        "files": snippets.FILES_MAX,
    }
    try:
        process = await asyncio.create_subprocess_exec(
            _EVERYBODYS_PYTHON,
            "-IS",
            script,
            json.dumps(limits),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=own,
            user=_NOBODY_ELSE,
            group=_NOBODY_ELSE,
            extra_groups=[],
        )
    except OSError:
        pytest.skip("no Python here is for everybody")
    said, complained = await process.communicate(
        CHANGES.format(name=str(other)).encode()
    )
    if process.returncode == confinement.CANNOT:
        pytest.skip("this machine cannot confine an ordinary user's snippet")
    assert b"DONE" not in said, said
    assert said.count(b"refused") == 6, (said, complained)
    assert await asyncio.to_thread(other.read_text) == "kept"


@pytest.mark.parametrize(
    "line",
    [
        "open(f'{n}', 'wb').write(bytes(4_000_000))",
        "open(f'{n}', 'wb').close()",
        "os.mkdir('a' * 200); os.chdir('a' * 200)",
    ],
)
async def test_a_snippet_that_fills_the_disk_is_ended(line: str) -> None:
    """Many files count together, and so do empty ones and those hidden deep below."""
    code = f"import os, time\nfor n in range(3000):\n    {line}\ntime.sleep(9)"
    with pytest.raises(snippets.WroteTooMuch):
        await snippets.run(code)


async def test_a_snippet_that_does_not_end_is_ended() -> None:
    """Also when it sleeps, where no processor time is used."""
    with pytest.raises(TimeoutError):
        await snippets.run("import time; time.sleep(60)", within_s=2)


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
