"""Which ports a mesh wants."""

from dataclasses import replace
from pathlib import Path

from chatmesh.local import mesh
from chatmesh.local.mesh import Mesh, Plan

PLAN = Plan(
    amqp_url="amqp://b/", database_url="postgresql://d/", folder=Path("/nowhere")
)


def test_a_fixed_plan_follows_from_its_first_port() -> None:
    """8001 and 8002 for people, 9001 and 9002 for machines, 9010 for history."""
    plan = replace(PLAN, base_port=8001, others=["presence"], agents=2)

    assert mesh.fixed_ports(plan) == [8001, 8002, 9001, 9002, 9010, 9020, 9030, 9031]


def test_what_is_listed_is_what_is_used() -> None:
    """A busy port is found before anything starts, so the list has to be complete."""
    plan = replace(PLAN, base_port=8001, gateways=3, histories=2, agents=2)
    plan = replace(plan, tool_workers=1, reapers=1)
    planned = Mesh(plan)

    used = [gateway.port for gateway in planned.gateways]
    used += [service.http_port for service in planned.services]

    assert sorted(used) == sorted(mesh.fixed_ports(plan))


def test_the_most_gateways_that_fit_share_no_port_with_history() -> None:
    """The highest HTTP port of a gateway stays below history's."""
    most = mesh.GATEWAYS_MAX_ON_FIXED_PORTS
    wanted = mesh.fixed_ports(replace(PLAN, base_port=8001, gateways=most))

    assert len(set(wanted)) == len(wanted)


def test_free_ports_are_never_given_twice() -> None:
    """Two meshes of one test must not meet."""
    first, second = Mesh(PLAN), Mesh(PLAN)

    numbers = [s.http_port for m in (first, second) for s in m.services]
    numbers += [gateway.port for m in (first, second) for gateway in m.gateways]

    assert len(set(numbers)) == len(numbers)


def test_a_process_sees_little_of_the_machine_it_runs_on() -> None:
    """A test must not depend on a variable that one developer has set."""
    environ = Mesh(PLAN).gateways[0].command.environ

    strangers = {name for name in environ if not name.startswith("CHATMESH_")}

    assert strangers <= {
        "PATH",
        "HOME",
        "LANG",
        "SSL_CERT_FILE",
        "PYTHONDONTWRITEBYTECODE",
    }
