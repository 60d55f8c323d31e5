"""What one person's screen shows of agents' runs, put together by the rules of the wire.

Written from the rules alone, apart from every client of ours, so that it can judge them
and the service behind them: a screen remembers each state it has shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatmesh.wire.runs import AGENT_USER_PREFIX, CustomName, EventType

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """A step's text as it was shown at some time."""

    attempt: int
    step: int
    text: str


@dataclass
class RunShown:
    """One run on one screen."""

    run: str
    agent: str
    epoch: int = 0
    attempt: int = 0
    steps: dict[int, str] = field(default_factory=dict[int, str])
    status: str = ""
    statuses: list[str] = field(default_factory=list[str])
    tools: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    approvals: dict[str, dict[str, Any]] = field(
        default_factory=dict[str, dict[str, Any]]
    )
    moments: list[Moment] = field(default_factory=list[Moment])
    ended: str = ""
    """Type of the event that ended it, once that was heard."""
    behind: bool = False
    """Something is missing that only a snapshot has."""

    @property
    def text(self) -> str:
        """Text of all steps, in order."""
        return "".join(self.steps[step] for step in sorted(self.steps))

    def _show(self, step: int, text: str) -> None:
        if self.steps.get(step) != text:
            self.steps[step] = text
            self.moments.append(Moment(self.attempt, step, text))

    def _begin(self, attempt: int, step: int) -> None:
        """A higher attempt says everything from its step on anew."""
        self.attempt = attempt
        for later in [one for one in self.steps if one >= step]:
            del self.steps[later]

    def hear(self, event: Data) -> None:
        epoch, attempt, step = event["epoch"], event["attempt"], event["step"]
        if epoch < self.epoch or attempt < self.attempt:
            return
        self.epoch = epoch
        if attempt > self.attempt:
            first = not self.attempt
            self._begin(attempt, step)
            # What the steps before it were is known only to those who saw them.
            self.behind = self.behind or not first
        data, here = event["data"], len(self.steps.get(step, ""))
        kind = event["type"]
        if event["off"] > here:
            self.behind = True
        elif kind == EventType.TEXT_MESSAGE_CONTENT:
            news = data["delta"][here - event["off"] :]
            self._show(step, self.steps.get(step, "") + news)
        self._hear_more(kind, data)

    def _hear_more(self, kind: str, data: Data) -> None:
        match kind:
            case EventType.TOOL_CALL_START:
                name = data["toolCallName"]
                self.tools.setdefault(data["toolCallId"], {"name": name})
            case EventType.TOOL_CALL_RESULT:
                tool = self.tools.setdefault(data["toolCallId"], {})
                tool |= {"outcome": data["outcome"], "content": data["content"]}
            case EventType.RUN_FINISHED | EventType.RUN_ERROR:
                self.ended = kind
            case EventType.CUSTOM:
                self._hear_custom(data["name"], data["value"])
            case _:
                pass

    def _hear_custom(self, name: str, value: Data) -> None:
        match name:
            case CustomName.STATUS:
                self.status = value["status"]
                self.statuses.append(self.status)
            case CustomName.APPROVAL_REQUESTED:
                self.approvals[value["approval"]] = dict(value)
            case CustomName.APPROVAL_ANSWERED:
                self.approvals.setdefault(value["approval"], {}).update(value)
            case _:
                pass

    def catch_up(self, snapshot: Data) -> None:
        """Take a snapshot, unless more is shown already."""
        if snapshot["epoch"] < self.epoch or snapshot["attempt"] < self.attempt:
            return
        self.epoch = snapshot["epoch"]
        if snapshot["attempt"] > self.attempt:
            self._begin(snapshot["attempt"], 0)
        self.behind = False
        self.status = snapshot["status"]
        for step in snapshot["steps"]:
            if len(step["text"]) >= len(self.steps.get(step["step"], "")):
                self._show(step["step"], step["text"])
            for tool in step.get("tools", ()):
                shown = self.tools.setdefault(tool["toolCallId"], {})
                shown.setdefault("name", tool["name"])
        for approval in snapshot.get("approvals", ()):
            self.approvals.setdefault(approval["approval"], dict(approval))


@dataclass
class Screen:
    """All runs of one room, and the durable messages of agents in it."""

    runs: dict[str, RunShown] = field(default_factory=dict[str, RunShown])
    answers: dict[str, list[dict[str, Any]]] = field(
        default_factory=dict[str, list[dict[str, Any]]]
    )
    """By run; more than one is what must never be."""
    offsets: list[int] = field(default_factory=list[int])

    def hear(self, publication: Data) -> None:
        """A publication of the room, whatever it is."""
        data = publication.get("data")
        if not isinstance(data, Mapping):
            return
        if publication.get("offset"):
            self.offsets.append(publication["offset"])
        user = publication.get("info", {}).get("user", "")
        if not user.startswith(AGENT_USER_PREFIX):
            return
        if data.get("type") == "message":
            self.answers.setdefault(data["run"]["id"], []).append(dict(data))
        elif "run" in data and "seq" in data:
            run = data["run"]
            self.runs.setdefault(run, RunShown(run, data["agent"])).hear(data)

    def catch_up(self, snapshot: Data) -> None:
        """The answer to run.snapshot."""
        for one in snapshot["runs"]:
            run = self.runs.setdefault(one["run"], RunShown(one["run"], one["agent"]))
            run.catch_up(one)
        # A run that is behind and not alive any more is made whole by its answer.
        alive = {one["run"] for one in snapshot["runs"]}
        for run in self.runs.values():
            if run.run not in alive and (run.ended or run.run in self.answers):
                run.behind = False

    @property
    def behind(self) -> bool:
        return any(
            run.behind and run.run not in self.answers for run in self.runs.values()
        )

    def answered(self, trigger: str) -> list[dict[str, Any]]:
        """Durable messages that answer a message."""
        return [
            answer
            for answers in self.answers.values()
            for answer in answers
            if answer["run"]["trigger"] == trigger
        ]

    def live(self, run: str) -> str:
        """What is shown of a run now: its answer, or what was put together so far."""
        if run in self.answers:
            return self.answers[run][-1]["text"]
        return self.runs[run].text if run in self.runs else ""


def no_prefix(moments: Sequence[Moment], whole: str) -> Moment | None:
    """A moment at which the screen showed what is no beginning of the text, if any."""
    return next((one for one in moments if not whole.startswith(one.text)), None)
