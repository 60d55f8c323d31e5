"""Calls this gateway has forwarded to services, and the callers that wait for answers.

Each caller is answered once: by the service, or after a deadline by a temporary error.
Nothing is tried again here. A call may have had its effect although no answer came, so
services make theirs repeatable.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.metrics import Metrics
from chatmesh.gateway.ports import Bus
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.gatherer import Gatherer
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import errors, limits
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from chatmesh.wire.errors import ErrorReply

log = logging.getLogger(__name__)

CALLS_WAITING_MAX: Final = 10_000
"""Calls of all connections that wait for an answer."""
CALLS_TOGETHER_MAX: Final = 64
"""Calls that are on their way to the broker at once."""
UNANSWERED: Final = errors.because(errors.INTERNAL, "the service does not answer")

Answered = Callable[[bytes | ErrorReply], None]
"""JSON on one line, or why there is none."""


@dataclass(slots=True)
class _Asked:
    service: str
    call: ServiceCall
    answer: Answered
    since_s: float


class ServiceDesk:
    """Forwards calls, and hands each answer to who asked."""

    def __init__(
        self, bus: Bus, *, clock: Clock, tasks: Tasks, metrics: Metrics
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._asked: dict[int, _Asked] = {}
        self._last = 0
        self._outgoing = Gatherer[int](
            self._send,
            tasks=tasks,
            name="service calls",
            batch_max=CALLS_TOGETHER_MAX,
            waiting_max=CALLS_WAITING_MAX,
        )

    def ask(self, service: str, call: ServiceCall, answer: Answered) -> None:
        """Forward a call, which is given its number, address and deadline here."""
        if not self._bus.connected:
            self._metrics.service_calls.labels("unanswered").inc()
            answer(UNANSWERED)
            return
        if len(self._asked) >= CALLS_WAITING_MAX:
            self._metrics.service_calls.labels("refused").inc()
            answer(errors.TOO_MANY_REQUESTS)
            return
        self._last += 1
        numbered = msgspec.structs.replace(
            call,
            request=self._last,
            reply_to=self._bus.reply_to,
            deadline_ms=self._clock.unix_ms() + limits.SERVICE_CALL_S * 1000,
        )
        now_s = self._clock.monotonic_s()
        self._asked[self._last] = _Asked(service, numbered, answer, now_s)
        # Not taken means too many wait: like everything late it gets no answer.
        self._outgoing.put(self._last)

    def hear(self, told: ServiceAnswer) -> None:
        """Hear a service; an answer that nobody waits for any more is dropped."""
        asked = self._asked.pop(told.request, None)
        if asked is None:
            return
        answer = _read(told)
        refused = isinstance(answer, ErrorReply)
        self._metrics.service_calls.labels("refused" if refused else "answered").inc()
        asked.answer(answer)

    def give_up_overdue(self) -> None:
        """Answer what was asked too long ago; call it every so often."""
        overdue_s = self._clock.monotonic_s() - limits.SERVICE_CALL_S
        late: list[int] = []
        for request, asked in self._asked.items():
            if asked.since_s > overdue_s:
                break  # Asked in this order.
            late.append(request)
        for request in late:
            self._unanswered(request)

    def link_down(self) -> None:
        """Answers to the line before have nowhere to go."""
        self._outgoing.clear()
        for request in list(self._asked):
            self._unanswered(request)

    def _unanswered(self, request: int) -> None:
        asked = self._asked.pop(request, None)
        if asked is not None:
            self._metrics.service_calls.labels("unanswered").inc()
            asked.answer(UNANSWERED)

    async def _send(self, requests: list[int]) -> None:
        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(self._send_one(request))

    async def _send_one(self, request: int) -> None:
        asked = self._asked.get(request)
        if asked is None:
            return  # Given up while it waited.
        try:
            await self._bus.send_call(asked.service, asked.call)
        except PublishFailed as failed:
            log.info("forwarding a call failed", extra={"reason": str(failed)})
            self._unanswered(request)


def _read(told: ServiceAnswer) -> bytes | ErrorReply:
    if told.error_code:
        message = told.error_message or "refused"
        return ErrorReply(told.error_code, message, told.error_temporary)
    if len(told.data) > limits.SERVICE_ANSWER_BYTES_MAX:
        return errors.because(errors.TOO_LARGE, "the answer")
    try:
        # On one line: in a frame, a line is a message.
        return msgspec.json.format(told.data, indent=-1)
    except msgspec.DecodeError:
        log.exception("a service answered with what is no JSON")
        return errors.INTERNAL
