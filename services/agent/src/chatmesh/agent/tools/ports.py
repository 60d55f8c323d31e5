"""What calling tools needs from outside: a ledger that survives, and a wire to workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from chatmesh.agent.tools.port import OutcomeState
from chatmesh.wire.tools import Call

CallState = Literal[
    "approving",
    "pending",
    "sending",
    "sent",
    "done",
    "failed",
    "unknown",
    "denied",
    "timeout",
    "cancelled",
]
"""Where a call stands. `sending`: handed to the broker, and not known whether it has it."""
OPEN: Final = frozenset({"approving", "pending", "sending", "sent"})
ApprovalState = Literal["open", "approved", "denied", "timeout", "cancelled"]


class LedgerUnavailable(Exception):
    """The database did not answer: whether it did what was asked is unknown."""


class LedgerRefused(Exception):
    """The database cannot hold this."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One question to people."""

    id: str
    key: str
    run: str
    room: str
    agent: str
    requester: str
    tool: str
    arguments: str
    """Canonical JSON of what was asked for; `final_arguments` of what was allowed."""
    digest: str
    roles: Sequence[str]
    deadline_ms: int
    state: ApprovalState
    answered_by: str
    reason: str
    final_arguments: str
    final_digest: str
    parameters: str
    """JSON Schema of the arguments: changed ones have to fit as well."""
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One call as the ledger has it."""

    key: str
    run: str
    room: str
    agent: str
    requester: str
    tool: str
    pool: str
    read_only: bool
    timeout_ms: int
    asked_digest: str
    arguments: str
    digest: str
    result_schema: str
    """Canonical JSON, or empty."""
    state: CallState
    epoch: int
    attempt: int
    not_before_ms: int
    deadline_ms: int
    cancel: bool
    content: str
    reference: str
    size_bytes: int
    worker: str
    approval: Approval | None

    @property
    def open(self) -> bool:
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class NewCall:
    """What the ledger is told of a call it does not know yet."""

    key: str
    run: str
    room: str
    agent: str
    requester: str
    tool: str
    pool: str
    read_only: bool
    timeout_ms: int
    arguments: str
    digest: str
    parameters: str
    result_schema: str
    epoch: int
    deadline_ms: int
    approval: str = ""
    """Id of the approval it needs; empty: none."""
    approval_roles: Sequence[str] = ()
    approval_deadline_ms: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call is to end."""

    state: OutcomeState
    content: str
    reference: str = ""
    size_bytes: int = 0
    whole: str = ""
    """Of a large result, under its reference."""
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person decided."""

    approval: str
    digest: str
    """Of the arguments the person saw."""
    approve: bool
    user: str
    client: str
    role: str
    reason: str
    arguments: str
    """Canonical JSON of what may run."""
    final_digest: str
    deadline_ms: int
    """Until when the call has to be finished, if approved."""
    now_ms: int


@dataclass(frozen=True, slots=True)
class Wished:
    """A call whose end is wished."""

    key: str
    pool: str
    given: bool
    """A worker may have it."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the record that is only ever added to."""

    at_ms: int
    key: str
    event: str
    actor: str
    digest: str
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Ledger(Protocol):
    """Calls, approvals and their record. Each method is one transaction.

    All raise LedgerUnavailable, after which the same may be repeated; and LedgerRefused.
    """

    async def open(self, call: NewCall, now_ms: int) -> None:
        """Record a call, and its question if it has one; nothing if the key is known."""
        ...

    async def load(self, key: str) -> Entry | None: ...

    async def claim(self, key: str, epoch: int, attempt: int, now_ms: int) -> bool:
        """Take the right to hand a call to the broker: `pending` becomes `sending`.

        `attempt` is the last one known. A read-only call that is `sending` may be claimed
        again. False: it has moved on, is cancelled, or belongs to a later owner.
        """
        ...

    async def sent(self, key: str, attempt: int) -> None:
        """The broker has it."""
        ...

    async def unsent(self, key: str, attempt: int, not_before_ms: int) -> None:
        """The broker does not have it for sure: `sending` becomes `pending` again."""
        ...

    async def retry(
        self, key: str, attempt: int, not_before_ms: int, reason: str, now_ms: int
    ) -> bool:
        """A worker says nothing happened: `sending` or `sent` becomes `pending`."""
        ...

    async def settle(self, key: str, end: Settlement, now_ms: int) -> bool:
        """End an open call, or say what became of one that is `unknown`.

        False, and a line in the record, when it had ended before.
        """
        ...

    async def cancel_run(self, run: str, now_ms: int) -> list[Wished]:
        """Wish the end of a run's open calls; those nobody has been given end at once."""
        ...

    async def approval(self, approval: str) -> Approval | None: ...

    async def answer(self, answer: Answer) -> bool:
        """Decide an open approval whose deadline lies ahead; False: somebody was faster."""
        ...

    async def expire(self, now_ms: int) -> list[str]:
        """End approvals nobody answered in time; the keys of their calls."""
        ...

    async def sweep(self, now_ms: int, grace_ms: int) -> list[str]:
        """End calls that nobody watches and whose deadline is long over; their keys."""
        ...

    async def note(self, call: Call, event: str, reason: str, now_ms: int) -> None:
        """Record something about a call that never was: why it was refused."""
        ...

    async def audit(self, key: str) -> list[AuditRow]: ...

    async def read(self, reference: str, offset: int, limit: int) -> str | None:
        """Characters of a large result; None when it is not kept."""
        ...


class Unroutable(Exception):
    """Nobody has ever served this pool here."""


class PoolFull(Exception):
    """Too many calls wait in this pool."""


class WireDown(Exception):
    """There is no link to the broker, or it went.

    Whether the message got through is unknown if it was `attempted`; else it did not.
    """

    def __init__(self, reason: str, *, attempted: bool = False) -> None:
        super().__init__(reason)
        self.attempted = attempted


class Wire(Protocol):
    """The way to workers, and to the other replicas."""

    async def send(self, pool: str, call: Call, expires_ms: int, trace: str) -> None:
        """Hand a call to its pool. Raises Unroutable, PoolFull, WireDown."""
        ...

    async def cancel(self, pool: str, key: str) -> None:
        """Tell all workers of a pool that nobody wants a call. Raises WireDown."""
        ...

    async def tell_settled(self, key: str) -> None:
        """Wake whoever waits for a call, on whichever replica. Raises WireDown."""
        ...
