"""JSON encoding of the client protocol: newline-joined messages in text frames."""

import re
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from chatmesh.wire import limits
from chatmesh.wire.client import (
    ClientInfo,
    Command,
    Publication,
    Push,
    Reply,
)
from chatmesh.wire.messages import Entry, LivePublication

PING = b"{}"
"""An empty message: a ping to the client, a pong from it."""
SEPARATOR = b"\n"


class BadFrame(ValueError):
    """A frame that is no sequence of commands; says what was wrong."""


class BinaryPayload(ValueError):
    """A payload that is no JSON and so cannot be embedded for a JSON client."""


class OversizedCommand(BadFrame):
    """A command over the byte limit; `id` names it when it could be read, else 0."""

    def __init__(self, command_id: int) -> None:
        super().__init__(f"command over {limits.COMMAND_BYTES_MAX} bytes")
        self.id = command_id


class _OnlyId(msgspec.Struct):
    id: int = 0


_ESCAPES: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\\.",
    re.DOTALL,
)
"""Escapes in JSON strings; the group is half a character without its other half."""
_REPLACEMENT: Final = rb"\ufffd"

_command = msgspec.json.Decoder(Command)
_only_id = msgspec.json.Decoder(_OnlyId)
_raw = msgspec.json.Decoder(Raw)
_encoder = msgspec.json.Encoder()


def split(frame: bytes) -> list[bytes]:
    """Cut a frame into commands, not yet decoded. Blank lines are tolerated.

    Raises BadFrame for a frame with nothing in it, or with bytes that are no text:
    payloads pass through unread, and one that is no UTF-8 would break its readers.
    """
    if not _is_text(frame):
        raise BadFrame("not UTF-8")
    if SEPARATOR not in frame:
        parts = [frame] if frame and not frame.isspace() else []
    else:
        parts = [part for part in frame.split(SEPARATOR) if part and not part.isspace()]
    if not parts:
        raise BadFrame("empty frame")
    return parts


def decode(message: bytes) -> Command:
    """Read one command. Raises BadFrame, or OversizedCommand past the byte limit.

    Half a character, as a text field with a length limit cuts an emoji, becomes the
    replacement character: nobody is sent away for good for what their browser wrote.
    """
    try:
        if len(message) > limits.COMMAND_BYTES_MAX:
            raise OversizedCommand(_only_id.decode(message).id)
        return _command.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        mended = _with_whole_characters(message)
        if mended != message:
            return decode(mended)
        raise BadFrame(_plain(str(error))) from error


def _with_whole_characters(message: bytes) -> bytes:
    return _ESCAPES.sub(
        lambda found: _REPLACEMENT if found[1] else found[0],
        message,
    )


def encode_reply(reply: Reply) -> bytes:
    return _encoder.encode(reply)


class _PushMessage(msgspec.Struct):
    push: Push


def encode_push(push: Push) -> bytes:
    return _encoder.encode(_PushMessage(push))


def encode_info(info: ClientInfo) -> bytes:
    """ClientInfo as it travels inside publications and presence."""
    return _encoder.encode(info)


def encode_entry(
    entry: Entry, data: bytes | None = None, *, delta: bool = False
) -> bytes:
    """A committed entry as a Publication object. Raises BinaryPayload.

    `data` stands in for its payload, where that is told as a difference.
    """
    return _encoder.encode(
        Publication(
            data=embeddable(entry.data) if data is None else Raw(data),
            info=Raw(entry.info) if entry.info else UNSET,
            offset=entry.offset,
            tags=entry.shown_tags,
            time=entry.at_ms,
            delta=delta,
        )
    )


def quoted(payload: bytes) -> bytes:
    """A payload as a JSON string of its text. Raises BinaryPayload when it is no text."""
    try:
        return _encoder.encode(payload.decode())
    except UnicodeDecodeError as error:
        raise BinaryPayload(str(error)) from error


def encode_live(live: LivePublication) -> bytes:
    """An ephemeral publication as a Publication object. Raises BinaryPayload."""
    return _encoder.encode(
        Publication(
            data=embeddable(live.data),
            info=Raw(live.info) if live.info else UNSET,
            tags=live.tags,
        )
    )


def push_prefix(channel: str) -> bytes:
    """What stands before a Publication object in its push; `PUSH_SUFFIX` ends it."""
    return b'{"push":{"channel":' + _encoder.encode(channel) + b',"pub":'


PUSH_SUFFIX = b"}}"


def embeddable(payload: bytes) -> Raw:
    """The payload as JSON text on one line. Raises BinaryPayload when it is no JSON.

    What is nested too deeply to be told apart from that is shown as null. It was stored
    before such payloads were refused, and nobody is to lose a channel over it.
    """
    if not _is_text(payload):
        raise BinaryPayload("not UTF-8")
    try:
        _raw.decode(payload)
        if SEPARATOR in payload or b"\r" in payload:
            # Newlines between tokens would end the message for the client.
            payload = msgspec.json.format(payload, indent=-1)
    except RecursionError:
        return Raw(b"null")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BinaryPayload(_plain(str(error))) from error
    return Raw(payload)


def _is_text(data: bytes) -> bool:
    """Whether this is UTF-8, which the JSON library does not ask inside payloads."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(reason: str) -> str:
    return reason or "malformed JSON"
