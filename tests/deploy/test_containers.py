"""The images, built and run as the chart would run them: by podman, without a cluster.

Part of `make test` where podman can be had; CHATMESH_TESTS_CONTAINERS=none leaves it out.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import jwt
import pytest
import websockets
from tools import manifests

from chatmesh.local.ports import free_port
from chatmesh.wire.close_codes import SHUTDOWN
from support import podman
from support.eventually import eventually
from support.manifests import (
    REAPER,
    ROOT,
    SERVICES,
    TOOL_PROCESSES,
    Document,
    image_of,
    named,
    of,
)
from support.podman import Engine
from support.tool_rig import a_call, allowed_outcome_of, offered, running_desk

SECRET = "a-secret-of-the-container-stage-that-is-long-enough-for-any-hmac-there-is"
READY_WITHIN_S = 120
HTTP_WITHIN_S = 5
DRAIN_S = 6
CALL_WITHIN_S = 30

pytestmark = [
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        podman.STAGE == "none",
        reason="containers are built and run by `make test` and `make containers`",
    ),
]

PRESENT = [
    name
    for name in SERVICES
    if (ROOT / "services" / image_of(name) / "Dockerfile").exists()
]
MCP_SERVER = ROOT / "examples" / "tools" / "mcp_server.py"
ANSWER = "42"
CALLS: dict[str, dict[str, dict[str, str]]] = {
    "tools": {
        "calculator": {"expression": "6 * 7"},
        # Confines itself in the container that already confines it.
        "run_python": {"code": "print(40 + 2)"},
    },
    "mcp": {"near__days_between": {"start": "2026-02-01", "end": "2026-03-15"}},
}
"""What is asked of a tool process in its container: tools, and their arguments."""


def values_of(service: str, ports: dict[str, int]) -> dict[str, Any]:
    """The chart's values of one service, on ports of its own where a setting says so."""
    if service == "tools":
        return {}
    if service == REAPER:
        own_port = {"name": "CHATMESH_AGENT_PORT", "value": str(ports["PORT"])}
        return {"extraEnv": [own_port]}
    if service == "mcp":
        command = ["python", "-c", MCP_SERVER.read_text()]
        near = {"command": command, "env": {"KEY": "${KEY}"}, "read_only": ["*"]}
        keys = [{"name": "KEY", "value": "of-the-container-stage"}]
        return {"enabled": True, "servers": {"near": near}, "extraEnv": keys}
    section = service.upper()
    return {
        "drain": {"windowSeconds": DRAIN_S},
        "extraEnv": [
            {"name": f"CHATMESH_{section}_{name}", "value": str(port)}
            for name, port in ports.items()
        ],
    }


def rendered(service: str, ports: dict[str, int], prefix: str) -> list[Document]:
    """One service as the chart renders it, on the machine's own network."""
    whole = manifests.render(
        {
            "image": {"registry": "localhost", "pullPolicy": "Never"},
            "config": {"prefix": prefix},
            "migrations": {"mode": "start"},
            service: values_of(service, ports),
        }
    )
    deployment = named(whole, "Deployment", f"-{service}")
    pod = deployment["spec"]["template"]["spec"]
    deployment["spec"]["replicas"] = 1
    # Broker and database of the test listen on loopback only.
    pod["hostNetwork"] = True
    for container in pod["containers"]:
        # Without a cluster there is no load balancer to wait for, and podman knows no
        # sleep; what the process does at SIGTERM is what is looked at here.
        container.pop("lifecycle", None)
        # On the machine's network ports are what they are; nothing is mapped.
        container.pop("ports")
        if service in TOOL_PROCESSES:
            container["args"] += ["--port", str(ports["PORT"])]
    mounted = {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    maps = [d for d in of(whole, "ConfigMap") if d["metadata"]["name"] in mounted]
    return [*maps, deployment]


def status(port: int, path: str) -> int:
    """The HTTP status; 0 where nobody answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=HTTP_WITHIN_S) as answer:
            return answer.status
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0


def probe_paths(deployment: Document) -> dict[str, str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {
        kind: container[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }


def ended(engine: Engine, pod: str, grace_s: int) -> tuple[float, list[int]]:
    """Seconds from SIGTERM to the end of a pod, and how its containers ended."""
    started_s = time.monotonic()
    engine.run("pod", "stop", "-t", str(grace_s), pod, within_s=grace_s + 60)
    took_s = time.monotonic() - started_s
    listed = json.loads(engine.run("ps", "-a", "--pod", "--format", "json"))
    mine = [c for c in listed if c["PodName"] == pod and not c["IsInfra"]]
    return took_s, [container["ExitCode"] for container in mine]


@pytest.mark.parametrize("service", PRESENT)
async def test_the_image_serves_and_drains(
    service: str, engine: Engine, broker_url: str, database_url: str, prefix: str
) -> None:
    """Its Deployment starts, passes its probes, does work, and ends within its grace."""
    names = ["PORT", "HTTP_PORT"] if service == "gateway" else ["PORT"]
    ports = {name: free_port() for name in names}
    http = ports[names[-1]]
    documents = rendered(service, ports, prefix)
    deployment = documents[-1]
    grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    paths = probe_paths(deployment)
    await asyncio.to_thread(
        engine.build, image_of(service), f"localhost/chatmesh/{image_of(service)}:0.1.0"
    )
    engine.secret(
        "chatmesh",
        {
            "amqp-url": broker_url,
            "database-url": database_url,
            "token-secrets": SECRET,
            "gateway-api-keys": "key",
            "history-api-keys": "key",
            "presence-api-keys": "key",
            "agent-api-keys": "key",
            "agent-model-keys": "{}",
        },
    )
    file: Path = await asyncio.to_thread(engine.play, documents)
    pod = await asyncio.to_thread(engine.pod, deployment["metadata"]["name"])
    try:
        for path in paths.values():
            await eventually(
                lambda path=path: status(http, path) == 200, within_s=READY_WITHIN_S
            )
        assert status(http, "/metrics") == 200
        if service == "gateway":
            took_s, codes = await _with_a_client(engine, pod, ports, grace_s)
        else:
            if service in TOOL_PROCESSES:
                await _with_calls(service, broker_url, database_url, prefix)
            took_s, codes = await asyncio.to_thread(ended, engine, pod, grace_s)
    except BaseException as error:
        error.add_note(engine.run("pod", "logs", pod))
        raise
    finally:
        await asyncio.to_thread(engine.down, file)

    assert codes == [0]
    assert took_s < grace_s


def test_the_image_brings_tables_up_to_date(engine: Engine, database_url: str) -> None:
    """As the chart's hook Job runs it; where nothing is left to do, it says so."""
    image = "localhost/chatmesh/history:0.1.0"
    engine.build("history", image)

    said = engine.run(
        *("run", "--rm", "--network=host", "--read-only", "--cap-drop=ALL"),
        *("--env", f"CHATMESH_DATABASE_URL={database_url}", image, "migrate"),
    )

    assert said.strip().endswith("up to date")


async def _with_calls(
    service: str, broker_url: str, database_url: str, prefix: str
) -> None:
    """Call tools as an agent does; they run in the container."""
    calls = CALLS[service]
    async with running_desk(broker_url, prefix, database_url) as desk:
        await offered(desk, *calls)
        for name, arguments in calls.items():
            call = a_call(name, CALL_WITHIN_S, **arguments)
            outcome = await allowed_outcome_of(desk, call)
            assert outcome.state == "done", (name, outcome)
            assert ANSWER in outcome.content, (name, outcome)


async def _with_a_client(
    engine: Engine, pod: str, ports: dict[str, int], grace_s: int
) -> tuple[float, list[int]]:
    """End a gateway that somebody is connected to; it says so, and is unready meanwhile."""
    token = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256")
    url = f"ws://127.0.0.1:{ports['PORT']}/connection/websocket"
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        reply = json.loads(await socket.recv())
        assert reply["connect"]["client"]
        ending = asyncio.create_task(
            asyncio.to_thread(ended, engine, pod, grace_s), name="SIGTERM"
        )
        await eventually(
            lambda: status(ports["HTTP_PORT"], "/readyz") == 503, within_s=grace_s
        )
        await socket.wait_closed()
        assert socket.close_code == SHUTDOWN.code
    return await ending
