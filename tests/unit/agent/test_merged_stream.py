"""A response whose pieces of text are joined while it is read, and when it is not."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx2
import pytest

from chatmesh.agent.adapters.merged_stream import MergedStream, merged
from chatmesh.agent.merging import Merging
from support.eventually import eventually
from support.manual_clock import ManualClock, settle

WINDOW_S = 0.04
DONE = b"data: [DONE]\n\n"
STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def text(said: str) -> bytes:
    body = {"id": "c-1", "choices": [{"index": 0, "delta": {"content": said}}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def said_in(stream: bytes) -> str:
    events = [one for one in stream.split(b"\n\n") if one.startswith(b"data: {")]
    told = [json.loads(one.removeprefix(b"data: ")) for one in events]
    return "".join(one["choices"][0]["delta"]["content"] for one in told)


class Wire(httpx2.AsyncByteStream):
    """A response's body as the network gives it: what a test sends, when it sends it."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.read = 0
        self.closed = False
        self.abandoned = False

    def send(self, *chunks: bytes | Exception | None) -> None:
        """Bytes, a failure, or None: the end."""
        for chunk in chunks:
            self._chunks.put_nowait(chunk)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while (chunk := await self._chunks.get()) is not None:
                if isinstance(chunk, Exception):
                    raise chunk
                self.read += 1
                yield chunk
        except (asyncio.CancelledError, GeneratorExit):
            self.abandoned = True
            raise

    async def aclose(self) -> None:
        self.closed = True


class Reading:
    """A client that reads a response."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.clock = ManualClock()
        merging = Merging(lambda: WINDOW_S)
        self.stream = MergedStream(self.wire, merging, self.clock)
        self.got: list[bytes] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for data in self.stream:
            self.got.append(data)

    async def said(self, expected: str) -> None:
        await eventually(lambda: said_in(b"".join(self.got)) == expected)


@pytest.fixture
async def reading() -> AsyncIterator[Reading]:
    one = Reading()
    yield one
    one.task.cancel()
    await asyncio.wait({one.task})
    await one.stream.aclose()


async def test_text_is_joined_by_the_window(reading: Reading) -> None:
    """The first piece comes at once, all others of a window together."""
    reading.wire.send(text("One"))
    await reading.said("One")
    reading.wire.send(*(text(one) for one in (", ", "two", ", ", "three")))
    await eventually(lambda: reading.wire.read == 5)
    reading.clock.pass_time(WINDOW_S - 0.004)
    await settle()
    assert len(reading.got) == 1
    reading.clock.pass_time(0.004)
    await reading.said("One, two, three")
    assert len(reading.got) == 2


async def test_held_text_comes_though_nothing_follows(reading: Reading) -> None:
    """A model that falls silent has said all it has said."""
    reading.wire.send(text("One") + text("two"))
    await reading.said("Onetwo")
    reading.wire.send(text("three"))
    await eventually(lambda: reading.wire.read == 2)
    assert said_in(b"".join(reading.got)) == "Onetwo"
    reading.clock.pass_time(WINDOW_S)
    await reading.said("Onetwothree")


async def test_who_is_late_takes_all_there_is(reading: Reading) -> None:
    """Far behind, it goes on in larger pieces, and is not behind any more."""
    reading.wire.send(text("One"))
    await reading.said("One")
    reading.wire.send(text("held"))
    await eventually(lambda: reading.wire.read == 2)
    reading.clock.pass_time(100 * WINDOW_S)
    reading.wire.send(*[text("late")] * 50)
    await eventually(lambda: reading.wire.read == 52)
    reading.clock.pass_time(WINDOW_S)
    await reading.said("Oneheld" + "late" * 50)
    assert len(reading.got) <= 4


async def test_a_break_comes_behind_the_text_before_it(reading: Reading) -> None:
    """Nothing that was said is lost with the connection."""
    failure = httpx2.ReadError("cut off")
    reading.wire.send(text("One"), text("two"), b"data: {", failure)
    with pytest.raises(httpx2.ReadError, match="cut off"):
        await reading.task
    assert b"".join(reading.got) == text("One") + text("two") + b"data: {"


async def test_the_end_comes_without_its_mark(reading: Reading) -> None:
    """Some servers just end; what is held is given all the same."""
    reading.wire.send(text("One"), text("two"), None)
    await reading.task
    assert b"".join(reading.got) == text("One") + text("two")


async def test_what_is_left_is_read_by_whoever_goes_on() -> None:
    """The library stops at the mark of the end, and empties the response a second time."""
    wire = Wire()
    stream = MergedStream(wire, Merging(lambda: WINDOW_S), ManualClock())
    wire.send(text("One") + DONE)
    first = aiter(stream)
    assert await anext(first) == text("One") + DONE
    wire.send(b"\n", None)
    assert [data async for data in stream] == [b"\n"]
    await stream.aclose()


async def test_closing_ends_the_reading(reading: Reading) -> None:
    """In the middle of a read."""
    reading.wire.send(text("One"))
    await reading.said("One")
    await reading.stream.aclose()
    assert reading.wire.closed
    assert reading.wire.abandoned
    with pytest.raises(httpx2.StreamClosed):
        await reading.task


async def test_a_slow_taker_is_waited_for() -> None:
    """What is ready and not taken has a bound, however fast the model is."""
    wire = Wire()
    stream = MergedStream(wire, Merging(lambda: WINDOW_S), ManualClock())
    tool = b'data: {"choices":[],"filler":"%s"}\n\n' % (b"x" * 40_000)
    wire.send(*[tool] * 10, None)
    taking = aiter(stream)
    got = len(await anext(taking))
    await settle()
    assert wire.read < 10
    async for data in taking:
        got += len(data)
    assert got == 10 * len(tool)
    await stream.aclose()


async def test_an_event_that_does_not_end(reading: Reading) -> None:
    """It is told as a failure of the server, before it fills the memory."""
    reading.wire.send(*[b"x" * 1_000_000] * 5)
    with pytest.raises(httpx2.RemoteProtocolError):
        await reading.task


@pytest.mark.parametrize(
    ("status", "headers", "joined"),
    [
        (200, STREAM, True),
        (200, {"content-type": "application/json"}, False),
        (200, {**STREAM, "content-encoding": "gzip"}, False),
        (429, STREAM, False),
        (200, {}, False),
    ],
)
async def test_only_event_streams_are_touched(
    status: int, headers: dict[str, str], *, joined: bool
) -> None:
    """Refusals and whole answers are none, and what is compressed cannot be read."""
    wire = Wire()
    response = httpx2.Response(status, headers=headers, stream=wire)
    await merged(lambda: WINDOW_S, ManualClock())(response)
    assert isinstance(response.stream, MergedStream) is joined
    assert joined or response.stream is wire
