"""Agents for tests: their file, the model that they ask, and who of them is at work."""

import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from chatmesh.local.mesh import Mesh, inherited
from chatmesh.local.process import Command, Process
from chatmesh.local.service import Service
from support.eventually import eventually
from support.fake_openai import FakeOpenAI

TELLER: Final = "teller"
"""An agent that answers with what the fake model says."""
WORKER: Final = Path(__file__).with_name("tool_worker.py")


def agents_file(
    folder: Path, model_url: str, *, idle_s: float = 5.0, **more: object
) -> Path:
    """An agents file with the teller; `more` are keys of the agent."""
    folder.mkdir(parents=True, exist_ok=True)
    teller: dict[str, object] = {
        "title": "Teller",
        "picture": "T",
        "instructions": "You tell stories.",
        "model": "fake",
        "tools": ["*"],
        "rooms": ["room:*"],
        "when_busy_in": {
            "room:queue-*": "queue",
            "room:interrupt-*": "interrupt",
            "room:reject-*": "reject",
        },
        "limits": {"idle_s": idle_s},
        **more,
    }
    model = {"kind": "openai", "name": "fake-1", "base_url": model_url}
    # JSON is YAML too.
    path = folder / "agents.yaml"
    path.write_text(json.dumps({"agents": {TELLER: teller}, "models": {"fake": model}}))
    return path


def settings_for(path: Path) -> dict[str, str]:
    """What makes a mesh's agents those of a file."""
    return {"CHATMESH_AGENT_AGENTS_FILE": str(path)}


@dataclass
class AgentsSide:
    """A mesh with agents, and the model behind them."""

    mesh: Mesh
    model: FakeOpenAI

    def urls(self) -> list[str]:
        return [gateway.ws_url for gateway in self.mesh.gateways]

    async def owner(self) -> Service:
        """The replica that has a request with the model open, once there is one."""
        return await eventually(lambda: at_work(self.mesh.agents, self.model.port))


def at_work(agents: list[Service], model_port: int) -> Service | None:
    """Who of these is connected to the model."""
    for agent in agents:
        if not agent.running:
            continue
        with contextlib.suppress(psutil.Error):
            for connection in psutil.Process(agent.pid).net_connections("tcp"):
                if (
                    connection.raddr
                    and connection.raddr.port == model_port
                    and connection.status == psutil.CONN_ESTABLISHED
                ):
                    return agent
    return None


@asynccontextmanager
async def tool_worker(
    mesh: Mesh, folder: Path, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[Process]:
    """A process with the tools of `tool_worker.py`, which notes its calls in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = mesh.plan
    own: dict[str, Any] = {
        **inherited(plan.environ),
        "CHATMESH_AMQP_URL": plan.amqp_url,
        "CHATMESH_PREFIX": plan.prefix,
        "TOOL_NOTES": str(folder / "notes"),
        **(environ or {}),
    }
    command = Command("tools", (sys.executable, str(WORKER)), own, grace_s=3.0)
    process = Process(command, log=folder / "tools.log")
    try:
        yield process
    finally:
        await process.stop()


def notes(folder: Path) -> list[dict[str, Any]]:
    """What the tools have done, one note a call that was begun."""
    path = folder / "notes"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
