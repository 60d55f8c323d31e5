"""The calls of one response: side by side, kept in order, none told as what it is not."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from chatmesh.agent.agents import Agent, Limits
from chatmesh.agent.conversation import Call, Context, Journal, PersonSaid, Responded
from chatmesh.agent.draft import Draft
from chatmesh.agent.ports import Lost
from chatmesh.agent.tool_use import ToolUse, Wanted, Workshop
from chatmesh.agent.tools.port import (
    ApprovalView,
    BusUnavailable,
    ToolCall,
    ToolOffer,
    ToolOutcome,
    ToolProgress,
)
from chatmesh.agent.tools.ports import LedgerRefused
from chatmesh.runtime import checkpoints
from chatmesh.runtime.tasks import Tasks
from chatmesh.runtime.tracing import Tracing
from chatmesh.wire.runs import RunEvent, RunStatus
from support.claimed_run import CLAIMED
from support.manual_clock import ManualClock, settle
from support.spans import KeptSpans

APPROVAL = ApprovalView("a1", "pay", {}, "digest", 0, "ada", ("owner",))


class Tools:
    """A tool bus whose calls go on until the test lets them."""

    def __init__(self) -> None:
        self.served = [_offer("look", read_only=True), _offer("pay", read_only=False)]
        self.under_way: dict[str, asyncio.Event] = {}
        self.asked: list[ToolCall] = []
        self.cancelled: list[str] = []
        self.down = False
        self.refuses = False

    async def offers(self, names: Sequence[str]) -> Sequence[ToolOffer]:
        await asyncio.sleep(0)
        return self.served

    async def call(self, call: ToolCall) -> AsyncIterator[ToolProgress | ToolOutcome]:
        self.asked.append(call)
        if self.down:
            raise BusUnavailable("down")
        if self.refuses:
            raise LedgerRefused("no such text")
        if call.arguments.get("ask"):
            yield ToolProgress("approval_requested", approval=APPROVAL)
        yield ToolProgress("sent")
        me = str(call.arguments["me"])
        self.under_way[me] = asyncio.Event()
        await self.under_way[me].wait()
        del self.under_way[me]
        yield ToolOutcome("done", f"did {me}")

    async def cancel_run(self, run: str) -> None:
        await asyncio.sleep(0)
        self.cancelled.append(run)

    async def read(self, reference: str, offset: int, limit: int) -> str:
        raise NotImplementedError

    def finish(self, *who: str) -> None:
        for me in who:
            self.under_way[me].set()


def _offer(name: str, *, read_only: bool) -> ToolOffer:
    return ToolOffer(
        name=name,
        description="",
        parameters={},
        result=None,
        read_only=read_only,
        side_effect=not read_only,
        needs_approval=False,
        timeout_s=5,
    )


@dataclass
class Scene:
    """One run at its calls."""

    limits: Limits = field(default_factory=Limits)
    taken_over: bool = False
    tracing: Tracing = field(default_factory=Tracing)
    heed: Callable[[], None] = lambda: None
    tools: Tools = field(default_factory=Tools)
    clock: ManualClock = field(default_factory=ManualClock)
    events: list[RunEvent] = field(default_factory=list[RunEvent])
    kept: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    lost: bool = False

    def __post_init__(self) -> None:
        agent = Agent(name="owl", title="Owl", tools=("*",), limits=self.limits)
        claimed = CLAIMED._replace(
            trigger_offset=1, epoch=2, taken_over=self.taken_over
        )
        self.draft = Draft(
            room="room:a",
            run="r",
            agent=agent,
            trigger="m",
            requester="ada",
            attempt=1,
            epoch=1,
            seq=0,
            started_ms=0,
        )
        self.draft.begin_step(1)
        shop = Workshop(
            self.tools,
            self.clock,
            random.Random(1),
            checkpoints.ignore,
            self.tracing,
        )
        self.use = ToolUse(
            claimed,
            agent,
            self.draft,
            shop,
            tell=self.events.extend,
            heed=self.heed,
        )
        self.tasks = Tasks()

    async def keep(self, wanted: Wanted, outcome: ToolOutcome) -> None:
        await asyncio.sleep(0)
        if self.lost:
            raise Lost
        self.kept.append((wanted.call.id, outcome.state, outcome.content))

    def begin(self, *calls: Call, traceparent: str = "") -> "asyncio.Task[None]":
        context = Context([], PersonSaid("ada", "go"))
        journal = Journal([context, Responded(1, "", list(calls))])
        return self.tasks.spawn(
            self.use.use(journal, traceparent, self.keep), name="use tools"
        )


def look(me: str) -> Call:
    return Call(me, "look", f'{{"me": "{me}"}}')


def pay(me: str) -> Call:
    return Call(me, "pay", f'{{"me": "{me}", "ask": true}}')


async def test_calls_run_side_by_side_and_are_kept_in_order() -> None:
    """What is done first waits for its turn in the journal, not for its turn to run."""
    scene = Scene()
    using = scene.begin(look("a"), look("b"), look("c"))
    await settle()
    assert sorted(scene.tools.under_way) == ["a", "b", "c"]
    scene.tools.finish("c", "b")
    await settle()
    assert scene.kept == []
    ended = [e.type for e in scene.events if e.type == "TOOL_CALL_RESULT"]
    assert len(ended) == 2, "the room sees at once what is done"
    scene.tools.finish("a")
    await using
    assert [call for call, _, _ in scene.kept] == ["a", "b", "c"]


async def test_no_more_run_together_than_the_agent_may() -> None:
    """The others wait, and begin in the model's order."""
    scene = Scene(Limits(tools_together=2))
    using = scene.begin(look("a"), look("b"), look("c"))
    await settle()
    assert sorted(scene.tools.under_way) == ["a", "b"]
    scene.tools.finish("b")
    await settle()
    assert sorted(scene.tools.under_way) == ["a", "c"]
    scene.tools.finish("a", "c")
    await using
    assert len(scene.kept) == 3


async def test_who_waits_for_people_holds_nobody_up() -> None:
    """A call that needs an approval leaves its place; the room is told what is asked."""
    scene = Scene(Limits(tools_together=1))
    using = scene.begin(pay("a"), look("b"))
    await settle()
    assert scene.draft.status is RunStatus.APPROVAL
    assert "b" in scene.tools.under_way
    scene.tools.finish("a", "b")
    await using
    assert [call for call, _, _ in scene.kept] == ["a", "b"]


async def test_a_side_effect_out_of_reach_is_unknown() -> None:
    """It may have been done; only what changes nothing has certainly failed."""
    scene = Scene()
    scene.tools.down = True
    using = scene.begin(look("a"), Call("b", "pay", '{"me": "b"}'))
    for _ in range(20):
        await settle()
        scene.clock.pass_time(5)
    await using
    assert [state for _, state, _ in scene.kept] == ["failed", "unknown"]


async def test_what_is_not_offered_is_not_called() -> None:
    """The model is told what there is; a span is named for nothing it invented."""
    spans = KeptSpans()
    scene = Scene(tracing=spans.tracing)
    begun = spans.tracing.begin_trace("test")
    with begun:
        using = scene.begin(
            Call("a", "steal the keys", "{}"), look("b"), traceparent=begun.traceparent
        )
        await settle()
        scene.tools.finish("b")
        await using
    assert scene.kept[0][1:] == (
        "failed",
        "no tool is called 'steal the keys'; there are: look, pay",
    )
    assert sorted(spans.names) == ["execute_tool look", "execute_tool unknown", "test"]


async def test_after_a_takeover_a_call_is_joined_but_not_made() -> None:
    """Its tool may have gone meanwhile; or the agent was never allowed to call it."""
    scene = Scene(taken_over=True)
    using = scene.begin(Call("a", "gone", '{"me": "a"}'), look("b"))
    await settle()
    scene.tools.finish("a", "b")
    await using
    assert [(one.name, one.join_only) for one in scene.tools.asked] == [
        ("gone", True),
        ("look", False),
    ]


async def test_arguments_that_are_none_are_told_to_the_model() -> None:
    """And the limit of calls is counted over the whole run."""
    scene = Scene(Limits(tool_calls=1))
    using = scene.begin(Call("a", "look", "[1"), look("b"))
    await using
    assert [state for _, state, _ in scene.kept] == ["failed", "failed"]
    assert "no JSON" in scene.kept[0][2]
    assert "no further tool" in scene.kept[1][2]
    assert scene.tools.asked == []


async def test_a_run_that_has_to_end_leaves_all_its_calls() -> None:
    """They are cancelled afterwards, by name."""
    scene = Scene()
    using = scene.begin(look("a"), look("b"))
    await settle()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    await scene.use.cancel_open()
    assert scene.tools.cancelled == ["r"]


async def test_a_run_that_is_lost_is_left_at_once() -> None:
    """Whoever has it now makes the same calls, and joins them."""
    scene = Scene()
    scene.lost = True
    using = scene.begin(look("a"), look("b"))
    await settle()
    scene.tools.finish("a")
    with pytest.raises(Lost):
        await using


async def test_calls_of_a_run_are_cancelled_whoever_made_them() -> None:
    """Those of this process while any is open, and after a takeover in any case."""
    scene = Scene()
    await scene.use.cancel_open()
    assert scene.tools.cancelled == []
    using = scene.begin(look("a"))
    await settle()
    using.cancel()
    await settle()
    await scene.use.cancel_open()
    assert scene.tools.cancelled == ["r"]
    other = Scene(taken_over=True)
    await other.use.cancel_open()
    assert other.tools.cancelled == ["r"]


async def test_people_are_asked_no_longer_than_the_run_lasts() -> None:
    """A little is left for the model, which says that nobody has answered."""
    for lasts_s, asks_s in ((600.0, 570.0), (60.0, 54.0)):
        scene = Scene(Limits(duration_s=lasts_s))
        began_ms = scene.clock.unix_ms()
        scene.clock.pass_time(5)
        using = scene.begin(pay("a"))
        await settle()
        scene.tools.finish("a")
        await using
        (asked,) = scene.tools.asked
        assert asked.approval_until_ms == began_ms + asks_s * 1000


async def test_a_call_the_ledger_cannot_hold_has_failed() -> None:
    """It is for the model to read, and the run goes on."""
    scene = Scene()
    scene.tools.refuses = True
    await scene.begin(look("a"))
    assert scene.kept == [("a", "failed", "the call cannot be kept")]
    assert len(scene.tools.asked) == 1
