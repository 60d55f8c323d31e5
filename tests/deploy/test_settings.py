"""Variables in the chart and compose are ones the code reads, and the reverse."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools import chart_schema, manifests

from chatmesh.agent import settings as agent_settings
from chatmesh.cli import doctor
from chatmesh.runtime import settings
from chatmesh.runtime.addresses import is_loopback
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.settings import Shared
from chatmesh.wire.topics import Topics, partition_key
from support.manifests import (
    ROOT,
    SERVICES,
    TOOL_PROCESSES,
    Document,
    of,
    workloads,
)

COMPOSE = ROOT / "deploy" / "compose"
LEAVES = chart_schema.leaves()
BY_VARIABLE = {leaf.variable: leaf for leaf in LEAVES.values()}
# Set by nobody: they stand where image or chart put them, or are for tests.
LEFT_ALONE = {
    "crash_at",
    "gateway.port",
    "gateway.http_port",
    "gateway.page",
    "gateway.drain_settle_s",
    "history.port",
    "presence.port",
    "agent.port",
}
# What an image is given when it is run for its tables alone.
FOR_MIGRATIONS = {"CHATMESH_LOG_FORMAT"}


def variables(documents: list[Document]) -> set[str]:
    return {
        variable["name"]
        for each in workloads(documents)
        for container in each.containers
        for variable in container.get("env", [])
        if variable["name"].startswith("CHATMESH_")
    }


def composed() -> set[str]:
    """Every variable that a service in either compose file is given."""
    found = set[str]()
    for file in COMPOSE.glob("compose*.yaml"):
        for service in yaml.safe_load(file.read_text())["services"].values():
            found |= set(service.get("environment", {}))
    return {name for name in found if name.startswith("CHATMESH_")}


def keys(schema: dict[str, Any], path: tuple[str, ...] = ()) -> set[str]:
    """Every key that a schema of settings offers."""
    found = set[str]()
    for name, inner in schema["properties"].items():
        here = (*path, name)
        whole = ".".join(here)
        found |= {whole} if whole in LEAVES else keys(inner, here)
    return found


def test_the_code_reads_every_variable_of_the_chart(documents: list[Document]) -> None:
    """A service refuses to start on a variable it does not know."""
    known = {*BY_VARIABLE, settings.CONFIG_VARIABLE}

    assert set() == variables(documents) - known


def test_the_code_reads_every_variable_of_compose() -> None:
    """And so in the compose files."""
    known = {*BY_VARIABLE, settings.CONFIG_VARIABLE}

    assert set() == composed() - known


def test_every_setting_can_be_set_in_the_chart(
    rendered: dict[str, list[Document]],
) -> None:
    """Under `config`, or as a value of its own, but never both and never not at all."""
    offered = keys(chart_schema.config_schema())
    own = set(chart_schema.SET_BY_CHART)
    given = variables([*rendered["default"], *rendered["full"]])
    set_as_variable = {BY_VARIABLE[name].key for name in given if name in BY_VARIABLE}

    assert set(LEAVES) == offered | own
    assert set() == offered & own
    logging = {BY_VARIABLE[name].key for name in FOR_MIGRATIONS}
    assert own - LEFT_ALONE == set_as_variable - logging


@pytest.mark.parametrize("section", ["gateway", "history", "presence", "agent"])
def test_a_service_takes_what_the_chart_gives_it(
    section: str, documents: list[Document], tmp_path: Path
) -> None:
    """The rendered file and variables load in the service's own settings model."""
    model = dict(chart_schema.models()).get(section)
    if model is None:
        pytest.skip(f"there is no service {section}")
    (file,) = [d for d in of(documents, "ConfigMap") if "chatmesh.yaml" in d["data"]]
    written = tmp_path / "chatmesh.yaml"
    written.write_text(file["data"]["chatmesh.yaml"])
    for each in workloads(documents):
        component = each.labels.get("app.kubernetes.io/component")
        if each.kind != "Deployment" or component != section:
            continue
        (container,) = each.containers
        environ = {v["name"]: v["value"] for v in container["env"] if "value" in v}
        environ = {k: v for k, v in environ.items() if k.startswith("CHATMESH_")}
        del environ[settings.CONFIG_VARIABLE]

        loaded = settings.load(model, section=section, path=written, environ=environ)

        window = [v for k, v in environ.items() if re.search(r"(DRAIN|PARK)_.*S$", k)]
        assert loaded.model_fields_set
        assert len(window) == 1


@pytest.mark.parametrize("service", sorted(TOOL_PROCESSES))
def test_tool_processes_take_what_they_are_given(
    service: str, rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    """They have the settings that all share, from the file of all, and start with them."""
    documents = rendered["full"]
    (file,) = [d for d in of(documents, "ConfigMap") if "chatmesh.yaml" in d["data"]]
    written = tmp_path / "chatmesh.yaml"
    written.write_text(file["data"]["chatmesh.yaml"])
    (each,) = [w for w in workloads(documents) if w.name.endswith(f"-{service}")]
    composed = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    charted = {v["name"]: v.get("value", "x") for v in each.containers[0]["env"]}
    for given, path, prefix in (
        (charted, written, "blue"),
        (composed[service]["environment"], COMPOSE / "chatmesh.yaml", "chatmesh"),
    ):
        environ = {**given, settings.CONFIG_VARIABLE: str(path)}

        loaded = settings.load(Shared, section="", path=None, environ=environ)

        assert loaded.prefix == prefix
        assert loaded.amqp_url == given["CHATMESH_AMQP_URL"]


@pytest.mark.parametrize("case", ["default", "full"])
def test_the_reaper_takes_the_agents_settings(
    case: str, rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    """It listens where it is asked, and knows the agents; no key of theirs is its own."""
    documents = rendered[case]
    (file,) = [d for d in of(documents, "ConfigMap") if "chatmesh.yaml" in d["data"]]
    written = tmp_path / "chatmesh.yaml"
    written.write_text(file["data"]["chatmesh.yaml"])
    (each,) = [w for w in workloads(documents) if w.name.endswith("-reaper")]
    (container,) = each.containers
    environ = {v["name"]: v.get("value", "x") for v in container["env"]}
    environ[settings.CONFIG_VARIABLE] = str(written)

    loaded = settings.load(
        agent_settings.Settings,
        section=agent_settings.SECTION,
        path=None,
        environ=environ,
    )

    assert not is_loopback(loaded.host)
    assert each.ports == {"http": loaded.port}
    assert loaded.database_url == loaded.amqp_url == "x"
    assert not loaded.api_keys
    assert not loaded.model_keys
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    known = {str(Path(loaded.agents_file).parent)} if loaded.agents_file else set()
    assert known == folders & {"/etc/chatmesh-agents"}
    assert bool(known) == (case == "full")


@pytest.mark.parametrize("ending", ["-history", "-doctor"])
def test_the_doctor_runs_in_historys_pod_and_its_own(
    ending: str, rendered: dict[str, list[Document]], tmp_path: Path
) -> None:
    """It finds broker and database by the variables that either has, and takes its words."""
    documents = rendered["full"]
    (file,) = [d for d in of(documents, "ConfigMap") if "chatmesh.yaml" in d["data"]]
    written = tmp_path / "chatmesh.yaml"
    written.write_text(file["data"]["chatmesh.yaml"])
    (each,) = [w for w in workloads(documents) if w.name.endswith(ending)]
    (container,) = each.containers
    environ = {v["name"]: v.get("value", "x") for v in container["env"]}
    environ |= {
        settings.CONFIG_VARIABLE: str(written),
        "CHATMESH_AMQP_URL": "amqp://broker.example",
        "CHATMESH_DATABASE_URL": "postgresql://database.example",
    }
    parser = argparse.ArgumentParser()
    doctor.add_to(parser)

    arguments = parser.parse_args(container.get("args", []))

    broker, database, *others = doctor.checks_of(arguments, environ, SystemClock())

    assert container["image"] == "images.example/chatmesh/history:0.1.0-rc.1"
    if ending == "-doctor":
        assert container["command"] == ["chatmesh", "doctor"]
        assert "'mcp-files', 'mcp-tracker'" in str(broker)
        assert len(others) == len(SERVICES)
    assert "amqp://broker.example" in str(broker)
    assert "blue" in str(broker)
    assert "postgresql://database.example" in str(database)


@pytest.mark.parametrize("section", ["gateway", "history", "presence", "agent"])
def test_a_service_takes_what_compose_gives_it(section: str) -> None:
    """The variables of the compose file load in the service's own settings model."""
    model = dict(chart_schema.models()).get(section)
    if model is None:
        pytest.skip(f"there is no service {section}")
    whole = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    found = [
        service["environment"]
        for name, service in whole["services"].items()
        if re.sub(r"-\d$", "", name) == section
    ]
    assert len(found) == (2 if section == "gateway" else 1)
    for environ in found:
        plain = {k: re.sub(r"\$\{[^:]+:-(.*)\}", r"\1", v) for k, v in environ.items()}
        plain[settings.CONFIG_VARIABLE] = str(COMPOSE / "chatmesh.yaml")

        loaded = settings.load(model, section=section, path=None, environ=plain)

        assert loaded.trace_endpoint == "http://collector:4318"


def test_queues_that_scale_are_queues_there_are(
    rendered: dict[str, list[Document]],
) -> None:
    """The queue names that KEDA counts are those that services declare, and only those."""
    blue, red = Topics("blue"), Topics("red")
    meant = {
        "history": [blue.command_queue(partition) for partition in range(16)],
        "agent": [blue.agent_messages_queue],
    }
    others = [
        blue.history_rpc_queue,
        blue.presence_rpc_queue,
        blue.dead_letters,
        red.command_queue(0),
        red.agent_messages_queue,
        blue.gateway_queue(partition_key(1)),
    ]
    seen = dict[str, re.Pattern[str]]()
    for scaled in of(rendered["full"], "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] == "rabbitmq":
                name = scaled["metadata"]["name"].rpartition("-")[2]
                seen[name] = re.compile(trigger["metadata"]["queueName"])

    assert set(meant) == set(seen)
    for name, queues in meant.items():
        assert all(seen[name].search(queue) for queue in queues)
        assert not [queue for queue in others if seen[name].search(queue)]


def test_a_new_setting_is_offered_without_a_word() -> None:
    """The chart's schema of `config` is the one of the settings models."""
    assert manifests.SCHEMA.read_text() == chart_schema.written_into(manifests.SCHEMA)
