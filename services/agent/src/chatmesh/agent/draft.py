"""What the room sees of a run while it goes on: its steps, and the events that made them.

Every change of what is seen is one event, numbered without a gap, so whoever has all
events has the draft, and whoever has a snapshot with its number can go on from there.
Text is gathered first and seen when it is told: a snapshot never holds more than the
events up to its number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from chatmesh.agent.agents import Agent
from chatmesh.agent.tools.port import ApprovalView
from chatmesh.wire.runs import CustomName, EventType, RunEvent, RunStatus

DELTA_CHARS_MAX: Final = 8192
"""Text in one event; a publication is bounded."""
SHOWN_CHARS_MAX: Final = 8192
"""Of a tool's arguments or result in an event; the model sees all of it."""
_CUT: Final = " … (cut)"

_encode: Final = msgspec.json.Encoder().encode


class ToolShown(msgspec.Struct, rename="camel"):
    """A tool call as it is seen."""

    tool_call_id: str
    name: str
    arguments: str = ""
    state: str = "called"
    """called, running, approval, ended."""
    progress: float | None = None
    text: str = ""
    result: str = ""
    outcome: str = ""


class StepShown(msgspec.Struct):
    """One step as it is seen."""

    step: int
    text: str = ""
    tools: list[ToolShown] = []


class Shown(msgspec.Struct, rename="camel"):
    """A live run as `run.snapshot` gives it, and as a checkpoint keeps it."""

    run: str
    agent: str
    title: str
    picture: str
    trigger: str
    requester: str
    attempt: int
    epoch: int
    step: int
    seq: int
    status: str
    status_detail: dict[str, Any]
    started_ms: int
    steps: list[StepShown] = []
    approvals: list[dict[str, Any]] = []


@dataclass(slots=True)
class Draft:
    """One run as it is seen, and the next event's numbers."""

    room: str
    run: str
    agent: Agent
    trigger: str
    requester: str
    attempt: int
    epoch: int
    seq: int
    started_ms: int
    step: int = 0
    status: RunStatus = RunStatus.QUEUED
    detail: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: list[StepShown] = field(default_factory=list[StepShown])
    approvals: dict[str, dict[str, Any]] = field(
        default_factory=dict[str, dict[str, Any]]
    )
    gathered: str = ""
    _message_open: bool = False

    # -- Life ------------------------------------------------------------------------

    def started(self) -> RunEvent:
        return self._event(
            EventType.RUN_STARTED,
            {
                "threadId": self.room,
                "runId": self.run,
                "trigger": self.trigger,
                "agent": {
                    "name": self.agent.name,
                    "title": self.agent.title,
                    "picture": self.agent.picture,
                },
            },
        )

    def attempted(self, step: int, reason: str, *, seq: int = 0) -> RunEvent:
        """From this step on everything is said anew; `seq`: numbers go on above this."""
        self.steps = [one for one in self.steps if one.step < step]
        self.step = step
        self.gathered = ""
        self._message_open = False
        self.seq = max(self.seq, seq)
        return self._custom(
            CustomName.ATTEMPT, {"attempt": self.attempt, "reason": reason}
        )

    def finished(
        self, outcome: str, usage: Mapping[str, Any], duration_ms: int
    ) -> RunEvent:
        return self._event(
            EventType.RUN_FINISHED,
            {
                "threadId": self.room,
                "runId": self.run,
                "outcome": {"type": outcome},
                "usage": dict(usage),
                "durationMs": duration_ms,
            },
        )

    def failed(self, message: str, code: str) -> RunEvent:
        return self._event(EventType.RUN_ERROR, {"message": message, "code": code})

    def heartbeat(self) -> RunEvent:
        return self._custom(CustomName.HEARTBEAT, {}, off=len(self.text))

    def now(self, status: RunStatus, **detail: object) -> list[RunEvent]:
        """What the agent is busy with; nothing when that was known."""
        if status is self.status and detail == self.detail:
            return []
        self.status, self.detail = status, dict(detail)
        return [self._custom(CustomName.STATUS, {"status": status, **detail})]

    # -- Steps and text --------------------------------------------------------------

    @property
    def text(self) -> str:
        """What has been told of this step's text."""
        return self.steps[-1].text if self._at_step else ""

    @property
    def all_text(self) -> str:
        """The text of all steps, as the answer will have it."""
        return joined(step.text for step in self.steps)

    def at(self, step: int) -> bool:
        """Whether this step has begun and said nothing yet."""
        return self.step == step and self._at_step and not self.steps[-1].text

    def begin_step(self, step: int) -> RunEvent:
        self.step = step
        self.steps.append(StepShown(step, tools=[]))
        self._message_open = False
        return self._event(EventType.STEP_STARTED, {"stepName": str(step)})

    def end_step(self) -> RunEvent:
        return self._event(EventType.STEP_FINISHED, {"stepName": str(self.step)})

    def gather(self, delta: str) -> None:
        self.gathered += delta

    def tell(self, window_ms: int) -> list[RunEvent]:
        """The events of the text gathered since the last time."""
        events: list[RunEvent] = []
        if self.gathered and not self._message_open:
            self._message_open = True
            data = {"messageId": self._message, "role": "assistant"}
            events.append(self._event(EventType.TEXT_MESSAGE_START, data))
        while self.gathered:
            delta = self.gathered[:DELTA_CHARS_MAX]
            self.gathered = self.gathered[DELTA_CHARS_MAX:]
            data = {"messageId": self._message, "delta": delta}
            off = len(self.text)
            events.append(
                self._event(
                    EventType.TEXT_MESSAGE_CONTENT, data, off=off, window=window_ms
                )
            )
            self.steps[-1].text += delta
        return events

    def end_text(self, window_ms: int) -> list[RunEvent]:
        events = self.tell(window_ms)
        if self._message_open:
            self._message_open = False
            data = {"messageId": self._message}
            events.append(
                self._event(EventType.TEXT_MESSAGE_END, data, off=len(self.text))
            )
        return events

    # -- Tools -----------------------------------------------------------------------

    def knows_call(self, call: str) -> bool:
        return any(
            tool.tool_call_id == call for step in self.steps for tool in step.tools
        )

    def call_started(self, call: str, name: str) -> RunEvent:
        self.steps[-1].tools.append(ToolShown(call, name))
        data = {"toolCallId": call, "toolCallName": name}
        return self._event(EventType.TOOL_CALL_START, data)

    def call_arguments(self, call: str, arguments: str) -> list[RunEvent]:
        """All arguments of a call, and that they are complete."""
        shown = cut(arguments)
        self._tool(call).arguments = shown
        args = {"toolCallId": call, "delta": shown}
        return [
            self._event(EventType.TOOL_CALL_ARGS, args),
            self._event(EventType.TOOL_CALL_END, {"toolCallId": call}),
        ]

    def call_progress(self, call: str, progress: float | None, text: str) -> RunEvent:
        tool = self._tool(call)
        tool.state, tool.progress, tool.text = "running", progress, cut(text)
        value = {"toolCallId": call, "progress": progress, "text": tool.text}
        return self._custom(CustomName.PROGRESS, value)

    def call_ended(self, call: str, content: str, outcome: str) -> RunEvent:
        tool = self._tool(call)
        tool.state, tool.outcome, tool.result = "ended", outcome, cut(content)
        data = {
            "messageId": f"{self._message}:{call}",
            "toolCallId": call,
            "content": tool.result,
            "role": "tool",
            "outcome": outcome,
        }
        return self._event(EventType.TOOL_CALL_RESULT, data)

    def approval_requested(self, call: str, view: ApprovalView) -> RunEvent:
        self._tool(call).state = "approval"
        value: dict[str, Any] = {
            "approval": view.approval,
            "toolCallId": call,
            "tool": view.tool,
            "arguments": dict(view.arguments),
            "digest": view.digest,
            "deadlineMs": view.deadline_ms,
            "eligible": {
                "roles": [role for role in view.roles if role != "requester"],
                "requester": view.requester if "requester" in view.roles else "",
            },
        }
        self.approvals[view.approval] = value
        return self._custom(CustomName.APPROVAL_REQUESTED, value)

    def approval_answered(self, call: str, view: ApprovalView) -> RunEvent:
        self._tool(call).state = "running"
        self.approvals.pop(view.approval, None)
        value: dict[str, Any] = {
            "approval": view.approval,
            "outcome": view.outcome,
            "by": view.by,
        }
        if view.changed:
            value["arguments"] = dict(view.arguments)
        return self._custom(CustomName.APPROVAL_ANSWERED, value)

    # -- Seen ------------------------------------------------------------------------

    def shown(self) -> Shown:
        """Everything that has been told so far."""
        return Shown(
            run=self.run,
            agent=self.agent.name,
            title=self.agent.title,
            picture=self.agent.picture,
            trigger=self.trigger,
            requester=self.requester,
            attempt=self.attempt,
            epoch=self.epoch,
            step=self.step,
            seq=self.seq,
            status=self.status,
            status_detail=self.detail,
            started_ms=self.started_ms,
            steps=self.steps,
            approvals=list(self.approvals.values()),
        )

    # -- Inside ----------------------------------------------------------------------

    @property
    def _at_step(self) -> bool:
        return bool(self.steps) and self.steps[-1].step == self.step

    @property
    def _message(self) -> str:
        return f"{self.run}:{self.step}"

    def _tool(self, call: str) -> ToolShown:
        for step in reversed(self.steps):
            for tool in step.tools:
                if tool.tool_call_id == call:
                    return tool
        raise AssertionError("a call is shown before anything happens to it")

    def _custom(self, name: CustomName, value: object, off: int = 0) -> RunEvent:
        return self._event(EventType.CUSTOM, {"name": name, "value": value}, off=off)

    def _event(
        self, kind: EventType, data: object, *, off: int = 0, window: int = 0
    ) -> RunEvent:
        self.seq += 1
        return RunEvent(
            room=self.room,
            run=self.run,
            agent=self.agent.name,
            attempt=self.attempt,
            epoch=self.epoch,
            step=self.step,
            seq=self.seq,
            off=off,
            type=kind,
            data=msgspec.Raw(_encode(data)),
            window=window,
        )


def joined(texts: Iterable[str]) -> str:
    """The text of an answer out of the texts of its steps."""
    return "\n\n".join(text for text in texts if text.strip())


def cut(text: str) -> str:
    """What is shown of a long text."""
    if len(text) <= SHOWN_CHARS_MAX:
        return text
    return text[: SHOWN_CHARS_MAX - len(_CUT)] + _CUT
