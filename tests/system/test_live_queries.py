"""Every query of dashboards and alerts, asked of a real Prometheus about a real mesh."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
import pytest_asyncio
import yaml

from chatmesh.agent.metrics import Metrics
from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh, agent_there
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.eventually import eventually
from support.json_client import json_client
from support.meshes import shared_mesh
from support.otlp_receiver import otlp_receiver
from support.prometheus import Prometheus, running_prometheus

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

ROOT: Final = Path(__file__).parents[2]
ALERTS: Final = sorted((ROOT / "deploy" / "alerts").glob("*.yaml"))
DASHBOARDS: Final = sorted((ROOT / "deploy" / "dashboards").glob("*.json"))
WINDOW: Final = "30s"
WITHIN_S: Final = 90.0
_NAME: Final = re.compile(r"\b(?:chatmesh|rabbitmq|process)[a-z0-9_:]*")
_LABELS: Final = re.compile(
    r"\{[^}]*\}|\((?:namespace|instance|job|queue|vhost|le)[^)]*\)"
)

# Their labels come up only when an agent calls a tool, which nobody's hello makes it do.
ONLY_WHEN_CALLED: Final = ("chatmesh_agent_tool_calls", "chatmesh_agent_approvals")
# This mesh has none; tests/deploy compares the queries with their registry.
OF_WORKERS: Final = ("chatmesh_tools_", 'service="tools"')


def url(port: int) -> str:
    return f"127.0.0.1:{port}"


def address(location: str) -> str:
    return location.removeprefix("http://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Prometheus]:
    """A mesh with some traffic, scraped every second."""
    if instances.metrics_url is None:
        pytest.skip("this RabbitMQ shows no metrics; a private one does")
    with otlp_receiver() as collector:
        settings = {
            "CHATMESH_TRACE_ENDPOINT": collector.url,
            "CHATMESH_TRACE_RATIO": "1",
        }
        async with shared_mesh(
            instances,
            migrated_template,
            tmp_path_factory.mktemp("logs"),
            others=["presence"],
            agents=int(agent_there()),
            settings=settings,
        ) as mesh:
            targets = {
                "gateway": [url(one.http_port) for one in mesh.gateways],
                "history": [url(mesh.history.http_port)],
                "presence": [url(one.http_port) for one in mesh.others],
                "agent": [url(one.http_port) for one in mesh.agents],
                "rabbitmq": [address(instances.metrics_url)],
            }
            async with running_prometheus(
                tmp_path_factory.mktemp("prometheus"),
                targets,
                rules=ALERTS,
            ) as prometheus:
                await some_traffic(mesh)
                await eventually(lambda: has_scraped(prometheus), within_s=WITHIN_S)
                await some_traffic(mesh)
                yield prometheus


async def has_scraped(prometheus: Prometheus) -> bool:
    down = [one for one in await prometheus.value("up") if one["value"][1] != "1"]
    assert not down, down
    return bool(await prometheus.value("chatmesh_gateway_durable_deliveries_total"))


async def some_traffic(mesh: Mesh) -> None:
    """People who come, talk, come back and are sent away."""
    token = jwt.encode({"sub": "ada"}, DEVELOPMENT_SECRET, algorithm="HS256")
    for gateway in mesh.gateways:
        for round_ in range(2):
            async with json_client(gateway.ws_url) as ada:
                await ada.connect(token)
                answer = await ada.subscribe("room:watched", join_leave=True)
                epoch = answer["subscribe"]["epoch"]
                for number in range(5):
                    data = {
                        "channel": "room:watched",
                        "id": f"{gateway.name}-{round_}-{number}-{id(ada)}",
                        "text": "@helper hello" if number == 0 else "hello",
                    }
                    sent = await ada.ask(rpc={"method": "message.send", "data": data})
                    assert "rpc" in sent, sent
                await ada.ask(presence_stats={"channel": "room:watched"})
            async with json_client(gateway.ws_url) as back:
                await back.connect(token)
                await back.subscribe(
                    "room:watched", recover=True, epoch=epoch, offset=1
                )
                await back.send({"id": 99, "nonsense": {}})
                await back.goodbye()


def queries() -> list[tuple[str, str]]:
    """Where each query stands, and what it asks."""
    found: list[tuple[str, str]] = []
    for file in DASHBOARDS:
        board: dict[str, Any] = json.loads(file.read_text())
        found += [
            (f"{file.name}: {panel['title']}", target["expr"])
            for panel in board["panels"]
            for target in panel.get("targets", [])
        ]
    chosen = {"$__rate_interval": WINDOW, "$namespace": ".*", "$broker": ".*"}
    return [
        (where, re.sub(r"\$\w+", lambda variable: chosen[variable[0]], query))
        for where, query in found
    ]


async def test_what_is_chosen_from_is_exported(watched: Prometheus) -> None:
    """Variables ask for the namespaces of a metric; one that nobody exports has none."""
    there = await watched.names()
    asked = {
        metric
        for file in DASHBOARDS
        for variable in json.loads(file.read_text())["templating"]["list"]
        for metric in re.findall(r"label_values\((\w+), namespace\)", variable["query"])
    }

    assert {"chatmesh_build_info", "rabbitmq_identity_info"} == asked
    assert asked <= there


async def test_every_panel_shows_something(watched: Prometheus) -> None:
    """A panel with a misspelt metric is empty, and nobody notices until it matters."""
    asked = [
        (where, query)
        for where, query in queries()
        if (agent_there() or not where.startswith("agents"))
        and not any(one in query for one in (*ONLY_WHEN_CALLED, *OF_WORKERS))
    ]
    empty: list[str] = []

    async def all_answered() -> bool:
        empty.clear()
        for where, query in asked:
            if not await watched.value(query):
                empty.append(f"{where}: {query}")
        assert not empty, "\n".join(empty)
        return True

    await eventually(all_answered, within_s=WITHIN_S)


async def test_what_shows_only_when_it_happens_exists(watched: Prometheus) -> None:
    """Counters without a single label yet are asked of the service's own registry."""
    assert await watched.value("up")
    registry = Metrics().registry
    ToolMetrics(registry)
    declared = {family.name for family in registry.collect()}

    assert set(ONLY_WHEN_CALLED) <= declared


async def test_every_alert_asks_for_what_there_is(watched: Prometheus) -> None:
    """Each metric in a rule is one that somebody exports, or another rule records."""
    there = await watched.names()
    missing = {
        (rule.get("alert") or rule["record"], name)
        for file in ALERTS
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        for name in _NAME.findall(_LABELS.sub("", rule["expr"]))
        if name not in there
    }
    assert missing == set()


async def test_nobody_is_woken_by_a_healthy_mesh(watched: Prometheus) -> None:
    """No alert that wakes people fires or is about to."""
    alerts = (await watched.ask("alerts"))["alerts"]
    pages = [one["labels"] for one in alerts if one["labels"]["severity"] == "page"]

    assert pages == []


async def test_a_latency_leads_to_a_trace(watched: Prometheus) -> None:
    """Histograms carry the trace of one of the messages they counted."""

    async def exemplars() -> list[Any]:
        return await watched.ask(
            "query_exemplars",
            query="chatmesh_gateway_committed_to_written_seconds_bucket",
            start="0",
            end="9999999999",
        )

    found = await eventually(exemplars, within_s=WITHIN_S)
    assert len(found[0]["exemplars"][0]["labels"]["trace_id"]) == 32
