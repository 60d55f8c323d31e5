"""What agents and tool workers tell each other: JSON, so that any language can serve.

Every message is one JSON object; unknown fields are ignored, so that fields can be added.
The AMQP properties `message_id`, `correlation_id`, `type`, `reply_to` and `expiration`
carry what brokers and tools of operators look at. Times are Unix milliseconds by the
sender's clock; durations say their unit.
"""

import re
from typing import Any, Final, Literal, TypeVar

import msgspec

from chatmesh.wire import limits
from chatmesh.wire.messages import Malformed

CONTENT_TYPE: Final = "application/json"
CALL: Final = "tool.call"
RESULT: Final = "tool.result"
PROGRESS: Final = "tool.progress"
REGISTRATION: Final = "tool.registration"
CANCEL: Final = "tool.cancel"
DISCOVER: Final = "tool.discover"
SETTLED: Final = "tool.settled"

REQUESTER: Final = "requester"
"""Stands among approvers for the person at the root of the run."""
TRACEPARENT: Final = "traceparent"
"""Header of a call: the W3C trace context it belongs to."""

_NAME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
_POOL: Final = re.compile(r"^[a-z][a-z0-9-]{0,39}$")
_WORKER_CHARS_MAX: Final = 128
_KEY_CHARS_MAX: Final = 256
_TEXT_CHARS_MAX: Final = 4000

T = TypeVar("T")
ResultState = Literal["done", "failed", "timeout", "cancelled", "unknown"]


class ToolDescription(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One tool as its worker describes it."""

    name: str
    """Letters, digits, `_` and `-`, at most 64: what models accept."""
    description: str = ""
    parameters: dict[str, Any] = {}
    """JSON Schema (2020-12) of the arguments, an object; empty: no arguments."""
    result: dict[str, Any] | None = None
    """JSON Schema of the result; absent: anything."""
    read_only: bool = False
    """May run twice without harm; such a call is run again when its worker died."""
    needs_approval: bool = False
    approvers: list[str] = msgspec.field(
        default_factory=lambda: ["owner", "moderator", REQUESTER]
    )
    """Roles that may approve; `requester`: the person who asked."""
    timeout_ms: int = 30_000
    version: str = "1"

    @property
    def side_effect(self) -> bool:
        return not self.read_only


class Registration(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A worker is there and serves these tools; said again well within `ttl_ms`."""

    worker: str
    """Unique per life of a worker."""
    pool: str
    """Whose queue it consumes: small letters, digits, `-`, at most 40."""
    ttl_ms: int = limits.TOOL_LEASE_S * 1000
    """0: the worker is leaving."""
    tools: list[ToolDescription] = []


class Call(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Do this, and send the result to the queue in `reply_to`."""

    key: str
    """The same key is the same call, however often it arrives."""
    tool: str
    arguments: dict[str, Any] = {}
    deadline_ms: int
    """Nobody waits after this; a call that arrives later must not be run."""
    timeout_ms: int = 30_000
    """How long it may run at most, if the deadline does not come first."""
    attempt: int = 1
    """Counts what the caller asked for anew, never what the broker delivered again."""
    run: str = ""
    room: str = ""
    agent: str = ""
    requester: str = ""
    approval: str = ""
    """Which approval allowed it; empty when none was needed."""
    arguments_digest: str = ""
    """SHA-256, hexadecimal, of the arguments as canonical JSON."""


class Result(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """How a call ended."""

    key: str
    state: ResultState
    result: Any = None
    """Of `done`: any JSON."""
    error: str = ""
    """Of the other states: one sentence for the model and the people."""
    retry: bool = False
    """Of `failed`: nothing has happened yet, and the same call may succeed later."""
    worker: str = ""


class Progress(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """How far a call has come. May be lost."""

    key: str
    progress: float | None = None
    """Share that is done, 0 to 1; null: not known."""
    text: str = ""


class Cancel(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Nobody wants this call any more: end it, and report what became of it."""

    key: str


class Settled(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """There is news of this call in the ledger. May be lost."""

    key: str


_encoder: Final = msgspec.json.Encoder()
_registration: Final = msgspec.json.Decoder(Registration)
_call: Final = msgspec.json.Decoder(Call)
_result: Final = msgspec.json.Decoder(Result)
_progress: Final = msgspec.json.Decoder(Progress)
_cancel: Final = msgspec.json.Decoder(Cancel)
_settled: Final = msgspec.json.Decoder(Settled)


def encode(
    message: Registration | Call | Result | Progress | Cancel | Settled,
) -> bytes:
    return _encoder.encode(message)


def decode_registration(body: bytes) -> Registration:
    """Read a registration. Raises Malformed, also for a tool nobody could offer."""
    registration = _read(_registration, body)
    if not _POOL.match(registration.pool):
        raise Malformed(f"no pool name: {registration.pool[:64]!r}")
    if not 0 < len(registration.worker) <= _WORKER_CHARS_MAX:
        raise Malformed("a worker's name has 1 to 128 characters")
    if len(registration.tools) > limits.TOOLS_PER_WORKER_MAX:
        raise Malformed(f"more than {limits.TOOLS_PER_WORKER_MAX} tools of one worker")
    for tool in registration.tools:
        if reason := refusal(tool):
            raise Malformed(f"tool {tool.name[:64]!r}: {reason}")
    return registration


def refusal(tool: ToolDescription) -> str | None:
    """Why a tool cannot be offered as it is described, or None when it can."""
    if not _NAME.match(tool.name):
        return "a name has letters, digits, _ and -, at most 64, a letter first"
    if len(tool.description) > limits.TOOL_DESCRIPTION_CHARS_MAX:
        return f"description over {limits.TOOL_DESCRIPTION_CHARS_MAX} characters"
    if not 0 < tool.timeout_ms <= limits.TOOL_TIMEOUT_S_MAX * 1000:
        return f"a timeout is above 0 and at most {limits.TOOL_TIMEOUT_S_MAX} s"
    for schema in (tool.parameters, tool.result):
        if schema and len(_encoder.encode(schema)) > limits.TOOL_SCHEMA_BYTES_MAX:
            return f"schema over {limits.TOOL_SCHEMA_BYTES_MAX} bytes"
    if tool.parameters and tool.parameters.get("type") != "object":
        return "the schema of the arguments is not of type object"
    return None


def is_pool(name: str) -> bool:
    return _POOL.match(name) is not None


def decode_call(body: bytes) -> Call:
    """Read a call. Raises Malformed."""
    call = _read(_call, body)
    if not 0 < len(call.key) <= _KEY_CHARS_MAX:
        raise Malformed("a key has 1 to 256 characters")
    return call


def decode_result(body: bytes) -> Result:
    """Read a result. Raises Malformed."""
    return _read(_result, body)


def decode_progress(body: bytes) -> Progress:
    """Read a progress report. Raises Malformed."""
    progress = _read(_progress, body)
    if progress.progress is not None and not 0 <= progress.progress <= 1:
        raise Malformed("progress lies between 0 and 1")
    if len(progress.text) > _TEXT_CHARS_MAX:
        raise Malformed(f"progress text over {_TEXT_CHARS_MAX} characters")
    return progress


def decode_cancel(body: bytes) -> Cancel:
    """Read a wish to end a call. Raises Malformed."""
    return _read(_cancel, body)


def decode_settled(body: bytes) -> Settled:
    """Read news of a call. Raises Malformed."""
    return _read(_settled, body)


def _read(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from error
