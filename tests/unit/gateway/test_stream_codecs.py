"""Framing for HTTP: what a reader of lines, events or lengths makes of it."""

import pytest
from msgspec import Raw

from chatmesh.gateway.codecs import JSON, PROTOBUF, JsonCodec, ProtobufCodec
from chatmesh.gateway.outbox import Chunk
from chatmesh.gateway.stream_codecs import JSON_EVENTS, JSON_LINES, PROTOBUF_STREAM
from chatmesh.wire import client_protobuf
from chatmesh.wire.client import PublishResult, Push, Reply
from chatmesh.wire.messages import LivePublication

CODECS: list[JsonCodec | ProtobufCodec] = [JSON_LINES, JSON_EVENTS, PROTOBUF_STREAM]


def test_lines_end_where_messages_end() -> None:
    """Also the last one, or a reader would wait for more."""
    chunks = [Chunk(b'{"a":1}'), Chunk(b"{}")]

    assert JSON_LINES.frame(JSON_LINES.join(chunks)) == b'{"a":1}\n{}\n'


def test_every_message_is_an_event_of_its_own() -> None:
    """Each ends with an empty line, which is when a browser hands it over."""
    chunks = [Chunk(b'{"a":1}'), Chunk(b"{}")]

    framed = JSON_EVENTS.frame(JSON_EVENTS.join(chunks))

    assert framed == b'data: {"a":1}\n\ndata: {}\n\n'


def test_a_payload_with_line_breaks_stays_one_message() -> None:
    """They stand between tokens only, so they are left out."""
    live = LivePublication(b'{\n "a": "x\\ny"\n}')
    chunk = JSON_EVENTS.live_chunk("room:a", [live])

    assert chunk is not None
    assert JSON_EVENTS.frame(chunk.payload).count(b"\n") == 2


def test_protobuf_needs_no_frame() -> None:
    """Messages bring their lengths."""
    pushes = [PROTOBUF_STREAM.push(Push(channel=c, pub=Raw(b""))) for c in "ab"]

    framed = PROTOBUF_STREAM.frame(PROTOBUF_STREAM.join(pushes))

    assert len(client_protobuf.split(framed)) == 2


@pytest.mark.parametrize("codec", CODECS)
def test_a_ping_is_an_empty_message(codec: JsonCodec | ProtobufCodec) -> None:
    """In the frame of its transport."""
    expected: dict[JsonCodec | ProtobufCodec, bytes] = {
        JSON_LINES: b"{}\n",
        JSON_EVENTS: b"data: {}\n\n",
    }

    assert codec.frame(codec.ping.payload) == expected.get(codec, b"\x00")


def test_names_are_distinct_because_frames_are_shared_by_name() -> None:
    """A line must never be written to a WebSocket."""
    names = [codec.name for codec in (JSON, PROTOBUF, *CODECS)]

    assert len(set(names)) == len(names)


def test_messages_are_those_of_the_socket() -> None:
    """Only the frame differs."""
    reply = Reply(1, publish=PublishResult())

    assert JSON_LINES.reply(reply).payload == JSON.reply(reply).payload
    assert PROTOBUF_STREAM.reply(reply).payload == PROTOBUF.reply(reply).payload
