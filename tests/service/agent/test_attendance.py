"""Agents among the members of a room, by way of a real presence service."""

import json
from pathlib import Path

import pytest

from chatmesh.wire.presence import Member
from chatmesh.wire.runs import agent_user
from support.agent_stage import Stage
from support.fake_openai import Reply
from support.instances import Corner
from support.presence_side import ReporterSide, presence_service

pytestmark = [
    # A link that is cut while it closes; see `agent_stage`.
    pytest.mark.filterwarnings("ignore:coroutine 'Connection.close':RuntimeWarning"),
    pytest.mark.timeout(180),
]

OWL = agent_user("owl")
SLOW = Reply.of("word " * 400, pause_s=0.05)


async def test_an_agent_is_a_member_with_what_it_does(
    stage: Stage, corner: Corner, database_url: str, tmp_path: Path
) -> None:
    """Idle in its own room, busy where it answers; gone with the last of its processes."""
    stage.declare(owl={"trigger": {"mention": True, "direct": ["room:owl"]}})
    stage.model.says(SLOW)
    presence = presence_service(
        amqp_url=corner.url,
        database_url=database_url,
        prefix=corner.prefix,
        folder=tmp_path,
        settings={"CHATMESH_PRESENCE_GRACE_S": "1"},
    )
    await presence.start()
    try:
        async with ReporterSide.open(corner.url, corner.prefix, "g1") as side:
            await side.hear("room:a")

            async def owl(room: str) -> Member | None:
                found = await side.members(room, merged=True)
                return next((one for one in found if one.user == OWL), None)

            async def does(room: str) -> str:
                member = await owl(room)
                return json.loads(member.chan_info)["status"] if member else "nothing"

            async def until(room: str, *doing: str) -> None:
                async def seen() -> bool:
                    return await does(room) in doing

                await stage.until(seen, f"owl does {doing} in {room}")

            first = await stage.replica()
            await until("room:owl", "idle")
            assert await owl("room:a") is None
            await stage.say("@owl tell me")
            await until("room:a", "streaming")
            member = await owl("room:a")
            assert member is not None
            assert json.loads(member.conn_info)["name"] == "owl"
            # Another replica changes nothing of it: each agent is told of by one.
            second = await stage.replica()
            await stage.call("run.stop")
            await until("room:a", "idle")
            members = await side.members("room:a")
            assert len([one for one in members if one.user == OWL]) == 1
            await first.leave()
            await until("room:owl", "idle")
            await second.die()

            async def gone() -> bool:
                return await owl("room:owl") is None

            await stage.until(gone, "its lease is over")
            acts = [json.loads(one.data) for _, one in side.heard if one.kind == "pub"]
    finally:
        await presence.stop()
    told = [one for one in acts if one["type"] == "activity"]
    assert {one["user"] for one in told} == {OWL}
    assert "streaming" in {one["activity"] for one in told if one["ttl_ms"]}
