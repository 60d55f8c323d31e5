"""The compose files: by their schema, by a strict parser, and every reference resolved."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from chatmesh.agent.tools import serving
from chatmesh.agent.tools.mcp import servers_file
from chatmesh.gateway.adapters import http_streams
from chatmesh.gateway.adapters.websocket_server import GOODBYE_WITHIN_S
from chatmesh.gateway.bootstrap import STOP_WITHIN_S
from chatmesh.runtime.addresses import is_loopback
from chatmesh.runtime.http import GRACE_S
from chatmesh.wire.limits import PARTITIONS
from support.manifests import ROOT, SERVICES

COMPOSE = ROOT / "deploy" / "compose"
FILES = sorted(COMPOSE.glob("compose*.yaml"))
CHECK = Path(sys.executable).parent / "check-jsonschema"
WITHIN_S = 60

Service = dict[str, Any]


def parsed(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def merged() -> dict[str, Any]:
    """Both files, as `docker compose -f … -f …` puts them together."""
    whole: dict[str, Any] = {"services": {}, "volumes": {}, "networks": {}}
    for name in ("compose.yaml", "compose.chaos.yaml"):
        file = parsed(COMPOSE / name)
        for kind in ("volumes", "networks"):
            whole[kind] |= file.get(kind, {})
        for service, given in file["services"].items():
            known = whole["services"].setdefault(service, {})
            for key, value in given.items():
                if isinstance(value, list) and isinstance(known.get(key), list):
                    known[key] = [*known[key], *value]
                elif isinstance(value, dict) and isinstance(known.get(key), dict):
                    known[key] = known[key] | value
                else:
                    known[key] = value
    return whole


@pytest.fixture(params=["compose.yaml", "both"])
def whole(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The mesh alone, and with the file that makes it fit for chaos."""
    return merged() if request.param == "both" else parsed(COMPOSE / request.param)


def ours(whole: dict[str, Any]) -> Iterator[tuple[str, Service]]:
    for name, service in whole["services"].items():
        if re.sub(r"-\d$", "", name) in SERVICES:
            yield name, service


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_schema_takes_it(file: Path) -> None:
    """The compose specification knows every key and every word."""
    done = subprocess.run(
        [str(CHECK), "--builtin-schema", "vendor.compose-spec", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )

    assert done.returncode == 0, done.stdout


def test_a_strict_parser_takes_it(whole: dict[str, Any]) -> None:
    """Ports, durations and networks are what they should be."""
    text = yaml.safe_dump(whole, sort_keys=False, width=10_000)
    resolved = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)

    compose_spec.PyCompose.from_yaml(resolved).validate()


def test_every_reference_resolves(whole: dict[str, Any]) -> None:
    """Neighbours, volumes, networks and files that a service names are there."""
    for name, service in whole["services"].items():
        assert set(service.get("depends_on", ())) <= set(whole["services"]), name
        assert set(service["networks"]) <= set(whole["networks"])
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            if source.startswith("."):
                assert (COMPOSE / source).exists(), f"{name}: {source}"
            else:
                assert source in whole["volumes"], f"{name}: {source}"
        build = service.get("build")
        if build:
            assert (COMPOSE / build["context"]).resolve() == ROOT
            # The agent's own comes with its service.
            folder = (ROOT / build["dockerfile"]).parent
            assert (folder / "pyproject.toml").exists(), name


def test_hosts_in_addresses_are_services(whole: dict[str, Any]) -> None:
    """A URL inside the mesh names a service of the file."""
    for name, service in ours(whole):
        for variable, value in service["environment"].items():
            for host in re.findall(r"(?:@|http://)([a-z][a-z0-9-]*):\d+", value):
                if host != "localhost":
                    assert host in whole["services"], f"{name}: {variable}"


def test_our_services_are_hardened(whole: dict[str, Any]) -> None:
    """Nobody, on a read-only root, without capabilities."""
    found = dict(ours(whole))
    single = {service for service in SERVICES if service != "gateway"}
    assert {"gateway-1", "gateway-2", *single} == set(found)
    for name, service in found.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "10001:10001"
        assert "/readyz" in service["healthcheck"]["test"][-1]


def test_ports_are_open_to_this_machine_only(whole: dict[str, Any]) -> None:
    """The passwords are known to everyone, so nobody else may come."""
    for name, service in whole["services"].items():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name


def test_gateways_get_the_time_to_drain(whole: dict[str, Any]) -> None:
    """The engine kills after what settle, window and goodbyes take."""
    for name in ("gateway-1", "gateway-2"):
        service = whole["services"][name]
        environ = service["environment"]
        drain_s = sum(
            float(environ[f"CHATMESH_GATEWAY_DRAIN_{part}_S"])
            for part in ("SETTLE", "WINDOW")
        )
        grace_s = float(service["stop_grace_period"].removesuffix("s"))

        assert grace_s >= drain_s + GOODBYE_WITHIN_S + STOP_WITHIN_S + GRACE_S


def test_what_not_everyone_has_is_asked_for(whole: dict[str, Any]) -> None:
    """The gateway to MCP servers starts by its profile only, and nothing waits for it."""
    behind = {
        name: service["profiles"]
        for name, service in whole["services"].items()
        if "profiles" in service
    }

    assert behind == {"mcp": ["mcp"]}
    for name, service in whole["services"].items():
        assert "mcp" not in service.get("depends_on", ()), name


def test_the_servers_file_is_one_that_can_be_read() -> None:
    """What the compose file mounts is declared as the gateway wants it, and is there."""
    service = parsed(COMPOSE / "compose.yaml")["services"]["mcp"]
    mounted = dict[str, str]()
    for mount in service["volumes"]:
        source, target, _ = mount.split(":")
        mounted[target] = source
    given, files = serving.parser("").parse_known_args(service["command"])

    found = servers_file.read(COMPOSE / mounted[files[0]], service["environment"])

    assert not is_loopback(given.host)
    assert find_spec(service["entrypoint"][-1]) is not None
    assert found
    for server in found.values():
        program = [word for word in server.command if word.startswith("/")]
        assert set(program) <= set(mounted)


def test_the_collector_is_joined_up() -> None:
    """Its pipelines name parts that are there, and end where Tempo listens."""
    whole = parsed(COMPOSE / "collector.yaml")
    tempo = parsed(COMPOSE / "tempo.yaml")
    listens = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    used = dict[str, set[str]]()
    for pipeline in whole["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            used.setdefault(kind, set()).update(names)

    for kind in ("receivers", "processors", "exporters"):
        assert used[kind] == set(whole[kind])
    endpoint = whole["exporters"]["otlp/tempo"]["endpoint"]
    assert endpoint == f"tempo:{listens.rpartition(':')[2]}"


def test_prometheus_scrapes_every_service() -> None:
    """Each service's HTTP port, under the name the alerts and dashboards know."""
    jobs = {
        job["job_name"]: job
        for job in parsed(COMPOSE / "prometheus.yaml")["scrape_configs"]
    }
    services = parsed(COMPOSE / "compose.yaml")["services"]
    for name in SERVICES:
        (found,) = jobs[name]["dns_sd_configs"]
        hosts = {host for host in services if re.sub(r"-\d$", "", host) == name}
        assert set(found["names"]) == hosts
        for host in hosts:
            assert str(found["port"]) in services[host]["expose"]


def test_grafana_knows_where_to_ask() -> None:
    """Data sources lead to services; exemplars lead from Prometheus to Tempo."""
    sources = parsed(COMPOSE / "grafana" / "datasources.yaml")["datasources"]
    services = parsed(COMPOSE / "compose.yaml")["services"]
    by_uid = {source["uid"]: source for source in sources}
    jumps = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]

    for source in sources:
        host = re.match(r"http://([\w-]+):\d+$", source["url"])
        assert host is not None
        assert host[1] in services
    assert {jump["datasourceUid"] for jump in jumps} <= set(by_uid)


def test_the_balancer_lets_only_clients_in() -> None:
    """By path the fallbacks, else the traffic port; health by /readyz, sockets for long."""
    text = (COMPOSE / "haproxy.cfg").read_text()
    paths = set(re.findall(r"acl fallback path (.+)", text)[0].split())
    tunnel = re.search(r"timeout tunnel (\d+)h", text)

    assert paths == {
        http_streams.STREAM_PATH,
        http_streams.EVENTS_PATH,
        http_streams.EMULATION_PATH,
    }
    assert text.count("option httpchk GET /readyz") == 2
    assert text.count("balance leastconn") == 2
    assert tunnel is not None
    assert "on-marked-down shutdown-sessions" not in text
    # Docker has its names at 127.0.0.11, podman elsewhere.
    assert "parse-resolv-conf" in text
    assert "nameserver" not in text


def test_haproxy_takes_its_file() -> None:
    """HAProxy itself reads the file, and warns of nothing but names that only compose has."""
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
    if haproxy is None:
        pytest.skip("haproxy is not installed: its file is not tried")
    done = subprocess.run(
        [haproxy, "-c", "-f", str(COMPOSE / "haproxy.cfg")],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )

    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line]
    unknown = "could not resolve address"
    assert [warning for warning in warnings if unknown not in warning] == []


def test_the_chaos_broker_is_a_cluster() -> None:
    """Three nodes that know each other, a small net_ticktime, and clients that know all."""
    whole = merged()
    text = (COMPOSE / "rabbitmq.cluster.conf").read_text()
    nodes = re.findall(r"nodes\.\d = rabbit@(\S+)", text)
    urls = {
        service["environment"]["CHATMESH_AMQP_URL"]
        for service in whole["services"].values()
        if "CHATMESH_AMQP_URL" in service.get("environment", ())
    }
    (url,) = urls

    assert {whole["services"][node]["hostname"] for node in nodes} == set(nodes)
    assert len(nodes) == 3 == url.count("amqp://")
    assert "net_ticktime = 10" in (COMPOSE / "rabbitmq.conf").read_text()
    cookies = {
        whole["services"][node]["environment"]["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
        for node in nodes
    }
    assert len(cookies) == 1
    assert 2 <= whole["services"]["history"]["deploy"]["replicas"] <= PARTITIONS
