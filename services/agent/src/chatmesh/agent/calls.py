"""Calls of clients about runs: stop one, see what is under way, who is there."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol, TypeAlias, TypeVar
from uuid import UUID

import msgspec

from chatmesh.agent.agents import AgentsFile
from chatmesh.agent.conversation import carried_over
from chatmesh.agent.draft import Shown
from chatmesh.agent.metrics import Metrics
from chatmesh.agent.news import AgentControl, Say
from chatmesh.agent.ports import (
    Listed,
    Room,
    RunBook,
    RunBookUnavailable,
    Standing,
)
from chatmesh.agent.queue_news import shown_of
from chatmesh.agent.triggers import matches
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.calls import Role, ServiceAnswer, ServiceCall
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.runs import RunOutcome, is_agent, retry_of

_log = logging.getLogger(__name__)

CALLS_TOGETHER_MAX: Final = 16
SNAPSHOTS_TOGETHER_MAX: Final = 8
"""One for each room, whoever asks."""
CALLS_WAITING_MAX: Final = 5000
"""More than these are not answered: who asked is told so by the gateway's deadline."""
_URGENT: Final = frozenset({"run.stop", "approval.answer"})
"""Wait behind nothing but their own kind: somebody wants to prevent something."""
_TEXT_CHARS_MAX: Final = 2000
"""Of a tool's arguments and result in a snapshot that would be too large otherwise."""

_encode: Final = msgspec.json.Encoder().encode
T = TypeVar("T")

Other = Callable[[ServiceCall], Awaitable[ServiceAnswer]]
"""Answers a call that is about something else than runs; never raises."""


class Answers(Protocol):
    """The link a call came by."""

    async def answer(self, reply_to: str, answer: ServiceAnswer) -> None:
        """Raises LinkLost."""
        ...


class Refused(Exception):
    """A call that is not done; says what the client is told."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


class _Retry(msgspec.Struct):
    run: str


class _Stop(msgspec.Struct):
    run: str = ""
    agent: str = ""


def may_stop(role: str, user: str) -> str | None:
    """Whose runs somebody may stop or have done again: `*` everybody's, else of this user; None: nobody's.

    The one place that decides it.
    """
    if is_agent(user):
        return None
    if role in {Role.OWNER, Role.MODERATOR, Role.MEMBER}:
        return "*"
    return user or None


class Calls:
    """Answers calls of one life of the broker link, each by its deadline or not at all."""

    def __init__(
        self,
        *,
        book: RunBook,
        room: Room,
        link: Answers,
        agents: Callable[[], AgentsFile],
        shown: Callable[[str], Shown | None],
        wake: Callable[[], None],
        others: Mapping[str, Other],
        tasks: Tasks,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`shown` gives what is seen of a run performed here; `others` answer by method."""
        self._book = book
        self._room = room
        self._link = link
        self._agents = agents
        self._shown = shown
        self._wake = wake
        self._others = others
        self._tasks = tasks
        self._clock = clock
        self._metrics = metrics
        self._at_work = asyncio.Semaphore(CALLS_TOGETHER_MAX)
        self._urgent = asyncio.Semaphore(CALLS_TOGETHER_MAX)
        self._waiting = 0
        self._urgent_waiting = 0
        self._snapshots = _Shared(self._snapshot_of, tasks)
        self._own: dict[str, Callable[[ServiceCall], Awaitable[object]]] = {
            "run.stop": self._stop,
            "run.retry": self._retry,
            "run.snapshot": self._snapshot,
            "agent.list": self._list,
        }

    def hear(self, call: ServiceCall) -> None:
        urgent = call.method in _URGENT
        if (self._urgent_waiting if urgent else self._waiting) >= CALLS_WAITING_MAX:
            self._metrics.calls.labels("expired").inc()
            return
        if urgent:
            self._urgent_waiting += 1
        else:
            self._waiting += 1
        self._tasks.spawn(self._answer(call, urgent=urgent), name="answer a call")

    async def _answer(self, call: ServiceCall, *, urgent: bool) -> None:
        lane: AbstractAsyncContextManager[object] = nullcontext()
        if urgent:
            lane = self._urgent
        elif call.method != "run.snapshot":
            # Snapshots are shared, and take turns where they are made.
            lane = self._at_work
        try:
            async with lane:
                if self._clock.unix_ms() > call.deadline_ms:
                    self._metrics.calls.labels("expired").inc()
                    return
                await self._link.answer(call.reply_to, await self._answered(call))
        except LinkLost as lost:
            _log.debug("answer lost with the link", exc_info=lost)
        finally:
            if urgent:
                self._urgent_waiting -= 1
            else:
                self._waiting -= 1

    async def _answered(self, call: ServiceCall) -> ServiceAnswer:
        if (other := self._others.get(call.method)) is not None:
            return await other(call)
        outcome = "answered"
        try:
            own = self._own.get(call.method)
            if own is None:
                raise Refused(errors.METHOD_NOT_FOUND)  # noqa: TRY301 - one way out
            return ServiceAnswer(call.request, _encode(await own(call)))
        except Refused as refused:
            outcome, reply = "refused", refused.reply
        except RunBookUnavailable as error:
            _log.warning("call failed", extra={"cause": str(error)})
            outcome, reply = "failed", errors.INTERNAL
        finally:
            self._metrics.calls.labels(outcome).inc()
        return ServiceAnswer(
            call.request,
            error_code=reply.code,
            error_message=reply.message,
            error_temporary=reply.temporary,
        )

    # -- Methods -------------------------------------------------------------------------

    async def _stop(self, call: ServiceCall) -> object:
        wanted = _read(call, _Stop)
        whose = may_stop(call.role, call.user)
        if whose is None:
            raise Refused(errors.PERMISSION_DENIED)
        if wanted.agent and wanted.agent not in self._agents().agents:
            raise Refused(errors.because(errors.BAD_REQUEST, "unknown agent"))
        stopped = await self._book.stop(
            by=call.user,
            channel=_channel(call),
            runs=[_run_id(wanted.run)] if wanted.run else [],
            agent=wanted.agent,
            requester=None if whose == "*" else whose,
        )
        if stopped:
            self._room.say(AgentControl(Say.STOP, stopped))
            self._room.say(AgentControl(Say.WAKE))
            self._wake()
        return {"stopped": stopped}

    async def _retry(self, call: ServiceCall) -> object:
        """A run that failed or was interrupted, once more: however often it is asked for."""
        channel, run = _channel(call), _run_id(_read(call, _Retry).run)
        whose = may_stop(call.role, call.user)
        old = await self._book.one(run)
        if whose is None:
            raise Refused(errors.PERMISSION_DENIED)
        if old is None or old.channel != channel:
            raise Refused(errors.because(errors.BAD_REQUEST, "no such run here"))
        if whose not in {"*", old.requester}:
            raise Refused(errors.PERMISSION_DENIED)
        if old.agent not in self._agents().agents:
            raise Refused(errors.because(errors.NOT_AVAILABLE, "unknown agent"))
        again = retry_of(run)
        status = await self._book.retry(
            run,
            again=again,
            channel=channel,
            traceparent=call.traceparent,
            carried=carried_over(await self._book.journal(run)),
        )
        if status is None:
            raise Refused(errors.because(errors.NOT_AVAILABLE, _not_again(old)))
        self._room.say(AgentControl(Say.WAKE))
        self._wake()
        return {"run": again, "status": status}

    async def _snapshot(self, call: ServiceCall) -> object:
        """The live runs, in one answer for all who have asked before it is begun."""
        return await self._snapshots.made(_channel(call))

    async def _snapshot_of(self, channel: str) -> msgspec.Raw:
        """The live runs: as they are where they are performed, else as last stored."""
        found = await self._book.open_in(channel)
        here = {one.run: self._shown(one.run) for one in found}
        elsewhere = frozenset(
            one.run
            for one in found
            if here[one.run] is None and one.status is Standing.RUNNING
        )
        there = (
            await self._room.shown_elsewhere(channel, elsewhere) if elsewhere else {}
        )
        shown = [
            here[one.run]
            or there.get(one.run)
            or one.shown
            or shown_of(one, channel, self._agents())
            for one in found
        ]
        return msgspec.Raw(_encode({"runs": fitting(shown)}))

    async def _list(self, call: ServiceCall) -> object:
        return {
            "agents": [
                {
                    "name": agent.name,
                    "title": agent.title,
                    "picture": agent.picture,
                    "mention": agent.trigger.mention,
                    "direct": matches(call.channel, agent.trigger.direct)
                    or agent.trigger.every_message,
                    "scripted": self._agents().model_of(agent).kind == "scripted",
                }
                for agent in self._agents().agents.values()
                if not call.channel or matches(call.channel, agent.rooms)
            ]
        }


class _Shared:
    """Answers made once for all who ask for the same before it is begun.

    Who asks later gets a later one: what they have heard since must not be newer than it.
    """

    def __init__(
        self, make: Callable[[str], Awaitable[msgspec.Raw]], tasks: Tasks
    ) -> None:
        self._make = make
        self._tasks = tasks
        self._at_work = asyncio.Semaphore(SNAPSHOTS_TOGETHER_MAX)
        self._now: dict[str, _Making] = {}
        self._next: dict[str, _Making] = {}

    async def made(self, about: str) -> msgspec.Raw:
        """Raises RunBookUnavailable."""
        making = self._next.get(about)
        if making is None:
            making = self._next[about] = self._tasks.spawn(
                self._made(about, self._now.get(about)), name="make a snapshot"
            )
        found = await asyncio.shield(making)
        if isinstance(found, RunBookUnavailable):
            raise RunBookUnavailable(str(found)) from found
        return found

    async def _made(
        self, about: str, before: "_Making | None"
    ) -> "msgspec.Raw | RunBookUnavailable":
        if before is not None:
            await asyncio.wait({before})
        async with self._at_work:
            self._now[about] = self._next.pop(about)
            try:
                return await self._make(about)
            except RunBookUnavailable as error:
                # For everybody who waits, and no failure of this task.
                return error
            finally:
                del self._now[about]


_Making: TypeAlias = "asyncio.Task[msgspec.Raw | RunBookUnavailable]"


def fitting(shown: list[Shown]) -> list[Any]:
    """As much of the live runs as one answer holds; the text goes before everything else.

    No run is left out: who is shown too little of one asks for it once more, and who is
    shown nothing does not know that it can be stopped.
    """
    if len(_encode(shown)) <= limits.SERVICE_ANSWER_BYTES_MAX - limits.KIB:
        return list(shown)
    plain: list[dict[str, Any]] = [msgspec.to_builtins(one) for one in shown]
    for run in plain:
        for step in run["steps"]:
            for tool in step["tools"]:
                tool["arguments"] = tool["arguments"][:_TEXT_CHARS_MAX]
                tool["result"] = tool["result"][:_TEXT_CHARS_MAX]
    size = len(_encode(plain))
    for run in reversed(plain):
        if size <= limits.SERVICE_ANSWER_BYTES_MAX - limits.KIB:
            break
        size -= len(_encode(run))
        run["steps"] = []
        size += len(_encode(run))
    return list(plain)


def _not_again(old: Listed) -> str:
    """Why a run is not done again, for people."""
    if old.status not in {Standing.ENDING, Standing.ENDED}:
        return "the run is not over"
    if old.outcome not in {RunOutcome.FAILED, RunOutcome.INTERRUPTED}:
        return f"the run is {old.outcome}"
    return "it is too long ago"


def _channel(call: ServiceCall) -> str:
    if not call.channel:
        raise Refused(errors.because(errors.BAD_REQUEST, "no channel"))
    return call.channel


def _run_id(text: str) -> str:
    """A run's id as one may ask the database for. Raises Refused."""
    try:
        return str(msgspec.convert(text, type=UUID))
    except msgspec.ValidationError as error:
        raise Refused(errors.because(errors.BAD_REQUEST, "no run id")) from error


def _read(call: ServiceCall, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(call.data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(errors.because(errors.BAD_REQUEST, str(error))) from error
