"""A worker in another language, with nothing but an AMQP client."""

import asyncio
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chatmesh.agent.tools.desk import ToolDesk
from support.instances import Corner
from support.tool_rig import a_call, offered, outcome_of

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "tools"
INSTALL_S = 120.0


def missing() -> str | None:
    """Install the example's packages, once; why that cannot be done."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node is not installed"
    with (FOLDER / "package-lock.json").open() as lock:
        # The lock file is its own lock: two test runs wait for each other.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (FOLDER / "node_modules" / "amqplib").exists():
            return None
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=FOLDER,
            check=False,
            timeout=INSTALL_S,
        )
    return None if done.returncode == 0 else "npm could not install amqplib"


@pytest.mark.timeout(240)
async def test_the_worker_in_node_serves(desk: ToolDesk, corner: Corner) -> None:
    """Thirty lines of JavaScript are offered and called like any other tool."""
    if reason := await asyncio.to_thread(missing):
        pytest.skip(reason)
    process = await asyncio.create_subprocess_exec(
        "node",
        str(FOLDER / "worker.mjs"),
        env={
            "PATH": os.environ["PATH"],
            "CHATMESH_AMQP_URL": corner.url,
            "CHATMESH_PREFIX": corner.prefix,
        },
    )
    try:
        await offered(desk, "reverse", within_s=60)
        outcome = await outcome_of(desk, a_call("reverse", text="mesh"))
        assert (outcome.state, outcome.content) == ("done", "hsem")
        outcome = await outcome_of(desk, a_call("reverse", word="mesh"))
        assert outcome.state == "failed"
    finally:
        process.kill()
        await process.wait()
