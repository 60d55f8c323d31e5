"""A worker: takes calls from its pool's queue, runs them, and reports what became of them.

A call stays unacknowledged until its result is safe with the broker. So when a worker
dies, the broker hands its calls to the next one, which runs what is read-only again and
reports a side effect as unknown: it may have happened. A link that is lost does not end
running calls; their results leave by the next one.
"""

import asyncio
import logging
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from chatmesh.bus import topology
from chatmesh.bus.duplex import Delivery, Duplex, Post, open_duplex
from chatmesh.bus.link import PublishFailed
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime import trace_names
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.failures import sole
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.startup import CannotStart
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, SpanKind, Tracing
from chatmesh.tools.context import (
    OutcomeUnknown,
    Reporter,
    RetryLater,
    ToolContext,
    ToolFailed,
)
from chatmesh.tools.declaration import Served
from chatmesh.wire import limits
from chatmesh.wire import tools as wire
from chatmesh.wire.messages import Malformed
from chatmesh.wire.tools import Call, Progress, Registration, Result
from chatmesh.wire.topics import (
    DEFAULT_EXCHANGE,
    TOOL_DISCOVER_KEY,
    TOOL_PROGRESS_KEY,
    TOOL_REGISTRY_KEY,
    Topics,
    tool_cancel_key,
)

_log = logging.getLogger(__name__)

CONCURRENCY: Final = 8
"""Calls at once, unless said otherwise."""
PROGRESS_EVERY_S: Final = 0.2
DRAIN_S: Final = 20.0
"""Until calls that run at SIGTERM have to be finished."""
RESULTS_KEPT_MAX: Final = 256
"""Results remembered for calls that arrive once more."""
RESULTS_KEPT_BYTES_MAX: Final = 256 * limits.KIB
"""A larger result is not remembered once it is with the broker."""
ERROR_CHARS_MAX: Final = 2000
_RETRY_BASE_S: Final = 0.2
_RETRY_CAP_S: Final = 3.0
_STOP_S: Final = 5.0
_ID_BYTES: Final = 4

_DIED: Final = (
    "the worker that had this call was lost; it may or may not have taken effect,"
    " and was not run again"
)


class CallId(NamedTuple):
    """One execution that somebody asked for."""

    key: str
    attempt: int


@dataclass(slots=True)
class _Job:
    """One call at work, over however many links."""

    call: Call
    reply_to: str
    delivery: Delivery | None
    """As it came on the link that stands; None: that link is gone."""
    task: "asyncio.Task[None] | None" = None
    result: Result | None = None
    cancelled: bool = False


class Worker:
    """One worker of one pool. Run once."""

    def __init__(
        self,
        tools: Sequence[Served],
        *,
        pool: str,
        url: str,
        prefix: str,
        clock: Clock,
        concurrency: int = CONCURRENCY,
        drain_s: float = DRAIN_S,
        observe: Callable[[str, float], None] = lambda _outcome, _seconds: None,
        tracing: Tracing = OFF,
    ) -> None:
        """Raises CannotStart for a name that cannot be a pool's.

        `observe` hears how each call ended, and how many seconds it took.
        """
        if not wire.is_pool(pool):
            raise CannotStart(
                f"{pool!r} is no pool name: small letters, digits and -, at most 40"
            )
        self.name: Final = f"{pool}-{secrets.token_hex(_ID_BYTES)}"
        self.pool: Final = pool
        self._tools = {tool.description.name: tool for tool in tools}
        self._url = url
        self._topics = Topics(prefix)
        self._clock = clock
        self._concurrency = concurrency
        self._drain_s = drain_s
        self._observe = observe
        self._tracing = tracing
        self._jobs: dict[CallId, _Job] = {}
        self._sent: OrderedDict[CallId, Result] = OrderedDict()
        self._tasks = Tasks()
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="tool")
        self._link: Duplex | None = None
        self._lives = 0

    @property
    def serving(self) -> bool:
        """Whether calls can arrive."""
        return self._link is not None

    def offer(self, tools: Sequence[Served]) -> None:
        """Serve these tools from now on, in place of those before."""
        self._tools = {tool.description.name: tool for tool in tools}
        if self._link is not None:
            self._tasks.spawn(self._register(self._link), name="register")

    async def run(self, stopping: Stopping) -> None:
        """Serve until asked to stop; then finish what runs, within the limit."""
        backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, random.Random())  # noqa: S311 - jitter
        try:
            while not stopping.requested:
                try:
                    await self._live(stopping, backoff)
                except LinkLost as lost:
                    delay_s = backoff.next_s()
                    _log.warning(
                        "broker link lost",
                        extra={"cause": str(lost), "retry_in_s": round(delay_s, 2)},
                    )
                    await self._clock.sleep(delay_s)
        finally:
            await self._tasks.stop(_STOP_S)
            self._executor.shutdown(wait=False, cancel_futures=True)

    # -- One life of the link ------------------------------------------------------------

    async def _live(self, stopping: Stopping, backoff: Backoff) -> None:
        self._lives += 1
        async with open_duplex(
            self._url, name=self.name, topics=self._topics, clock=self._clock
        ) as link:
            try:
                await self._begin(link)
                backoff.reset()
                async with asyncio.TaskGroup() as group:
                    watching = group.create_task(link.run())
                    renewing = group.create_task(self._renew(link))
                    await stopping.wait()
                    await self._drain(link)
                    renewing.cancel()
                    watching.cancel()
            except BaseExceptionGroup as failures:
                raise sole(failures, LinkLost) from None
            except PublishFailed as failed:
                raise LinkLost(str(failed)) from failed
            finally:
                self._link = None
                for job in self._jobs.values():
                    job.delivery = None

    async def _begin(self, link: Duplex) -> None:
        queue = self._topics.tool_pool_queue(self.pool)
        await topology.declare_tool_pool(link.declaring, self._topics, self.pool)
        await link.hear(
            self._topics.tools_queue(f"{self.name}.{self._lives}"),
            self._topics.tools,
            (tool_cancel_key(self.pool), TOOL_DISCOVER_KEY),
            lambda delivery: self._told(link, delivery),
        )
        self._link = link
        # What was finished without a link leaves first.
        for job in [job for job in self._jobs.values() if job.result is not None]:
            await self._report(job)
        await link.consume(
            queue, lambda d: self._take(link, d), prefetch=self._concurrency
        )
        await self._register(link)
        _log.info(
            "serving tools", extra={"pool": self.pool, "tools": sorted(self._tools)}
        )

    async def _renew(self, link: Duplex) -> None:
        while True:
            await self._clock.sleep(limits.TOOL_RENEW_S)
            await self._register(link)

    async def _register(self, link: Duplex, ttl_ms: int | None = None) -> None:
        registration = Registration(
            worker=self.name,
            pool=self.pool,
            ttl_ms=limits.TOOL_LEASE_S * 1000 if ttl_ms is None else ttl_ms,
            tools=[tool.description for tool in self._tools.values()],
        )
        post = Post(
            self._topics.tools,
            TOOL_REGISTRY_KEY,
            wire.encode(registration),
            type=wire.REGISTRATION,
        )
        try:
            await link.publish(post)
        except PublishFailed as failed:
            link.lose(str(failed))

    async def _drain(self, link: Duplex) -> None:
        """Take nothing new, finish what runs; tell of what could not be finished."""
        await self._register(link, ttl_ms=0)
        await link.stop_consuming(self._topics.tool_pool_queue(self.pool))
        running = {job.task for job in self._jobs.values() if job.task is not None}
        if running:
            _, late = await asyncio.wait(running, timeout=self._drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_STOP_S)

    # -- What arrives ----------------------------------------------------------------------

    def _told(self, link: Duplex, delivery: Delivery) -> None:
        if delivery.routing_key == TOOL_DISCOVER_KEY:
            self._tasks.spawn(self._register(link), name="register")
            return
        try:
            key = wire.decode_cancel(delivery.body).key
        except Malformed as error:
            _log.warning("malformed wish dropped", extra={"cause": str(error)})
            return
        for job in self._jobs.values():
            if job.call.key == key and job.task is not None and job.result is None:
                job.cancelled = True
                job.task.cancel()

    def _take(self, link: Duplex, delivery: Delivery) -> None:
        try:
            call = wire.decode_call(delivery.body)
        except Malformed as error:
            _log.warning("malformed call buried", extra={"cause": str(error)})
            self._tasks.spawn(
                self._refuse(link, delivery, f"malformed: {error}"), name="bury a call"
            )
            return
        ident = CallId(call.key, call.attempt)
        job = self._jobs.get(ident)
        if job is not None:
            # It came again because a link was lost; it is at work here already.
            job.delivery = delivery
            if job.result is not None:
                self._tasks.spawn(self._report(job), name="report a result")
            return
        job = _Job(call, delivery.reply_to, delivery)
        self._jobs[ident] = job
        if (known := self._sent.get(ident)) is not None:
            job.result = known
            self._tasks.spawn(self._report(job), name="report a result")
            return
        job.task = self._tasks.spawn(
            self._work(job, delivery), name=f"tool {call.tool[:64]}"
        )

    async def _refuse(self, link: Duplex, delivery: Delivery, cause: str) -> None:
        key = delivery.message_id or delivery.correlation_id
        try:
            if key and delivery.reply_to:
                result = Result(key=key, state="failed", error=cause, worker=self.name)
                await self._publish_result(link, delivery.reply_to, result)
            await link.bury(delivery, self._topics.tool_pool_queue(self.pool), cause)
        except (PublishFailed, LinkLost) as failed:
            link.lose(str(failed))

    # -- One call ----------------------------------------------------------------------------

    async def _work(self, job: _Job, delivery: Delivery) -> None:
        started_s = self._clock.monotonic_s()
        try:
            job.result = await self._outcome(job, delivery)
        except asyncio.CancelledError:
            job.result = self._broken_off(job)
            # Ours when somebody no longer wants the call, or the worker leaves: the
            # result still has to be told.
        self._observe(job.result.state, self._clock.monotonic_s() - started_s)
        await self._report(job)

    def _broken_off(self, job: _Job) -> Result:
        tool = self._tools.get(job.call.tool)
        read_only = tool is not None and tool.description.read_only
        if job.cancelled:
            state, error = "cancelled", "the call was cancelled while it ran"
        elif read_only:
            state, error = "failed", "the worker left before the call was finished"
        else:
            state, error = "unknown", "the worker left while the call ran"
        return Result(
            key=job.call.key,
            state=state,
            error=error,
            retry=read_only and not job.cancelled,
            worker=self.name,
        )

    async def _outcome(self, job: _Job, delivery: Delivery) -> Result:
        call = job.call
        tool = self._tools.get(call.tool)
        left_s = (call.deadline_ms - self._clock.unix_ms()) / 1000
        if tool is None:
            return self._failed(call, f"this worker serves no tool {call.tool[:64]}")
        if left_s <= 0:
            return self._ended(call, "timeout", "the call arrived after its deadline")
        if delivery.redelivered and not tool.description.read_only:
            return self._ended(call, "unknown", _DIED)
        within_s = min(
            left_s, call.timeout_ms / 1000, tool.description.timeout_ms / 1000
        )
        reporter = Reporter(
            self._tell_progress, asyncio.get_running_loop(), PROGRESS_EVERY_S
        )
        traceparent = str(delivery.headers.get(wire.TRACEPARENT, ""))
        # By the tool's declared name: what a caller wrote may be anything.
        span = self._tracing.begin(
            trace_names.serve_tool(tool.description.name),
            parent=traceparent,
            kind=SpanKind.CONSUMER,
        )
        context = ToolContext.of(call, reporter.tell, span.traceparent or traceparent)
        try:
            with span:
                result = await self._run(call, tool, context, within_s)
                if result.state != "done":
                    span.fail(result.state)
            return result
        finally:
            reporter.close()

    async def _run(
        self, call: Call, tool: Served, context: ToolContext, within_s: float
    ) -> Result:
        limit = asyncio.timeout(within_s)
        try:
            async with limit:
                value = await tool.run(call.arguments, context, self._executor)
        except OutcomeUnknown as unknown:
            return self._ended(call, "unknown", str(unknown)[:ERROR_CHARS_MAX])
        except ToolFailed as failed:
            retry = isinstance(failed, RetryLater)
            return self._failed(call, str(failed), retry=retry)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its result
            if limit.expired():
                return self._ended(
                    call, "timeout", f"not finished within {within_s:g} s"
                )
            # The sentence may hold what people wrote: it goes to them, not into logs.
            _log.warning(
                "tool failed",
                extra={"tool": call.tool, "error": type(error).__name__},
            )
            return self._failed(call, f"{type(error).__name__}: {error}")
        return self._done(call, value)

    def _done(self, call: Call, value: object) -> Result:
        result = Result(key=call.key, state="done", result=value, worker=self.name)
        try:
            size = len(wire.encode(result))
        except (TypeError, ValueError, RecursionError) as error:
            return self._failed(call, f"the tool gave back what is no JSON: {error}")
        if size > limits.TOOL_RESULT_BYTES_MAX:
            return self._failed(
                call,
                f"the result has {size} bytes, over {limits.TOOL_RESULT_BYTES_MAX}",
            )
        return result

    def _failed(self, call: Call, error: str, *, retry: bool = False) -> Result:
        return Result(
            key=call.key,
            state="failed",
            error=error[:ERROR_CHARS_MAX],
            retry=retry,
            worker=self.name,
        )

    def _ended(self, call: Call, state: wire.ResultState, error: str) -> Result:
        return Result(key=call.key, state=state, error=error, worker=self.name)

    def _tell_progress(self, progress: Progress) -> None:
        link = self._link
        if link is not None and not link.lost:
            self._tasks.spawn(
                self._publish_progress(link, progress), name="tell progress"
            )

    async def _publish_progress(self, link: Duplex, progress: Progress) -> None:
        post = Post(
            self._topics.tools,
            TOOL_PROGRESS_KEY,
            wire.encode(progress),
            type=wire.PROGRESS,
            correlation_id=progress.key,
        )
        try:
            await link.publish(post)
        except PublishFailed as failed:
            # Progress may be lost; that the link fails is noticed by its watch as well.
            _log.debug("progress not told", extra={"cause": str(failed)})

    # -- Results -------------------------------------------------------------------------------

    async def _report(self, job: _Job) -> None:
        """Send a result, then acknowledge its call. Without a link it waits for the next."""
        link, result = self._link, job.result
        assert result is not None, "a job is reported once it has a result"
        if link is None or link.lost:
            return
        try:
            await self._publish_result(link, job.reply_to, result)
            if job.delivery is not None:
                await link.ack(job.delivery)
        except (PublishFailed, LinkLost) as failed:
            link.lose(str(failed))
            return
        ident = CallId(job.call.key, job.call.attempt)
        self._jobs.pop(ident, None)
        if _size(result.result) <= RESULTS_KEPT_BYTES_MAX:
            self._sent[ident] = result
            while len(self._sent) > RESULTS_KEPT_MAX:
                self._sent.popitem(last=False)

    async def _publish_result(
        self, link: Duplex, reply_to: str, result: Result
    ) -> None:
        post = Post(
            DEFAULT_EXCHANGE,
            reply_to,
            wire.encode(result),
            type=wire.RESULT,
            correlation_id=result.key,
            persistent=True,
            mandatory=True,
        )
        try:
            await link.publish(post)
        except PublishFailed as failed:
            if not failed.unroutable:
                raise
            # Whoever asked, with a queue of their own, has left.
            _log.info("nobody waits for a result", extra={"pool": self.pool})


def _size(value: Any) -> int:  # noqa: ANN401 - any JSON
    return len(msgspec.json.encode(value))
