"""A private node's configuration file."""

from pathlib import Path

import pytest

from chatmesh.local.rabbit import NodePorts, PortPlan, configuration

PORTS = NodePorts(amqp=1, management=2, distribution=3, metrics=4)


def test_every_listener_is_on_loopback() -> None:
    """A guest with a well-known password must not be met from outside."""
    lines = configuration(PORTS, ["one@127.0.0.1"], management=True).splitlines()

    assert "listeners.tcp.1 = 127.0.0.1:1" in lines
    assert "management.tcp.ip = 127.0.0.1" in lines
    assert "prometheus.tcp.ip = 127.0.0.1" in lines


def test_one_node_is_no_cluster() -> None:
    """Peer discovery would only cost time."""
    assert "cluster" not in configuration(PORTS, ["one"], management=False)


def test_several_nodes_know_each_other_and_a_minority_pauses() -> None:
    """What a production cluster is told, too."""
    lines = configuration(PORTS, ["one", "two"], management=False).splitlines()

    assert "cluster_formation.classic_config.nodes.2 = two" in lines
    assert "cluster_partition_handling = pause_minority" in lines
    assert "net_ticktime = 10" in lines


def test_ports_stay_the_same_from_run_to_run(tmp_path: Path) -> None:
    """The nodes of a cluster remember each other by them."""
    plan = PortPlan(port_mapper=7, nodes=[PORTS])

    plan.write(tmp_path / "ports.json")

    assert PortPlan.read(tmp_path / "ports.json") == plan


@pytest.mark.parametrize("text", ["", "{}", '{"port_mapper": 1, "nodes": [{"x": 1}]}'])
def test_a_file_of_another_version_counts_as_none(tmp_path: Path, text: str) -> None:
    """New ports cost nothing; a traceback after an upgrade would."""
    file = tmp_path / "ports.json"
    file.write_text(text)

    assert PortPlan.read(file) is None
    assert PortPlan.read(tmp_path / "missing") is None
