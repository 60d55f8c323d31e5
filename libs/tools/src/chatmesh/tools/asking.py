"""Lists and calls tools without an agent: for people at a terminal, and for tests of tools.

Nothing is recorded and nobody is asked: what a tool would need approval for is the
caller's own decision here, as it is the caller who has access to the broker.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from chatmesh.bus.duplex import Delivery, Duplex, Post, open_duplex
from chatmesh.bus.link import PublishFailed
from chatmesh.runtime.clock import Clock
from chatmesh.wire import tools as wire
from chatmesh.wire.messages import Malformed
from chatmesh.wire.tools import Call, Progress, Registration, Result
from chatmesh.wire.topics import (
    TOOL_DISCOVER_KEY,
    TOOL_PROGRESS_KEY,
    TOOL_REGISTRY_KEY,
    Topics,
    tool_call_key,
)

LISTEN_S: Final = 1.5
"""Workers that live answer well within this."""
CALLER: Final = "operator"
_ID_BYTES: Final = 8


class NotAnswered(Exception):
    """A call without a result, and why."""


class Asking:
    """One link of somebody who lists and calls tools. Made by `open_asking`."""

    def __init__(self, link: Duplex, queue: str, clock: Clock) -> None:
        self._link = link
        self._queue = queue
        self._clock = clock
        self._registered: dict[str, Registration] = {}
        self._progress: Callable[[Progress], None] = lambda _: None
        self._results: dict[str, asyncio.Future[Result]] = {}

    async def workers(self, listen_s: float = LISTEN_S) -> list[Registration]:
        """Every worker there is, asked now. Raises NotAnswered without a broker."""
        await self._publish(
            Post(self._link.topics.tools, TOOL_DISCOVER_KEY, b"{}", type=wire.DISCOVER)
        )
        await self._clock.sleep(listen_s)
        return sorted(self._registered.values(), key=lambda one: one.worker)

    async def call(
        self,
        pool: str,
        tool: str,
        arguments: dict[str, Any],
        *,
        within_s: float,
        told: Callable[[Progress], None],
    ) -> Result:
        """Call a tool and wait for its result. Raises NotAnswered."""
        key = f"{CALLER}:{secrets.token_hex(_ID_BYTES)}"
        self._progress = told
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._results[key] = answer
        call = Call(
            key=key,
            tool=tool,
            arguments=arguments,
            deadline_ms=self._clock.unix_ms() + int(within_s * 1000),
            timeout_ms=int(within_s * 1000),
            requester=CALLER,
        )
        post = Post(
            self._link.topics.tools,
            tool_call_key(pool),
            wire.encode(call),
            type=wire.CALL,
            message_id=key,
            correlation_id=key,
            reply_to=self._queue,
            expires_ms=int(within_s * 1000),
            persistent=True,
            mandatory=True,
        )
        try:
            await self._publish(post)
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError as error:
            raise NotAnswered(f"no result within {within_s:g} s") from error
        finally:
            self._results.pop(key, None)

    async def _publish(self, post: Post) -> None:
        try:
            await self._link.publish(post)
        except PublishFailed as failed:
            raise NotAnswered(str(failed)) from failed

    def hear(self, delivery: Delivery) -> None:
        """Take what arrives; what is malformed is not for us."""
        try:
            match delivery.routing_key:
                case key if key == TOOL_REGISTRY_KEY:
                    self._register(wire.decode_registration(delivery.body))
                case key if key == TOOL_PROGRESS_KEY:
                    progress = wire.decode_progress(delivery.body)
                    if progress.key in self._results:
                        self._progress(progress)
                case _:
                    result = wire.decode_result(delivery.body)
                    answer = self._results.get(result.key)
                    if answer is not None and not answer.done():
                        answer.set_result(result)
        except Malformed as error:
            answer = self._results.get(delivery.correlation_id)
            if answer is not None and not answer.done():
                answer.set_exception(NotAnswered(f"the answer is malformed: {error}"))

    def _register(self, registration: Registration) -> None:
        if registration.ttl_ms > 0:
            self._registered[registration.worker] = registration
        else:
            self._registered.pop(registration.worker, None)


@asynccontextmanager
async def open_asking(url: str, topics: Topics, clock: Clock) -> AsyncGenerator[Asking]:
    """A link to ask with; closed at the end. Raises LinkLost."""
    name = f"asking-{secrets.token_hex(_ID_BYTES)}"
    queue = topics.tools_queue(name)
    async with open_duplex(url, name=name, topics=topics, clock=clock) as link:
        asking = Asking(link, queue, clock)
        await link.hear(
            queue, topics.tools, (TOOL_REGISTRY_KEY, TOOL_PROGRESS_KEY), asking.hear
        )
        yield asking
