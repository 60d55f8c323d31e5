"""What the agent service needs of others, with the promises each keeps."""

import asyncio
import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

from chatmesh.agent.agents import Agent
from chatmesh.agent.conversation import Entry, Journal, ModelAsk, PersonSaid, Responded
from chatmesh.agent.draft import Shown
from chatmesh.agent.fairness import Running, Waiting
from chatmesh.agent.news import AgentControl
from chatmesh.agent.triggers import Said
from chatmesh.wire.messages import Entry as LogEntry
from chatmesh.wire.messages import Outcome
from chatmesh.wire.runs import RunEvent, RunOutcome

# -- Models ------------------------------------------------------------------------------


class TextDelta(NamedTuple):
    """More text of the response."""

    text: str


class StillThere(NamedTuple):
    """The model goes on with what is not shown: it thinks, or writes a tool's arguments."""


class Answered(NamedTuple):
    """The whole response; the last thing a stream gives."""

    response: Responded
    finish: str = ""
    """Why it ended, as the provider calls it; empty when it did not say."""
    model: str = ""
    """Which model it was in the end, where that is known to be another than was asked."""


ModelEvent: TypeAlias = TextDelta | StillThere | Answered


class ModelFailed(Exception):
    """The model did not answer to its end. What it said so far does not count."""

    def __init__(
        self,
        reason: str,
        *,
        passing: bool,
        after_s: float | None = None,
        begun: bool = False,
    ) -> None:
        """`reason` is for people, without anything the provider said of the content."""
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        """The same request may succeed later."""
        self.after_s = after_s
        """How long the provider asks to wait."""
        self.begun = begun
        """It broke off in the middle."""


class Model(Protocol):
    """Something that answers, a piece at a time."""

    @property
    def name(self) -> str: ...

    @property
    def scripted(self) -> bool:
        """No model at all, and its text says so."""
        ...

    def answer(
        self, ask: ModelAsk, *, step: int
    ) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Ask once. Leaving the context closes the connection to the model.

        Entering and iterating raise ModelFailed. Nothing is retried in here.
        """
        ...


# -- The book of runs ----------------------------------------------------------------------


class RunBookUnavailable(Exception):
    """The database does not answer: unknown whether it was done, do the same again."""


class Lost(Exception):
    """Somebody else has this run now, or it is over: leave it alone."""


class Standing(enum.StrEnum):
    """Where a run stands; see the table."""

    QUEUED = "queued"
    STEERING = "steering"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class NewRun(NamedTuple):
    """A message that calls an agent."""

    run: str
    agent: str
    said: Said
    policy: str
    """A `WhenBusy`."""
    too_old: bool = False


class Placed(NamedTuple):
    """What became of a `NewRun`."""

    run: str
    fresh: bool
    """False: it was known already, and nothing has been changed."""
    status: Standing
    into: str | None = None
    """The run it was steered into, or interrupts."""


class Claimed(NamedTuple):
    """A run this replica has now."""

    run: str
    agent: str
    channel: str
    trigger: str
    trigger_offset: int
    prompt: PersonSaid
    requester: str
    traceparent: str
    status: Standing
    """running, or ending when only telling is left."""
    epoch: int
    attempt: int
    crashes: int
    seq: int
    taken_over: bool
    """Somebody had it before."""
    stop_by: str | None
    stop_reason: str | None
    started_ms: int
    now_ms: int
    answer: bytes | None
    """The decided end of a run that is ending."""
    outcome: RunOutcome | None
    reason: str | None
    retry_of: str | None = None
    """The run that this one does again."""
    carried: int = 0
    """Entries of its journal that come from there."""


class Renewed(NamedTuple):
    """A run that is still ours."""

    run: str
    epoch: int
    stop_by: str | None
    stop_reason: str | None


class OpenRun(NamedTuple):
    """A live run, for somebody who comes late."""

    run: str
    agent: str
    trigger: str
    requester: str
    status: Standing
    attempt: int
    epoch: int
    seq: int
    position: int
    started_ms: int
    shown: Shown | None
    """What was seen of it when that was last stored."""


class Listed(msgspec.Struct, rename="camel"):
    """A run as the service API shows it."""

    run: str
    agent: str
    channel: str
    trigger: str
    requester: str
    status: str
    outcome: str | None
    reason: str | None
    attempt: int
    epoch: int
    crashes: int
    owner: str | None
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    retry_of: str | None = None


class Place(NamedTuple):
    """A room in which an agent is asked, or was of late."""

    agent: str
    channel: str
    performed: bool
    """Somebody performs a run of it there."""
    position: int
    """Of the first run that waits there; 0 when nobody was told one."""
    queued: bool


UNKNOWN_AGENT_S: Final = 30.0
"""So long a run is left to replicas that know its agent; then it is told that none does.

A changed agents file reaches them one after the other.
"""


class RunBook(Protocol):
    """Where runs are kept. Everything raises RunBookUnavailable.

    Whatever names an epoch does nothing and raises Lost when that epoch is over.
    """

    async def place(self, runs: Sequence[NewRun]) -> list[Placed]:
        """Record runs, each once for ever; one transaction for all of them."""
        ...

    async def waiting(self, limit: int) -> tuple[list[Waiting], list[Running]]:
        """Runs that wait, some of every room and person first, and whose turn it is or was.

        Turns that were are known as far as they count: since the oldest of those that
        wait came, and not for ever.
        """
        ...

    async def claim(
        self, candidates: Sequence[str], agents: Sequence[Agent], most: int
    ) -> list[Claimed]:
        """Take waiting runs in this order, as far as their agents' concurrency allows."""
        ...

    async def adopt(
        self, most: int, *, performing: bool, crashes_max: int, known: Sequence[str]
    ) -> list[Claimed]:
        """Take runs whose owner is gone or has let go, and ends nobody has told.

        Without `performing` only what needs no model: ends, and runs that somebody has
        stopped or that were lost `crashes_max` times. Runs of other agents than those
        `known` are left to others for `UNKNOWN_AGENT_S`.
        """
        ...

    async def reap(self, after_s: float, most: int) -> list[Claimed]:
        """Take runs, and ends, that no replica has gone on with for so long."""
        ...

    async def renew(self, runs: Sequence[str]) -> list[Renewed]:
        """Renew the lease of these; what does not come back is no longer ours."""
        ...

    async def positions(
        self, places: Sequence[tuple[str, int]]
    ) -> list[tuple[str, int, int]]:
        """Record positions of waiting runs; those that changed, with the event's seq."""
        ...

    async def journal(self, run: str) -> Journal: ...

    async def keep(self, run: str, epoch: int, place: int, entry: Entry) -> None:
        """Add to a journal; the same again changes nothing. Raises Lost.

        A `Steered` entry takes its message up in the same moment.
        """
        ...

    async def steered(self, run: str) -> tuple[str, PersonSaid] | None:
        """The oldest message that goes into a run and is not in its journal yet."""
        ...

    async def raise_attempt(self, run: str, epoch: int, attempt: int) -> None:
        """Record that something is said anew. Raises Lost."""
        ...

    async def let_go(self, run: str, epoch: int, seq: int) -> None:
        """Give a run up for somebody else to go on with, at once. Raises Lost."""
        ...

    async def decide(
        self, run: str, epoch: int, outcome: RunOutcome, reason: str, answer: bytes
    ) -> None:
        """Record how a run ends, before the room is told. Raises Lost."""
        ...

    async def end(self, run: str, epoch: int) -> list[str]:
        """Record that the room has been told. Raises Lost.

        Gives steered messages that came too late: they wait by themselves now.
        """
        ...

    async def stop(
        self,
        *,
        by: str,
        channel: str,
        runs: Sequence[str] = (),
        agent: str = "",
        requester: str | None = None,
    ) -> list[str]:
        """Ask for the end of open runs of a channel: those named, or an agent's, or all.

        `requester`: only of what this person has asked for. What other people said into
        a run that is stopped is not lost: it waits by itself, or is told to be stopped.
        """
        ...

    async def retry(
        self,
        run: str,
        *,
        again: str,
        channel: str,
        traceparent: str,
        carried: Sequence[Entry],
    ) -> Standing | None:
        """Do a failed or interrupted run of a channel again, as the run `again`.

        Where that stands, also if it was there before; None when there is none to be done
        again, or nothing is known of it any more.
        """
        ...

    async def take_duty(self, duty: str, lease_s: float) -> bool:
        """Whether this replica has a duty from now on, which only one of all has."""
        ...

    async def places(self, within_s: float, most: int) -> list[Place]:
        """Where agents are asked, or were in so many seconds, newest first."""
        ...

    async def forget(self, older_s: float, most: int) -> int:
        """Drop what runs read and wrote that ended so long ago; how many there were."""
        ...

    async def checkpoint(self, shown: Sequence[Shown]) -> None:
        """Store what is seen of live runs, as far as they are still this epoch's."""
        ...

    async def last_shown(self, run: str) -> Shown | None: ...

    async def open_in(self, channel: str) -> list[OpenRun]:
        """The live runs of a channel."""
        ...

    async def list_runs(
        self, *, channel: str, status: str, agent: str, before: str, limit: int
    ) -> list[Listed]:
        """Runs, newest first; `before`: the run of the page before's end."""
        ...

    async def one(self, run: str) -> Listed | None: ...


# -- The room ------------------------------------------------------------------------------


class RoomUnavailable(Exception):
    """The room cannot be read just now, or what was said to it is of unknown fate."""


class Room(Protocol):
    """How a run speaks in its room."""

    @property
    def reachable(self) -> bool:
        """Whether there is a link just now; without one nothing new should begin."""
        ...

    def tell(
        self, agent: Agent, events: Sequence[RunEvent]
    ) -> "asyncio.Future[None] | None":
        """Publish events of one run, in order; done when the broker has confirmed them.

        None when there is no link just now: they are lost, as any event may be. The
        future's failure means the same.
        """
        ...

    async def commit(
        self,
        agent: Agent,
        channel: str,
        *,
        id_: str,
        data: bytes,
        run: str,
        epoch: int,
        traceparent: str,
    ) -> Outcome:
        """Publish a durable message; its outcome. Raises RoomUnavailable: send it again."""
        ...

    async def before(self, channel: str, offset: int, limit: int) -> list[LogEntry]:
        """Durable publications before an offset, oldest first. Raises RoomUnavailable."""
        ...

    async def shown_elsewhere(
        self, channel: str, runs: frozenset[str]
    ) -> dict[str, Shown]:
        """What is seen now of runs that other replicas perform, if they answer soon."""
        ...

    def show(self, word: AgentControl, shown: Sequence[Shown]) -> None:
        """Answer a replica that has asked."""
        ...

    def say(self, word: AgentControl) -> None:
        """Tell all replicas, this one included, if there is a link."""
        ...
