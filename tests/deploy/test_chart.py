"""The chart itself: it lints, refuses what is wrong, and what is made from it is current."""

from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from tools import manifests

from chatmesh.agent.tools.mcp import servers_file
from support.manifests import (
    CASE_NAMES,
    CASES,
    CHART,
    SCALED,
    SERVICES,
    Document,
    named,
    of,
    workloads,
)

Values = dict[str, Any]
ONE_SERVER: Values = {
    "enabled": True,
    "servers": {"a": {"url": "https://a.example/mcp"}},
}


def refusal(values: Values) -> str:
    """Why Helm does not install with these values."""
    chart = helm_python.Chart.load(str(CHART))
    # What `helm install` does first; `render` alone does not look at the schema.
    try:
        chart.validate_schema(values)
        chart.render(values, name="chatmesh", namespace="chatmesh")
    except helm_python.HelmError as refused:
        return str(refused)
    pytest.fail(f"{values} were taken")


@pytest.mark.parametrize("case", CASE_NAMES)
def test_the_chart_lints(case: str) -> None:
    """`helm lint --strict` has nothing to say, whatever is switched on."""
    report = helm_python.lint(
        str(CHART),
        values=manifests.values(CASES / f"{case}.yaml"),
        strict=True,
        kube_version="v1.33.0",
    )

    assert report["errors"] == []
    # An icon is recommended; there is none.
    assert [m["error"] for m in report["messages"]] == ["icon is recommended"]


def test_what_is_made_from_the_chart_is_current() -> None:
    """Base, components, schema, copies and golden renders are as `make manifests` says."""
    assert [str(path) for path in manifests.check()] == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replica": 3}}, "replica"),
        ({"gateway": {"drain": {"marginSeconds": 5}}}, "marginSeconds"),
        ({"history": {"autoscaling": {"maxReplicas": 17}}}, "maxReplicas"),
        ({"config": {"gateway": {"ping_intervall_s": 25}}}, "ping_intervall_s"),
        ({"config": {"gateway": {"ping_interval_s": 4000}}}, "ping_interval_s"),
        ({"config": {"log_level": "loud"}}, "log_level"),
        ({"config": {"amqp_url": "amqp://here"}}, "amqp_url"),
        ({"config": {"namespaces": {"room": {"durabel": True}}}}, "durabel"),
        ({"mcp": {"servers": {"a": {"url": "https://a", "colour": 1}}}}, "colour"),
        ({"mcp": {"servers": {"a": {"url": "ftp://a"}}}}, "url"),
        ({"mcp": {"servers": {"a": {"timeout_s": 5}}}}, "mcp"),
        ({"mcp": {"servers": {"A b": {"url": "https://a"}}}}, "A b"),
        ({"mcp": {"drain": {"windowSeconds": 0}}}, "windowSeconds"),
        ({"reaper": {"drain": {"windowSeconds": 5}}}, "windowSeconds"),
        ({"reaper": {"autoscaling": {"enabled": True}}}, "autoscaling"),
        ({"image": {"digests": {"gateway": "latest"}}}, "gateway"),
        ({"networkPolicy": {"ports": {"amqp": [99999]}}}, "amqp"),
        ({"rabbitmq": {"cluster": {"replicas": 2}}}, "replicas"),
    ],
)
def test_wrong_values_are_refused_by_name(values: Values, said: str) -> None:
    """What is misspelt, out of range or set elsewhere is named before anything is made."""
    assert said in refusal(values)


@pytest.mark.parametrize(
    "service", [service for service in SERVICES if service != "gateway"]
)
def test_no_operations_port_is_published(service: str) -> None:
    """Only the gateways' traffic may be a load balancer's."""
    said = refusal({service: {"service": {"type": "LoadBalancer"}}})

    assert service in said
    assert "type" in said


@pytest.mark.parametrize("service", [*SERVICES, "migrations", "doctor"])
def test_files_of_ones_own_are_mounted(service: str) -> None:
    """Certificates of a private authority, for whoever opens connections."""
    volume = {"name": "authority", "configMap": {"name": "authority"}}
    mount = {"name": "authority", "mountPath": "/etc/authority", "readOnly": True}
    given: Values = {"extraVolumes": [volume], "extraVolumeMounts": [mount]}
    whole = manifests.render(
        {"mcp": ONE_SERVER} | {service: given | ONE_SERVER}
        if service == "mcp"
        else {service: given}
    )
    found = [
        each
        for each in workloads(whole)
        if each.labels["app.kubernetes.io/component"] == service
    ]

    assert found
    for each in found:
        assert volume in each.pod["volumes"], each
        assert mount in each.containers[0]["volumeMounts"], each


def test_what_runs_once_runs_where_the_rest_may(
    rendered: dict[str, list[Document]],
) -> None:
    """On clusters whose nodes are all tainted, migrations, test and doctor find a place."""
    kinds = {"Job", "CronJob", "Pod"}
    once = [w for w in workloads(rendered["external"]) if w.kind in kinds]

    assert len(once) == 5
    for each in once:
        assert each.pod["nodeSelector"] == {"pool": "chat"}, each
        assert each.pod["tolerations"] == [{"key": "chat", "operator": "Exists"}]
        assert each.pod["affinity"] == {"nodeAffinity": {}}
        names = {variable["name"] for variable in each.containers[0]["env"]}
        assert names & {"TZ", "PGSSLROOTCERT"}, each


@pytest.mark.parametrize("service", SCALED)
def test_grace_below_the_drain_is_refused(service: str) -> None:
    """A replica that would be killed while it drains is not installed."""
    drain = {"preStopSeconds": 10, "windowSeconds": 60, "marginSeconds": 20}
    short = {"drain": drain, "terminationGracePeriodSeconds": 89}

    said = refusal(
        {service: short, "mcp": ONE_SERVER | (short if service == "mcp" else {})}
    )

    assert f"{service}.terminationGracePeriodSeconds is 89" in said
    assert "take 90" in said


def test_grace_follows_the_drain() -> None:
    """A longer window lengthens the grace period by itself; an own value may be longer."""

    def grace(gateway: Values) -> int:
        gateways = manifests.render({"gateway": gateway})
        spec = named(gateways, "Deployment", "-gateway")["spec"]["template"]["spec"]
        return spec["terminationGracePeriodSeconds"]

    assert grace({}) == 85
    assert grace({"drain": {"windowSeconds": 300}}) == 325
    assert grace({"terminationGracePeriodSeconds": 100}) == 100
    # Without a window the margin is all there is.
    said = refusal({"reaper": {"terminationGracePeriodSeconds": 19}})
    assert "reaper.terminationGracePeriodSeconds is 19" in said
    assert "take 20" in said


def test_contradictions_are_refused() -> None:
    """Relations between values that a schema cannot say."""
    assert "above maxReplicas" in refusal(
        {"gateway": {"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}}
    )
    assert "migrations.mode" in refusal({"postgresql": {"cluster": {"enabled": True}}})
    assert "existingSecret" in refusal({"secrets": {"existingSecret": ""}})
    assert "mcp.enabled wants mcp.servers" in refusal({"mcp": {"enabled": True}})
    assert "parentRefs" in refusal({"gatewayApi": {"enabled": True}})


def test_no_secret_is_rendered(rendered: dict[str, list[Document]]) -> None:
    """A chart that knows no password can leak none."""
    for documents in rendered.values():
        assert of(documents, "Secret") == []


def test_tables_are_made_before_the_services(
    rendered: dict[str, list[Document]],
) -> None:
    """A hook Job per service with tables; replicas then only look; or they do it."""
    jobs = of(rendered["default"], "Job")
    assert [job["metadata"]["name"].rpartition("-")[2] for job in jobs] == [
        "agent",
        "history",
        "presence",
    ]
    for job in jobs:
        assert (
            job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        )
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["args"] == ["migrate"]
        # Nothing of the release is there yet when this runs first.
        assert "volumes" not in job["spec"]["template"]["spec"]
    assert of(rendered["full"], "Job") == []
    for case, at_start in (("default", "false"), ("full", "true")):
        # The reaper looks at the agents' tables, or brings them up to date as they do.
        for service in ("history", "presence", "agent", "reaper"):
            env = named(rendered[case], "Deployment", f"-{service}")["spec"]["template"]
            (said,) = [
                variable["value"]
                for variable in env["spec"]["containers"][0]["env"]
                if variable["name"].endswith("_MIGRATE_AT_START")
            ]
            assert at_start == said


def test_the_settings_file_is_what_was_given(
    rendered: dict[str, list[Document]],
) -> None:
    """`config` arrives as the settings file, and a change of it rolls the pods."""
    given = manifests.values(CASES / "full.yaml")["config"]
    (mine,) = [
        d for d in of(rendered["full"], "ConfigMap") if "chatmesh.yaml" in d["data"]
    ]
    sums = {
        case: named(rendered[case], "Deployment", "-history")["spec"]["template"][
            "metadata"
        ]["annotations"]["checksum/config"]
        for case in ("default", "full")
    }

    assert given | {"log_format": "json"} == yaml.safe_load(
        mine["data"]["chatmesh.yaml"]
    )
    assert len(set(sums.values())) == 2


def test_the_servers_file_is_what_was_given(
    rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    """`mcp.servers` arrives as the gateway reads it, and a change of it rolls the pods."""
    given = manifests.values(CASES / "full.yaml")["mcp"]["servers"]
    mine = named(rendered["full"], "ConfigMap", "-mcp")["data"]["servers.yaml"]
    written = tmp_path / "servers.yaml"
    written.write_text(mine)
    spec = named(rendered["full"], "Deployment", "-mcp")["spec"]["template"]["spec"]
    environ = {each["name"]: "key" for each in spec["containers"][0]["env"]}

    found = servers_file.read(written, environ)

    assert yaml.safe_load(mine) == {"servers": given}
    assert found["files"].env == {"FILES_KEY": "key"}
    assert found["tracker"].headers == {"Authorization": "Bearer key"}

    def sums(values: Values) -> Values:
        whole = manifests.render({"mcp": values})
        template = named(whole, "Deployment", "-mcp")["spec"]["template"]
        return template["metadata"]["annotations"]

    one = sums(ONE_SERVER)
    other = sums(ONE_SERVER | {"servers": {"b": {"url": "https://b.example/mcp"}}})
    assert {key for key in one if one[key] != other[key]} == {"checksum/servers"}


def test_a_change_of_agents_reaches_who_reads_it_once() -> None:
    """Agents follow their file; the reaper is replaced, and by this change only."""

    def sums(service: str, agents: Values) -> Values:
        whole = manifests.render({"agent": {"agents": agents}})
        template = named(whole, "Deployment", f"-{service}")["spec"]["template"]
        return template["metadata"]["annotations"]

    for service, rolled in (("reaper", {"checksum/agents"}), ("agent", set[str]())):
        one, other = sums(service, {"version": 1}), sums(service, {"version": 2})
        assert {key for key in one if one[key] != other[key]} == rolled


def test_operators_clusters_are_used_when_switched_on(
    rendered: dict[str, list[Document]],
) -> None:
    """Then broker and database come from what the operators make, else from URLs."""
    broker = named(rendered["full"], "RabbitmqCluster", "-rabbitmq")
    database = named(rendered["full"], "Cluster", "-postgresql")
    env = named(rendered["full"], "Deployment", "-history")["spec"]["template"]["spec"]
    refs = {
        v["name"]: v["valueFrom"]["secretKeyRef"]["name"]
        for v in env["containers"][0]["env"]
        if v["name"] in {"CHATMESH_AMQP_URL", "CHATMESH_DATABASE_URL"}
    }

    assert broker["spec"]["replicas"] == 3
    assert "net_ticktime = 10" in broker["spec"]["rabbitmq"]["additionalConfig"]
    assert database["spec"]["instances"] == 3
    assert refs == {
        "CHATMESH_AMQP_URL": f"{broker['metadata']['name']}-default-user",
        "CHATMESH_DATABASE_URL": f"{database['metadata']['name']}-app",
    }
    assert of(rendered["default"], "RabbitmqCluster", "Cluster") == []


def test_a_commit_survives_its_primary(rendered: dict[str, list[Document]]) -> None:
    """A standby confirms, or nothing is committed; one instance alone has no standby."""
    database = named(rendered["full"], "Cluster", "-postgresql")["spec"]
    alone = manifests.render(
        {
            "migrations": {"mode": "start"},
            "postgresql": {"cluster": {"enabled": True, "instances": 1}},
        }
    )

    assert database["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 1,
        "dataDurability": "required",
    }
    assert "postgresql" not in named(alone, "Cluster", "-postgresql")["spec"]
