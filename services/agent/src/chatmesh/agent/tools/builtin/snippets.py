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
ENTRIES_MAX: Final = 1000
AT_ONCE_MAX: Final = 4
"""Snippets that run in one process: what they take together fits its container."""
TURN_S: Final = 8.0
"""Until a turn has to have come."""
_LOOK_S: Final = 0.1
_BLOCK: Final = 512
_PIECE: Final = 16 * 1024
_OPEN_TO_OTHERS: Final = 0o777


_turns: Final = asyncio.Semaphore(AT_ONCE_MAX)


class NotRun(Exception):
    """Why a snippet was not run."""


class Ran(NamedTuple):
    exit_code: int
    """Negative: ended by that signal, such as -9 and -24 for too much time."""
    output: str
    errors: str
    cut: bool
    """There was more output."""


async def run(code: str, *, within_s: float = SNIPPET_S) -> Ran:
    """Run a snippet; its directory is gone afterwards. Raises NotRun, TimeoutError."""
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
    too_much = False
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            output = group.create_task(_read(process.stdout))
            errors = group.create_task(_read(process.stderr))
            with contextlib.suppress(ConnectionError):
                process.stdin.write(code.encode("utf-8", "replace"))
                await process.stdin.drain()
            process.stdin.close()
            watching = group.create_task(_watch(folder))
            ended = group.create_task(process.wait())
            await asyncio.wait((watching, ended), return_when=asyncio.FIRST_COMPLETED)
            too_much = watching.done()
            watching.cancel()
            if too_much:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    exit_code = process.returncode or 0
    (said, cut), (complained, more) = output.result(), errors.result()
    if exit_code == confinement.CANNOT:
        raise NotRun(complained.strip())
    if too_much:
        complained += "ended: the snippet's files are too many or too large\n"
    return Ran(exit_code, said, complained, cut or more)


async def _watch(folder: Path) -> None:
    """Ends when there is too much in the folder; no limit of the kernel counts that."""
    while True:
        if await asyncio.to_thread(_too_much, folder):
            return
        await asyncio.sleep(_LOOK_S)


def _too_much(folder: Path) -> bool:
    used = entries = 0
    for path, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        for name in files:
            with contextlib.suppress(OSError):
                used += os.lstat(Path(path, name)).st_blocks * _BLOCK
        if used > FOLDER_BYTES_MAX or entries > ENTRIES_MAX:
            return True
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
