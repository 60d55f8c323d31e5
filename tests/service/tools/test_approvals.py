"""Approvals: who may answer, once, in time, and for exactly what they saw."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import asyncpg
import pytest

from chatmesh.agent.tools.arguments import canonical, digest
from chatmesh.agent.tools.desk import ToolDesk
from chatmesh.agent.tools.port import ApprovalView, ToolCall, ToolOutcome
from chatmesh.tools import tool
from chatmesh.wire import errors
from chatmesh.wire.calls import ServiceAnswer
from support.eventually import eventually
from support.instances import Corner
from support.tool_rig import (
    WITHIN_S,
    Heard,
    a_call,
    answered,
    offered,
    outcome_of,
    running_desk,
    running_worker,
)

RAN: list[str] = []


@tool(needs_approval=True)
def delete(path: str) -> str:
    """Removes something."""
    RAN.append(path)
    return f"removed {path}"


class Asked:
    """A call that waits for people."""

    def __init__(
        self,
        desk: ToolDesk,
        call: ToolCall,
        heard: Heard,
        task: "asyncio.Task[ToolOutcome]",
    ) -> None:
        self.call = call
        self.desk = desk
        self.heard = heard
        self.task = task

    @property
    def view(self) -> ApprovalView:
        view = self.heard.progress[0].approval
        assert view is not None
        return view

    async def answer(
        self, user: str, role: str = "member", channel: str = "room:lab", **said: object
    ) -> ServiceAnswer:
        return await answered(self.desk, self.view, user, role, channel, **said)


@asynccontextmanager
async def a_question(desk: ToolDesk, corner: Corner) -> AsyncGenerator[Asked]:
    RAN.clear()
    async with running_worker(corner.url, corner.prefix, delete):
        await offered(desk, "delete")
        heard = Heard()
        call = a_call("delete", path="/srv/x")
        task = asyncio.create_task(outcome_of(desk, call, heard))
        await eventually(lambda: heard.progress, within_s=WITHIN_S)
        try:
            yield Asked(desk, call, heard, task)
        finally:
            task.cancel()
            await asyncio.wait({task})


async def test_who_asked_allows_it_once(desk: ToolDesk, corner: Corner) -> None:
    """Nothing runs before; strangers, agents and the late are told why they may not."""
    async with a_question(desk, corner) as asked:
        assert asked.view.roles == ("owner", "moderator", "requester")
        assert asked.view.arguments == {"path": "/srv/x"}
        refusals = [
            (await asked.answer("eve", approve=True), errors.PERMISSION_DENIED),
            (await asked.answer("", "owner", approve=True), errors.PERMISSION_DENIED),
            (
                await asked.answer("agent:helper", "owner", approve=True),
                errors.PERMISSION_DENIED,
            ),
            (
                await asked.answer("ada", channel="room:other", approve=True),
                errors.NOT_AVAILABLE,
            ),
            (
                await asked.answer("ada", approve=True, digest="0" * 64),
                errors.BAD_REQUEST,
            ),
            (await asked.answer("ada", approve="perhaps"), errors.BAD_REQUEST),
        ]
        for answer, error in refusals:
            assert answer.error_code == error.code, answer
        assert RAN == []
        answers = await asyncio.gather(
            *(asked.answer("ada", approve=yes) for yes in (True, False, True))
        )
        won = [one for one in answers if not one.error_code]
        assert len(won) == 1
        outcome = await asked.task
        expected = json.loads(won[0].data)["outcome"]
        assert outcome.state == {"approved": "done", "denied": "denied"}[expected]
        assert len(RAN) == (expected == "approved")
        asked_for = ["approval_requested", "approval_answered"]
        went_out = ["sent"] if expected == "approved" else []
        assert asked.heard.kinds() == [*asked_for, *went_out]


async def test_a_moderator_allows_something_else(
    desk: ToolDesk, corner: Corner
) -> None:
    """Changed arguments are checked again, run as changed, and stand in the record."""
    async with a_question(desk, corner) as asked:
        wrong = await asked.answer(
            "mo", "moderator", approve=True, arguments={"path": 7}
        )
        assert wrong.error_code == errors.BAD_REQUEST.code
        other = {"path": "/srv/y"}
        right = await asked.answer("mo", "moderator", approve=True, arguments=other)
        assert right.error_code == 0
        outcome = await asked.task
        assert outcome.content == "removed /srv/y"
        assert RAN == ["/srv/y"]
        answered = asked.heard.progress[1].approval
        assert answered is not None
        assert (answered.by, answered.changed) == ("mo", True)
        entry = await desk.ledger.approval(asked.view.approval)
        assert entry is not None
        rows = await desk.ledger.audit(entry.key)
        approved = next(row for row in rows if row.event == "approved")
        assert approved.actor == "mo"
        assert approved.digest == digest(canonical(other))
        assert approved.detail["shown"] == asked.view.digest
        assert rows[0].detail["requester"] == "ada"
        assert "removed /srv/y" in rows[-1].detail["content"]


async def test_no_is_no(desk: ToolDesk, corner: Corner) -> None:
    """A denied call does not run, and the model hears who said no and why."""
    async with a_question(desk, corner) as asked:
        await asked.answer("ada", approve=False, reason="not mine")
        outcome = await asked.task
        assert outcome.state == "denied"
        assert "ada" in outcome.content
        assert "not mine" in outcome.content
        assert RAN == []
        late = await asked.answer("ada", approve=True)
        assert late.error_code == errors.NOT_AVAILABLE.code


async def test_silence_is_no_denial(corner: Corner, tools_database_url: str) -> None:
    """Nobody answers: the outcome is a time-out of its own, and later is too late."""
    async with (
        running_desk(
            corner.url, corner.prefix, tools_database_url, approval_timeout_s=0.5
        ) as desk,
        a_question(desk, corner) as asked,
    ):
        outcome = await asked.task
        assert outcome.state == "timeout"
        view = asked.heard.progress[-1].approval
        assert view is not None
        assert view.outcome == "timeout"
        late = await asked.answer("ada", approve=True)
        assert late.error_code == errors.EXPIRED.code
        assert RAN == []


async def test_an_agent_may_have_a_patience_of_its_own(
    desk: ToolDesk, corner: Corner
) -> None:
    """What its file says goes before the setting of the service."""
    async with running_worker(corner.url, corner.prefix, delete):
        await offered(desk, "delete")
        call = replace(a_call("delete", path="/srv/y"), approval_timeout_s=0.3)
        assert (await outcome_of(desk, call)).state == "timeout"


async def test_a_question_is_over_before_its_run(
    desk: ToolDesk, corner: Corner
) -> None:
    """However long people may take: whoever asks hears that nobody has answered."""
    async with running_worker(corner.url, corner.prefix, delete):
        await offered(desk, "delete")
        call = a_call("delete", path="/srv/y")
        until_ms = int(time.time() * 1000) + 400
        heard = Heard()
        call = replace(call, approval_until_ms=until_ms)
        assert (await outcome_of(desk, call, heard)).state == "timeout"
        assert heard.progress[0].approval is not None
        assert heard.progress[0].approval.deadline_ms == until_ms


async def test_the_questions_of_a_run_end_with_it(
    desk: ToolDesk, corner: Corner, tools_database_url: str
) -> None:
    """Also when another replica ends the run, which has made none of its calls."""
    async with (
        a_question(desk, corner) as asked,
        running_desk(corner.url, corner.prefix, tools_database_url) as other,
    ):
        run = asked.call.run
        await other.bus.cancel_run("another")
        assert not asked.task.done()
        await other.bus.cancel_run(run)
        assert (await asked.task).state == "cancelled"
        late = await asked.answer("ada", approve=True)
        assert late.error_code == errors.NOT_AVAILABLE.code
        assert RAN == []


async def test_a_question_survives_who_asked_it(
    corner: Corner, tools_database_url: str
) -> None:
    """The replica dies while people think; another one goes on with the same question."""
    here = (corner.url, corner.prefix, tools_database_url)
    call = a_call("delete", path="/srv/z")
    RAN.clear()
    async with running_worker(corner.url, corner.prefix, delete):
        first_heard, heard = Heard(), Heard()
        async with running_desk(*here) as first:
            await offered(first, "delete")
            task = asyncio.create_task(outcome_of(first, call, first_heard))
            await eventually(lambda: first_heard.progress, within_s=WITHIN_S)
            task.cancel()
            await asyncio.wait({task})
        async with running_desk(*here) as second:
            await offered(second, "delete")
            task = asyncio.create_task(outcome_of(second, call, heard))
            await eventually(lambda: heard.progress, within_s=WITHIN_S)
            assert heard.progress == first_heard.progress
            asked = Asked(second, call, heard, task)
            await asked.answer("ada", approve=True)
            assert (await task).content == "removed /srv/z"
    assert RAN == ["/srv/z"]


async def test_the_record_cannot_be_changed(
    desk: ToolDesk, corner: Corner, tools_database_url: str
) -> None:
    """Audit rows are only ever added."""
    async with a_question(desk, corner):
        pass
    connection = await asyncpg.connect(tools_database_url)
    try:
        for statement in ("DELETE FROM tool_audit", "UPDATE tool_audit SET actor = ''"):
            with pytest.raises(asyncpg.RaiseError):
                await connection.execute(statement)
    finally:
        await connection.close()
