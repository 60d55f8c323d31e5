"""`ports.Wire` on RabbitMQ, and the consumers that feed the calls and the registry."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Final, Protocol

from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.agent.tools.ports import (
    LedgerRefused,
    LedgerUnavailable,
    PoolFull,
    Unroutable,
    WireDown,
)
from chatmesh.bus import topology
from chatmesh.bus.duplex import Delivery, Duplex, Post, PublishRefused, open_duplex
from chatmesh.bus.link import PublishFailed
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import limits
from chatmesh.wire import tools as wire
from chatmesh.wire.messages import Malformed
from chatmesh.wire.tools import Call, Cancel, Progress, Registration, Result, Settled
from chatmesh.wire.topics import (
    TOOL_DISCOVER_KEY,
    TOOL_PROGRESS_KEY,
    TOOL_REGISTRY_KEY,
    TOOL_SETTLED_KEY,
    Topics,
    tool_call_key,
    tool_cancel_key,
)

_log = logging.getLogger(__name__)

RESULTS_PREFETCH: Final = 32
_RETRY_BASE_S: Final = 0.2
_RETRY_CAP_S: Final = 3.0
_STORE_BASE_S: Final = 0.1
_STORE_CAP_S: Final = 2.0
_STOP_S: Final = 3.0


class Hearer(Protocol):
    """Who is told what arrives."""

    def wake(self, key: str) -> None: ...
    def linked(self) -> None: ...
    def progressed(self, progress: Progress) -> None: ...
    def took(self, result: Result) -> Awaitable[str]: ...


class RabbitWire:
    """The link of one replica to all workers, and to the other replicas."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        topics: Topics,
        registered: Callable[[Registration], None],
        clock: Clock,
        metrics: ToolMetrics,
    ) -> None:
        self._url = url
        self._name = name
        self._topics = topics
        self._registered = registered
        self._clock = clock
        self._metrics = metrics
        self._hearer: Hearer | None = None
        self._link: Duplex | None = None
        self._lives = 0
        # Read, a large result takes many times its size: one after the other.
        self._large = asyncio.Semaphore(1)
        self._random = random.Random()  # noqa: S311 - jitter, not secrets

    def feed(self, hearer: Hearer) -> None:
        """Say who hears what arrives; once, before `run`."""
        self._hearer = hearer

    @property
    def up(self) -> bool:
        return self._link is not None and not self._link.lost

    async def run(self) -> None:
        """One link after the other, until cancelled."""
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, self._random)
        while True:
            try:
                await self._live(backoff)
            except LinkLost as lost:
                delay_s = backoff.next_s()
                _log.warning(
                    "tool link lost",
                    extra={"cause": str(lost), "retry_in_s": round(delay_s, 2)},
                )
                await self._clock.sleep(delay_s)

    async def _live(self, backoff: Backoff) -> None:
        self._lives += 1
        tasks = Tasks()
        async with open_duplex(
            self._url, name=self._name, topics=self._topics, clock=self._clock
        ) as link:
            try:
                await topology.declare_tool_results(link.declaring, self._topics)
                await link.hear(
                    self._topics.tools_queue(f"{self._name}.{self._lives}"),
                    self._topics.tools,
                    (TOOL_REGISTRY_KEY, TOOL_PROGRESS_KEY, TOOL_SETTLED_KEY),
                    self._heard,
                )
                await link.consume(
                    self._topics.tool_results_queue,
                    lambda d: _spawn(tasks, self._store(link, d)),
                    prefetch=RESULTS_PREFETCH,
                )
                discover = Post(
                    self._topics.tools, TOOL_DISCOVER_KEY, b"{}", type=wire.DISCOVER
                )
                await link.publish(discover)
                self._link = link
                backoff.reset()
                assert self._hearer is not None, "a wire is fed before it runs"
                self._hearer.linked()
                await link.run()
            except PublishFailed as failed:
                raise LinkLost(str(failed)) from failed
            finally:
                self._link = None
                await tasks.stop(_STOP_S)

    # -- ports.Wire ------------------------------------------------------------------------

    async def send(self, pool: str, call: Call, expires_ms: int, trace: str) -> None:
        post = Post(
            self._topics.tools,
            tool_call_key(pool),
            wire.encode(call),
            type=wire.CALL,
            message_id=call.key,
            correlation_id=call.key,
            reply_to=self._topics.tool_results_queue,
            expires_ms=expires_ms,
            persistent=True,
            mandatory=True,
            headers={wire.TRACEPARENT: trace} if trace else None,
        )
        await self._publish(post)

    async def cancel(self, pool: str, key: str) -> None:
        body = wire.encode(Cancel(key=key))
        post = Post(self._topics.tools, tool_cancel_key(pool), body, type=wire.CANCEL)
        await self._publish(post)

    async def tell_settled(self, key: str) -> None:
        body = wire.encode(Settled(key=key))
        post = Post(self._topics.tools, TOOL_SETTLED_KEY, body, type=wire.SETTLED)
        await self._publish(post)

    async def _publish(self, post: Post) -> None:
        link = self._link
        if link is None or link.lost:
            raise WireDown("no link to the broker")
        try:
            await link.publish(post)
        except PublishRefused as refused:
            raise PoolFull(str(refused)) from refused
        except PublishFailed as failed:
            if failed.unroutable:
                raise Unroutable(str(failed)) from failed
            link.lose(str(failed))
            raise WireDown(str(failed), attempted=True) from failed

    # -- What arrives ----------------------------------------------------------------------

    def _heard(self, delivery: Delivery) -> None:
        assert self._hearer is not None, "a wire is fed before it runs"
        try:
            match delivery.routing_key:
                case key if key == TOOL_REGISTRY_KEY:
                    self._registered(wire.decode_registration(delivery.body))
                case key if key == TOOL_PROGRESS_KEY:
                    self._hearer.progressed(wire.decode_progress(delivery.body))
                case _:
                    self._hearer.wake(wire.decode_settled(delivery.body).key)
        except Malformed as error:
            _log.warning(
                "malformed word of a worker dropped",
                extra={"kind": delivery.routing_key, "cause": str(error)},
            )

    async def _store(self, link: Duplex, delivery: Delivery) -> None:
        large = len(delivery.body) > limits.TOOL_INLINE_BYTES_MAX
        async with self._large if large else nullcontext():
            await self._store_now(link, delivery)

    async def _store_now(self, link: Duplex, delivery: Delivery) -> None:
        """Store a result, then acknowledge it; what cannot be stored is buried."""
        assert self._hearer is not None, "a wire is fed before it runs"
        cause = ""
        try:
            result = await asyncio.to_thread(wire.decode_result, delivery.body)
        except Malformed as error:
            cause = f"malformed: {error}"
            told = f"the worker's answer was malformed: {error}"
            result = Result(key=delivery.correlation_id, state="unknown", error=told)
        backoff = Backoff(_STORE_BASE_S, _STORE_CAP_S, self._random)
        while True:
            try:
                fate = await self._hearer.took(result)
                break
            except LedgerUnavailable:
                # Not acknowledged: if we die or the link goes, it comes again.
                await self._clock.sleep(backoff.next_s())
            except LedgerRefused as error:
                fate, cause = "malformed", f"refused: {error}"
                break
        if fate == "orphaned":
            cause = cause or "no such call"
        self._metrics.results.labels("malformed" if cause else fate).inc()
        try:
            if cause:
                _log.warning("a result was buried", extra={"cause": cause})
                queue = self._topics.tool_results_queue
                await link.bury(delivery, queue, cause)
            else:
                await link.ack(delivery)
        except (PublishFailed, LinkLost) as failed:
            link.lose(str(failed))


def _spawn(tasks: Tasks, work: "Awaitable[None]") -> None:
    async def done() -> None:
        await work

    tasks.spawn(done(), name="store a result")
