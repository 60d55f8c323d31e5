"""What no schema checks: whether rendered objects fit each other and the code."""

import copy
import itertools
import re
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest
from tools import manifests

from chatmesh.agent.tools import serving
from chatmesh.agent.tools.builtin import snippets
from chatmesh.gateway import bootstrap as gateway
from chatmesh.gateway.adapters import http_streams, websocket_server
from chatmesh.runtime import http
from chatmesh.runtime.addresses import is_loopback
from support.manifests import (
    REAPER,
    ROOT,
    SERVICES,
    TOOL_PROCESSES,
    Document,
    Workload,
    fits,
    image_of,
    named,
    of,
    quantity,
    workloads,
)

DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
OURS = {"app.kubernetes.io/part-of": "chatmesh"}
# Of the dev overlay, not ours: their images write where they like.
WRITES_ITS_ROOT = {"rabbitmq", "postgresql"}
# Of whoever installs, which the values of the cases name.
NOT_OURS = {"authority"}
# Rendered beside a RabbitmqCluster or Cluster, whose operator makes them.
MADE_BY_OPERATORS = re.compile(r"-(rabbitmq-default-user|postgresql-app)$")
FALLBACKS = {
    http_streams.STREAM_PATH,
    http_streams.EVENTS_PATH,
    http_streams.EMULATION_PATH,
}


def hit(documents: list[Document], selector: dict[str, str]) -> list[Workload]:
    """Workloads whose pods a selector means."""
    return [each for each in workloads(documents) if fits(selector, each.labels)]


def test_names_are_names(documents: list[Document]) -> None:
    """Every object, container and port has a name that DNS and the API server take."""
    names = [document["metadata"]["name"] for document in documents]
    for each in workloads(documents):
        names += [container["name"] for container in each.containers]
        names += [volume["name"] for volume in each.pod.get("volumes", [])]

    wrong = [name for name in names if not DNS_NAME.fullmatch(name)]

    assert wrong == []


def test_no_object_is_there_twice(documents: list[Document]) -> None:
    """Two objects of one kind and name would overwrite each other."""
    keys = [(d["kind"], d["metadata"]["name"]) for d in documents]

    assert len(set(keys)) == len(keys)


def test_deployments_select_their_own_pods(documents: list[Document]) -> None:
    """A selector is part of the template's labels, or the object is refused."""
    for each in workloads(documents):
        if each.kind in {"Deployment", "StatefulSet"}:
            selector = each.document["spec"]["selector"]["matchLabels"]

            assert fits(selector, each.labels), each
            assert [each] == hit(documents, selector)


def test_selectors_mean_one_workload(documents: list[Document]) -> None:
    """Services, budgets and policies select exactly one workload's pods, not more."""
    for document in of(documents, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = document["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        labels = selector.get("matchLabels", selector)
        if "app.kubernetes.io/component" not in labels and document["kind"] == (
            "NetworkPolicy"
        ):
            continue  # The one that denies everything; below.
        found = hit(documents, labels)
        jobs = {each.kind for each in found} == {"Job"}

        assert len(found) == 1 or jobs, document["metadata"]["name"]


def test_deny_all_means_every_pod(documents: list[Document]) -> None:
    """Where there are policies, no pod of ours is left without one."""
    policies = of(documents, "NetworkPolicy")
    denying = [
        policy
        for policy in policies
        if not policy["spec"].get("ingress") and not policy["spec"].get("egress")
    ]
    ours = [
        each
        for each in workloads(documents)
        if fits(OURS, each.labels) and each.name not in WRITES_ITS_ROOT
    ]

    assert len(denying) == (1 if policies else 0)
    for policy in denying:
        selector = policy["spec"]["podSelector"]["matchLabels"]
        assert ours == hit(documents, selector)


def test_the_doctor_reaches_every_process(documents: list[Document]) -> None:
    """It asks Services that are there, and both ends' policies let it; no other pod's do."""
    policies = of(documents, "NetworkPolicy")
    services = {d["metadata"]["name"]: d["spec"] for d in of(documents, "Service")}
    for cron in workloads(of(documents, "CronJob")):
        args = cron.containers[0]["args"]
        urls = [url for word, url in itertools.pairwise(args) if word == "--process"]
        (leaving,) = [
            rule["to"][0]["podSelector"]["matchLabels"]
            for rule in named(policies, "NetworkPolicy", "-doctor")["spec"]["egress"]
            if "to" in rule
        ]
        reached = set[str]()
        for url in urls:
            name, _, port = url.removeprefix("http://").partition(":")
            assert int(port) in {port["port"] for port in services[name]["ports"]}
            (found,) = hit(documents, services[name]["selector"])
            assert fits(leaving, found.labels), url
            (entering,) = [
                policy
                for policy in policies
                if fits(policy["spec"]["podSelector"]["matchLabels"], found.labels)
                and "ingress" in policy["spec"]
            ]
            assert admits(entering, "http", cron.labels), url
            if "traffic" in found.ports:
                assert admits(entering, "traffic", cron.labels), url
            else:
                assert not admits(entering, "http", found.labels), url
            reached.add(found.name)
        assert reached == {w.name for w in workloads(of(documents, "Deployment"))}


def admits(policy: Document, port: str, labels: Mapping[str, str]) -> bool:
    """Whether a policy lets pods of the same namespace that have these labels in."""
    return any(
        port in {each["port"] for each in rule["ports"]}
        and any(
            fits(peer["podSelector"]["matchLabels"], labels)
            for peer in rule.get("from", [{"podSelector": {"matchLabels": {}}}])
            if set(peer) == {"podSelector"}
        )
        for rule in policy["spec"]["ingress"]
    )


def test_the_doctor_waits_to_be_called(
    rendered: dict[str, list[Document]], kustomized: Callable[[str], list[Document]]
) -> None:
    """It runs never by itself, and once when asked: what it finds is not tried away."""
    for documents in (rendered["default"], kustomized("overlays/prod")):
        spec = named(documents, "CronJob", "-doctor")["spec"]

        assert spec["suspend"] is True
        assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
        assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == (
            "Never"
        )


def test_every_pod_may_ask_for_names(documents: list[Document]) -> None:
    """A pod without DNS finds neither broker nor database."""
    for policy in of(documents, "NetworkPolicy"):
        egress = policy["spec"].get("egress", [])
        ports = [port for rule in egress for port in rule.get("ports", [])]
        if egress:
            assert {"protocol": "UDP", "port": 53} in ports, policy["metadata"]["name"]


def test_named_ports_exist(documents: list[Document]) -> None:
    """Probes, Services, policies and monitors name ports that containers have."""
    for each in workloads(documents):
        for container in each.containers:
            own = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                check = container.get(probe, {})
                target = check.get("httpGet", check.get("tcpSocket", {}))
                assert not target or target["port"] in own, f"{each} {probe}"
    for service in of(documents, "Service"):
        (found,) = hit(documents, service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in found.ports, service["metadata"]["name"]
    for policy in of(documents, "NetworkPolicy"):
        means = hit(documents, policy["spec"]["podSelector"]["matchLabels"])
        for rule in policy["spec"].get("ingress", []):
            for port in rule["ports"]:
                assert all(port["port"] in each.ports for each in means)


def test_monitors_find_services_and_their_ports(documents: list[Document]) -> None:
    """A ServiceMonitor selects exactly one Service and a port that it has."""
    for monitor in of(documents, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        found = [
            service
            for service in of(documents, "Service")
            if fits(selector, service["metadata"]["labels"])
        ]
        assert len(found) == 1, monitor["metadata"]["name"]
        ports = {port["name"] for port in found[0]["spec"]["ports"]}
        assert {end["port"] for end in monitor["spec"]["endpoints"]} <= ports


def test_scaled_objects_exist(documents: list[Document]) -> None:
    """An autoscaler names a Deployment; only one does; and that leaves its number open."""
    scalers = of(documents, "HorizontalPodAutoscaler", "ScaledObject")
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    deployments = {d["metadata"]["name"]: d for d in of(documents, "Deployment")}

    assert len(set(targets)) == len(targets)
    for name, document in deployments.items():
        assert (name in targets) != ("replicas" in document["spec"]), name
    assert set(targets) <= set(deployments)


def test_autoscalers_have_room(documents: list[Document]) -> None:
    """The least is not above the most."""
    for scaler in of(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        spec = scaler["spec"]
        least = spec.get("minReplicas", spec.get("minReplicaCount"))
        most = spec.get("maxReplicas", spec.get("maxReplicaCount"))

        assert 1 <= least <= most


def test_history_has_work_for_every_replica(documents: list[Document]) -> None:
    """More replicas than partitions would idle."""
    for scaler in of(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        name = scaler["metadata"]["name"]
        if name.endswith(("-history", "-presence")):
            spec = scaler["spec"]
            assert spec.get("maxReplicas", spec.get("maxReplicaCount")) <= 16


def test_budgets_say_one_thing(documents: list[Document]) -> None:
    """Exactly one of the two fields; with both, the API server refuses."""
    for budget in of(documents, "PodDisruptionBudget"):
        fields = {"minAvailable", "maxUnavailable"} & set(budget["spec"])

        assert len(fields) == 1


def test_everything_that_is_referred_to_is_there(documents: list[Document]) -> None:
    """Keys of ConfigMaps and Secrets, volumes, service accounts."""
    maps = {d["metadata"]["name"]: d["data"] for d in of(documents, "ConfigMap")}
    secrets = {d["metadata"]["name"]: d["data"] for d in of(documents, "Secret")}
    accounts = {d["metadata"]["name"] for d in of(documents, "ServiceAccount")}
    for each in workloads(documents):
        account = each.pod.get("serviceAccountName", "default")
        assert account in accounts | {"default"}, each
        volumes = {volume["name"]: volume for volume in each.pod.get("volumes", [])}
        claims = each.document["spec"].get("volumeClaimTemplates", [])
        known = {*volumes, *(claim["metadata"]["name"] for claim in claims)}
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps.keys() | NOT_OURS, each
        for container in each.containers:
            mounts = container.get("volumeMounts", [])
            assert {mount["name"] for mount in mounts} <= known, each
            for variable in container.get("env", []):
                wanted = variable.get("valueFrom", {}).get("secretKeyRef")
                if wanted is None or wanted.get("optional"):
                    continue
                name = wanted["name"]
                assert wanted["key"] in secrets.get(name, ()) or (
                    # One's own, which docs/kubernetes.md describes, or an operator's.
                    (not secrets and name == "chatmesh")
                    or MADE_BY_OPERATORS.search(name)
                ), f"{each}: {variable['name']}"


def test_routes_lead_to_services(documents: list[Document]) -> None:
    """What comes from outside arrives at a port that is there."""
    services = {d["metadata"]["name"]: d["spec"] for d in of(documents, "Service")}
    for ingress in of(documents, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                target = path["backend"]["service"]
                ports = services[target["name"]]["ports"]
                assert target["port"]["name"] in {port["name"] for port in ports}
    for route in of(documents, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for target in rule["backendRefs"]:
                ports = services[target["name"]]["ports"]
                assert target["port"] in {port["port"] for port in ports}


def test_only_client_paths_lead_in(documents: list[Document]) -> None:
    """The HTTP port's /metrics and /readyz stay inside; its fallbacks are reachable."""
    opened = set[str]()
    for ingress in of(documents, "Ingress"):
        paths = ingress["spec"]["rules"][0]["http"]["paths"]
        by_http = [
            p for p in paths if p["backend"]["service"]["port"]["name"] == "http"
        ]
        opened = {path["path"] for path in by_http}
        assert FALLBACKS <= opened <= {*FALLBACKS, "/api"}
    for route in of(documents, "HTTPRoute"):
        rules = route["spec"]["rules"]
        by_http = [r for r in rules if r["backendRefs"][0]["port"] == 9001]
        opened = {m["path"]["value"] for rule in by_http for m in rule["matches"]}
        assert FALLBACKS <= opened <= {*FALLBACKS, "/api"}


def test_what_is_published_is_traffic_only(documents: list[Document]) -> None:
    """A load balancer or node port carries no operations route."""
    for service in of(documents, "Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            ports = {port["targetPort"] for port in service["spec"]["ports"]}
            assert ports == {"traffic"}, service["metadata"]["name"]


def test_requests_are_within_limits(documents: list[Document]) -> None:
    """Quantities are quantities, everybody asks for something, memory has a limit."""
    for each in workloads(documents):
        for container in each.containers:
            resources = container["resources"]
            limits = resources.get("limits", {})
            for name, asked in resources["requests"].items():
                assert quantity(asked) > 0
                if name in limits:
                    assert quantity(asked) <= quantity(limits[name]), each
            assert {"cpu", "memory"} <= set(resources["requests"]), each
            assert "memory" in limits, each


def test_pods_are_restricted(documents: list[Document]) -> None:
    """Every pod passes the restricted Pod Security Standard, and writes nothing."""
    for each in workloads(documents):
        pod = each.pod["securityContext"]
        assert pod["runAsNonRoot"] is True, each
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert each.pod["automountServiceAccountToken"] is False
        for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
            assert forbidden not in each.pod
        kinds = {k for volume in each.pod.get("volumes", []) for k in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "secret", "projected"}
        for container in each.containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, each
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not own.get("privileged")
            assert own.get("readOnlyRootFilesystem") or each.name in WRITES_ITS_ROOT


def test_services_do_not_become_variables(documents: list[Document]) -> None:
    """A Service chatmesh-gateway would set CHATMESH_GATEWAY_PORT to an address."""
    for each in workloads(documents):
        assert each.pod["enableServiceLinks"] is False, each


def test_probes_mean_different_things(documents: list[Document]) -> None:
    """Readiness asks for work, liveness and startup for life; liveness judges slowly."""
    for each in workloads(documents):
        component = each.labels.get("app.kubernetes.io/component")
        if each.kind != "Deployment" or component not in SERVICES:
            continue
        (container,) = each.containers
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
        assert container["startupProbe"]["httpGet"]["path"] == "/livez"
        live, ready = (
            container[probe]["periodSeconds"] * container[probe]["failureThreshold"]
            for probe in ("livenessProbe", "readinessProbe")
        )
        assert ready < 10 < live
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert (
                container[probe]["timeoutSeconds"] <= container[probe]["periodSeconds"]
            )


def test_replicas_get_the_time_they_need_to_leave(documents: list[Document]) -> None:
    """Grace is above preStop and drain window, by what a gateway's end takes after it."""
    least_s = websocket_server.GOODBYE_WITHIN_S + gateway.STOP_WITHIN_S + http.GRACE_S
    for each in workloads(documents):
        if each.kind != "Deployment":
            continue
        (container,) = each.containers
        before = container.get("lifecycle", {}).get("preStop", {})
        window = [
            float(variable["value"])
            for variable in container["env"]
            if re.search(r"_(DRAIN|PARK)_(WINDOW_)?S$", variable["name"])
        ]
        component = each.labels["app.kubernetes.io/component"]
        if component in TOOL_PROCESSES:
            given, _ = serving.parser("").parse_known_args(container["args"])
            window = [given.drain_s]
        if component == REAPER:
            # It hands nothing on.
            window = [*window, 0.0]
        assert len(window) == 1, each
        drain_s = before.get("sleep", {}).get("seconds", 0) + window[0]
        assert each.pod["terminationGracePeriodSeconds"] >= drain_s + least_s, each


def test_rollouts_take_nobody_away(documents: list[Document]) -> None:
    """A new replica serves before an old one goes."""
    for deployment in of(documents, "Deployment"):
        spec = deployment["spec"]
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert spec["minReadySeconds"] >= 10
        constraints = spec["template"]["spec"]["topologySpreadConstraints"]
        assert {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} == {
            constraint["topologyKey"] for constraint in constraints
        }


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_told_apart(
    service: str, rendered: dict[str, list[Document]]
) -> None:
    """Each service runs its own image, by the registry, tag or digest that was given."""
    images = {
        name: [
            container["image"]
            for each in workloads(rendered[name])
            if each.kind == "Deployment" and each.name.endswith(f"-{service}")
            for container in each.containers
        ]
        for name in ("default", "full")
    }

    image = image_of(service)
    (full,) = images["full"]
    if service == "mcp":
        # Off by default; its programs may want an image of their own.
        assert images["default"] == []
        assert full == "images.example/servers/mcp:7"
        return
    assert [f"chatmesh/{image}:0.1.0"] == images["default"]
    assert full.startswith(f"images.example/chatmesh/{image}")
    assert ("@sha256:" in full) == (service == "gateway")


def test_the_tools_drain_is_as_long_as_was_asked_for() -> None:
    """The worker is told, so that the grace period is not spent on waiting for less."""
    whole = manifests.render({"tools": {"drain": {"windowSeconds": 77}}})
    (container,) = pod_named(whole, "-tools")["containers"]

    given, _ = serving.parser("").parse_known_args(container["args"])

    assert given.drain_s == 77


def test_snippets_fit_into_their_container(
    rendered: dict[str, list[Document]],
) -> None:
    """As many as may run at once take what each may: neither kills nor evicts the pod."""
    pod = pod_named(rendered["default"], "-tools")
    (container,) = pod["containers"]
    (scratch,) = [v for v in pod["volumes"] if v["name"] == "scratch"]
    each = snippets.FOLDER_BYTES_MAX + snippets.FILES_MAX * snippets.FILE_BYTES_MAX

    memory = quantity(container["resources"]["limits"]["memory"])
    own = quantity(container["resources"]["requests"]["memory"])
    assert memory >= own + snippets.AT_ONCE_MAX * snippets.MEMORY_BYTES_MAX
    files = quantity(scratch["emptyDir"]["sizeLimit"])
    assert files >= snippets.AT_ONCE_MAX * each


def pod_named(documents: list[Document], ending: str) -> Document:
    return named(documents, "Deployment", ending)["spec"]["template"]["spec"]


@pytest.mark.parametrize("service", sorted(TOOL_PROCESSES))
def test_tools_are_served_by_a_program_that_is_there(
    service: str, rendered: dict[str, list[Document]]
) -> None:
    """The command is a module of the agent's image, and its port is that of the probes."""
    (each,) = [
        w for w in workloads(rendered["external"]) if w.name.endswith(f"-{service}")
    ]
    (container,) = each.containers
    python, flag, module = container["command"]

    assert (python, flag) == ("python", "-m")
    assert find_spec(module) is not None
    assert each.ports == {"http": serving.PORT}
    given, files = serving.parser("").parse_known_args(container["args"])
    assert not is_loopback(given.host)
    assert container["image"] == "chatmesh/agent:0.1.0"
    assert "scratch" in {mount["name"] for mount in container["volumeMounts"]}
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(file).parent) for file in files} <= folders
    assert len(files) == (1 if service == "mcp" else 0)


def test_the_reaper_is_a_program_that_is_there(
    rendered: dict[str, list[Document]],
) -> None:
    """One replica of a module of the agent's image, which is told nothing by flags."""
    documents = rendered["default"]
    deployment = named(documents, "Deployment", "-reaper")
    (container,) = pod_named(documents, "-reaper")["containers"]
    python, flag, module = container["command"]

    assert (python, flag) == ("python", "-m")
    assert find_spec(module) is not None
    # It has a usage, and ends with it where it is told anything.
    assert "args" not in container
    assert container["image"] == "chatmesh/agent:0.1.0"
    assert deployment["spec"]["replicas"] == 1
    for kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget"):
        names = [d["metadata"]["name"] for d in of(documents, kind)]
        assert not [name for name in names if name.endswith("-reaper")]


def test_without_agents_there_is_nothing_to_reap() -> None:
    """It would look for tables that nobody makes."""
    names = {
        document["metadata"]["name"]
        for given in ({"agent": {"enabled": False}}, {"reaper": {"enabled": False}})
        for document in manifests.render({**given, "monitoring": {"enabled": True}})
    }

    assert not [name for name in names if name.endswith("-reaper")]


@pytest.mark.parametrize("keda", [False, True])
def test_production_keeps_three_gateways(
    keda: bool,  # noqa: FBT001 - a parameter of the test
    kustomized: Callable[[str], list[Document]],
    tmp_path: Path,
) -> None:
    """With one gone, the two that are left are not full; whoever does the scaling."""
    shutil.copytree(ROOT / "deploy" / "k8s", tmp_path / "k8s")
    prod = tmp_path / "k8s" / "overlays" / "prod" / "kustomization.yaml"
    monitoring = "  - ../../components/monitoring\n"
    text = prod.read_text()
    assert monitoring in text
    if keda:
        prod.write_text(
            text.replace(monitoring, monitoring + "  - ../../components/keda\n")
        )

    found = kustomized(str(prod.parent))

    scaler = named(found, "ScaledObject" if keda else "HorizontalPodAutoscaler", "way")
    assert scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount")) == 3
    if keda:
        assert scaler["spec"]["fallback"]["replicas"] == 3
        assert of(found, "HorizontalPodAutoscaler") == []


def test_mcp_servers_come_with_an_overlay(
    kustomized: Callable[[str], list[Document]], tmp_path: Path
) -> None:
    """Theirs is the one file that the component lacks, and a change of it rolls the pods."""
    shutil.copytree(ROOT / "deploy" / "k8s", tmp_path / "k8s")
    prod = tmp_path / "k8s" / "overlays" / "prod"
    monitoring = "  - ../../components/monitoring\n"
    text = (prod / "kustomization.yaml").read_text()
    assert monitoring in text
    more = "".join(
        f"  - ../../components/{name}\n" for name in ("mcp", "mcp-monitoring", "keda")
    )
    generator = "configMapGenerator:\n  - {name: chatmesh-mcp, files: [servers.yaml]}\n"
    (prod / "kustomization.yaml").write_text(
        text.replace(monitoring, monitoring + more) + generator
    )
    mounted = set[str]()
    for url in ("https://one.example", "https://two.example"):
        (prod / "servers.yaml").write_text(f"servers: {{near: {{url: {url}}}}}\n")

        found = kustomized(str(prod))

        volumes = pod_named(found, "-mcp")["volumes"]
        (servers,) = [v["configMap"]["name"] for v in volumes if v["name"] == "servers"]
        (given,) = [d for d in of(found, "ConfigMap") if "servers.yaml" in d["data"]]
        assert given["metadata"]["name"] == servers
        mounted.add(servers)
        for check in (
            test_everything_that_is_referred_to_is_there,
            test_selectors_mean_one_workload,
            test_deny_all_means_every_pod,
            test_monitors_find_services_and_their_ports,
            test_scaled_objects_exist,
            test_the_doctor_reaches_every_process,
        ):
            check(found)
    assert len(mounted) == 2


def first(documents: list[Document], kind: str) -> Document:
    return of(documents, kind)[0]["spec"]


def pod_of(documents: list[Document]) -> Document:
    return first(documents, "Deployment")["template"]["spec"]


def container_of(documents: list[Document]) -> Document:
    return pod_of(documents)["containers"][0]


Fault = Callable[[list[Document]], object]
Check = Callable[[list[Document]], None]
FAULTS: dict[str, tuple[Fault, Check]] = {
    "a selector that means nobody": (
        lambda d: first(d, "Deployment")["selector"]["matchLabels"].update(x="y"),
        test_deployments_select_their_own_pods,
    ),
    "a budget for everybody": (
        lambda d: first(d, "PodDisruptionBudget").update(selector={"matchLabels": {}}),
        test_selectors_mean_one_workload,
    ),
    "a port that no container has": (
        lambda d: first(d, "Service")["ports"][0].update(targetPort="web"),
        test_named_ports_exist,
    ),
    "a probe of a port that is not there": (
        lambda d: container_of(d)["readinessProbe"]["httpGet"].update(port="web"),
        test_named_ports_exist,
    ),
    "a volume that is not there": (
        lambda d: container_of(d)["volumeMounts"].append({"name": "gone"}),
        test_everything_that_is_referred_to_is_there,
    ),
    "a Secret that nobody makes": (
        lambda d: container_of(d)["env"].append(
            {"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}
        ),
        test_everything_that_is_referred_to_is_there,
    ),
    "a request above its limit": (
        lambda d: container_of(d)["resources"]["requests"].update(memory="9Gi"),
        test_requests_are_within_limits,
    ),
    "a root that can be written": (
        lambda d: container_of(d)["securityContext"].update(
            readOnlyRootFilesystem=False
        ),
        test_pods_are_restricted,
    ),
    "a grace period that cuts the drain short": (
        lambda d: pod_of(d).update(terminationGracePeriodSeconds=5),
        test_replicas_get_the_time_they_need_to_leave,
    ),
    "a budget that says two things": (
        lambda d: first(d, "PodDisruptionBudget").update(minAvailable=1),
        test_budgets_say_one_thing,
    ),
    "an autoscaler of nothing": (
        lambda d: first(d, "HorizontalPodAutoscaler")["scaleTargetRef"].update(
            name="x"
        ),
        test_scaled_objects_exist,
    ),
    "a least above the most": (
        lambda d: first(d, "HorizontalPodAutoscaler").update(minReplicas=99),
        test_autoscalers_have_room,
    ),
    "a pod that nothing denies": (
        lambda d: of(d, "Deployment")[0]["spec"]["template"]["metadata"][
            "labels"
        ].update({"app.kubernetes.io/instance": "other"}),
        test_deny_all_means_every_pod,
    ),
    "an operations route in the open": (
        lambda d: first(d, "Ingress")["rules"][0]["http"]["paths"][0].update(
            path="/metrics"
        ),
        test_only_client_paths_lead_in,
    ),
    "an operations port on a load balancer": (
        lambda d: [s["spec"].update(type="LoadBalancer") for s in of(d, "Service")],
        test_what_is_published_is_traffic_only,
    ),
    "service links": (
        lambda d: pod_of(d).update(enableServiceLinks=True),
        test_services_do_not_become_variables,
    ),
    "a name in upper case": (
        lambda d: of(d, "Service")[0]["metadata"].update(name="Chat"),
        test_names_are_names,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(
    fault: str, rendered: dict[str, list[Document]]
) -> None:
    """Each check sees the fault that it is for."""
    plant, check = FAULTS[fault]
    documents = copy.deepcopy(rendered["external"])
    check(documents)
    plant(documents)

    with pytest.raises(AssertionError):
        check(documents)


def test_quantities_are_judged() -> None:
    """The check of quantities itself refuses what the API server refuses."""
    assert quantity("500m") == 0.5
    assert quantity("1Gi") == 2**30
    with pytest.raises(ValueError, match="1x"):
        quantity("1x")
