"""The same encodings, framed for HTTP: lines, events, and length-prefixed messages.

Each has a name of its own, because a chunk keeps the frame that was made of it.
"""

from typing import Final

from chatmesh.gateway.codecs import JsonCodec, ProtobufCodec
from chatmesh.wire.client_json import SEPARATOR

_EVENT_BEGIN: Final = b"data: "
_EVENT_END: Final = b"\n\n"


class JsonLines(JsonCodec):
    """Each message a line, for http_stream."""

    name = "json lines"

    def frame(self, payload: bytes) -> bytes:
        return payload + SEPARATOR


class JsonEvents(JsonCodec):
    """Each message an event, for sse."""

    name = "json events"

    def frame(self, payload: bytes) -> bytes:
        # A message has no line breaks of its own: they are what divides messages.
        events = payload.replace(SEPARATOR, _EVENT_END + _EVENT_BEGIN)
        return _EVENT_BEGIN + events + _EVENT_END


class ProtobufStream(ProtobufCodec):
    """Each message behind its length, for http_stream."""

    name = "protobuf stream"

    def frame(self, payload: bytes) -> bytes:
        return payload


JSON_LINES: Final = JsonLines()
JSON_EVENTS: Final = JsonEvents()
PROTOBUF_STREAM: Final = ProtobufStream()
