"""Who may allow a call, and how their answer is taken. An agent never may."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from chatmesh.agent.tools.arguments import canonical, digest, refusal
from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.agent.tools.ports import (
    Answer,
    Approval,
    Ledger,
    LedgerRefused,
    LedgerUnavailable,
    Wire,
    WireDown,
)
from chatmesh.runtime.clock import Clock
from chatmesh.wire import errors
from chatmesh.wire.calls import Role, ServiceAnswer, ServiceCall
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.runs import is_agent
from chatmesh.wire.tools import REQUESTER

_log = logging.getLogger(__name__)

REASON_CHARS_MAX: Final = 500
RUN_GRACE_MS: Final = 10_000
"""An approved call gets its own time-out, and this for its way through the queue."""

_RANKS: Final = {Role.GUEST: 0, Role.MEMBER: 1, Role.MODERATOR: 2, Role.OWNER: 3}


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What a client says with `approval.answer`."""

    approval: str
    digest: str
    approve: bool
    channel: str = ""
    arguments: dict[str, object] | None = None
    reason: str = ""


_asked: Final = msgspec.json.Decoder(_Asked)
_schema: Final = msgspec.json.Decoder(dict[str, Any])


class _Refused(Exception):
    """The answer is not taken; says what the client is told."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


def ineligible(roles: Sequence[str], requester: str, user: str, role: str) -> str:
    """Why `user` may not answer a question to `roles`; empty: they may.

    The one place that decides it, by what the gateway says of an authenticated user.
    A role includes those below it.
    """
    if not user:
        return "sign in to answer"
    if is_agent(user):
        return "an agent can never approve"
    if REQUESTER in roles and user == requester:
        return ""
    wanted = [_RANKS[Role(one)] for one in roles if one in set(Role)]
    rank = _RANKS[Role(role)] if role in set(Role) else -1
    if wanted and rank >= min(wanted):
        return ""
    return f"only {' or '.join(roles) or 'nobody'} may answer"


class Approvals:
    """Takes answers of people, over the rpc exchange."""

    def __init__(
        self,
        ledger: Ledger,
        wire: Wire,
        clock: Clock,
        metrics: ToolMetrics,
        answered: Callable[[str], None],
    ) -> None:
        """`answered` hears the key of a call whose question was answered here."""
        self._ledger = ledger
        self._wire = wire
        self._clock = clock
        self._metrics = metrics
        self._answered = answered

    async def answer(self, call: ServiceCall) -> ServiceAnswer:
        """`approval.answer`: take an answer, once, from somebody who may give it."""
        try:
            outcome = await self._take(call)
        except _Refused as refused:
            self._metrics.approvals.labels("refused").inc()
            return _refusal(call, refused.reply)
        except LedgerRefused:
            return _refusal(call, errors.because(errors.BAD_REQUEST, "not storable"))
        except LedgerUnavailable as error:
            _log.warning("an answer could not be taken", extra={"cause": str(error)})
            return _refusal(call, errors.INTERNAL)
        self._metrics.approvals.labels(outcome).inc()
        return ServiceAnswer(call.request, msgspec.json.encode({"outcome": outcome}))

    async def _take(self, call: ServiceCall) -> str:
        try:
            asked = _asked.decode(call.data or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(errors.because(errors.BAD_REQUEST, str(error))) from error
        approval = await self._ledger.approval(asked.approval)
        # A question of another room does not exist for this one.
        if approval is None or approval.room != call.channel:
            raise _Refused(errors.because(errors.NOT_AVAILABLE, "no such approval"))
        reason = ineligible(approval.roles, approval.requester, call.user, call.role)
        if reason:
            raise _Refused(errors.because(errors.PERMISSION_DENIED, reason))
        now_ms = self._clock.unix_ms()
        self._still_open(approval, now_ms)
        if asked.digest != approval.digest:
            raise _Refused(
                errors.because(errors.BAD_REQUEST, "the digest is of other arguments")
            )
        decision = self._decision(asked, approval, call, now_ms)
        if not await self._ledger.answer(decision):
            known = await self._ledger.approval(asked.approval)
            self._still_open(known or approval, self._clock.unix_ms())
            raise _Refused(errors.because(errors.NOT_AVAILABLE, "already answered"))
        self._answered(approval.key)
        try:
            await self._wire.tell_settled(approval.key)
        except WireDown as down:
            # Whoever waits looks by itself, a little later.
            _log.info("an answer was not told at once", extra={"cause": str(down)})
        return "approved" if asked.approve else "denied"

    def _still_open(self, approval: Approval, now_ms: int) -> None:
        if approval.state == "timeout" or (
            approval.state == "open" and approval.deadline_ms <= now_ms
        ):
            raise _Refused(errors.because(errors.EXPIRED, "too late to answer"))
        if approval.state != "open":
            by = f" by {approval.answered_by}" if approval.answered_by else ""
            raise _Refused(
                errors.because(errors.NOT_AVAILABLE, f"already {approval.state}{by}")
            )

    def _decision(
        self, asked: _Asked, approval: Approval, call: ServiceCall, now_ms: int
    ) -> Answer:
        arguments = approval.arguments
        if asked.approve and asked.arguments is not None:
            schema = _schema.decode(approval.parameters or "{}")
            if broken := refusal(schema, asked.arguments):
                raise _Refused(errors.because(errors.BAD_REQUEST, broken))
            arguments = canonical(asked.arguments)
        return Answer(
            approval=approval.id,
            digest=approval.digest,
            approve=asked.approve,
            user=call.user,
            client=call.client,
            role=call.role,
            reason=asked.reason[:REASON_CHARS_MAX],
            arguments=arguments,
            final_digest=digest(arguments),
            deadline_ms=now_ms + approval.timeout_ms + RUN_GRACE_MS,
            now_ms=now_ms,
        )


def _refusal(call: ServiceCall, reply: ErrorReply) -> ServiceAnswer:
    return ServiceAnswer(
        call.request,
        error_code=reply.code,
        error_message=reply.message,
        error_temporary=reply.temporary,
    )
