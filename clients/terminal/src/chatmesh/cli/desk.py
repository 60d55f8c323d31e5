"""Agents of a room in a terminal: what they do is told, and they can be answered.

While a run goes on, the screen's live lines show the end of its text; what stays is told
once: tools that were used, questions, and the durable message.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from chatmesh.cli import lines
from chatmesh.cli.runs import Call, Question, Run, Runs, Told, read_snapshots
from chatmesh.cli.sending import RefusedError, TryAgainError
from chatmesh.runtime.clock import Clock
from chatmesh.wire.runs import RunStatus

LOOK_S: Final = 0.25
"""How often to see whether something is missing, while anybody is at work."""
ASK_CAP_S: Final = 4.0
_ID_CHARS: Final = 8
"""So much of an approval's id is shown and enough to name it."""
_TAIL_CHARS: Final = 600
_SHOWN_CHARS: Final = 160
_OPEN: Final = frozenset({"asking", "called", "running", "approval"})
_CALL_OUTCOMES: Final = {
    "failed": "failed",
    "unknown": "nobody knows whether it happened",
    "denied": "was not allowed",
    "timeout": "got no answer in time",
    "cancelled": "was stopped",
}

Ask = Callable[[str, dict[str, object]], Awaitable[object]]
"""Call a method about this room. Raises TryAgainError or RefusedError."""


@dataclass(frozen=True, slots=True)
class Command:
    """Something typed that is not said to the room: `/stop`, `/retry`, `/approve ID`, `/deny ID`."""

    name: str
    rest: str = ""


COMMANDS: Final = ("stop", "retry", "approve", "deny")
FAILED_MAX: Final = 50
"""Answers that failed and can still be named by `/retry`, the last ones."""


class LiveScreen(Protocol):
    """What a desk needs of a screen."""

    def notice(self, text: str) -> None:
        """Say something that stays."""
        ...

    def live(self, shown: list[str]) -> None:
        """Show these lines until others are shown; they do not stay."""
        ...


class Desk:
    """The agents of one room, for one reader."""

    def __init__(self, ask: Ask, screen: LiveScreen, clock: Clock) -> None:
        self._ask = ask
        self._screen = screen
        self._clock = clock
        self._runs = Runs()
        self._told: set[tuple[str, str]] = set()
        """Calls and questions, by run and id, whose end or beginning was said."""
        self._failed: deque[lines.Message] = deque(maxlen=FAILED_MAX)
        self._at_work = asyncio.Event()
        self._join_asked = False
        self._in_vain = 0
        self._next_ask_s = 0.0

    # -- Heard ------------------------------------------------------------------------

    def hear(self, event: Told) -> None:
        """An event of a run."""
        self._runs.told(event, self._clock.monotonic_s())
        self._tell()
        self._at_work.set()

    def join(self) -> None:
        """The room is heard from now on; what goes on there already has to be asked for."""
        self._join_asked = True
        self._in_vain, self._next_ask_s = 0, 0.0
        self._at_work.set()

    def over(self, answer: lines.Message) -> None:
        """The durable message of a run is shown."""
        run = answer.run
        for one in [one for one in self._failed if one.run == answer.retry_of]:
            self._failed.remove(one)
        if answer.failed:
            self._failed.append(answer)
        self._told = {told for told in self._told if told[0] != run}
        self._runs.over(run)
        self._tell()

    async def keep_up(self) -> None:
        """Ask for what is missing, as long as somebody is at work; for ever."""
        while True:
            await self._at_work.wait()
            now_s = self._clock.monotonic_s()
            wanted = self._join_asked or self._runs.wants_snapshot(now_s)
            if wanted and now_s >= self._next_ask_s:
                await self._ask_snapshot(now_s)
            if not self._runs.live and not self._join_asked:
                self._at_work.clear()
            else:
                await self._clock.sleep(LOOK_S)

    async def _ask_snapshot(self, now_s: float) -> None:
        try:
            answer = await self._ask("run.snapshot", {})
        except RefusedError:
            # There is no agent service here, or nothing for this reader to see.
            self._join_asked = False
            self._next_ask_s = now_s + ASK_CAP_S
            return
        except TryAgainError:
            self._pause(now_s)
            return
        self._join_asked = False
        self._runs.snapshot(read_snapshots(answer), self._clock.monotonic_s())
        self._tell()
        if self._runs.wants_snapshot(self._clock.monotonic_s()):
            self._pause(now_s)
        else:
            self._in_vain, self._next_ask_s = 0, 0.0

    def _pause(self, now_s: float) -> None:
        self._next_ask_s = now_s + min(LOOK_S * 2.0**self._in_vain, ASK_CAP_S)
        self._in_vain = min(self._in_vain + 1, 10)

    # -- Told -------------------------------------------------------------------------

    def _tell(self) -> None:
        for run in self._runs.live.values():
            for call in run.calls:
                # Ids of calls are the model's, and not unique beyond a run.
                told = (run.id, call.id)
                if call.state not in _OPEN and told not in self._told:
                    self._told.add(told)
                    self._screen.notice(call_in_words(run, call))
            for asked in run.questions.values():
                self._tell_question(run, asked)
        self._screen.live(
            [line for run in self._runs.live.values() for line in run_in_lines(run)]
        )

    def _tell_question(self, run: Run, asked: Question) -> None:
        told, answered = (run.id, asked.id), (run.id, f"{asked.id} answered")
        if not asked.outcome and told not in self._told:
            self._told.add(told)
            short = asked.id[:_ID_CHARS]
            # All of it, however long: whoever allows it has to know what it is. The
            # question comes last, so that it is not what scrolls away.
            shown = json.dumps(asked.arguments, ensure_ascii=False, indent=2)
            for line in (f"{asked.tool}, called with", *shown.split("\n")):
                self._screen.notice(line)
            self._screen.notice(
                f"{run.name} asks: may {asked.tool} do this?"
                f" — /approve {short} or /deny {short}"
            )
        elif asked.outcome and answered not in self._told:
            self._told.add(answered)
            by = f" by {asked.by}" if asked.by else ""
            self._screen.notice(f"{asked.tool}: {asked.outcome}{by}")

    # -- Asked by the reader ------------------------------------------------------------

    async def obey(self, command: Command) -> None:
        """Do what was typed; what does not work is said."""
        try:
            match command.name:
                case "stop":
                    await self._stop(command.rest.strip().removeprefix("@"))
                case "retry":
                    await self._retry(command.rest.strip().removeprefix("@"))
                case "approve" | "deny":
                    await self._answer(command)
                case _:
                    self._screen.notice(f"there is no /{command.name}")
        except (TryAgainError, RefusedError) as error:
            self._screen.notice(f"/{command.name}: {error}")

    async def _stop(self, agent: str) -> None:
        data: dict[str, object] = {"agent": agent} if agent else {}
        answer = await self._ask("run.stop", data)
        stopped: object = (
            cast("dict[str, object]", answer).get("stopped")
            if isinstance(answer, dict)
            else None
        )
        number = len(cast("list[object]", stopped)) if isinstance(stopped, list) else 0
        if not number:
            self._screen.notice("nobody is at work here")

    async def _retry(self, agent: str) -> None:
        """Ask for the last answer that failed once more: of this agent, or of any."""
        failed = [one for one in self._failed if agent in {"", one.name}]
        if not failed:
            self._screen.notice("no answer has failed here")
            return
        await self._ask("run.retry", {"run": failed[-1].run})
        self._failed.remove(failed[-1])
        self._screen.notice(f"{failed[-1].user} is asked once more")

    async def _answer(self, command: Command) -> None:
        id_, _, more = command.rest.strip().partition(" ")
        open_ = [
            asked
            for run in self._runs.live.values()
            for asked in run.questions.values()
            if not asked.outcome and asked.id.startswith(id_)
        ]
        if len(open_) != 1:
            trouble = "which one? name its id" if open_ else "there is no such question"
            self._screen.notice(f"/{command.name}: {trouble}")
            return
        (asked,) = open_
        data: dict[str, object] = {
            "approval": asked.id,
            "digest": asked.digest,
            "approve": command.name == "approve",
        }
        if more.strip() and command.name == "deny":
            data["reason"] = more.strip()
        elif more.strip():
            try:
                data["arguments"] = _arguments(more)
            except ValueError as error:
                self._screen.notice(f"/approve: arguments are one JSON object: {error}")
                return
        await self._ask("approval.answer", data)


def run_in_lines(run: Run) -> list[str]:
    """A run as the live lines show it: who does what, and the end of its text."""
    status = status_in_words(run)
    text = next(
        (step.text for step in reversed(run.steps.values()) if step.text.strip()), ""
    )
    return [f"{run.name} {status} · /stop", *text[-_TAIL_CHARS:].split("\n")]


def status_in_words(run: Run) -> str:
    """What an agent is busy with."""
    match run.status:
        case _ if run.ended:
            return "is done"
        case RunStatus.QUEUED:
            position: object = run.detail.get("position")
            return f"waits, number {position} in line" if position else "waits"
        case RunStatus.TOOL:
            return f"uses {run.detail.get('tool') or 'a tool'}"
        case RunStatus.STREAMING:
            return "is writing"
        case RunStatus.APPROVAL:
            return "waits for an approval"
        case _:
            return "is thinking"


def call_in_words(run: Run, call: Call) -> str:
    """One line about a call that has ended."""
    used = f"{run.name} used {call.name}({_short(call.arguments)})"
    if call.state == "done":
        return f"{used}: {_short(call.result)}"
    detail = f": {_short(call.result)}" if call.result else ""
    return f"{used}, which {_CALL_OUTCOMES.get(call.state, call.state)}{detail}"


def _short(text: str) -> str:
    return lines.shortened(" ".join(text.split()), _SHOWN_CHARS)


def _arguments(text: str) -> dict[str, Any]:
    """Raises ValueError."""
    value: object = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("this is something else")  # noqa: TRY004 - one kind of trouble
    return cast("dict[str, Any]", value)
