"""Those who hear differently from their neighbours: deltas, tags, members."""

import json
from typing import Any

from chatmesh.gateway.codecs import JSON, PROTOBUF, ClientCodec
from chatmesh.gateway.hearing import WITH_MEMBERS, Hearing
from chatmesh.gateway.hub import Hub
from chatmesh.gateway.outbox import Chunk
from chatmesh.gateway.publications import Committed
from chatmesh.wire import client_protobuf
from chatmesh.wire.client import FilterNode
from chatmesh.wire.messages import JOIN, LivePublication
from chatmesh.wire.protobuf import client_pb2 as pb
from support.fake_bus import entry
from support.sdk_delta import applied

ROOM = "room:a"
DELTA = Hearing(delta=True)
LONG = "the same long text in every publication, with a number behind it: "


class Ear:
    """A listener that keeps what it is handed."""

    def __init__(self, codec: ClientCodec = JSON) -> None:
        self.codec = codec
        self.chunks: list[Chunk] = []

    def deliver(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def cannot_read(self) -> None:
        raise AssertionError("every payload here can be read")

    def pushes(self) -> list[dict[str, Any]]:
        lines = b"\n".join(chunk.payload for chunk in self.chunks).split(b"\n")
        return [json.loads(line)["push"] for line in lines if line]


class DeltaReader:
    """What an SDK does with the publications of a delta subscription."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.deltas = 0

    def take(self, publication: dict[str, Any]) -> None:
        data = publication["data"].encode()
        if publication.get("delta"):
            self.deltas += 1
            data = applied(self.payloads[-1], data)
        self.payloads.append(data)


def numbered(*offsets: int) -> list[Committed]:
    return [
        Committed(entry(n, data=json.dumps({"text": f"{LONG}{n} ü"}).encode()))
        for n in offsets
    ]


def test_deltas_give_every_payload_back_whoever_joins_when() -> None:
    """The first is whole, the rest are differences, also around ephemeral ones."""
    hub, early, late = Hub(), Ear(), Ear()
    hub.join(ROOM, early, DELTA)
    hub.publish(ROOM, numbered(1, 2))
    hub.join(ROOM, late, DELTA)
    hub.publish(ROOM, numbered(3))
    hub.publish_live(ROOM, [LivePublication(b'{"typing":true}')])
    hub.publish(ROOM, numbered(4, 5))

    readers = [DeltaReader(), DeltaReader()]
    for ear, reader in zip((early, late), readers, strict=True):
        for push in ear.pushes():
            reader.take(push["pub"])

    everything = [one.entry.data for one in numbered(1, 2, 3, 4, 5)]
    everything.insert(3, b'{"typing":true}')
    assert readers[0].payloads == everything
    assert readers[1].payloads == everything[2:]
    assert readers[0].deltas >= 2


def test_a_delta_begins_from_a_live_payload_as_it_was_written() -> None:
    """Line breaks between its tokens included: they are part of what is copied from."""
    live = json.dumps({"text": LONG, "more": [1, 2]}, indent=2).encode()
    live = live.replace(b"\n", b"\r\n")
    hub, ear, reader = Hub(), Ear(), DeltaReader()
    hub.join(ROOM, ear, DELTA)
    hub.publish(ROOM, numbered(1))
    hub.publish_live(ROOM, [LivePublication(live)])
    hub.publish(ROOM, [Committed(entry(2, data=live + b" "))])

    for push in ear.pushes():
        reader.take(push["pub"])

    assert reader.payloads[1:] == [live, live + b" "]
    assert reader.deltas >= 1


def test_deltas_are_bytes_in_protobuf() -> None:
    """The same differences, not quoted."""
    hub, ear = Hub(), Ear(PROTOBUF)
    hub.join(ROOM, ear, DELTA)
    hub.publish(ROOM, numbered(1, 2))

    frame = b"".join(chunk.payload for chunk in ear.chunks)
    first, second = (
        pb.Reply.FromString(part).push.pub for part in client_protobuf.split(frame)
    )

    assert not first.delta
    assert second.delta
    assert applied(first.data, second.data) == numbered(2)[0].entry.data


def test_a_tags_filter_lets_through_what_matches() -> None:
    """Offsets then have gaps, which clients do not mind."""
    hub, ear, plain = Hub(), Ear(), Ear()
    red = FilterNode(key="team", cmp="eq", val="red")
    hub.join(ROOM, ear, Hearing(tags=red))
    hub.join(ROOM, plain)

    hub.publish(
        ROOM,
        [
            Committed(entry(1, tags={"team": "red"})),
            Committed(entry(2, tags={"team": "blue"})),
            Committed(entry(3, tags={"team": "red"})),
        ],
    )

    assert [push["pub"]["offset"] for push in ear.pushes()] == [1, 3]
    assert [push["pub"]["offset"] for push in plain.pushes()] == [1, 2, 3]


def test_a_tags_filter_is_not_about_what_is_said_of_the_channel() -> None:
    """How many are there, who types: presence puts no tags on it."""
    hub, ear = Hub(), Ear()
    hub.join(ROOM, ear, Hearing(tags=FilterNode(key="team", cmp="eq", val="red")))

    live = [LivePublication(b"1"), LivePublication(b"2", unfiltered=True)]
    hub.publish_live(ROOM, live)

    assert [push["pub"]["data"] for push in ear.pushes()] == [2]


def test_joins_are_heard_by_those_who_asked() -> None:
    """Everybody else hears publications only."""
    hub, asked, plain = Hub(), Ear(), Ear()
    hub.join(ROOM, asked, WITH_MEMBERS)
    hub.join(ROOM, plain)

    info = b'{"user":"ada","client":"c"}'
    hub.publish_live(ROOM, [LivePublication(b"", info, kind=JOIN)])

    assert asked.pushes() == [{"channel": ROOM, "join": {"info": json.loads(info)}}]
    assert plain.chunks == []


def test_neighbours_share_one_chunk() -> None:
    """Encoded once, whatever their number."""
    hub, ears = Hub(), [Ear() for _ in range(3)]
    for ear in ears:
        hub.join(ROOM, ear)

    hub.publish(ROOM, numbered(1))

    assert len({id(ear.chunks[0]) for ear in ears}) == 1
