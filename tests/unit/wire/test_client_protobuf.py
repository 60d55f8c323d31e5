"""The Protobuf encoding: the same commands and answers as in JSON, by number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from chatmesh.wire import client, client_json, client_protobuf, errors, infos, limits
from chatmesh.wire.client import Command, Push, Reply
from chatmesh.wire.client_json import BadFrame, OversizedCommand
from chatmesh.wire.messages import Entry
from chatmesh.wire.protobuf import client_pb2 as pb


def framed(*messages: bytes) -> bytes:
    """Messages with their lengths, all of them below 128 bytes."""
    return b"".join(bytes((len(one),)) + one for one in messages)


def test_several_commands_share_a_frame() -> None:
    """SDKs send connect and subscribe together."""
    connect = pb.Command(id=1, connect=pb.ConnectRequest(token="t"))
    subscribe = pb.Command(
        id=2, subscribe=pb.SubscribeRequest(channel="room:a", recover=True, offset=7)
    )
    frame = framed(connect.SerializeToString(), subscribe.SerializeToString())

    commands = [client_protobuf.decode(part) for part in client_protobuf.split(frame)]

    assert [one.id for one in commands] == [1, 2]
    assert commands[0].connect is not None
    assert commands[0].connect.token == "t"
    assert commands[1].subscribe is not None
    assert (commands[1].subscribe.channel, commands[1].subscribe.offset) == (
        "room:a",
        7,
    )


def test_an_empty_message_is_a_pong() -> None:
    """No id and no request."""
    (message,) = client_protobuf.split(b"\x00")

    assert client.request_of(client_protobuf.decode(message)) is None


@pytest.mark.parametrize(
    "frame",
    [b"", b"\x05abc", b"\xff\xff\xff\xff\xff\xff", b"\x80"],
    ids=["empty", "cut off", "endless length", "half a length"],
)
def test_a_length_that_lies_is_refused_before_anything_is_made(frame: bytes) -> None:
    """A few bytes must not make the gateway reserve many."""
    with pytest.raises(BadFrame):
        client_protobuf.split(frame)


def test_a_command_that_is_too_large_still_names_itself() -> None:
    """So that its sender can be told which one it was."""
    big = b"x" * limits.COMMAND_BYTES_MAX
    command = pb.Command(id=300, publish=pb.PublishRequest(channel="c", data=big))

    with pytest.raises(OversizedCommand) as caught:
        client_protobuf.decode(command.SerializeToString())

    assert caught.value.id == 300


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_commands_or_a_bad_frame(frame: bytes) -> None:
    """Nothing else comes out, whatever goes in."""
    reason = "none"
    try:
        for part in client_protobuf.split(frame):
            assert isinstance(client_protobuf.decode(part), Command)
    except BadFrame as bad:
        reason = str(bad)

    assert reason


@pytest.mark.parametrize(
    ("reply", "field"),
    [
        (Reply(1, publish=client.PublishResult()), "publish"),
        (Reply(1, unsubscribe=client.UnsubscribeResult()), "unsubscribe"),
        (Reply(1, subscribe=client.SubscribeResult()), "subscribe"),
        (Reply(1, refresh=client.RefreshResult()), "refresh"),
        (Reply(1, sub_refresh=client.SubRefreshResult()), "sub_refresh"),
        (Reply(1, presence=client.PresenceResult({})), "presence"),
        (Reply(1, presence_stats=client.PresenceStatsResult(0, 0)), "presence_stats"),
        (Reply(1, history=client.HistoryResult([], "e", 0)), "history"),
        (Reply(1, rpc=client.RPCResult()), "rpc"),
        (Reply(1, error=errors.CONFLICT), "error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_empty_result_is_still_there(reply: Reply, field: str) -> None:
    """An SDK that does not find it raises."""
    (message,) = client_protobuf.split(client_protobuf.encode_reply(reply))

    set_fields = {one.name for one, _ in pb.Reply.FromString(message).ListFields()}
    assert field in set_fields


def test_a_publication_reads_the_same_in_both_encodings() -> None:
    """One entry, two encodings, one meaning."""
    entry = Entry(7, "id", b'{"a":1}', b'{"user":"ada","client":"c1"}', 5, {"k": "v"})

    push = client_protobuf.push_of("room:a", client_protobuf.encode_entry(entry))
    (message,) = client_protobuf.split(push)
    publication = pb.Reply.FromString(message).push.pub

    assert publication.data == entry.data
    assert (publication.offset, publication.time) == (7, 5)
    assert dict(publication.tags) == {"k": "v"}
    assert (publication.info.user, publication.info.client) == ("ada", "c1")
    assert b'"offset":7' in client_json.encode_entry(entry)


def test_bytes_that_are_no_json_arrive_as_bytes() -> None:
    """Infos and data that JSON clients are shown in base64."""
    info = infos.client_info("ada", "c1", b"\xff\x00", b"[1]")
    join = Push("c", join=client.MemberPush(Raw(client_json.encode_info(info))))
    data, b64data = infos.in_either(b"\x00{")
    replies = [
        Reply(1, presence=client.PresenceResult({"c1": info})),
        Reply(2, subscribe=client.SubscribeResult(data=data, b64data=b64data)),
    ]

    pushed = pb.Reply.FromString(
        client_protobuf.split(client_protobuf.encode_push(join))[0]
    )
    present, subscribed = (
        pb.Reply.FromString(client_protobuf.split(client_protobuf.encode_reply(one))[0])
        for one in replies
    )

    for shown in (pushed.push.join.info, present.presence.presence["c1"]):
        assert (shown.conn_info, shown.chan_info) == (b"\xff\x00", b"[1]")
    assert subscribed.subscribe.data == b"\x00{"


def test_pushes_carry_what_they_say() -> None:
    """Join, unsubscribe and disconnect, each in its own field."""
    join = Push("c", join=client.MemberPush(Raw(b'{"user":"u","client":"x"}')))
    unsubscribe = Push("c", unsubscribe=client.UnsubscribePush(2500, "why"))
    disconnect = Push(disconnect=client.DisconnectPush(3001, "shutdown"))

    made = [
        pb.Reply.FromString(client_protobuf.split(client_protobuf.encode_push(p))[0])
        for p in (join, unsubscribe, disconnect)
    ]

    assert made[0].push.join.info.user == "u"
    assert made[1].push.unsubscribe.code == 2500
    assert made[2].push.disconnect.reason == "shutdown"
