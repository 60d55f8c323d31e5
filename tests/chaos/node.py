"""The official JavaScript SDK as a member, in a process of its own."""

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from chaos.chronicle import (
    Attempt,
    Chronicle,
    Goodbye,
    How,
    Life,
    Member,
    Message,
    Outcome,
    Seen,
)
from chaos.sdk import GATEWAY
from chatmesh.runtime.tasks import Tasks

PROGRAM: Final = Path(__file__).with_name("node_client.mjs")
SDK: Final = Path(__file__).parents[2] / "web" / "node_modules" / "centrifuge"
PAUSE_MS: Final = 100
_LINE_BYTES_MAX: Final = 1024 * 1024
_FIRST_OF_PROTOCOL: Final = 100
"""Lower codes are the SDK's own: no answer, connection closed."""


def missing() -> str | None:
    """Why there can be no such client here, or None."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not SDK.exists():
        return "the JavaScript SDK is not installed (make setup does, where node is)"
    return None


class NodeClient:
    """One `centrifuge` client in Node. It talks from its start to `hush`."""

    def __init__(
        self, name: str, chronicle: Chronicle, *, on_seen: Callable[..., None]
    ) -> None:
        self.name = name
        self._chronicle = chronicle
        self._on_seen = on_seen
        self._members: dict[str, Member] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = Tasks(self._failed)
        self._stopping = False
        self.settled = asyncio.Event()

    async def start(self, url: str, token: str, channels: Sequence[str]) -> None:
        self._members = {
            name: self._chronicle.join(self.name, name) for name in channels
        }
        settings = {
            "name": self.name,
            "url": url,
            "token": token,
            "channels": list(channels),
            "pause_ms": PAUSE_MS,
        }
        self._process = await asyncio.create_subprocess_exec(
            *("node", "--experimental-websocket", "--no-warnings", str(PROGRAM)),
            *(str(SDK), json.dumps(settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
        )
        self._tasks.spawn(self._read(self._process), name="node output")

    def hush(self) -> None:
        """Send nothing new; `settled` is set when the last message is answered."""
        assert self._process is not None
        assert self._process.stdin is not None
        if self._process.returncode is None:
            self._process.stdin.write(b"hush\n")

    async def stop(self) -> None:
        self._stopping = True
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._tasks.stop(1.0)

    def freeze(self) -> None:
        """Stop the whole process: it reads nothing, answers nothing, and stays."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Harmless when it was not frozen, or has ended."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)

    def position(self, channel: str) -> int:
        lives = self._members[channel].lives
        if not lives:
            return -1
        return lives[-1].seen[-1].offset if lives[-1].seen else lives[-1].start

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._note(json.loads(line))
        if not self._stopping:
            code = await process.wait()
            self._chronicle.troubles.append(f"{self.name} ended with {code}")
            self.settled.set()

    def _note(self, told: dict[str, Any]) -> None:
        match told["event"]:
            case "life":
                life = Life(
                    GATEWAY,
                    told["epoch"],
                    told["start"],
                    recovering=told["recovering"],
                    recovered=told["recovered"],
                    began_s=told["at"],
                )
                self._members[told["channel"]].lives.append(life)
            case "seen":
                how = How(told["how"])
                seen = Seen(
                    told["offset"],
                    told["id"],
                    told["author"],
                    told["text"],
                    told["at"],
                    how,
                )
                self._members[told["channel"]].lives[-1].seen.append(seen)
                if how is How.LIVE:
                    self._on_seen(told["channel"], told["id"], told["at"])
            case "message":
                message = Message(told["channel"], told["id"], self.name, told["text"])
                # Told before its first attempt is answered, and perhaps none ever is.
                message.attempts.append(Attempt(GATEWAY, told["at"]))
                self._chronicle.message(message)
            case "attempt":
                self._attempted(told)
            case "goodbye":
                self._chronicle.goodbyes.append(
                    Goodbye(
                        self.name, told["code"], told["reason"], told["at"], final=True
                    )
                )
            case "settled":
                self.settled.set()
            case _:
                self._chronicle.troubles.append(f"{self.name}: {told}")

    def _attempted(self, told: dict[str, Any]) -> None:
        message = self._chronicle.messages[told["channel"], told["id"]]
        attempt = Attempt(GATEWAY, told["sent"], code=told.get("code", 0))
        if "offset" in told:
            attempt.outcome = Outcome.COMMITTED
            attempt.offset = told["offset"]
            attempt.answered_s = told["at"]
        elif attempt.code >= _FIRST_OF_PROTOCOL and not told.get("temporary", False):
            attempt.outcome = Outcome.REFUSED
        message.attempts.append(attempt)

    def _failed(self, task: str, failure: BaseException) -> None:
        self._chronicle.troubles.append(f"{self.name}: {task} failed: {failure!r}")
