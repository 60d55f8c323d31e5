"""The JSON encoding: what is read, what is refused, and how replies are spelled."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from chatmesh.wire import client, client_json, errors, infos, limits
from chatmesh.wire.client_json import BadFrame, BinaryPayload, OversizedCommand
from chatmesh.wire.messages import Entry, LivePublication

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)


# -- Frames ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (b"{}", [b"{}"]),
        (b'{"id":1}\n{"id":2}', [b'{"id":1}', b'{"id":2}']),
        (b"\n{}\n\n \n{}\n", [b"{}", b"{}"]),
    ],
)
def test_a_frame_is_lines_and_blank_ones_are_nothing(
    frame: bytes, parts: list[bytes]
) -> None:
    """Lenient where it does no harm."""
    assert client_json.split(frame) == parts


@pytest.mark.parametrize(
    "frame", [b"", b" ", b"\n", b"\n \n", b"{}\n\xff", b"\xed\xa0\x80"]
)
def test_an_empty_frame_or_one_that_is_no_text_is_bad(frame: bytes) -> None:
    """Nothing to answer, or nothing that others could read."""
    with pytest.raises(BadFrame, match=r"."):
        client_json.split(frame)


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b"null",
        b"[]",
        b"1",
        b'{"id":"1"}',
        b'{"id":1.5}',
        b'{"subscribe":1}',
        b'{"id":1,"subscribe":{"channel":null}}',
        b"[" * 100000,
        b"{}{}",
    ],
    ids=lambda message: message[:12].decode(),
)
def test_what_is_no_command_is_bad_with_a_reason(message: bytes) -> None:
    """Malformed, the wrong type, too deep."""
    with pytest.raises(BadFrame, match=r"."):
        client_json.decode(message)


def test_unknown_fields_are_ignored() -> None:
    """SDKs grow."""
    command = client_json.decode(b'{"id":1,"new":{},"subscribe":{"channel":"a","x":1}}')

    assert command == client.Command(1, subscribe=client.SubscribeRequest("a"))


@pytest.mark.parametrize(
    ("size", "fits"),
    [(limits.COMMAND_BYTES_MAX, True), (limits.COMMAND_BYTES_MAX + 1, False)],
)
def test_a_command_has_64_kib(size: int, fits: bool) -> None:  # noqa: FBT001
    """One byte more is refused, by its id."""
    empty = b'{"id":7,"publish":{"channel":"a","data":""}}'
    message = empty.replace(b'""', b'"%s"' % (b"x" * (size - len(empty))))

    if fits:
        assert client_json.decode(message).id == 7
        return
    with pytest.raises(OversizedCommand) as refused:
        client_json.decode(message)
    assert refused.value.id == 7


def test_an_oversized_command_that_is_no_json_is_just_bad() -> None:
    """There is no id to answer."""
    with pytest.raises(BadFrame) as refused:
        client_json.decode(b"[" * (limits.COMMAND_BYTES_MAX + 1))
    assert not isinstance(refused.value, OversizedCommand)


def test_null_is_data_and_missing_data_is_not() -> None:
    """`data: null` is published; a publish without data is no publish."""
    null = client_json.decode(b'{"id":1,"publish":{"channel":"a","data":null}}')
    none = client_json.decode(b'{"id":1,"publish":{"channel":"a"}}')

    assert null.publish is not None
    assert none.publish is not None
    assert (bytes(null.publish.data), bytes(none.publish.data)) == (b"null", b"")


# -- Replies and pushes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (
            client.Reply(1, unsubscribe=client.UnsubscribeResult()),
            '{"id":1,"unsubscribe":{}}',
        ),
        (
            client.Reply(1, subscribe=client.SubscribeResult()),
            '{"id":1,"subscribe":{}}',
        ),
        (
            client.Reply(1, history=client.HistoryResult([], "", 0)),
            '{"id":1,"history":{"publications":[],"epoch":"","offset":0}}',
        ),
        (
            client.Reply(1, presence=client.PresenceResult({})),
            '{"id":1,"presence":{"presence":{}}}',
        ),
        (
            client.Reply(1, presence_stats=client.PresenceStatsResult(0, 0)),
            '{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}',
        ),
        (
            client.Reply(2, error=errors.INTERNAL),
            '{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}',
        ),
        (
            client.Reply(2, error=errors.BAD_REQUEST),
            '{"id":2,"error":{"code":107,"message":"bad request"}}',
        ),
        (
            client.Reply(
                1,
                connect=client.ConnectResult("c", "v", ping=25, pong=True),
            ),
            '{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}',
        ),
        (
            client.Reply(1, rpc=client.RPCResult(Raw(b"null"))),
            '{"id":1,"rpc":{"data":null}}',
        ),
    ],
)
def test_zero_values_are_left_out_but_for_those_the_sdks_index(
    reply: client.Reply, text: str
) -> None:
    """And there is never an `error` that is null."""
    assert client_json.encode_reply(reply).decode() == text


@pytest.mark.parametrize(
    ("push", "body"),
    [
        (
            client.Push("a", unsubscribe=client.UnsubscribePush(2500, "r")),
            {"channel": "a", "unsubscribe": {"code": 2500, "reason": "r"}},
        ),
        (
            client.Push("a", subscribe=client.SubscribePush(epoch="e", offset=1)),
            {"channel": "a", "subscribe": {"epoch": "e", "offset": 1}},
        ),
        (
            client.Push(disconnect=client.DisconnectPush(3001, "shutdown")),
            {"disconnect": {"code": 3001, "reason": "shutdown"}},
        ),
        (
            client.Push("a", join=client.MemberPush(Raw(b'{"user":"","client":"c"}'))),
            {"channel": "a", "join": {"info": {"user": "", "client": "c"}}},
        ),
    ],
)
def test_a_push_has_no_id(push: client.Push, body: dict[str, object]) -> None:
    """That is what tells it from a reply."""
    assert json.loads(client_json.encode_push(push)) == {"push": body}


def test_client_info_always_names_user_and_client() -> None:
    """Also when they are empty; the rest only when it is there."""
    assert client_json.encode_info(client.ClientInfo("", "c")) == (
        b'{"user":"","client":"c"}'
    )
    info = client.ClientInfo("u", "c", conn_info=Raw(b"1"), chan_info=UNSET)
    assert client_json.encode_info(info) == b'{"user":"u","client":"c","conn_info":1}'


def test_infos_are_shown_in_either_way() -> None:
    """JSON as itself, on one line; other bytes in base64, so that no frame breaks."""
    both = infos.client_info("u", "c", b'{"a":\n1}', b"\xff\x00")

    assert client_json.encode_info(both) == (
        b'{"user":"u","client":"c","conn_info":{"a":1},"b64chan_info":"/wA="}'
    )
    assert infos.client_info("u", "c") == client.ClientInfo("u", "c")


def test_an_entry_is_a_publication() -> None:
    """Offset, author, tags and time; no epoch, ever."""
    entry = Entry(7, "m", b'{"a":1}', b'{"user":"u","client":"c"}', 1234, {"k": "v"})

    assert json.loads(client_json.encode_entry(entry)) == {
        "data": {"a": 1},
        "info": {"user": "u", "client": "c"},
        "offset": 7,
        "tags": {"k": "v"},
        "time": 1234,
    }


def test_a_live_publication_has_no_offset() -> None:
    """It is not in the log."""
    assert client_json.encode_live(LivePublication(b"1")) == b'{"data":1}'


# -- Payloads -------------------------------------------------------------------------


@given(JSON, st.sampled_from([None, 1, 2]))
def test_a_payload_becomes_one_line_that_means_the_same(
    value: object, indent: int | None
) -> None:
    """However its author laid it out."""
    payload = json.dumps(value, indent=indent, ensure_ascii=indent is None)

    embedded = bytes(client_json.embeddable(payload.encode()))

    assert b"\n" not in embedded
    assert json.loads(embedded) == value


@given(st.binary(max_size=50))
def test_what_is_let_into_a_text_frame_every_client_can_read(payload: bytes) -> None:
    """Either it is refused as binary, or it parses strictly."""
    try:
        embedded = bytes(client_json.embeddable(payload))
    except BinaryPayload:
        return
    json.loads(embedded.decode("utf-8"))


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b'"\xff"', b"{", b'"a\nb"', b"NaN", b"1 2"]
)
def test_what_is_no_json_is_binary(payload: bytes) -> None:
    """A JSON client cannot be given it."""
    with pytest.raises(BinaryPayload):
        client_json.embeddable(payload)


@pytest.mark.parametrize("between", [b"", b"\n"])
def test_what_is_nested_too_deeply_to_be_read_is_not_binary(between: bytes) -> None:
    """It closes nobody: an old payload of this kind is shown as null."""
    payload = b"[" * 100_000 + between + b"]" * 100_000

    assert bytes(client_json.embeddable(payload)) == b"null"


def test_a_traced_entry_shows_its_trace() -> None:
    """A developer can go from a message on the screen to its trace; tags stay as stored."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    entry = Entry(7, "m", b"{}", tags={"k": "v"}, traceparent=traceparent)

    shown = json.loads(client_json.encode_entry(entry))["tags"]

    assert shown == {"k": "v", "trace": "0af7651916cd43dd8448eb211c80319c"}
    assert entry.tags == {"k": "v"}


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"a\ud83d b", "a\ufffd b"),
        (rb"\udE00", "\ufffd"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud83d\ude00\ude00", "\U0001f600\ufffd"),
        (rb"\\\ud83d", "\\\ufffd"),
        (rb"\\ud83d\udead", "\\ud83d\ufffd"),
    ],
)
def test_half_a_character_is_replaced_and_nobody_sent_away(
    said: bytes, heard: str
) -> None:
    """Browsers write it when a length limit cuts an emoji; whole ones stay whole."""
    data = b'{"text":"' + said + b'"}'
    command = client_json.decode(b'{"id":1,"publish":{"channel":"a","data":%s}}' % data)

    assert command.publish is not None
    assert msgspec.json.decode(command.publish.data) == {"text": heard}


def test_half_a_character_hides_no_other_mistake() -> None:
    """What is no JSON stays none, with its cause."""
    with pytest.raises(BadFrame, match=r"truncated|malformed"):
        client_json.decode(rb'{"id":1,"publish":{"data":"\ud83d"')
