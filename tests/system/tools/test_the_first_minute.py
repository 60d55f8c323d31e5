"""Without key, network or file: an agent that can do something, from the first minute."""

import pytest

from chatmesh.wire import runs
from support.eventually import eventually
from support.meshes import StartMesh
from support.run_viewer import watching

WITHIN_S = 60.0


@pytest.mark.timeout(180)
async def test_the_default_agent_uses_the_built_in_tools(start_mesh: StartMesh) -> None:
    """Asked for a sum in a room, it has the calculator tell it."""
    mesh = await start_mesh(gateways=1, agents=1, tool_workers=1)
    room = "room:helper-first"
    async with watching(mesh.gateways[0].ws_url, "ada", room) as viewer:

        async def offered() -> bool:
            listed = await viewer.call("tools.list")
            return "calculator" in {one["name"] for one in listed["tools"]}

        await eventually(offered, within_s=WITHIN_S)
        await viewer.say("m1", "calculate 6*7")
        run = runs.run_of("helper", room, "m1")
        (final,) = await eventually(
            lambda: viewer.screen.answers.get(run), within_s=WITHIN_S
        )
    assert "42" in final["text"]
    assert final["run"]["tools"] == [{"name": "calculator", "outcome": "done"}]
