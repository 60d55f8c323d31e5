"""Answers who asks: who is in a channel, how many, where is a user; and sets a status."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Final, TypeAlias, TypeVar

import msgspec

from chatmesh.bus.outgoing import LinkLost
from chatmesh.presence.metrics import Metrics
from chatmesh.presence.ports import (
    BookRefused,
    BookUnavailable,
    Directory,
    Link,
)
from chatmesh.presence.reports import refuse_status
from chatmesh.presence.roster import PUB, News
from chatmesh.runtime import trace_names
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import OFF, Span, SpanKind, Tracing
from chatmesh.wire import channels, errors, limits, users
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.presence import (
    CountsAsk,
    Member,
    MembersAsk,
    PayloadType,
    PresenceAnswer,
    PresenceAsk,
    PresenceAsks,
    PresenceCounts,
    PresencePage,
    PresenceUser,
    StatusSet,
    UserAsk,
)

_log = logging.getLogger(__name__)

ASKS_TOGETHER_MAX: Final = 8
"""Requests at work; the others wait their turn."""
ASKS_WAITING_MAX: Final = 10_000
PAGE_BYTES_MAX: Final = limits.MIB
"""Infos in one page; what does not fit goes into the next."""

_ANSWERED: Final = "answered"
_encode: Final = msgspec.json.Encoder().encode
_Refusable: TypeAlias = type[PresencePage] | type[PresenceCounts]

T = TypeVar("T")


def status_data(user: str, text: str, *, do_not_disturb: bool) -> bytes:
    """What the channels of a user hear when the status changes."""
    return _encode(
        {
            "type": PayloadType.STATUS,
            "user": user,
            "text": text,
            "do_not_disturb": do_not_disturb,
        }
    )


async def told_status(directory: Directory, user: str) -> list[News]:
    """What has to be published after a user's status was set. Raises BookUnavailable."""
    known = await directory.user(user)
    data = status_data(user, known.status_text, do_not_disturb=known.do_not_disturb)
    return [News(channel, PUB, data) for channel in known.channels]


class Answerer:
    """Answers requests of one life of the broker link, each by its deadline or not at all."""

    def __init__(
        self,
        *,
        directory: Directory,
        link: Link,
        tasks: Tasks,
        metrics: Metrics,
        clock: Clock,
        timeout_s: float,
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._directory = directory
        self._link = link
        self._tasks = tasks
        self._metrics = metrics
        self._clock = clock
        self._timeout_s = timeout_s
        self._at_work = asyncio.Semaphore(ASKS_TOGETHER_MAX)
        self._waiting = 0

    def hear(self, asks: PresenceAsks, expires_in_s: float) -> None:
        """Take requests. Too many, and they are dropped: the asker times out and asks again."""
        if self._waiting + len(asks.asks) > ASKS_WAITING_MAX:
            self._metrics.asks.labels("expired").inc(len(asks.asks))
            return
        self._waiting += len(asks.asks)
        deadline_s = self._clock.monotonic_s() + (expires_in_s or self._timeout_s)
        for ask in asks.asks:
            self._tasks.spawn(
                self._answer(asks.reply_to, ask, deadline_s), name="presence answer"
            )

    async def _answer(self, reply_to: str, ask: PresenceAsk, deadline_s: float) -> None:
        arrived_s = self._clock.monotonic_s()
        try:
            async with self._at_work:
                started_s = self._clock.monotonic_s()
                if started_s > deadline_s:
                    self._metrics.asks.labels("expired").inc()
                    return
                outcome = await self._traced(reply_to, ask, started_s - arrived_s)
                self._metrics.asks.labels(outcome).inc()
                self._metrics.ask_seconds.observe(self._clock.monotonic_s() - started_s)
        except LinkLost as lost:
            _log.debug("answer lost with the link", exc_info=lost)
        finally:
            self._waiting -= 1

    async def _traced(self, reply_to: str, ask: PresenceAsk, waited_s: float) -> str:
        span = self._tracing.begin(
            trace_names.ANSWER_PRESENCE,
            parent=ask.traceparent,
            kind=SpanKind.CONSUMER,
            ago_s=waited_s,
        )
        with span:
            outcome = await self._outcome(reply_to, ask, span)
            if outcome != _ANSWERED:
                span.fail(outcome)
            return outcome

    async def _look_up(self, span: Span, work: Awaitable[T]) -> T:
        """Ask the directory, as a part of the answer's trace."""
        name = trace_names.LOOK_UP_PRESENCE
        with self._tracing.begin(name, parent=span.traceparent, kind=SpanKind.CLIENT):
            return await work

    async def _outcome(self, reply_to: str, ask: PresenceAsk, span: Span) -> str:
        reason = _refuse(ask)
        if reason is not None:
            refusal = errors.because(errors.BAD_REQUEST, reason)
            await self._link.answer(reply_to, _refused(ask, refusal))
            return "refused"
        try:
            match ask:
                case MembersAsk():
                    await self._pages(reply_to, ask, span)
                case CountsAsk():
                    (counts,) = await self._look_up(
                        span, self._directory.counts([ask.channel])
                    )
                    await self._link.answer(
                        reply_to, PresenceCounts(ask.request, ask.channel, *counts)
                    )
                case UserAsk():
                    await self._user(reply_to, ask.request, ask.user, span)
                case StatusSet():
                    await self._look_up(
                        span,
                        self._directory.set_status(
                            ask.user, ask.text, do_not_disturb=ask.do_not_disturb
                        ),
                    )
                    await self._user(reply_to, ask.request, ask.user, span)
                    await self._link.tell(await told_status(self._directory, ask.user))
        except (BookUnavailable, BookRefused) as error:
            _log.warning("request failed", extra={"cause": str(error)})
            await self._link.answer(reply_to, _refused(ask, errors.INTERNAL))
            return "failed"
        return _ANSWERED

    async def _user(self, reply_to: str, request: int, user: str, span: Span) -> None:
        known = await self._look_up(span, self._directory.user(user))
        await self._link.answer(reply_to, PresenceUser(request, user, *known))

    async def _pages(self, reply_to: str, ask: MembersAsk, span: Span) -> None:
        (counts,) = await self._look_up(span, self._directory.counts([ask.channel]))
        after, left = ask.after, ask.limit
        while True:
            full = limits.PRESENCE_PAGE_MEMBERS_MAX
            limit = min(left or full, full)
            found = await self._look_up(span, self._page(ask, after, limit + 1))
            taken = _fitting(found[:limit])
            more = len(found) > len(taken)
            after = taken[-1][0] if taken else after
            left -= len(taken) if ask.limit else 0
            last = not more or bool(ask.limit and left <= 0)
            await self._link.answer(
                reply_to,
                PresencePage(
                    ask.request,
                    ask.channel,
                    [member for _, member in taken],
                    last=last,
                    next_after=after if more else "",
                    num_clients=counts.clients,
                    num_users=counts.users,
                ),
            )
            if last:
                return

    async def _page(
        self, ask: MembersAsk, after: str, limit: int
    ) -> list[tuple[str, Member]]:
        if ask.merged:
            return await self._directory.people(ask.channel, after, limit)
        members = await self._directory.members(ask.channel, after, limit)
        return [(member.client, member) for member in members]


def _fitting(found: list[tuple[str, Member]]) -> list[tuple[str, Member]]:
    """As many as one page may carry, and at least one."""
    size = 0
    for number, (_, member) in enumerate(found):
        size += len(member.conn_info) + len(member.chan_info)
        if number and size > PAGE_BYTES_MAX:
            return found[:number]
    return found


def _refuse(ask: PresenceAsk) -> str | None:
    match ask:
        case MembersAsk():
            cursor = "a cursor without NUL" if "\0" in ask.after else None
            limit = "a limit of 0 or more" if ask.limit < 0 else None
            return channels.refusal(ask.channel) or cursor or limit
        case CountsAsk():
            return channels.refusal(ask.channel)
        case UserAsk():
            return users.refusal(ask.user) or _refuse_nobody(ask.user)
        case StatusSet():
            reason = users.refusal(ask.user) or _refuse_nobody(ask.user)
            return reason or refuse_status(ask.text)


def _refuse_nobody(user: str) -> str | None:
    return None if user else "an anonymous user is nowhere to be found"


def _refused(ask: PresenceAsk, error: ErrorReply) -> PresenceAnswer:
    code, message = error.code, error.message
    match ask:
        case MembersAsk():
            kind: _Refusable = PresencePage
        case CountsAsk():
            kind = PresenceCounts
        case UserAsk() | StatusSet():
            return PresenceUser(
                ask.request, ask.user, error_code=code, error_message=message
            )
    return kind(ask.request, ask.channel, error_code=code, error_message=message)
