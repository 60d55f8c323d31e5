"""Protobuf encoding of the client protocol: length-prefixed messages in binary frames.

The same structures as in JSON, by number instead of by name. A declared length is
checked against what is there, and against the limits, before anything is made of it.
"""

import base64
from typing import Final

import msgspec
from google.protobuf.message import DecodeError
from msgspec import UNSET, Raw, UnsetType

from chatmesh.wire import client, limits
from chatmesh.wire.client import ClientInfo, Command, Push, Reply
from chatmesh.wire.client_json import BadFrame, OversizedCommand
from chatmesh.wire.messages import Entry, LivePublication
from chatmesh.wire.protobuf import client_pb2 as pb

PING: Final = b"\x00"
"""An empty message: a ping to the client, a pong from it."""

_VARINT_BYTES_MAX: Final = 5
"""A length that takes more is beyond any frame."""
_VARINT_LOW: Final = 0x7F
_VARINT_MORE: Final = 0x80
_REPLY_PUSH: Final = 4
_PUSH_CHANNEL: Final = 2
_PUSH_PUB: Final = 4
_LENGTH_DELIMITED: Final = 2

_info = msgspec.json.Decoder(ClientInfo)


def split(frame: bytes) -> list[bytes]:
    """Cut a frame into commands, not yet decoded. Raises BadFrame."""
    if not frame:
        raise BadFrame("empty frame")
    parts: list[bytes] = []
    at = 0
    while at < len(frame):
        length, at = _varint(frame, at)
        if length > len(frame) - at:
            raise BadFrame("a message is shorter than its length says")
        parts.append(frame[at : at + length])
        at += length
    return parts


def decode(message: bytes) -> Command:
    """Read one command. Raises BadFrame, or OversizedCommand past the byte limit."""
    try:
        if len(message) > limits.COMMAND_BYTES_MAX:
            # The id is the first field; nothing else of it is looked at.
            raise OversizedCommand(_leading_id(message))
        said = pb.Command.FromString(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(str(error) or "malformed Protobuf") from error
    command = Command(said.id)
    _fill_request(command, said)
    return command


def encode_reply(reply: Reply) -> bytes:
    """One reply with its length in front."""
    made = pb.Reply(id=reply.id)
    if reply.error is not None:
        error = reply.error
        made.error.code = error.code
        made.error.message = error.message
        made.error.temporary = error.temporary
    elif reply.connect is not None:
        _fill_connect(made.connect, reply.connect)
    elif reply.subscribe is not None:
        # An empty result still has to be there, or an SDK misses it.
        made.subscribe.CopyFrom(_subscribe_result(reply.subscribe))
    elif reply.history is not None:
        history = reply.history
        made.history.CopyFrom(
            pb.HistoryResult(
                publications=[bytes(one) for one in history.publications],
                epoch=history.epoch,
                offset=history.offset,
            )
        )
    elif reply.presence is not None:
        made.presence.SetInParent()
        for key, info in reply.presence.presence.items():
            made.presence.presence[key].CopyFrom(_client_info(info))
    else:
        _fill_small(made, reply)
    return _with_length(made.SerializeToString())


def encode_push(push: Push) -> bytes:
    """One push, as a reply without an id, with its length in front."""
    made = pb.Push(channel=push.channel)
    if push.pub is not None:
        return push_of(push.channel, bytes(push.pub))
    if push.join is not None:
        made.join.info.CopyFrom(_client_info(_info.decode(push.join.info)))
    elif push.leave is not None:
        made.leave.info.CopyFrom(_client_info(_info.decode(push.leave.info)))
    elif push.unsubscribe is not None:
        made.unsubscribe.code = push.unsubscribe.code
        made.unsubscribe.reason = push.unsubscribe.reason
    elif push.subscribe is not None:
        said = push.subscribe
        made.subscribe.CopyFrom(
            pb.Subscribe(
                recoverable=said.recoverable,
                epoch=said.epoch,
                offset=said.offset,
                positioned=said.positioned,
                data=_bytes(said.data, said.b64data),
            )
        )
    elif push.disconnect is not None:
        made.disconnect.code = push.disconnect.code
        made.disconnect.reason = push.disconnect.reason
    return _with_length(_field(_REPLY_PUSH, made.SerializeToString()))


def push_of(channel: str, publication: bytes) -> bytes:
    """A push of a Publication that was encoded before, with its length in front."""
    push = _field(_PUSH_CHANNEL, channel.encode()) + _field(_PUSH_PUB, publication)
    return _with_length(_field(_REPLY_PUSH, push))


def encode_entry(entry: Entry, delta: bytes | None = None) -> bytes:
    """A committed entry as a Publication message, without a length.

    `delta` stands in for its payload, where that is told as a difference.
    """
    made = pb.Publication(
        data=entry.data if delta is None else delta,
        offset=entry.offset,
        time=entry.at_ms,
        tags=entry.shown_tags,
        delta=delta is not None,
    )
    if entry.info:
        made.info.CopyFrom(_client_info(_info.decode(entry.info)))
    return made.SerializeToString()


def encode_live(live: LivePublication) -> bytes:
    """An ephemeral publication as a Publication message, without a length."""
    made = pb.Publication(data=live.data, tags=live.tags)
    if live.info:
        made.info.CopyFrom(_client_info(_info.decode(live.info)))
    return made.SerializeToString()


# -- Commands -------------------------------------------------------------------------


def _connect(said: pb.ConnectRequest) -> client.ConnectRequest:
    return client.ConnectRequest(
        token=said.token,
        data=Raw(said.data),
        subs={name: _subscribe(sub) for name, sub in said.subs.items()},
        name=said.name,
        version=said.version,
        headers=dict(said.headers),
        flag=said.flag,
    )


def _subscribe(said: pb.SubscribeRequest) -> client.SubscribeRequest:
    return client.SubscribeRequest(
        channel=said.channel,
        token=said.token,
        recover=said.recover,
        epoch=said.epoch,
        offset=said.offset,
        data=Raw(said.data),
        positioned=said.positioned,
        recoverable=said.recoverable,
        join_leave=said.join_leave,
        delta=said.delta,
        tf=_filter(said.tf) if said.HasField("tf") else None,
        flag=said.flag,
        type=said.type,
        phase=said.phase,
    )


def _filter(said: pb.FilterNode) -> client.FilterNode:
    return client.FilterNode(
        op=said.op,
        key=said.key,
        cmp=said.cmp,
        val=said.val,
        vals=list(said.vals),
        nodes=[_filter(node) for node in said.nodes],
    )


def _history(said: pb.HistoryRequest) -> client.HistoryRequest:
    since = None
    if said.HasField("since"):
        since = client.StreamPosition(said.since.offset, said.since.epoch)
    return client.HistoryRequest(said.channel, said.limit, since, said.reverse)


def _fill_request(  # noqa: C901, PLR0912 - one case for each request there is
    command: Command, said: pb.Command
) -> None:
    match said.WhichOneof("request"):
        case "connect":
            command.connect = _connect(said.connect)
        case "subscribe":
            command.subscribe = _subscribe(said.subscribe)
        case "unsubscribe":
            command.unsubscribe = client.UnsubscribeRequest(said.unsubscribe.channel)
        case "publish":
            data = Raw(said.publish.data)
            command.publish = client.PublishRequest(said.publish.channel, data)
        case "presence":
            command.presence = client.PresenceRequest(said.presence.channel)
        case "presence_stats":
            channel = said.presence_stats.channel
            command.presence_stats = client.PresenceStatsRequest(channel)
        case "history":
            command.history = _history(said.history)
        case "ping":
            command.ping = client.PingRequest()
        case "send":
            command.send = client.SendRequest(Raw(said.send.data))
        case "rpc":
            command.rpc = client.RPCRequest(Raw(said.rpc.data), said.rpc.method)
        case "refresh":
            command.refresh = client.RefreshRequest(said.refresh.token)
        case "sub_refresh":
            asked = said.sub_refresh
            command.sub_refresh = client.SubRefreshRequest(asked.channel, asked.token)
        case _:
            pass  # A pong, or something that this protocol does not know.


# -- Results --------------------------------------------------------------------------


def _fill_connect(made: pb.ConnectResult, result: client.ConnectResult) -> None:
    made.CopyFrom(
        pb.ConnectResult(
            client=result.client,
            version=result.version,
            expires=result.expires,
            ttl=result.ttl,
            data=_bytes(result.data),
            ping=result.ping,
            pong=result.pong,
            session=result.session,
            node=result.node,
            time=result.time,
        )
    )
    for name, sub in result.subs.items():
        made.subs[name].CopyFrom(_subscribe_result(sub))


def _subscribe_result(result: client.SubscribeResult) -> pb.SubscribeResult:
    return pb.SubscribeResult(
        expires=result.expires,
        ttl=result.ttl,
        recoverable=result.recoverable,
        epoch=result.epoch,
        publications=[bytes(one) for one in result.publications],
        recovered=result.recovered,
        offset=result.offset,
        positioned=result.positioned,
        data=_bytes(result.data, result.b64data),
        was_recovering=result.was_recovering,
        delta=result.delta,
    )


def _fill_small(made: pb.Reply, reply: Reply) -> None:
    if reply.unsubscribe is not None:
        made.unsubscribe.SetInParent()
    elif reply.publish is not None:
        made.publish.SetInParent()
    elif reply.rpc is not None:
        made.rpc.SetInParent()
        made.rpc.data = _bytes(reply.rpc.data)
    elif reply.presence_stats is not None:
        made.presence_stats.SetInParent()
        made.presence_stats.num_clients = reply.presence_stats.num_clients
        made.presence_stats.num_users = reply.presence_stats.num_users
    elif reply.refresh is not None:
        made.refresh.SetInParent()
        made.refresh.client = reply.refresh.client
        made.refresh.version = reply.refresh.version
        made.refresh.expires = reply.refresh.expires
        made.refresh.ttl = reply.refresh.ttl
    elif reply.sub_refresh is not None:
        made.sub_refresh.SetInParent()
        made.sub_refresh.expires = reply.sub_refresh.expires
        made.sub_refresh.ttl = reply.sub_refresh.ttl


def _client_info(info: ClientInfo) -> pb.ClientInfo:
    return pb.ClientInfo(
        user=info.user,
        client=info.client,
        conn_info=_bytes(info.conn_info, info.b64conn_info),
        chan_info=_bytes(info.chan_info, info.b64chan_info),
    )


def _bytes(payload: Raw | UnsetType, in_base64: str | UnsetType = UNSET) -> bytes:
    if in_base64 is not UNSET:
        return base64.b64decode(in_base64)
    return b"" if payload is UNSET else bytes(payload)


# -- The wire format, as far as it is ours --------------------------------------------


def _with_length(message: bytes) -> bytes:
    return _varint_of(len(message)) + message


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited field; all numbers used here fit one byte of tag."""
    tag = number << 3 | _LENGTH_DELIMITED
    return bytes((tag,)) + _varint_of(len(body)) + body


def _varint_of(value: int) -> bytes:
    made = bytearray()
    while value > _VARINT_LOW:
        made.append(value & _VARINT_LOW | _VARINT_MORE)
        value >>= 7
    made.append(value)
    return bytes(made)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned varint; gives it and where it ended. Raises BadFrame."""
    value = 0
    for index in range(_VARINT_BYTES_MAX):
        if at + index >= len(data):
            raise BadFrame("a length is cut off")
        byte = data[at + index]
        value |= (byte & _VARINT_LOW) << (7 * index)
        if not byte & _VARINT_MORE:
            return value, at + index + 1
    raise BadFrame("a length is too long")


def _leading_id(message: bytes) -> int:
    first_field_is_id = message[:1] == b"\x08"
    if not first_field_is_id:
        return 0
    try:
        return _varint(message, 1)[0]
    except BadFrame:
        return 0
