"""What agents do in a room right now, put together from events that may be lost or late.

The rules are those of the page: events of a run are taken strictly by `seq`, what comes
from beyond a hole waits unseen, a snapshot has what is missing, and the run's durable
message ends it. Both are held to `tests/vectors/runs.json`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeGuard, cast

from chatmesh.wire.runs import AGENT_USER_PREFIX, CustomName, EventType, RunStatus

AHEAD_MAX: Final = 1_000
"""Events that wait behind a hole; beyond this it is left to the snapshot alone."""
OVER_MAX: Final = 500
"""Ended runs whose late events are known as such."""
SILENT_S: Final = 8.0
"""A run says something every two seconds; this long without a word is suspicious."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a run; see `chatmesh.wire.runs.RunEvent`."""

    run: str
    agent: str
    attempt: int
    epoch: int
    step: int
    seq: int
    off: int
    type: str
    data: Mapping[str, Any]

    @property
    def custom(self) -> str:
        """Name of a custom event; empty for all others."""
        return _text(self.data.get("name")) if self.type == EventType.CUSTOM else ""

    @property
    def value(self) -> Mapping[str, Any]:
        return _mapping(self.data.get("value"))


@dataclass(slots=True)
class Call:
    """A call of a tool, as far as it was told."""

    id: str
    name: str = ""
    arguments: str = ""
    state: str = "asking"
    """asking, running, approval; then how it ended."""
    progress: float | None = None
    note: str = ""
    result: str = ""


@dataclass(slots=True)
class Step:
    """One response of the model, and the tools it called."""

    step: int
    text: str = ""
    calls: list[Call] = field(default_factory=list[Call])


@dataclass(slots=True)
class Question:
    """An approval that was asked for."""

    id: str
    call: str
    tool: str
    arguments: object
    digest: str
    deadline_ms: int
    outcome: str = ""
    """Empty while it is open."""
    by: str = ""


@dataclass(slots=True)
class Run:
    """One run, as it is to be shown."""

    id: str
    agent: str
    attempt: int
    epoch: int
    seq: int = 0
    title: str = ""
    picture: str = ""
    trigger: str = ""
    requester: str = ""
    status: str = RunStatus.THINKING
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])
    steps: dict[int, Step] = field(default_factory=dict[int, Step])
    questions: dict[str, Question] = field(default_factory=dict[str, Question])
    ended: bool = False
    stale: bool = False
    """Something is lost that `seq` cannot show: until a snapshot comes, events wait."""
    ahead: dict[int, Told] = field(default_factory=dict[int, Told])
    heard_s: float = 0.0

    @property
    def missing(self) -> bool:
        """Something that was said is not here; a snapshot has it."""
        return self.stale or bool(self.ahead)

    @property
    def name(self) -> str:
        return self.title or self.agent

    @property
    def calls(self) -> Iterator[Call]:
        return (call for step in self.steps.values() for call in step.calls)


class Runs:
    """All runs of one room that go on."""

    def __init__(self) -> None:
        self.live: dict[str, Run] = {}
        self._over: dict[str, None] = {}

    def told(self, event: Told, now_s: float) -> None:
        """One event, whenever it comes."""
        if event.run in self._over:
            return
        run = self.live.get(event.run)
        if run is None:
            starts = event.type == EventType.RUN_STARTED and event.attempt <= 1
            run = self.live[event.run] = Run(
                event.run,
                event.agent,
                event.attempt,
                event.epoch,
                seq=event.seq - 1 if starts else 0,
                title=event.agent,
                stale=not starts,
            )
        run.heard_s = now_s
        _hear(run, event)

    def snapshot(self, snapshots: Iterable[Run], now_s: float) -> None:
        """All runs of the room as they were at some moment between asking and now."""
        found = {run.id: run for run in snapshots}
        for known in list(self.live.values()):
            # One that has just begun may be missing from it; one long silent has ended.
            if known.id not in found and now_s - known.heard_s >= SILENT_S:
                del self.live[known.id]
        for fresh in found.values():
            known = self.live.get(fresh.id)
            if fresh.id in self._over or (known and not _is_news(fresh, known)):
                continue
            fresh.heard_s = now_s
            if known is not None:
                answered = {
                    id_: asked
                    for id_, asked in known.questions.items()
                    if asked.outcome
                }
                fresh.questions = {**answered, **fresh.questions}
                fresh.ahead = {
                    seq: event
                    for seq, event in known.ahead.items()
                    if (event.epoch, event.attempt, seq)
                    > (fresh.epoch, fresh.attempt, fresh.seq)
                }
            self.live[fresh.id] = fresh
            waiting, fresh.ahead = fresh.ahead, {}
            for seq in sorted(waiting):
                _hear(fresh, waiting[seq])

    def over(self, run: str) -> None:
        """The durable message of a run is here."""
        self.live.pop(run, None)
        self._over[run] = None
        while len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]

    def wants_snapshot(self, now_s: float) -> bool:
        return any(
            run.missing or now_s - run.heard_s >= SILENT_S for run in self.live.values()
        )


# -- Reading --------------------------------------------------------------------------


def read_event(data: object, user: str | None) -> Told | None:
    """A run event out of an ephemeral publication; None for any other.

    `user` is who published it, None for the mesh itself or a backend: anybody else than
    an agent is not believed.
    """
    if user is not None and not user.startswith(AGENT_USER_PREFIX):
        return None
    fields = _mapping(data)
    texts = [fields.get(name) for name in ("run", "agent", "type")]
    numbers = [fields.get(name) for name in ("attempt", "epoch", "step", "seq")]
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(_is_count(number) for number in numbers):
        return None
    off = fields.get("off")
    return Told(
        run=fields["run"],
        agent=fields["agent"],
        attempt=fields["attempt"],
        epoch=fields["epoch"],
        step=fields["step"],
        seq=fields["seq"],
        off=off if _is_count(off) else 0,
        type=fields["type"],
        data=_mapping(fields.get("data")),
    )


def read_snapshots(answer: object) -> list[Run]:
    """Runs out of the answer to `run.snapshot`."""
    found = _list(_mapping(answer).get("runs"))
    return [run for one in found if (run := _read_run(_mapping(one))) is not None]


def _read_run(fields: Mapping[str, Any]) -> Run | None:
    numbers = [fields.get(name) for name in ("attempt", "epoch", "seq")]
    if not _text(fields.get("run")) or not all(_is_count(number) for number in numbers):
        return None
    agent = _text(fields.get("agent"))
    run = Run(
        fields["run"],
        agent,
        fields["attempt"],
        fields["epoch"],
        fields["seq"],
        title=_text(fields.get("title")) or agent,
        picture=_text(fields.get("picture")),
        trigger=_text(fields.get("trigger")),
        requester=_text(fields.get("requester")),
        status=_text(fields.get("status")) or RunStatus.THINKING,
        detail=_mapping(fields.get("statusDetail")),
    )
    for one in _list(fields.get("steps")):
        step = _mapping(one)
        number = step.get("step")
        if _is_count(number):
            calls = [_read_call(_mapping(call)) for call in _list(step.get("tools"))]
            run.steps[number] = Step(number, _text(step.get("text")), calls)
    for one in _list(fields.get("approvals")):
        asked = _read_question(_mapping(one))
        if asked is not None:
            run.questions[asked.id] = asked
    return run


def _read_call(fields: Mapping[str, Any]) -> Call:
    progress = fields.get("progress")
    return Call(
        _text(fields.get("toolCallId")),
        _text(fields.get("name")),
        _as_text(fields.get("arguments")),
        _text(fields.get("outcome")) or _text(fields.get("state")) or "running",
        progress if isinstance(progress, int | float) else None,
        _text(fields.get("text")),
        _as_text(fields.get("result")),
    )


def _read_question(fields: Mapping[str, Any]) -> Question | None:
    approval, deadline = _text(fields.get("approval")), fields.get("deadlineMs")
    if not approval:
        return None
    return Question(
        approval,
        _text(fields.get("toolCallId")),
        _text(fields.get("tool")),
        fields.get("arguments", {}),
        _text(fields.get("digest")),
        deadline if _is_count(deadline) else 0,
    )


# -- Merging --------------------------------------------------------------------------


def _is_news(fresh: Run, known: Run) -> bool:
    """Whether a snapshot knows something that is not here, and nothing less."""
    if (fresh.epoch, fresh.attempt) != (known.epoch, known.attempt):
        return (fresh.epoch, fresh.attempt) > (known.epoch, known.attempt)
    return fresh.seq > known.seq or (fresh.seq == known.seq and known.stale)


def _hear(run: Run, event: Told) -> None:
    if event.epoch < run.epoch or event.attempt < run.attempt:
        return
    if event.attempt > run.attempt:
        sound = _begins_anew(run, event)
        _say_anew(run, event)
        if sound:
            _apply(run, event)
            _drain(run)
        else:
            run.stale = True
            _wait(run, event)
        return
    if event.epoch > run.epoch and event.seq != run.seq + 1:
        # Another owner goes on from what it has stored, which may be less than was said.
        run.epoch, run.seq, run.ahead, run.stale = event.epoch, 0, {}, True
        _wait(run, event)
        return
    if event.seq > run.seq:
        _wait(run, event)
        _drain(run)


def _begins_anew(run: Run, event: Told) -> bool:
    """Whether nothing that stays can be incomplete: all is said anew, or nothing missed."""
    follows = event.attempt == run.attempt + 1 and event.seq == run.seq + 1
    says_so = event.custom == CustomName.ATTEMPT
    return not run.stale and says_so and (event.step <= 1 or follows)


def _say_anew(run: Run, event: Told) -> None:
    dropped = {
        call.id
        for step in run.steps.values()
        if step.step >= event.step
        for call in step.calls
    }
    run.attempt, run.epoch, run.ended = event.attempt, event.epoch, False
    run.steps = {at: step for at, step in run.steps.items() if at < event.step}
    run.questions = {
        id_: asked for id_, asked in run.questions.items() if asked.call not in dropped
    }
    run.ahead = {
        seq: one for seq, one in run.ahead.items() if one.attempt >= event.attempt
    }


def _wait(run: Run, event: Told) -> None:
    run.ahead.setdefault(event.seq, event)
    while len(run.ahead) > AHEAD_MAX:
        del run.ahead[max(run.ahead)]


def _drain(run: Run) -> None:
    while run.ahead and not run.stale:
        nearest = min(run.ahead)
        if nearest > run.seq + 1:
            return
        event = run.ahead.pop(nearest)
        if nearest == run.seq + 1:
            _apply(run, event)


def _apply(run: Run, event: Told) -> None:
    """Take one event in; a text that does not fit makes the run stale instead."""
    data = event.data
    step = run.steps.get(event.step)
    says_where = event.type == EventType.TEXT_MESSAGE_CONTENT or (
        event.custom == CustomName.HEARTBEAT
    )
    if says_where and event.off > (len(step.text) if step else 0):
        run.stale = True
        _wait(run, event)
        return
    run.seq, run.epoch = event.seq, event.epoch
    match event.type:
        case EventType.RUN_STARTED:
            face = _mapping(data.get("agent"))
            run.title = _text(face.get("title")) or _text(face.get("name")) or run.title
            run.picture = _text(face.get("picture"))
            run.trigger = _text(data.get("trigger")) or run.trigger
        case EventType.TEXT_MESSAGE_CONTENT:
            here = run.steps.setdefault(event.step, Step(event.step))
            # What overlaps was said before.
            here.text += _text(data.get("delta"))[len(here.text) - event.off :]
            run.steps = dict(sorted(run.steps.items()))
        case EventType.TOOL_CALL_START:
            call = _call(run, event)
            call.name = _text(data.get("toolCallName")) or call.name
        case EventType.TOOL_CALL_ARGS:
            _call(run, event).arguments += _text(data.get("delta"))
        case EventType.TOOL_CALL_END:
            call = _call(run, event)
            call.state = "running" if call.state == "asking" else call.state
        case EventType.TOOL_CALL_RESULT:
            call = _call(run, event)
            call.state = _text(data.get("outcome")) or "done"
            call.result = _as_text(data.get("content"))
        case EventType.RUN_FINISHED | EventType.RUN_ERROR:
            run.ended = True
        case EventType.CUSTOM:
            _apply_custom(run, event)
        case _:
            pass


def _apply_custom(run: Run, event: Told) -> None:
    value = event.value
    match event.custom:
        case CustomName.STATUS:
            status = _text(value.get("status"))
            run.status = status if status in set(RunStatus) else run.status
            run.detail = value
        case CustomName.PROGRESS:
            call = _call(run, event)
            progress = value.get("progress")
            call.progress = progress if isinstance(progress, int | float) else None
            call.note = _text(value.get("text"))
        case CustomName.APPROVAL_REQUESTED:
            asked = _read_question(value)
            if asked is not None and asked.id not in run.questions:
                run.questions[asked.id] = asked
                _call(run, event).state = "approval"
        case CustomName.APPROVAL_ANSWERED:
            asked = run.questions.get(_text(value.get("approval")))
            if asked is not None:
                _answered(run, asked, value)
        case _:
            pass


def _answered(run: Run, asked: Question, value: Mapping[str, Any]) -> None:
    outcome = _text(value.get("outcome"))
    run.questions[asked.id] = replace(
        asked,
        outcome=outcome,
        by=_text(value.get("by")),
        arguments=value.get("arguments") or asked.arguments,
    )
    for call in run.calls:
        if call.id == asked.call and call.state == "approval":
            call.state = "running" if outcome == "approved" else outcome or "denied"


def _call(run: Run, event: Told) -> Call:
    """The call an event is about; one not heard of before begins here."""
    id_ = _text(event.data.get("toolCallId")) or _text(event.value.get("toolCallId"))
    for call in run.calls:
        if call.id == id_:
            return call
    begun = Call(id_, _text(event.value.get("tool")))
    run.steps.setdefault(event.step, Step(event.step)).calls.append(begun)
    run.steps = dict(sorted(run.steps.items()))
    return begun


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _as_text(value: object) -> str:
    """Text as it is, anything else as JSON, nothing as nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
