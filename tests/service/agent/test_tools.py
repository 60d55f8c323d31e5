"""Runs that call tools of a real worker."""

import asyncio

import pytest

from chatmesh.tools import tool
from chatmesh.wire.runs import RunOutcome
from support.agent_stage import Stage
from support.fake_openai import Reply, ToolUse
from support.instances import Corner
from support.tool_rig import running_worker

pytestmark = [
    # A link that is cut while it closes; see `agent_stage`.
    pytest.mark.filterwarnings("ignore:coroutine 'Connection.close':RuntimeWarning"),
    pytest.mark.timeout(120),
]


async def test_calls_of_one_response_run_together(stage: Stage, corner: Corner) -> None:
    """Two tools that wait for each other come to an end, and the model reads them in order."""
    both = asyncio.Barrier(2)

    @tool(read_only=True, timeout_s=30)
    async def meet(me: str) -> str:
        """Waits for the other one."""
        place = await both.wait()
        if me == "first":
            # The last to be done is still told first.
            await asyncio.sleep(0.2)
        return f"{me} met" if place in {0, 1} else "nobody"

    stage.declare(owl={"tools": ["meet"]})
    wanted = [ToolUse("meet", {"me": me}, me) for me in ("first", "second")]
    stage.model.says(Reply.of("Let them meet.", tools=wanted), "They met.")
    # So that the queue of messages is there.
    await (await stage.replica()).leave()
    async with running_worker(corner.url, corner.prefix, meet):
        # Claimed in the first moment of its replica's life: it waits for the worker.
        await stage.say("@owl go")
        await stage.replica()
        (answer,) = await stage.answered()
    assert answer.run.outcome is RunOutcome.COMPLETED
    assert [one.outcome for one in answer.run.tools] == ["done", "done"]
    assert stage.model.asked[1].tool_results == ["first met", "second met"]
