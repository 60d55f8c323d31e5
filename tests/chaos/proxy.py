"""A wire that can be cut, delayed, reset and stalled: one TCP port before another.

Every process of the mesh reaches the broker and the database through a wire of its own,
so that a fault hits one of them and no other. The kernel here has no netem; a wire in
user space does the same to the bytes.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from chatmesh.local import ports
from chatmesh.runtime.tasks import Tasks

_CHUNK_BYTES: Final = 64 * 1024
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of no time at all: closing sends RST instead of FIN."""
CONNECT_WITHIN_S: Final = 2.0
_STOP_WITHIN_S: Final = 2.0


def through(url: str, port: int) -> str:
    """The same address behind a wire."""
    parts = urlsplit(url)
    user, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}@{ports.LOOPBACK}:{port}"))


class Wire:
    """Listens on `port` and leads to the first of `targets` that takes a connection."""

    def __init__(
        self, name: str, targets: Sequence[tuple[str, int]], *, in_turn: bool = False
    ) -> None:
        """`in_turn`: every connection begins with the next target, like a balancer."""
        self.name = name
        self.port = ports.free_port()
        self._targets = list(targets)
        self._in_turn = in_turn
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._tasks = Tasks()
        self._delay_s = 0.0

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._accepted, ports.LOOPBACK, self.port
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        await self._tasks.stop(_STOP_WITHIN_S)

    # -- Faults -----------------------------------------------------------------------

    def reset(self) -> None:
        """Break what is open with RST; new connections are taken."""
        for pair in list(self._pairs):
            pair.reset()

    def cut(self) -> None:
        """Break what is open and take nothing new, until `mend`."""
        self._refusing = True
        self.reset()

    def stall(self) -> None:
        """Let nothing through and say nothing: both ends believe the other is there."""
        self._flowing.clear()

    def delay(self, seconds: float) -> None:
        """Let every chunk wait so long, in both directions, until `mend`."""
        self._delay_s = seconds

    def mend(self) -> None:
        """As if nothing had been. What stalled flows again."""
        self._refusing = False
        self._delay_s = 0.0
        self._flowing.set()

    # -- Bytes ------------------------------------------------------------------------

    def _accepted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._tasks.spawn(self._serve(reader, writer), name=self.name)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._flowing.wait()
        far = None if self._refusing else await self._reach()
        if far is None:
            _reset(writer)
            return
        pair = _Pair(self, reader, writer, *far)
        self._pairs.add(pair)
        try:
            await pair.run()
        finally:
            self._pairs.discard(pair)

    async def _reach(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        if self._in_turn:
            self._targets.append(self._targets.pop(0))
        for host, port in list(self._targets):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    return await asyncio.open_connection(host, port)
        return None

    async def passing(self) -> None:
        """Return when a chunk may pass."""
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._flowing.wait()


class _Pair:
    """One connection, both halves of it."""

    def __init__(
        self,
        wire: Wire,
        near_reader: asyncio.StreamReader,
        near_writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        self._wire = wire
        self._near = near_reader, near_writer
        self._far = far_reader, far_writer

    async def run(self) -> None:
        """Carry bytes until one side ends; then end the other."""
        try:
            async with asyncio.TaskGroup() as group:
                there = group.create_task(self._carry(self._near[0], self._far[1]))
                back = group.create_task(self._carry(self._far[0], self._near[1]))
                await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()
        finally:
            self._near[1].close()
            self._far[1].close()

    def reset(self) -> None:
        _reset(self._near[1])
        _reset(self._far[1])

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # RuntimeError is what uvloop says of a transport that was reset meanwhile.
        with contextlib.suppress(OSError, RuntimeError):
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._wire.passing()
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # already gone
        plain: socket.socket | None = writer.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    writer.transport.abort()
