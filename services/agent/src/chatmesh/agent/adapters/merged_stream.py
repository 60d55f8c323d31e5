"""Joins a model's pieces of text before the model library sees them: a hook of its HTTP client.

The library parses every event of a response into models of its own. What arrives within a
window is one event to it; see `chatmesh.agent.merging` for what is joined and what is not.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final, cast

import anyio
import httpx2

from chatmesh.agent.merging import EventTooLong, Merging
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks

_READY_BYTES_MAX: Final = 64 * 1024
"""Reading waits while more than this has not been taken."""
_STOP_S: Final = 1.0
_EVENTS: Final = "text/event-stream"

_BROKEN: Final = (
    httpx2.HTTPError,
    httpx2.StreamError,
    # These two come through the client as they are when TLS ends without a word.
    ssl.SSLError,
    anyio.EndOfStream,
)


def merged(
    window_s: Callable[[], float], clock: Clock
) -> Callable[[httpx2.Response], Awaitable[None]]:
    """A response hook that merges event streams and leaves all others alone.

    `window_s`: how long text may be gathered, as it is wanted just now.
    """

    # Hooks are awaited; there is nothing to wait for.
    async def hook(response: httpx2.Response) -> None:  # noqa: RUF029
        headers = response.headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        # What is compressed has no lines before it is unpacked, which is not done here.
        plain = headers.get("content-encoding", "identity") == "identity"
        if kind == _EVENTS and plain and response.is_success:
            inner = response.stream
            assert isinstance(inner, httpx2.AsyncByteStream), "the client is async"
            response.stream = MergedStream(inner, Merging(window_s), clock)

    return hook


class MergedStream(httpx2.AsyncByteStream):
    """A response's bytes with fewer events in them. Iterate, then close.

    One task reads all the time, because text has to go out in time while nothing comes.
    Iterating again goes on where the iteration before has stopped.
    """

    def __init__(
        self, inner: httpx2.AsyncByteStream, merging: Merging, clock: Clock
    ) -> None:
        self._inner = inner
        self._merging = merging
        self._clock = clock
        self._tasks = Tasks()
        self._reader: asyncio.Task[Exception | None] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._ready = bytearray()
        self._news = asyncio.Event()
        self._taken = asyncio.Event()

    @property
    def elapsed(self) -> object:
        """How long the response took, once it is closed; the client looks for it here."""
        return getattr(self._inner, "elapsed", None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises what reading raised, once everything before it has been given."""
        if self._reader is None:
            self._reader = self._tasks.spawn(self._read(), name="read a model's answer")
            self._reader.add_done_callback(lambda _: self._news.set())
        while True:
            if self._ready:
                data, self._ready = bytes(self._ready), bytearray()
                self._taken.set()
                yield data
            elif self._reader.cancelled():
                raise httpx2.StreamClosed
            elif self._reader.done():
                if (failure := self._reader.result()) is not None:
                    raise failure
                return
            else:
                self._news.clear()
                await self._news.wait()

    async def aclose(self) -> None:
        self._disarm()
        await self._tasks.stop(_STOP_S)
        await self._inner.aclose()

    # -- Reading -----------------------------------------------------------------------

    async def _read(self) -> Exception | None:
        """Read to the end, or to the failure that is returned."""
        chunks = aiter(self._inner)
        try:
            async for chunk in chunks:
                self._offer(self._merging.feed(chunk, self._clock.monotonic_s()))
                self._arm()
                while len(self._ready) > _READY_BYTES_MAX:
                    self._taken.clear()
                    await self._taken.wait()
        except EventTooLong:
            return httpx2.RemoteProtocolError("an event of the stream does not end")
        except _BROKEN as error:
            return error
        finally:
            self._disarm()
            self._offer(self._merging.end(self._clock.monotonic_s()))
            if isinstance(chunks, AsyncGenerator):
                await cast("AsyncGenerator[bytes]", chunks).aclose()
        return None

    def _offer(self, data: bytes) -> None:
        if data:
            self._ready += data
            self._news.set()

    # -- Text that is due --------------------------------------------------------------

    def _arm(self) -> None:
        """See that what is held goes out in time, whatever the reading does."""
        due_s = self._merging.due_s
        if due_s is None:
            self._disarm()
        elif self._due is None:
            wait_s = max(0.0, due_s - self._clock.monotonic_s())
            self._due = asyncio.get_running_loop().call_later(wait_s, self._on_due)

    def _on_due(self) -> None:
        self._due = None
        now_s, due_s = self._clock.monotonic_s(), self._merging.due_s
        if due_s is not None and due_s <= now_s:
            self._offer(self._merging.release(now_s))
        # What was held then may have gone, and other text be held by now.
        self._arm()

    def _disarm(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
