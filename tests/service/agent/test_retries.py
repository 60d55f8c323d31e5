"""Runs that failed, done again: once, from where they stood, by who may; until forgotten."""

import asyncio
import json

import asyncpg
import pytest

from chatmesh.tools import tool
from chatmesh.wire.runs import RunOutcome, retry_of
from support.agent_stage import Stage
from support.fake_openai import Reply, ToolUse, broken
from support.instances import Corner
from support.tool_rig import running_worker

pytestmark = [
    # A link that is cut while it closes; see `agent_stage`.
    pytest.mark.filterwarnings("ignore:coroutine 'Connection.close':RuntimeWarning"),
    pytest.mark.timeout(120),
]


async def test_a_failed_run_goes_on_from_what_it_had_finished(
    stage: Stage, corner: Corner
) -> None:
    """The parcel is not sent again, and however often it is asked for, it is one run."""
    sent: list[str] = []

    @tool
    async def send_parcel(to: str) -> str:
        """Does something that cannot be undone."""
        await asyncio.sleep(0)
        sent.append(to)
        return f"sent to {to}"

    stage.declare(owl={"tools": ["send_parcel"], "limits": {"model_attempts": 1}})
    parcel = ToolUse("send_parcel", {"to": "bob"})
    stage.model.says(Reply.of("One moment.", tools=[parcel]), broken(), "It is sent.")
    async with running_worker(corner.url, corner.prefix, send_parcel):
        await stage.replica()
        await stage.say("@owl send it")
        (failed,) = await stage.answered()
        assert (failed.run.outcome, sent) == (RunOutcome.FAILED, ["bob"])
        asked = [
            stage.call("run.retry", user=user, run=failed.run.id)
            for user in ("ada", "bob", "ada")
        ]
        answers = [json.loads((await one).data) for one in asked]
        _, again = await stage.answered(2)
    assert {one["run"] for one in answers} == {retry_of(failed.run.id)}
    assert again.run.id == retry_of(failed.run.id)
    assert again.run.retry_of == failed.run.id
    assert again.run.outcome is RunOutcome.COMPLETED
    assert (again.text, sent) == ("One moment.\n\nIt is sent.", ["bob"])
    await stage.has_told(again.run.id, again.text)
    assert stage.model.asked[2].tool_results == ["sent to bob"]
    # Its own share only: what the first one used is in that one's answer.
    assert (again.run.usage.requests, again.run.tools) == (1, [])


async def test_who_may_have_what_done_again(stage: Stage) -> None:
    """Guests what they asked for, agents nothing; and only what came to no good end."""
    stage.declare(owl={"limits": {"model_attempts": 1}})
    stage.model.says("Fine.", broken(), broken())
    await stage.replica()
    await stage.say("@owl one")
    (fine,) = await stage.answered()
    await stage.say("@owl two")
    failed = (await stage.answered(2))[1].run.id

    async def code(
        run: str, user: str = "ada", role: str = "member", **more: str
    ) -> int:
        answer = await stage.call("run.retry", run=run, user=user, role=role, **more)
        return answer.error_code

    assert await code(fine.run.id) == 108
    assert await code(failed, "agent:owl", "owner") == 103
    assert await code(failed, "eve", "guest") == 103
    assert await code(failed, room="room:b") == 107
    assert await code("nonsense") == 107
    assert len(stage.answers()) == 2
    assert await code(failed, "ada", "guest") == 0
    third = (await stage.answered(3))[2]
    # What failed again may be done again.
    assert await code(third.run.id) == 0
    assert (await stage.answered(4))[3].run.retry_of == third.run.id


async def test_what_runs_read_and_wrote_is_forgotten(
    stage: Stage, database_url: str
) -> None:
    """After its time; that the message was answered is remembered for ever."""
    stage.declare(owl={"limits": {"model_attempts": 1}})
    stage.model.says(broken())
    replica = await stage.replica(journals_kept_days=1e-6, forget_every_s=0.1)
    await stage.say("@owl one", key="m1")
    (failed,) = await stage.answered()
    connection = await asyncpg.connect(database_url)
    try:

        async def forgotten() -> bool:
            return await connection.fetchval(
                "SELECT forgotten FROM agent_runs WHERE id = $1", failed.run.id
            )

        await stage.until(forgotten)
        assert await connection.fetchval("SELECT count(*) FROM agent_journal") == 0
        (left,) = await connection.fetch(
            "SELECT trigger_text, answer, outcome FROM agent_runs"
        )
    finally:
        await connection.close()
    assert tuple(left) == ("", None, "failed")
    assert replica.counted("runs_forgotten_total") == 1
    assert (await stage.call("run.retry", run=failed.run.id)).error_code == 108
    entry = next(entry for _, entry in stage.entries if entry.id == "m1")
    await stage.deliver_again(entry)
    await stage.until(lambda: replica.counted("triggers_total", became="known"))
    assert len(stage.answers()) == 1


async def test_what_tools_were_given_and_gave_back_is_forgotten(
    stage: Stage, corner: Corner, database_url: str
) -> None:
    """With the journal of their run; that they were called is remembered for ever."""

    @tool(read_only=True)
    async def look(where: str) -> str:
        """Looks."""
        await asyncio.sleep(0)
        return f"a secret in {where}"

    stage.declare(owl={"tools": ["look"]})
    looked = ToolUse("look", {"where": "the drawer"})
    stage.model.says(Reply.of("One moment.", tools=[looked]), "Found.")
    connection = await asyncpg.connect(database_url)

    async def calls() -> list[tuple[str, ...]]:
        rows = await connection.fetch(
            "SELECT state, arguments, content, parameters, result_schema FROM tool_calls"
        )
        return [tuple(row) for row in rows]

    async def forgotten() -> bool:
        return await connection.fetchval("SELECT bool_and(forgotten) FROM agent_runs")

    try:
        async with running_worker(corner.url, corner.prefix, look):
            replica = await stage.replica()
            await stage.say("@owl go")
            await stage.answered()
            await replica.leave()
        ((state, arguments, content, *_),) = await calls()
        assert (state, arguments) == ("done", '{"where":"the drawer"}')
        assert content == "a secret in the drawer"
        await stage.replica(journals_kept_days=1e-6, forget_every_s=0.1)
        await stage.until(forgotten)
        assert await calls() == [("done", "{}", "", "{}", "")]
        events = await connection.fetch("SELECT event FROM tool_audit ORDER BY id")
        assert [row["event"] for row in events] == ["asked", "sent", "settled"]
    finally:
        await connection.close()
