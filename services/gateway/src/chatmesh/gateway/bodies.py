"""Bodies of the remote procedures a client may call, read and checked."""

import enum
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from chatmesh.gateway.payloads import TOO_DEEP
from chatmesh.runtime.tracing import trace_id_of
from chatmesh.wire import limits
from chatmesh.wire.nesting import too_deep
from chatmesh.wire.runs import RUN_ID_PREFIX

_ONLY_OF_AGENTS: Final = frozenset({"agent", "run"})
_IGNORED_IN_BODY: Final = frozenset({"channel", "traceparent"})

_object = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str)
_json = msgspec.json.Encoder()


class Call(enum.StrEnum):
    """The remote procedures there are, by the method a client names."""

    SEND = "message.send"
    TYPING = "presence.typing"
    MEMBERS = "presence.members"
    USER = "presence.user"
    STATUS = "presence.status"


class BadBody(ValueError):
    """Why the data of a call is not what the call wants."""


@dataclass(frozen=True, slots=True)
class Message:
    """Data of rpc `message.send`, its body in canonical form."""

    channel: str
    id: str
    body: bytes
    traceparent: str


def message_of(data: Raw) -> Message:
    """Read a message and write its body in one canonical form.

    The same message sent again is the same bytes, whatever order its keys came in:
    that is how history tells a repeat from another message with a stolen id.
    """
    fields = _fields(data)
    channel, message_id = _string(fields, "channel"), _string(fields, "id")
    text = _string(fields, "text")
    if not channel:
        raise BadBody("no channel")
    if not 0 < len(message_id) <= limits.MESSAGE_ID_CHARS_MAX:
        raise BadBody(f"id wants 1 to {limits.MESSAGE_ID_CHARS_MAX} characters")
    if "\x00" in message_id:
        raise BadBody("id with a NUL character")
    if message_id.startswith(RUN_ID_PREFIX):
        # Taken early, it would keep an agent's answer out of the log.
        raise BadBody(f"an id beginning with {RUN_ID_PREFIX} is an agent's")
    if _ONLY_OF_AGENTS & fields.keys():
        raise BadBody("only agents say which agent and run a message is of")
    if "type" in fields and _string(fields, "type") != "message":
        raise BadBody("type is not message")
    traceparent = _traceparent(fields)
    body: dict[str, object] = {"type": "message", "id": message_id, "text": text}
    for key in sorted(fields.keys() - body.keys() - _IGNORED_IN_BODY):
        body[key] = _value(fields, key)
    return Message(channel, message_id, _json.encode(body), traceparent)


def _fields(data: Raw) -> dict[str, Raw]:
    if not data:
        raise BadBody("no data")
    if too_deep(bytes(data)):
        raise BadBody(TOO_DEEP)
    try:
        return _object.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBody("data is no JSON object") from error


def _traceparent(fields: dict[str, Raw]) -> str:
    """Where the sender traces it; what is no trace context travels no further."""
    if "traceparent" not in fields:
        return ""
    given = _string(fields, "traceparent")
    return given if trace_id_of(given) else ""


def _string(fields: dict[str, Raw], key: str) -> str:
    if key not in fields:
        raise BadBody(f"no {key}")
    try:
        return _text.decode(fields[key])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBody(f"{key} is no string") from error


def _value(fields: dict[str, Raw], key: str) -> object:
    # A number may be legal JSON and still be more than a double holds.
    try:
        return msgspec.json.decode(fields[key])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBody(f"a value that cannot be kept: {error}") from error


class Where(msgspec.Struct):
    """The channel that a call is about, if any."""

    channel: str = ""


class About(Where):
    """What a gateway reads of a call that it forwards."""

    traceparent: str = ""


class Typing(msgspec.Struct):
    """Data of rpc `presence.typing`: somebody types, or has stopped."""

    channel: str
    typing: bool = True


class Status(msgspec.Struct):
    """Data of rpc `presence.status`: what a user says about themselves."""

    text: str = ""
    do_not_disturb: bool = False


class MembersPage(msgspec.Struct):
    """Data of rpc `presence.members`: people in a channel, a page at a time."""

    channel: str
    after: str = ""
    limit: int = 0


class WhereIs(msgspec.Struct):
    """Data of rpc `presence.user`: where somebody is, and since when not."""

    user: str


Body = TypeVar("Body", bound=msgspec.Struct)


def body_of(data: Raw, kind: type[Body]) -> Body:
    """Read a body by its type. Raises BadBody."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBody(str(error)) from error
