"""Who serves what: leases, pools that disagree, and too much of everything."""

import pytest

from chatmesh.agent.tools.registry import WORKERS_MAX, Registry
from chatmesh.wire import limits
from chatmesh.wire import tools as wire
from chatmesh.wire.messages import Malformed
from chatmesh.wire.tools import Registration, ToolDescription


def worker(name: str, pool: str = "a", *tools: str, version: str = "1") -> Registration:
    described = [
        ToolDescription(name=one, description=f"{pool} {version}") for one in tools
    ]
    return Registration(worker=name, pool=pool, tools=described)


def test_a_worker_that_falls_silent_is_forgotten() -> None:
    """Its tools are offered until its lease is over, and not a moment longer."""
    registry = Registry()
    registry.hear(worker("w", "a", "add"), 0)
    lease_ms = limits.TOOL_LEASE_S * 1000
    assert [one.name for one in registry.all(lease_ms - 1)] == ["add"]
    assert registry.all(lease_ms) == []
    registry.hear(worker("w", "a", "add"), lease_ms)
    registry.hear(Registration(worker="w", pool="a", ttl_ms=0), lease_ms + 1)
    assert registry.all(lease_ms + 1) == []


def test_who_has_a_name_when_several_claim_it() -> None:
    """The pool that sorts first; within it, the worker that came last."""
    registry = Registry()
    registry.hear(worker("w1", "b", "add"), 0)
    registry.hear(worker("w2", "a", "add"), 0)
    registry.hear(worker("w3", "a", "add", version="2"), 0)
    (offer,) = registry.all(1)
    assert (offer.pool, offer.description) == ("a", "a 2")


def test_offers_are_chosen_by_name() -> None:
    """A star at the end stands for the rest of a name."""
    registry = Registry()
    registry.hear(worker("w", "a", "room_search", "room_summary", "add"), 0)
    assert [one.name for one in registry.offers(["room_*"], 1)] == [
        "room_search",
        "room_summary",
    ]
    assert len(registry.offers(["*"], 1)) == 3
    assert registry.offers(["room"], 1) == []


def test_workers_without_end_are_not_kept() -> None:
    """A flood of registrations costs a bounded amount of memory."""
    registry = Registry()
    for number in range(WORKERS_MAX):
        assert registry.hear(worker(f"w{number}", "a", "add"), 0)
    assert not registry.hear(worker("one more"), 0)
    assert registry.hear(worker("w1", "a", "sub"), 0)


@pytest.mark.parametrize(
    "registration",
    [
        Registration(worker="w", pool="No Pool"),
        Registration(worker="", pool="a"),
        worker("w", "a", "no name"),
        worker("w", "a", *[f"t{n}" for n in range(limits.TOOLS_PER_WORKER_MAX + 1)]),
        Registration(
            worker="w",
            pool="a",
            tools=[ToolDescription(name="t", parameters={"type": "string"})],
        ),
        Registration(
            worker="w", pool="a", tools=[ToolDescription(name="t", timeout_ms=0)]
        ),
    ],
)
def test_a_registration_nobody_can_use_is_malformed(registration: Registration) -> None:
    """Refused as a whole, with a reason, before anything of it is offered."""
    with pytest.raises(Malformed):
        wire.decode_registration(wire.encode(registration))


@pytest.mark.parametrize(
    "schema", [{"type": "object", "properties": 3}, {"type": "object", "required": "a"}]
)
def test_a_schema_that_is_none_is_not_offered(schema: dict[str, object]) -> None:
    """The tool is left out, whichever of its schemas it is; the worker's others are not."""
    tools = [
        ToolDescription(name="good", parameters={"type": "object"}),
        ToolDescription(name="bad", parameters=schema),
        ToolDescription(name="worse", result=schema),
    ]
    registry = Registry()
    assert registry.hear(Registration(worker="w", pool="a", tools=tools), 0)
    assert [one.name for one in registry.all(1)] == ["good"]
