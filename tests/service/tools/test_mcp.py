"""MCP servers as tools: real servers, over standard streams and over HTTP."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from chatmesh.agent.tools.desk import ToolDesk
from support.eventually import eventually
from support.instances import Corner
from support.tool_rig import a_call, offered, outcome_of

SERVER = '''
import os, sys
from mcp.server import MCPServer

server = MCPServer("numbers")

@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b

@server.tool(name="who.am.i")
def who() -> str:
    """Says which process it is."""
    return str(os.getpid())

@server.tool()
def fail() -> str:
    """Fails."""
    from mcp.server.mcpserver.exceptions import ToolError; raise ToolError("on purpose")

@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(3)

if len(sys.argv) > 1:
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run()
'''


START_WITHIN_S = 60.0
"""Three processes that import much, on a machine that does much else."""


@pytest.mark.timeout(180)
async def test_servers_of_both_kinds_are_served(
    desk: ToolDesk, corner: Corner, tmp_path: Path, free_port: int
) -> None:
    """Tools are named for their server, called, and there again after it has died."""
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    free = {"without_approval": ["*"]}
    servers = {
        "near": {
            "command": [sys.executable, str(script)],
            "read_only": ["who*"],
            **free,
        },
        "far": {"url": f"http://127.0.0.1:{free_port}/mcp", **free},
    }
    (tmp_path / "servers.yaml").write_text(yaml.safe_dump({"servers": servers}))
    environ = {
        "PATH": os.environ["PATH"],
        "CHATMESH_AMQP_URL": corner.url,
        "CHATMESH_PREFIX": corner.prefix,
    }
    far = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(free_port), env={"PATH": os.environ["PATH"]}
    )
    gateway = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chatmesh.agent.tools.mcp",
        "--port=0",
        str(tmp_path / "servers.yaml"),
        env=environ,
    )
    try:
        names = ("near__add", "near__who_am_i", "far__add", "far__fail")
        await offered(desk, *names, within_s=START_WITHIN_S)
        for name in ("near__add", "far__add"):
            outcome = await outcome_of(desk, a_call(name, a=2, b=3))
            assert (outcome.state, json.loads(outcome.content)) == (
                "done",
                {"result": 5},
            )
        outcome = await outcome_of(desk, a_call("far__fail"))
        assert (outcome.state, "on purpose" in outcome.content) == ("failed", True)
        before = await outcome_of(desk, a_call("near__who_am_i"))
        outcome = await outcome_of(desk, a_call("near__die"))
        assert outcome.state == "unknown"

        async def another() -> bool:
            after = await outcome_of(desk, a_call("near__who_am_i"))
            return after.state == "done" and after.content != before.content

        await eventually(another, within_s=START_WITHIN_S)
    finally:
        gateway.terminate()
        far.kill()
        await far.wait()
        assert await gateway.wait() == 0
