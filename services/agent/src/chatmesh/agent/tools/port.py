"""What a run needs of tools: `ToolBus`, and the values that pass through it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

OutcomeState = Literal["done", "failed", "unknown", "denied", "timeout", "cancelled"]
"""How a call ended.

`unknown`: a side effect may or may not have happened, and is not repeated by itself.
`timeout`: no answer in time, of a tool without side effects or of whoever had to approve.
"""

ProgressKind = Literal[
    "sent", "progress", "retry", "approval_requested", "approval_answered"
]


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """One tool that somebody serves now."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of the arguments, an object."""
    result: Mapping[str, Any] | None
    """JSON Schema of what it gives back; None: anything."""
    read_only: bool
    side_effect: bool
    needs_approval: bool
    timeout_s: float
    pool: str = ""
    """The queue it is served from."""
    approvers: Sequence[str] = ()
    """Roles that may approve, and `requester`."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of one run. The same `key` is the same call, whoever repeats it."""

    key: str
    """`<run>:<toolCallId>`."""
    run: str
    epoch: int
    """Of the run's owner: grows with each takeover."""
    room: str
    agent: str
    requester: str
    """The person at the root of the run."""
    name: str
    arguments: Mapping[str, Any]
    deadline_ms: int
    """Milliseconds since the Unix epoch; waiting for an approval has its own deadline."""
    traceparent: str = ""
    approval_timeout_s: float | None = None
    """How long people may take to answer, if the tool needs it; None: as usual here."""
    approval_until_ms: int | None = None
    """People have no longer than this, however long they may take: the run is over then."""
    join_only: bool = False
    """Not offered to this agent just now: a call that is known goes on, no other is made."""


@dataclass(frozen=True, slots=True)
class ToolProgress:
    """Something that happened on the way to the outcome."""

    kind: ProgressKind
    """`sent`: the broker has taken the call from this caller, once per attempt."""
    progress: float | None = None
    """Share that is done, 0 to 1; None: not known."""
    text: str = ""
    approval: "ApprovalView | None" = None
    """Of `approval_requested` and `approval_answered`."""


@dataclass(frozen=True, slots=True)
class ApprovalView:
    """An approval as people see it."""

    approval: str
    tool: str
    arguments: Mapping[str, Any]
    """What would run; after an answer with changed arguments: what runs."""
    digest: str
    deadline_ms: int
    requester: str
    roles: Sequence[str]
    """Roles that may answer; `requester` among them lets the requester."""
    outcome: Literal["", "approved", "denied", "timeout", "cancelled"] = ""
    """Empty while it is open."""
    by: str = ""
    """The user who answered."""
    reason: str = ""
    changed: bool = False
    """Approved with other arguments than were asked for."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended, and what the model is told."""

    state: OutcomeState
    content: str
    """Text, or JSON as text; for a large result its beginning and how to read on."""
    reference: str = ""
    """Where a result over 256 KiB is kept; `ToolBus.read` takes it."""
    size_bytes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


class ToolBus(Protocol):
    """Tools, wherever they run."""

    async def offers(self, names: Sequence[str]) -> Sequence[ToolOffer]:
        """Those of `names` that are served now; a `*` at the end stands for the rest.

        In the first second of a process's link to the workers it waits for them.
        """
        ...

    def call(self, call: ToolCall) -> AsyncIterator[ToolProgress | ToolOutcome]:
        """Make a call, or join it if its key is known; the last item is a ToolOutcome.

        Nothing is raised for what a tool, a worker or a person does. Leaving the iteration
        leaves the call running: another caller with the same key goes on with it.
        Raises BusUnavailable when the database or the broker stays away.
        """
        ...

    async def cancel_run(self, run: str) -> None:
        """Ask for the end of all calls of a run, whichever process made them. Repeatable.

        Whoever iterates one of them hears the outcome.
        """
        ...

    async def read(self, reference: str, offset: int, limit: int) -> str:
        """Part of a large result, in characters. Raises UnknownReference."""
        ...


class BusUnavailable(Exception):
    """Neither made nor settled: the same call may be repeated later."""


class UnknownReference(Exception):
    """No result is kept under this reference, or not any more."""
