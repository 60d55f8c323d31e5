"""Arbitrary bytes and arbitrary conversations: an answer or a goodbye, never a bug.

And whatever one client says, its neighbour hears its room undisturbed.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatmesh.gateway.bodies import Call
from chatmesh.gateway.codecs import JSON, PROTOBUF
from chatmesh.wire import client_protobuf
from chatmesh.wire.close_codes import DISCONNECTS
from chatmesh.wire.errors import OWN_ERRORS, PROTOCOL_ERRORS
from support.gateway_rig import Client, Rig, offsets

ROOM = "room:a"
CLOSE_CODES = {one.code for one in DISCONNECTS}
ERROR_CODES = {one.code for one in (*PROTOCOL_ERRORS, *OWN_ERRORS)}

Scene = Callable[[Rig, Client], Awaitable[None]]


def undisturbed(scene: Scene) -> None:
    """Play a scene beside a neighbour in the room, who must not notice it."""

    async def play() -> None:
        rig = Rig()
        neighbour = await rig.subscribed(ROOM, "live:a", user="bob")
        await scene(rig, neighbour)
        await rig.answer()
        await neighbour.hears()
        said_before = rig.log(ROOM).top
        rig.say(ROOM)
        assert offsets(await neighbour.hears()) == [said_before + 1]
        assert neighbour.goodbye is None
        await rig.close()

    asyncio.run(play())


def parses(reason: str) -> bool:
    try:
        json.loads(reason)
    except ValueError:
        return False
    return True


def well_behaved(client: Client) -> None:
    """Whatever the gateway said: known codes, and reasons a client can show."""
    for frame in client.ear.frames():
        for line in frame.split(b"\n"):
            said = json.loads(line)
            error = said.get("error")
            if error is not None:
                assert error["code"] in ERROR_CODES
                assert error["message"]
    assert len(client.ear.goodbyes) <= 1
    for goodbye in client.ear.goodbyes:
        assert goodbye.code in CLOSE_CODES
        assert 0 < len(goodbye.reason.encode()) <= 123
        assert not parses(goodbye.reason), "SDKs would take it for their own format"


HYPOTHESIS = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

CHANNELS = st.sampled_from(
    [
        ROOM,
        "live:a",
        "cache:a",
        "rich:a",
        "#ada",
        "#bob",
        "$x",
        "nowhere:a",
        "",
        "a b",
        "é",
        "x" * 300,
    ]
)
TOKENS = st.sampled_from(
    ["ada", "bob", "ada|room:a|60", "expired", "bad token", "", "unknownkey"]
)
PAYLOADS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
OFFSETS = st.sampled_from([0, 1, 2, 10**6, 2**53, -1, 2**70])


def _request(
    name: str, **fields: st.SearchStrategy[object]
) -> st.SearchStrategy[object]:
    return st.fixed_dictionaries({}, optional=fields).map(lambda body: {name: body})  # type: ignore[arg-type]


FILTERS = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "op": st.sampled_from(["", "and", "or", "not", "x"]),
            "key": st.sampled_from(["", "k"]),
            "cmp": st.sampled_from(["eq", "lt", "in", "ex", "x"]),
            "val": st.sampled_from(["", "1", "v"]),
        },
    ),
    lambda inner: st.builds(
        lambda op, nodes: {"op": op, "nodes": nodes},
        st.sampled_from(["and", "or", "not"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
) | st.sampled_from([None, 200, 400]).map(lambda depth: deep_filter(depth or 2))


WISHES = st.fixed_dictionaries(
    {"tf": FILTERS}, optional={"delta": st.just("fossil"), "recover": st.booleans()}
)
"""What a connect may wish of the channels that the server subscribes it to."""


def deep_filter(depth: int) -> dict[str, object]:
    """`not` of `not` of … something."""
    node: dict[str, object] = {"key": "k", "cmp": "ex"}
    for _ in range(depth):
        node = {"op": "not", "nodes": [node]}
    return node


PLACE = st.fixed_dictionaries(
    {}, optional={"offset": OFFSETS, "epoch": st.sampled_from(["", "e1", "_"])}
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "channel": CHANNELS,
        "id": st.text(max_size=3),
        "text": st.text(max_size=3),
        "type": st.sampled_from(["message", "edit"]),
        "extra": PAYLOADS,
    },
)
REQUESTS = st.one_of(
    _request(
        "connect",
        token=TOKENS,
        subs=st.dictionaries(CHANNELS, PLACE | WISHES, max_size=2),
    ),
    _request(
        "subscribe",
        channel=CHANNELS,
        token=TOKENS,
        recover=st.booleans(),
        offset=OFFSETS,
        epoch=st.sampled_from(["", "e1", "_"]),
        flag=st.integers(0, 3),
        type=st.integers(0, 5),
        delta=st.sampled_from(["", "fossil", "other"]),
        join_leave=st.booleans(),
        tf=FILTERS,
    ),
    _request("unsubscribe", channel=CHANNELS),
    _request("publish", channel=CHANNELS, data=PAYLOADS),
    _request(
        "history",
        channel=CHANNELS,
        limit=st.integers(-2, 10**6),
        since=PLACE,
        reverse=st.booleans(),
    ),
    _request("presence", channel=CHANNELS),
    _request("presence_stats", channel=CHANNELS),
    _request(
        "rpc",
        method=st.sampled_from([*Call, "", "x"]),
        data=MESSAGE | PAYLOADS,
    ),
    _request("refresh", token=TOKENS),
    _request("sub_refresh", channel=CHANNELS, token=TOKENS),
    st.just({}),
)
COMMANDS = st.builds(
    lambda request, number: {**request, **({"id": number} if number else {})},  # type: ignore[misc]
    REQUESTS,
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7]),
)


@HYPOTHESIS
@given(st.lists(st.lists(COMMANDS, min_size=1, max_size=4), max_size=8), st.booleans())
def test_any_conversation_is_answered_or_ended(
    frames: list[list[dict[str, object]]],
    greeted: bool,  # noqa: FBT001 - drawn
) -> None:
    """Every command with an id gets one reply, unless the connection ends first."""

    async def scene(rig: Rig, _: Client) -> None:
        client = await rig.connected() if greeted else rig.client()
        asked: list[int] = []
        for frame in frames:
            if client.goodbye is None:
                client.says(*frame)
                asked += [
                    number for one in frame if isinstance(number := one.get("id"), int)
                ]
                await rig.answer()
        await rig.pass_time(5.0)
        if client.goodbye is None:
            said = await client.hears()
            answered = [one["id"] for one in said if "id" in one]
            refused = any(
                "error" in one and one["id"] == asked[0] for one in said if "id" in one
            )
            assert refused or sorted(answered) == sorted(asked)  # type: ignore[type-var]
        well_behaved(client)

    undisturbed(scene)


JSON_PIECES = st.sampled_from(
    [
        b'{"id":1,"connect":{}}',
        b'{"id":2,"subscribe":{"channel":"room:a"}}',
        b'{"id":3,"publish":{"channel":"room:a","data":"\xff"}}',
        b'{"id":3,"publish":{"channel":"room:a","data":"\\ud800"}}',
        b'{"id":4,"publish":{"channel":"live:a","data":[',
        b"\n",
        b"\n\n",
        b"{}",
        b"null",
        b"[]",
        b"1",
        b'{"id":-1,"unsubscribe":{"channel":"a"}}',
        b'{"id":1e99}',
        b'{"id":"1"}',
        b'{"id":5,"subscribe":7}',
        b'{"id":6,"rpc":{"method":"message.send","data":{"channel":"room:a","id":"m","text":"x","n":1e999}}}',
        b"[" * 5000,
        b"\xef\xbb\xbf{}",
        b"\x00",
        b'{"id":7,"publish":{"channel":"room:a","data":"%s"}}' % (b"x" * 66_000),
    ]
)


@HYPOTHESIS
@given(
    st.lists(
        st.lists(JSON_PIECES | st.binary(max_size=20), max_size=5).map(b"".join),
        max_size=6,
    )
)
def test_any_bytes_of_a_json_client_are_answered_or_end_it(frames: list[bytes]) -> None:
    """Malformed is 3501, with the cause; and nobody else notices."""

    async def scene(rig: Rig, _: Client) -> None:
        client = rig.client(JSON)
        for frame in frames:
            client.connection.receive(frame)
            await rig.answer()
        well_behaved(client)

    undisturbed(scene)


def _protobuf(*commands: bytes) -> bytes:
    return b"".join(bytes([len(one)]) + one for one in commands)


PROTOBUF_PIECES = st.sampled_from(
    [
        _protobuf(b"\x08\x01\x22\x05\x0a\x03ada"),
        _protobuf(b"\x08\x02\x2a\x08\x0a\x06room:a"),
        _protobuf(b"\x08\x03\x3a\x0a\x0a\x06live:a\x12\x00"),
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00",
        b"\x80",
        b"\xff\xff\xff\x7f",
    ]
)


@HYPOTHESIS
@given(
    st.lists(
        st.lists(PROTOBUF_PIECES | st.binary(max_size=30), max_size=5).map(b"".join),
        max_size=6,
    )
)
def test_any_bytes_of_a_protobuf_client_are_answered_or_end_it(
    frames: list[bytes],
) -> None:
    """Lengths that lie, fields that are none; and nobody else notices."""

    async def scene(rig: Rig, _: Client) -> None:
        client = rig.client(PROTOBUF)
        for frame in frames:
            client.connection.receive(frame)
            await rig.answer()
        for goodbye in client.ear.goodbyes:
            assert goodbye.code in CLOSE_CODES
            assert goodbye.reason

    undisturbed(scene)


@HYPOTHESIS
@given(st.binary(max_size=200))
def test_the_protobuf_reader_raises_nothing_but_its_own(data: bytes) -> None:
    """Split and decode say BadFrame, and allocate nothing they were not sent."""
    try:
        for part in client_protobuf.split(data):
            client_protobuf.decode(part)
    except client_protobuf.BadFrame as bad:
        reason = str(bad)
    else:
        reason = "nothing was wrong"
    assert reason


@HYPOTHESIS
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes_from_the_broker_harm_nobody(bodies: list[bytes]) -> None:
    """What cannot be read is buried; the room goes on."""

    async def scene(rig: Rig, _: Client) -> None:
        for body in bodies:
            rig.gateway.receive(body)
        await rig.answer()

    undisturbed(scene)
