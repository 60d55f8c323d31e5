"""Child processes: what they say, how they end, that they never stay behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chatmesh.local.process import GUARD, Command, Process
from support.eventually import eventually

PATH = {"PATH": os.defpath}


def script(text: str, *, grace_s: float = 5.0) -> Command:
    return Command(
        name="child", words=("/bin/sh", "-c", text), environ=PATH, grace_s=grace_s
    )


def alive(pid: int) -> bool:
    """A zombie is dead: it only waits to be counted."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def test_lines_reach_the_sink_and_the_log(tmp_path: Path) -> None:
    """Both, in order, error output included."""
    lines: list[str] = []
    log = tmp_path / "child.log"
    process = Process(script("echo one; echo two >&2"), log=log, sink=lines.append)

    code = await process.wait()

    assert code == 0
    assert lines == ["one", "two"]
    assert log.read_text() == "one\ntwo\n"


async def test_a_polite_end_within_the_grace() -> None:
    """The stop signal is enough for a child that listens."""
    lines: list[str] = []
    polite = script("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    process = Process(polite, sink=lines.append)
    await eventually(lambda: lines)

    assert await process.stop() == 7
    assert not process.running


async def test_after_the_grace_it_is_killed() -> None:
    """A child that ignores the signal does not hold up the others."""
    lines: list[str] = []
    deaf = script("trap '' TERM; echo ready; while :; do sleep 1; done", grace_s=0.2)
    process = Process(deaf, sink=lines.append)
    await eventually(lambda: lines)

    assert await process.stop() == -signal.SIGKILL


async def test_a_frozen_child_is_stopped_as_well() -> None:
    """It is thawed for its farewell."""
    process = Process(script("while :; do sleep 1; done"))
    process.pause()

    await process.stop()

    assert not process.running


async def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    """Also when the child itself is shot."""
    note = tmp_path / "pid"
    process = Process(script(f"sleep 300 & echo $! > {note}; wait"))
    await eventually(lambda: note.exists() and note.read_text())
    grandchild = int(note.read_text())

    process.kill()
    await process.wait()

    await eventually(lambda: not alive(grandchild))


async def test_a_program_that_is_not_there_is_an_exit_code(tmp_path: Path) -> None:
    """And a sentence in the log."""
    command = Command(name="ghost", words=("/no/such/program",), environ=PATH)
    process = Process(command, log=tmp_path / "log")

    assert await process.wait() == 126
    assert "cannot start /no/such/program" in process.last_lines()


async def test_nothing_outlives_an_owner_that_was_shot(tmp_path: Path) -> None:
    """`kill -9` of whoever started it: the kernel tells the child."""
    note = tmp_path / "pid"
    owner_text = (
        "import subprocess, sys, os, time\n"
        f"child = subprocess.Popen([sys.executable, '-I', '-S', {str(GUARD)!r},"
        " str(os.getpid()), '15', '-', 'sleep', '300'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(300)\n"
    )
    with subprocess.Popen([sys.executable, "-c", owner_text]) as owner:
        await eventually(lambda: note.exists() and note.read_text())
        child = int(note.read_text())
        # It is a shell's `sleep` by now, so the wish to end with us has been stated.
        await eventually(
            lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes()[:6]
        )

        owner.kill()

    await eventually(lambda: not alive(child))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_root_can_become_somebody_else(tmp_path: Path) -> None:
    """PostgreSQL refuses to be root."""
    command = Command(name="who", words=("id", "-un"), environ=PATH, user="nobody")
    process = Process(command, log=tmp_path / "log")

    assert await process.wait() == 0
    assert process.last_lines() == "nobody"
