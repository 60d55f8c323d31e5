"""What autoscalers ask for is a metric that is measured, by a query that parses."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from chatmesh.agent.metrics import Metrics as AgentMetrics
from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.agent.tools.serving import ToolProcess
from chatmesh.gateway.metrics import Metrics
from chatmesh.history.metrics import Metrics as HistoryMetrics
from chatmesh.presence.metrics import Metrics as PresenceMetrics
from chatmesh.runtime.health import Health
from chatmesh.runtime.process_metrics import add_process_metrics
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.settings import Shared
from chatmesh.wire.topics import Topics
from support.manifests import ROOT, SCALED, Document, of

ADAPTER = ROOT / "deploy" / "k8s" / "prometheus-adapter.yaml"
PROMTOOL_WITHIN_S = 30
# Labels that the Prometheus operator gives to every target by itself.
OF_TARGETS = {
    "service",
    "namespace",
    "pod",
    "container",
    "endpoint",
    "job",
    "instance",
    "node",
}
# Of RabbitMQ's page of details, with the family queue_coarse_metrics.
OF_THE_BROKER = "rabbitmq_detailed_queue_messages"


@pytest.fixture(scope="module")
def rules() -> dict[str, list[dict[str, Any]]]:
    return yaml.safe_load(ADAPTER.read_text())["rules"]


@pytest.fixture(scope="module")
def measured() -> set[str]:
    """Every metric of a gateway."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {family.name for family in registry.collect()}


def asked(documents: list[Document]) -> Iterator[tuple[str, str]]:
    """Kind and name of every metric that an autoscaler looks at."""
    for scaler in of(documents, "HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] in {"Pods", "External"}:
                kind = metric["type"].lower()
                yield kind, metric[kind]["metric"]["name"]


def queries(rules: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The adapter's queries as Prometheus gets them."""
    for rule in [*rules["custom"], *rules["external"]]:
        series = rule["seriesQuery"].partition("{")[0]
        yield (
            rule["metricsQuery"]
            .replace("<<.Series>>", series)
            .replace("<<.LabelMatchers>>", 'namespace="chat"')
            .replace("<<.GroupBy>>", "pod")
        )
        yield rule["seriesQuery"]


def test_the_adapter_has_every_metric_that_is_asked_for(
    rendered: dict[str, list[Document]], rules: dict[str, list[dict[str, Any]]]
) -> None:
    """An autoscaler whose metric nobody serves does not scale down any more."""
    custom = {rule["name"]["as"] for rule in rules["custom"]}
    external = {rule["name"]["as"] for rule in rules["external"]}
    wanted = {each for documents in rendered.values() for each in asked(documents)}

    assert {name for kind, name in wanted if kind == "pods"} == custom
    assert {name for kind, name in wanted if kind == "external"} == external


def test_the_adapter_reads_what_is_measured(
    rules: dict[str, list[dict[str, Any]]], measured: set[str]
) -> None:
    """Series are ones that our processes or the broker expose."""
    own = {rule["seriesQuery"].partition("{")[0] for rule in rules["custom"]}
    brokers = {rule["seriesQuery"].partition("{")[0] for rule in rules["external"]}

    assert own <= measured
    assert brokers == {OF_THE_BROKER}


def test_the_adapter_counts_the_queues_there_are(
    rules: dict[str, list[dict[str, Any]]],
) -> None:
    """Each query means the queues of one service, and no other."""
    topics = Topics()
    queues = {
        "chatmesh_history_waiting": {topics.command_queue(p) for p in range(16)},
        "chatmesh_presence_waiting": {
            topics.presence_reports_queue(p) for p in range(16)
        },
        "chatmesh_agent_waiting": {topics.agent_messages_queue},
    }
    every = set[str]().union(*queues.values()) | {
        topics.history_rpc_queue,
        topics.agent_rpc_queue,
        topics.dead_letters,
    }
    for rule in rules["external"]:
        (pattern,) = re.findall(r'queue=~"([^"]+)"', rule["metricsQuery"])
        # Prometheus matches whole values.
        meant = {queue for queue in every if re.fullmatch(pattern, queue)}

        assert meant == queues[rule["name"]["as"]]


def test_keda_asks_for_what_is_measured(
    rendered: dict[str, list[Document]], measured: set[str]
) -> None:
    """The query of the ScaledObject names a metric of the gateways."""
    found = [
        trigger["metadata"]["query"]
        for scaled in of(rendered["full"], "ScaledObject")
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]

    assert found == ['sum(chatmesh_gateway_connections{namespace="chatmesh"})']
    assert set(re.findall(r"chatmesh_\w+(?={)", found[0])) <= measured


def test_every_query_parses(
    rules: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Prometheus takes each of them for a rule."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: queries are not parsed")
    wrapped = [
        {"record": f"tried:query:{number}", "expr": query}
        for number, query in enumerate(queries(rules))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "tried", "rules": wrapped}]}))

    done = subprocess.run(
        [promtool, "check", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PROMTOOL_WITHIN_S,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def own_labels() -> set[str]:
    """Every label of every metric of ours, also of those that nothing counted yet."""
    common, tools, gateway = (CollectorRegistry() for _ in range(3))
    add_process_metrics(common, Health("broker"), service="x", version="1")
    ToolMetrics(tools)
    Metrics(gateway)
    registries = [
        common,
        tools,
        gateway,
        HistoryMetrics().registry,
        PresenceMetrics().registry,
        AgentMetrics().registry,
    ]
    metrics = {m for r in registries for m in vars(r)["_collector_to_names"]}
    declared = {label for m in metrics for label in getattr(m, "_labelnames", ())}
    sampled = {
        label
        for registry in registries
        for family in registry.collect()
        for sample in family.samples
        for label in sample.labels
    }
    return declared | sampled


def test_labels_of_ours_arrive_under_their_name(
    rendered: dict[str, list[Document]],
) -> None:
    """The operator renames a label that targets have too, unless ours are honoured."""
    taken = own_labels() & OF_TARGETS
    monitors = of(rendered["full"], "ServiceMonitor")

    # Any other would hide from which pod a series comes.
    assert taken == {"service"}
    assert monitors
    for monitor in monitors:
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint.get("honorLabels") is True, monitor["metadata"]["name"]


def test_rules_mean_the_autoscalers_of_their_release(
    rendered: dict[str, list[Document]],
) -> None:
    """Each one of ours by its name, by whoever made it, and nobody else's."""
    for case in ("external", "full"):
        documents = rendered[case]
        names = {
            d["metadata"]["name"]
            if d["kind"] == "HorizontalPodAutoscaler"
            # As KEDA names what it makes of a ScaledObject.
            else f"keda-hpa-{d['metadata']['name']}"
            for d in of(documents, "HorizontalPodAutoscaler", "ScaledObject")
        }
        expressions = [
            rule["expr"]
            for each in of(documents, "PrometheusRule")
            for group in each["spec"]["groups"]
            for rule in group["rules"]
            if "horizontalpodautoscaler=~" in rule["expr"]
        ]

        assert len(expressions) == 2
        assert len(names) == len(SCALED)
        for expression in expressions:
            (pattern,) = re.findall(r'horizontalpodautoscaler=~"([^"]+)"', expression)
            assert 'namespace="chatmesh"' in expression
            assert {n for n in names if not re.fullmatch(pattern, n)} == set()
            for foreign in ("payments-gateway", "other-mesh-gateway", "gateway"):
                assert not re.fullmatch(pattern, foreign)


def test_every_metric_of_tools_has_a_panel() -> None:
    """What the workers count is drawn, and what is drawn is counted."""
    board = (ROOT / "deploy" / "dashboards" / "agents.json").read_text()
    process = ToolProcess(Shared(), Stopping())
    declared = {
        family.name
        for family in process.registry.collect()
        if family.name.startswith("chatmesh_tools_")
    }
    drawn = set(re.findall(r"chatmesh_tools_[a-z_]+", board))

    assert declared == {"chatmesh_tools_calls", "chatmesh_tools_call_seconds"}
    assert drawn == {"chatmesh_tools_calls_total", "chatmesh_tools_call_seconds_bucket"}
    assert "chatmesh_agent_tools_calls_total" in board


def test_runbooks_can_be_opened(rendered: dict[str, list[Document]]) -> None:
    """With a base, every runbook_url is an address; without, a path in this checkout."""
    for case, base in (("external", "https://git.example/chatmesh/"), ("full", "")):
        urls = [
            rule["annotations"]["runbook_url"]
            for each in of(rendered[case], "PrometheusRule")
            for group in each["spec"]["groups"]
            for rule in group["rules"]
            if "alert" in rule
        ]

        assert urls
        for url in urls:
            assert url.startswith(f"{base}docs/runbooks/")
            assert (ROOT / url.removeprefix(base)).is_file()


def test_dashboards_show_one_mesh() -> None:
    """Every series of ours and of the broker is asked for in the namespace of its choice."""
    for file in sorted((ROOT / "deploy" / "dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        names = {variable["name"] for variable in board["templating"]["list"]}
        queries = [
            target["expr"]
            for panel in board["panels"]
            for target in panel.get("targets", [])
        ]

        asked = set[str]()
        for query in queries:
            for metric, selector in re.findall(
                r"\b((?:chatmesh|process|rabbitmq)[a-z0-9_:]*)(.{0,24})", query
            ):
                chosen = "broker" if metric.startswith("rabbitmq") else "namespace"
                assert selector.startswith(f'{{namespace=~"${chosen}"'), query
                asked.add(chosen)
        assert names == {"datasource", "namespace", *asked}, file.name
