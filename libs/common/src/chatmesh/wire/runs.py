"""What everybody may see of an agent's run: events, snapshots, and the one message.

While a run goes on, its events are ephemeral publications in its room. Each is one JSON
`RunEvent`, and those who see them put the text together by these rules, per run:

- an event of a lower `epoch` than seen is ignored, and so is one of a lower `attempt`;
- a higher `attempt` drops the text of its step and of all later ones;
- text of the same attempt says where it belongs (`off`, in characters): where the step's
  text ends it is appended, before that only what is new is, and behind that something
  is missing: a snapshot of the room's runs has it.

A run ends with exactly one durable message, whose id is made of the run's; whatever was
put together before is replaced by it. So events may be lost, doubled or late, and the
text is right in the end.
"""

import enum
import uuid
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatmesh.wire.client import ClientInfo
from chatmesh.wire.client_json import encode_info

AGENT_USER_PREFIX: Final = "agent:"
"""Users and clients with this prefix are agents; no person has such a name."""
RUN_ID_PREFIX: Final = "run:"
"""Ids of durable messages with this prefix are answers of agents."""
_RUNS: Final = uuid.UUID("b2c8ec51-3f5d-5d3a-9df6-6f1d8c9f7f10")
"""Name space of run ids; changing it would let triggers be answered twice."""


def agent_user(name: str) -> str:
    """The user an agent speaks as."""
    return f"{AGENT_USER_PREFIX}{name}"


def is_agent(user: str) -> bool:
    """Whether this user is an agent, and so may not do what needs a person."""
    return user.startswith(AGENT_USER_PREFIX)


def run_of(agent: str, channel: str, trigger: str) -> str:
    """The id of the one run there can be for an agent and a message that triggers it."""
    return str(uuid.uuid5(_RUNS, "\x00".join((agent, channel, trigger))))


def retry_of(run: str) -> str:
    """The id of the one run there can be that does this one again."""
    return str(uuid.uuid5(_RUNS, "\x00".join(("retry", run))))


def answer_id(run: str) -> str:
    """The id of the durable message a run ends with."""
    return f"{RUN_ID_PREFIX}{run}"


def agent_face(title: str, picture: str = "") -> bytes:
    """JSON of the connection info by which an agent is known wherever it appears."""
    shown: dict[str, object] = {"name": title, "agent": True}
    if picture:
        shown["picture"] = picture
    return msgspec.json.encode(shown)


def agent_info(name: str, title: str, picture: str = "") -> bytes:
    """JSON of the ClientInfo that an agent's publications carry."""
    user = agent_user(name)
    conn_info = Raw(agent_face(title, picture))
    return encode_info(ClientInfo(user, user, conn_info=conn_info))


class EventType(enum.StrEnum):
    """`type` of a run event; names and shapes of `data` are those of AG-UI 1.0."""

    RUN_STARTED = "RUN_STARTED"
    """`{threadId, runId, trigger, agent: {name, title, picture}}`."""
    STEP_STARTED = "STEP_STARTED"
    """`{stepName}`."""
    STEP_FINISHED = "STEP_FINISHED"
    """`{stepName}`."""
    TEXT_MESSAGE_START = "TEXT_MESSAGE_START"
    """`{messageId, role}`."""
    TEXT_MESSAGE_CONTENT = "TEXT_MESSAGE_CONTENT"
    """`{messageId, delta}`."""
    TEXT_MESSAGE_END = "TEXT_MESSAGE_END"
    """`{messageId}`."""
    TOOL_CALL_START = "TOOL_CALL_START"
    """`{toolCallId, toolCallName}`."""
    TOOL_CALL_ARGS = "TOOL_CALL_ARGS"
    """`{toolCallId, delta}`."""
    TOOL_CALL_END = "TOOL_CALL_END"
    """`{toolCallId}`."""
    TOOL_CALL_RESULT = "TOOL_CALL_RESULT"
    """`{messageId, toolCallId, content, role: "tool", outcome}`."""
    RUN_FINISHED = "RUN_FINISHED"
    """`{threadId, runId, outcome: {type}, usage, durationMs}`."""
    RUN_ERROR = "RUN_ERROR"
    """`{message, code}`."""
    CUSTOM = "CUSTOM"
    """`{name, value}`: a `CustomName` and what it says."""


class CustomName(enum.StrEnum):
    """`name` of a run event of type CUSTOM."""

    STATUS = "status"
    """`{status, tool?, position?}`: a `RunStatus`."""
    PROGRESS = "tool.progress"
    """`{toolCallId, progress, text}`: 0 to 1, or null when it cannot be said."""
    APPROVAL_REQUESTED = "approval.requested"
    """`{approval, toolCallId, tool, arguments, digest, deadlineMs, eligible}`."""
    APPROVAL_ANSWERED = "approval.answered"
    """`{approval, outcome, by, arguments?}`."""
    ATTEMPT = "attempt"
    """`{attempt, reason}`: from this step on everything is said anew."""
    HEARTBEAT = "heartbeat"
    """`{}`: nothing is new; `seq` and `off` show whether something was missed."""


class RunStatus(enum.StrEnum):
    """What an agent is busy with."""

    QUEUED = "queued"
    THINKING = "thinking"
    TOOL = "tool"
    STREAMING = "streaming"
    APPROVAL = "approval"


IDLE: Final = "idle"
"""In presence, of an agent that is in a room and busy with nothing there."""


class RunOutcome(enum.StrEnum):
    """How a run ended, as its durable message says it."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class RunEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ephemeral publication of a run."""

    room: str
    run: str
    agent: str
    attempt: int
    """From 1; grows whenever something already shown is said anew."""
    epoch: int
    """Fencing: grows with every process that takes the run over."""
    step: int
    """From 1: one response of the model, and the tools it calls."""
    seq: int
    """Ascends by 1; a jump needs a higher `attempt`."""
    off: int
    """Characters (code points) of this step's text before this event."""
    type: str
    """An `EventType`."""
    data: Raw = Raw(b"{}")
    window: int = 0
    """Milliseconds for which text is gathered just now, before it is sent."""


class AnswerAgent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who answered."""

    name: str
    title: str = ""
    picture: str = ""


class AnswerUsage(msgspec.Struct, frozen=True, rename="camel"):
    """What a run has used, over all its attempts."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
    cost: str | UnsetType = UNSET
    """US dollars as a decimal number; left out where no price is known."""


class AnswerTool(msgspec.Struct, frozen=True):
    """A tool that was called, and how that ended."""

    name: str
    outcome: str


class AnswerRun(msgspec.Struct, frozen=True, rename="camel"):
    """How an answer came about."""

    id: str
    trigger: str
    """Id of the message that was answered."""
    outcome: RunOutcome
    model: str = ""
    scripted: bool = False
    """No model wrote this; a script did, and the text says so."""
    attempts: int = 1
    usage: AnswerUsage = AnswerUsage()
    duration_ms: int = 0
    tools: list[AnswerTool] = []
    reason: str | UnsetType = UNSET
    """Why it is not completed, in words for people."""
    retry_of: str | UnsetType = UNSET
    """The run that this one did again; what that had finished is part of the answer."""


class Answer(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    """The durable message a run ends with."""

    id: str
    """See `answer_id`."""
    text: str
    agent: AnswerAgent
    run: AnswerRun


_event = msgspec.json.Decoder(RunEvent)
_answer = msgspec.json.Decoder(Answer)


def decode_event(data: bytes) -> RunEvent | None:
    """Read a run event; None for any other publication."""
    try:
        return _event.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def decode_answer(data: bytes) -> Answer | None:
    """Read an agent's durable message; None for any other publication."""
    try:
        return _answer.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
