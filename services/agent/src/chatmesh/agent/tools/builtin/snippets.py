"""Runs a Python snippet in a confined process of its own; see `confinement`."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from chatmesh.agent.tools.builtin import confinement

CODE_CHARS_MAX: Final = 20_000
OUTPUT_BYTES_MAX: Final = 64 * 1024
SNIPPET_S: Final = 10.0
MEMORY_BYTES_MAX: Final = 128 * 1024 * 1024
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
FILES_MAX: Final = 16
"""Open at once; also what may still hold space that no name leads to."""
FOLDER_BYTES_MAX: Final = 32 * 1024 * 1024
FOLDER_ENTRIES_MAX: Final = 1000
"""Files and directories."""
AT_ONCE_MAX: Final = 4
"""Snippets that run in one process: what they take together fits its container."""
TURN_S: Final = 8.0
"""Until a turn has to have come."""
LOOK_EVERY_S: Final = 0.05
"""How often what a snippet has written is measured."""
_BLOCK_BYTES: Final = 512
_PIECE: Final = 16 * 1024
_OPEN_TO_OTHERS: Final = 0o777


_turns: Final = asyncio.Semaphore(AT_ONCE_MAX)


class NotRun(Exception):
    """Why a snippet was not run."""


class WroteTooMuch(Exception):
    """The snippet was ended, for its directory has become too large."""


class Ran(NamedTuple):
    exit_code: int
    """Negative: ended by that signal, such as -9 and -24 for too much time."""
    output: str
    errors: str
    cut: bool
    """There was more output."""


async def run(code: str, *, within_s: float = SNIPPET_S) -> Ran:
    """Run a snippet; its directory is gone afterwards.

    Raises NotRun, TimeoutError, WroteTooMuch.
    """
    if len(code) > CODE_CHARS_MAX:
        raise NotRun(f"the snippet has over {CODE_CHARS_MAX} characters")
    try:
        async with asyncio.timeout(TURN_S):
            await _turns.acquire()
    except TimeoutError as error:
        raise NotRun("other snippets run at the moment; try again later") from error
    try:
        folder = await asyncio.to_thread(_folder)
        try:
            return await _run_in(folder, code, within_s)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    finally:
        _turns.release()


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="snippet-"))
    if os.geteuid() == 0:
        # The process becomes nobody; the name cannot be guessed and holds nothing else.
        folder.chmod(_OPEN_TO_OTHERS)
    return folder


async def _run_in(folder: Path, code: str, within_s: float) -> Ran:
    limits = {
        "folder": str(folder),
        "cpu_s": int(within_s) + 1,
        "memory_bytes": MEMORY_BYTES_MAX,
        "file_bytes": FILE_BYTES_MAX,
        "files": FILES_MAX,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        confinement.__file__,
        json.dumps(limits),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env={"HOME": str(folder), "LANG": "C.UTF-8", "TMPDIR": str(folder)},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            output = group.create_task(_read(process.stdout))
            errors = group.create_task(_read(process.stderr))
            watch = group.create_task(_grown(folder, process.pid))
            with contextlib.suppress(ConnectionError):
                process.stdin.write(code.encode("utf-8", "replace"))
                await process.stdin.drain()
            process.stdin.close()
            await process.wait()
            watch.cancel()
    finally:
        _kill(process.pid)
        await process.wait()
    if not watch.cancelled():
        raise WroteTooMuch(
            f"the snippet was ended: it wrote over {FOLDER_BYTES_MAX} bytes"
            f" or {FOLDER_ENTRIES_MAX} files"
        )
    exit_code = process.returncode or 0
    (said, cut), (complained, more) = output.result(), errors.result()
    if exit_code == confinement.CANNOT:
        raise NotRun(complained.strip())
    return Ran(exit_code, said, complained, cut or more)


async def _grown(folder: Path, group: int) -> None:
    """Wait until the directory is too large, and end the snippet then."""
    while True:
        if await asyncio.to_thread(_is_over, folder):
            _kill(group)
            return
        await asyncio.sleep(LOOK_EVERY_S)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _is_over(folder: Path) -> bool:
    """Whether there is more in a directory than there may be; also if nobody can tell."""
    size = entries = 0
    ahead = [str(folder)]
    while ahead:
        try:
            with os.scandir(ahead.pop()) as found:
                for entry in found:
                    entries += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if entries > FOLDER_ENTRIES_MAX or size > FOLDER_BYTES_MAX:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        ahead.append(entry.path)
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            return True  # hidden: too deep, or closed to us
    return False


async def _read(stream: asyncio.StreamReader) -> tuple[str, bool]:
    """What comes, as far as anybody wants to know; the rest is thrown away."""
    kept = bytearray()
    cut = False
    while piece := await stream.read(_PIECE):
        room = OUTPUT_BYTES_MAX - len(kept)
        kept += piece[:room]
        cut = cut or len(piece) > room
    return kept.decode("utf-8", "replace"), cut
