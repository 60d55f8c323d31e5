"""Replicas that call tools and workers that serve them, for tests."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from chatmesh.agent.tools.desk import DeskOptions, ToolDesk
from chatmesh.agent.tools.port import (
    ApprovalView,
    ToolCall,
    ToolOutcome,
    ToolProgress,
)
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.service import Stopping
from chatmesh.tools.declaration import Served
from chatmesh.tools.worker import Worker
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from support.eventually import eventually

WITHIN_S = 30.0


@asynccontextmanager
async def running_desk(
    amqp_url: str, prefix: str, database_url: str, *, approval_timeout_s: float = 60
) -> AsyncGenerator[ToolDesk]:
    """Tool calling as one replica of the agent service has it."""
    desk = ToolDesk(
        DeskOptions(amqp_url, database_url, prefix, approval_timeout_s),
        clock=SystemClock(),
        registry=CollectorRegistry(),
    )
    running = asyncio.create_task(desk.run())
    try:
        await eventually(lambda: desk.ready, within_s=WITHIN_S)
        yield desk
    finally:
        running.cancel()
        await asyncio.wait({running})
        desk.close()


@asynccontextmanager
async def running_worker(
    amqp_url: str, prefix: str, *tools: Served, pool: str = "test"
) -> AsyncGenerator[Worker]:
    """A worker in this process."""
    stopping = Stopping()
    worker = Worker(
        tools, pool=pool, url=amqp_url, prefix=prefix, clock=SystemClock(), drain_s=1
    )
    running = asyncio.create_task(worker.run(stopping))
    try:
        await eventually(lambda: worker.serving, within_s=WITHIN_S)
        yield worker
    finally:
        stopping.request("end of test")
        await asyncio.wait({running})
        running.result()


async def offered(desk: ToolDesk, *names: str, within_s: float = WITHIN_S) -> None:
    """Return once all of these are offered."""

    async def all_there() -> bool:
        offers = await desk.bus.offers(names)
        return {offer.name for offer in offers} >= set(names)

    await eventually(all_there, within_s=within_s, reason=f"no offer of {names}")


def a_call(name: str, /, within_s: float = 20, **arguments: object) -> ToolCall:
    """A call of a run of its own."""
    run = str(uuid.uuid4())
    return ToolCall(
        key=f"{run}:c1",
        run=run,
        epoch=1,
        room="room:lab",
        agent="agent:helper",
        requester="ada",
        name=name,
        arguments=arguments,
        deadline_ms=int((time.time() + within_s) * 1000),
    )


@dataclass
class Heard:
    """What a call said on the way."""

    progress: list[ToolProgress] = field(default_factory=list[ToolProgress])
    outcome: ToolOutcome | None = None

    def kinds(self) -> Sequence[str]:
        return [one.kind for one in self.progress]


async def answered(
    desk: ToolDesk,
    view: ApprovalView,
    user: str,
    role: str = "member",
    channel: str = "room:lab",
    **said: object,
) -> ServiceAnswer:
    """Answer a question about a call, as a gateway passes it on."""
    given = {"approval": view.approval, "digest": view.digest, **said}
    data = json.dumps(given).encode()
    call = ServiceCall(
        7, "replies", "approval.answer", channel, user, "c1", role, data, 0
    )
    return await desk.answer_approval(call)


async def allowed_outcome_of(desk: ToolDesk, call: ToolCall) -> ToolOutcome:
    """Make a call, allow it as the one who asked if somebody has to, and wait for it."""
    async for item in desk.bus.call(call):
        if isinstance(item, ToolOutcome):
            return item
        if item.kind == "approval_requested":
            assert item.approval is not None
            await answered(desk, item.approval, call.requester, approve=True)
    raise AssertionError("a call ends with its outcome")


async def outcome_of(
    desk: ToolDesk, call: ToolCall, heard: Heard | None = None
) -> ToolOutcome:
    """Make a call and wait for its outcome."""
    heard = heard or Heard()
    async for item in desk.bus.call(call):
        if isinstance(item, ToolOutcome):
            heard.outcome = item
            return item
        heard.progress.append(item)
    raise AssertionError("a call ends with its outcome")
