"""The encodings a gateway offers, behind one shape: JSON and Protobuf."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
from msgspec import Raw
from websockets.frames import Frame, Opcode

from chatmesh.gateway.hub import Codec
from chatmesh.gateway.outbox import Chunk
from chatmesh.gateway.publications import Committed
from chatmesh.wire import client_json, client_protobuf, fossil, messages
from chatmesh.wire.client import Command, MemberPush, Push, Reply
from chatmesh.wire.client_json import BadFrame, OversizedCommand
from chatmesh.wire.messages import PUBLICATION, LivePublication


class ClientCodec(Codec, Protocol):
    """Bytes to commands, and replies and pushes to bytes, for one connection."""

    @property
    def ping(self) -> Chunk: ...

    def commands(self, frame: bytes) -> list[Command | OversizedCommand]:
        """Read a frame. Raises `BadCommands`, which holds what came before the error."""
        ...

    def reply(self, reply: Reply) -> Chunk: ...

    def push(self, push: Push) -> Chunk: ...

    def join(self, chunks: Sequence[Chunk]) -> bytes:
        """Several chunks' messages as the payload of one frame."""
        ...

    def frame(self, payload: bytes) -> bytes:
        """A payload as the transport's bytes, made once and written to many."""
        ...

    def publication(self, committed: Committed) -> Raw | None:
        """A Publication inside a reply; None when its payload has no such encoding."""
        ...

    def whole(self, committed: Committed) -> Raw | None:
        """The same for a subscription that hears deltas: in full, to begin from."""
        ...


class BadCommands(ValueError):
    """A frame that could be read only in part: the commands before what was wrong."""

    def __init__(self, before: list[Command | OversizedCommand], reason: str) -> None:
        super().__init__(reason)
        self.before = before


class JsonCodec:
    """Newline-joined JSON in text frames."""

    name = "json"

    def __init__(self) -> None:
        self.ping = Chunk(client_json.PING)

    def commands(self, frame: bytes) -> list[Command | OversizedCommand]:
        return _commands(frame, client_json.split, client_json.decode)

    def reply(self, reply: Reply) -> Chunk:
        return Chunk(client_json.encode_reply(reply))

    def push(self, push: Push) -> Chunk:
        return Chunk(client_json.encode_push(push))

    def join(self, chunks: Sequence[Chunk]) -> bytes:
        return client_json.SEPARATOR.join([chunk.payload for chunk in chunks])

    def frame(self, payload: bytes) -> bytes:
        return Frame(Opcode.TEXT, payload).serialize(mask=False)

    def publication(self, committed: Committed) -> Raw | None:
        return None if committed.binary else committed.json

    def committed_chunk(
        self, channel: str, publications: Sequence[Committed]
    ) -> Chunk | None:
        if any(one.binary for one in publications):
            return None
        prefix = client_json.push_prefix(channel)
        # Everything between two publications is the same, so one join writes it all.
        between = client_json.PUSH_SUFFIX + client_json.SEPARATOR + prefix
        body = between.join([bytes(one.json) for one in publications])
        return Chunk(prefix + body + client_json.PUSH_SUFFIX, channel=channel)

    def live_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk | None:
        try:
            pushes = [_json_push(channel, live) for live in publications]
        except client_json.BinaryPayload:
            return None
        payload = client_json.SEPARATOR.join(pushes)
        return Chunk(payload, channel=channel, ephemeral=True)

    def delta_chunk(
        self, channel: str, publications: Sequence[Committed], base: bytes
    ) -> Chunk | None:
        pushes: list[bytes] = []
        for one in publications:
            if one.binary:
                return None
            pushes.append(_json_delta(channel, one, base))
            base = one.entry.data
        return Chunk(client_json.SEPARATOR.join(pushes), channel=channel)

    def live_delta_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk | None:
        try:
            quoted = [_quoted(one) for one in publications]
        except client_json.BinaryPayload:
            return None
        chunk = self.live_chunk(channel, quoted)
        if chunk is not None:
            chunk.ephemeral = False
        return chunk

    def whole(self, committed: Committed) -> Raw | None:
        """A Publication in full, in the form that deltas may begin from."""
        if committed.binary:
            return None
        data = client_json.quoted(committed.entry.data)
        return Raw(client_json.encode_entry(committed.entry, data))


class ProtobufCodec:
    """Length-prefixed Protobuf in binary frames."""

    name = "protobuf"

    def __init__(self) -> None:
        self.ping = Chunk(client_protobuf.PING)

    def commands(self, frame: bytes) -> list[Command | OversizedCommand]:
        return _commands(frame, client_protobuf.split, client_protobuf.decode)

    def reply(self, reply: Reply) -> Chunk:
        return Chunk(client_protobuf.encode_reply(reply))

    def push(self, push: Push) -> Chunk:
        return Chunk(client_protobuf.encode_push(push))

    def join(self, chunks: Sequence[Chunk]) -> bytes:
        return b"".join([chunk.payload for chunk in chunks])

    def frame(self, payload: bytes) -> bytes:
        return Frame(Opcode.BINARY, payload).serialize(mask=False)

    def publication(self, committed: Committed) -> Raw | None:
        return Raw(committed.protobuf)

    def committed_chunk(
        self, channel: str, publications: Sequence[Committed]
    ) -> Chunk | None:
        pushes = [client_protobuf.push_of(channel, p.protobuf) for p in publications]
        return Chunk(b"".join(pushes), channel=channel)

    def live_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk | None:
        pushes = [
            client_protobuf.encode_push(_push(channel, live, Raw(encoded)))
            for live in publications
            for encoded in (client_protobuf.encode_live(live),)
        ]
        return Chunk(b"".join(pushes), channel=channel, ephemeral=True)

    def delta_chunk(
        self, channel: str, publications: Sequence[Committed], base: bytes
    ) -> Chunk | None:
        pushes: list[bytes] = []
        for one in publications:
            delta = _delta(base, one.entry.data)
            made = client_protobuf.encode_entry(one.entry, delta)
            pushes.append(client_protobuf.push_of(channel, made))
            base = one.entry.data
        return Chunk(b"".join(pushes), channel=channel)

    def live_delta_chunk(
        self, channel: str, publications: Sequence[LivePublication]
    ) -> Chunk | None:
        chunk = self.live_chunk(channel, publications)
        if chunk is not None:
            chunk.ephemeral = False
        return chunk

    def whole(self, committed: Committed) -> Raw | None:
        return self.publication(committed)


def _quoted(live: LivePublication) -> LivePublication:
    """A publication whose payload is the text of its JSON. Raises BinaryPayload."""
    if live.kind != PUBLICATION:
        return live
    client_json.embeddable(live.data)
    # Byte by byte as it came, line breaks too: the next delta begins from those bytes.
    return msgspec.structs.replace(live, data=client_json.quoted(live.data))


def _delta(base: bytes, payload: bytes) -> bytes | None:
    """What turns base into payload, if that is shorter than the payload itself."""
    if not base:
        return None
    delta = fossil.create(base, payload)
    return delta if len(delta) < len(payload) else None


def _json_delta(channel: str, committed: Committed, base: bytes) -> bytes:
    delta = _delta(base, committed.entry.data)
    try:
        text = client_json.quoted(delta) if delta is not None else None
    except client_json.BinaryPayload:
        text = None  # A copy that ends inside a character is no text.
    if text is None:
        data = client_json.quoted(committed.entry.data)
        encoded = client_json.encode_entry(committed.entry, data)
    else:
        encoded = client_json.encode_entry(committed.entry, text, delta=True)
    return client_json.encode_push(Push(channel=channel, pub=Raw(encoded)))


def _commands(
    frame: bytes,
    split: Callable[[bytes], list[bytes]],
    decode: Callable[[bytes], Command],
) -> list[Command | OversizedCommand]:
    commands: list[Command | OversizedCommand] = []
    try:
        for part in split(frame):
            try:
                commands.append(decode(part))
            except OversizedCommand as oversized:
                commands.append(oversized)
    except BadFrame as bad:
        raise BadCommands(commands, str(bad)) from bad
    return commands


def _json_push(channel: str, live: LivePublication) -> bytes:
    # Joins and leaves have no payload of their own to encode.
    encoded = client_json.encode_live(live) if live.kind == PUBLICATION else b"null"
    return client_json.encode_push(_push(channel, live, Raw(encoded)))


def _push(channel: str, live: LivePublication, encoded: Raw) -> Push:
    match live.kind:
        case messages.JOIN:
            return Push(channel=channel, join=MemberPush(Raw(live.info)))
        case messages.LEAVE:
            return Push(channel=channel, leave=MemberPush(Raw(live.info)))
        case _:
            return Push(channel=channel, pub=encoded)


JSON: Final = JsonCodec()
PROTOBUF: Final = ProtobufCodec()
