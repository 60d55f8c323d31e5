"""A wire that does not do what it says would make every scenario worthless."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chaos.proxy import Wire
from chaos.wires import FarWires
from chatmesh.local import ports
from support.eventually import eventually

SOON_S = 0.3
"""Long enough for loopback, and short enough to wait for what must not come."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Through = Callable[[int], Awaitable[Stream]]


class Echo:
    """A server that says back what it hears."""

    def __init__(self) -> None:
        self.port = ports.free_port()
        self.open = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, ports.LOOPBACK, self.port
        )

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.open += 1
        try:
            while chunk := await reader.read(1024):
                writer.write(chunk)
        except OSError:
            pass  # Reset, as some tests want it.
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def wire(echo: Echo) -> AsyncIterator[Wire]:
    laid = Wire("test", [(ports.LOOPBACK, echo.port)])
    await laid.start()
    yield laid
    await laid.stop()


@pytest.fixture
async def through() -> AsyncIterator[Through]:
    """Connect to a port; closed when the test is over."""
    opened: list[asyncio.StreamWriter] = []

    async def connect(port: int) -> Stream:
        reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
        opened.append(writer)
        return reader, writer

    yield connect
    for writer in opened:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def is_broken(stream: Stream) -> bool:
    """Whether the other end is gone, politely or not."""
    try:
        return await answer(stream) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


async def answer(stream: Stream, said: bytes = b"hello") -> bytes:
    """What comes back; raises TimeoutError when nothing does."""
    reader, writer = stream
    writer.write(said)
    async with asyncio.timeout(SOON_S):
        return await reader.read(1024)


async def test_a_whole_wire_carries_everything(wire: Wire, through: Through) -> None:
    """There and back, for several connections."""
    first, second = await through(wire.port), await through(wire.port)

    assert await answer(first, b"one") == b"one"
    assert await answer(second, b"two") == b"two"


async def test_a_reset_breaks_what_is_open_and_nothing_else(
    wire: Wire, echo: Echo, through: Through
) -> None:
    """Both ends learn of it at once; the next connection works."""
    stream = await through(wire.port)
    assert await answer(stream) == b"hello"

    wire.reset()

    assert await is_broken(stream)
    await eventually(lambda: echo.open == 0)
    assert await answer(await through(wire.port)) == b"hello"


async def test_a_cut_wire_takes_nobody_until_it_is_mended(
    wire: Wire, through: Through
) -> None:
    """A connection that is begun meanwhile is broken as well."""
    wire.cut()
    during = await through(wire.port)
    assert await is_broken(during)

    wire.mend()

    assert await answer(await through(wire.port)) == b"hello"


async def test_a_stalled_wire_is_silent_and_says_it_all_later(
    wire: Wire, through: Through
) -> None:
    """Neither end is told anything; nothing is lost."""
    stream = await through(wire.port)
    wire.stall()
    with pytest.raises(TimeoutError):
        await answer(stream)

    wire.mend()

    assert await answer(stream, b"") == b"hello"


async def test_a_delay_is_felt_in_both_directions(wire: Wire, through: Through) -> None:
    """A round trip takes two of them."""
    stream = await through(wire.port)
    wire.delay(0.05)
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    assert await answer(stream) == b"hello"

    assert loop.time() - began_s >= 0.1


async def test_the_next_target_is_taken_when_one_is_gone(
    echo: Echo, through: Through
) -> None:
    """That is how a client finds the broker nodes that are left."""
    laid = Wire("test", [(ports.LOOPBACK, ports.free_port()), ("127.0.0.1", echo.port)])
    await laid.start()
    try:
        assert await answer(await through(laid.port)) == b"hello"
    finally:
        await laid.stop()


async def test_wires_in_another_process_obey_as_well(
    echo: Echo, through: Through
) -> None:
    """In the order in which they are told."""
    far = FarWires()
    await far.start({"a": [(ports.LOOPBACK, echo.port)]})
    try:
        stream = await through(far["a"].port)
        assert await answer(stream) == b"hello"
        far["a"].cut()
        far["a"].mend()
        await eventually(lambda: is_broken(stream))
        assert await answer(await through(far["a"].port)) == b"hello"
    finally:
        await far.stop()
