"""One child process: started, watched, stopped, and never outliving who started it.

Independent of any event loop: a thread waits for the end of each child, so that a
process started in one loop may be stopped from another (pytest has a loop per test).
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

GUARD: Final = Path(__file__).with_name("guard.py")
KILL_WAIT_S: Final = 20.0
"""How long the kernel may take to reap what was killed: on a machine of many, seconds."""

Sink = Callable[[str], None]


@dataclass(frozen=True)
class Command:
    """What to run and how to ask it to end."""

    name: str
    words: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    directory: Path | None = None
    user: str | None = None
    """Who to be instead of root."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 5.0
    """From the stop signal to the kill."""


class Process:
    """A running `Command`. Its output goes to a file, to a sink line by line, or both.

    Without a sink the file is the child's own descriptor: nobody has to drain it.
    """

    def __init__(
        self, command: Command, *, log: Path | None = None, sink: Sink | None = None
    ) -> None:
        self.command = command
        self.log = log
        self._sink = sink
        self._exited: Future[int] = Future()
        self._exited.set_running_or_notify_cancel()
        self._output: threading.Thread | None = None
        self._reaping = threading.Lock()
        self._reaped = False
        self._child = self._spawn()
        self._start_threads()

    @property
    def name(self) -> str:
        return self.command.name

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return not self._exited.done()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal if one ended it."""
        return self._exited.result() if self._exited.done() else None

    async def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return await asyncio.wrap_future(self._exited)

    def send(self, signal_number: signal.Signals) -> None:
        """Signal the child; nothing happens if it is gone."""
        with self._reaping:
            if not self._reaped:
                os.kill(self.pid, signal_number)

    def pause(self) -> None:
        """Freeze it and its children in the middle of whatever they do."""
        self._send_group(signal.SIGSTOP)

    def resume(self) -> None:
        self._send_group(signal.SIGCONT)

    def kill(self) -> None:
        """End it and its children at once, as a power cut would."""
        self._send_group(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end, and after its grace insist. Returns the exit code."""
        if self.running:
            self.send(self.command.stop_signal)
            self.resume()
            try:
                async with asyncio.timeout(self.command.grace_s):
                    await self.wait()
            except TimeoutError:
                self.kill()
        async with asyncio.timeout(KILL_WAIT_S):
            return await self.wait()

    def last_lines(self, count: int = 20) -> str:
        """The end of its log, for an error message."""
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = self.command
        words = [
            sys.executable,
            *("-I", "-S", str(GUARD)),
            str(os.getpid()),
            str(int(command.stop_signal)),
            command.user or "-",
            *command.words,
        ]
        file: IO[bytes] | None = None
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            file = self.log.open("ab")
        output = subprocess.PIPE if self._sink is not None else file
        try:
            return subprocess.Popen(
                words,
                env=dict(command.environ),
                cwd=command.directory,
                stdin=subprocess.DEVNULL,
                stdout=output if output is not None else subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                # Own session: Ctrl-C at the terminal reaches us alone, and we decide
                # the order in which everything ends.
                start_new_session=True,
            )
        finally:
            if file is not None:
                file.close()

    def _start_threads(self) -> None:
        if self._sink is not None:
            self._output = threading.Thread(
                target=self._drain, name=f"{self.name} output", daemon=True
            )
            self._output.start()
        threading.Thread(
            target=self._watch, name=f"{self.name} end", daemon=True
        ).start()

    def _watch(self) -> None:
        if hasattr(os, "waitid"):
            # Not yet reaped, so the number cannot belong to anybody else by now.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self._send_group(signal.SIGKILL)  # what it started and forgot
        with self._reaping:
            code = self._child.wait()
            self._reaped = True
        if self._output is not None:
            # A grandchild that left the group may hold the pipe open for ever.
            self._output.join(timeout=1.0)
        self._exited.set_result(code)

    def _drain(self) -> None:
        stream, sink = self._child.stdout, self._sink
        assert stream is not None
        assert sink is not None
        with stream:
            if self.log is None:
                for line in stream:
                    sink(line.decode(errors="replace").rstrip("\n"))
                return
            with self.log.open("ab", buffering=0) as file:
                for line in stream:
                    file.write(line)
                    sink(line.decode(errors="replace").rstrip("\n"))

    def _send_group(self, signal_number: signal.Signals) -> None:
        with self._reaping:
            if self._reaped:
                return
            try:
                os.killpg(self.pid, signal_number)
            except (ProcessLookupError, PermissionError):
                # Nobody but the dead leader; macOS says so with "not permitted".
                return
