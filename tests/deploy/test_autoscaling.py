"""The rendered autoscalers under load: quick to grow, slow to shrink, never flapping."""

import itertools
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest
from tools import manifests

from support.autoscaler import SYNC_S, Autoscaler
from support.manifests import CHART, ROOT, Document, named, of

HOUR_S: Final = 3600
CONNECTIONS: Final = "chatmesh_gateway_connections"
NOISE: Final = 0.15
CPU_PER_CONNECTION: Final = 60 / 7000
"""Percent of a gateway's request, so that connections decide first."""


@dataclass
class Course:
    """What came of a trace of load."""

    scaler: Autoscaler
    peak_share: float = 0
    """Most connections per gateway, as a share of what it takes."""
    moved: int = 0
    moved_in_a_minute: float = 0

    @property
    def reversals(self) -> int:
        """How often it changed its mind."""
        signs = [math.copysign(1, by) for _, by in self.scaler.changes]
        return sum(a != b for a, b in itertools.pairwise(signs))


def run(document: Document, trace: Iterator[float], replicas: int) -> Course:
    """Lead connections through an autoscaled Deployment, as leastconn spreads them."""
    scaler = Autoscaler(document["spec"], replicas)
    course = Course(scaler)
    moves = list[tuple[int, float]]()
    for connections in trace:
        before = scaler.replicas
        at_s = scaler.now_s
        after = scaler.sync(
            {CONNECTIONS: connections, "cpu": connections * CPU_PER_CONNECTION}
        )
        if after < before:
            moves.append((at_s, connections / before * (before - after)))
        recent = sum(n for when, n in moves if when > at_s - 60)
        course.moved_in_a_minute = max(course.moved_in_a_minute, recent)
        course.peak_share = max(course.peak_share, connections / after / 10_000)
    course.moved = int(sum(n for _, n in moves))
    return course


def steady(connections: float, hours: float, seed: int = 1) -> Iterator[float]:
    """About so many, with noise from one look to the next."""
    chance = random.Random(seed)
    for _ in range(int(hours * HOUR_S / SYNC_S)):
        yield connections * chance.uniform(1 - NOISE, 1 + NOISE)


def ramp(start: float, end: float, minutes: float) -> Iterator[float]:
    steps = int(minutes * 60 / SYNC_S)
    for step in range(steps):
        yield start + (end - start) * (step + 1) / steps


@pytest.fixture
def gateways(rendered: dict[str, list[Document]]) -> Document:
    """The autoscaler of the gateways, at the chart's defaults."""
    return named(rendered["default"], "HorizontalPodAutoscaler", "-gateway")


@pytest.mark.parametrize("connections", [15_000, 28_000, 45_000, 63_000, 100_000])
def test_noise_makes_nobody_move(gateways: Document, connections: int) -> None:
    """Around a steady load it settles, and does not go to and fro for two hours."""
    course = run(
        gateways, steady(connections, 2), replicas=math.ceil(connections / 7000)
    )

    assert course.reversals == 0
    assert course.moved == 0
    assert course.peak_share < 1


def test_a_surge_is_met(gateways: Document) -> None:
    """Four times the users within ten minutes, and no gateway is ever full."""
    trace = itertools.chain(
        steady(20_000, 0.2), ramp(20_000, 80_000, 10), steady(80_000, 0.5)
    )

    course = run(gateways, trace, replicas=3)

    assert course.peak_share < 1
    assert course.reversals == 0


def test_a_night_moves_few_at_a_time(gateways: Document) -> None:
    """From many to few: one gateway per drain and a minute, everybody moved gently."""
    trace = itertools.chain(
        steady(100_000, 0.2), ramp(100_000, 8_000, 60), steady(8_000, 2)
    )

    course = run(gateways, trace, replicas=15)
    gone_at = [at_s for at_s, by in course.scaler.changes if by < 0]

    assert course.scaler.replicas == 2
    assert course.reversals == 0
    assert {by for _, by in course.scaler.changes} == {-1}
    # The grace period of the default drain is 85 s.
    assert min(b - a for a, b in itertools.pairwise(gone_at)) >= 85 + 60
    assert course.moved_in_a_minute <= 10_000


def test_a_short_dip_sends_nobody_away(gateways: Document) -> None:
    """Half the users gone for five minutes, as when a network blinks: nothing happens."""
    trace = itertools.chain(
        steady(60_000, 0.3), steady(30_000, 5 / 60), steady(60_000, 0.5)
    )

    course = run(gateways, trace, replicas=9)

    assert course.scaler.changes == []


def test_without_the_behaviour_of_the_chart_users_would_be_thrown_about(
    gateways: Document,
) -> None:
    """The defaults of Kubernetes drop several gateways at once: the check sees it."""
    plain = {**gateways, "spec": {**gateways["spec"]}}
    plain["spec"]["behavior"] = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 15},
                {"type": "Pods", "value": 4, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
    }

    # Fifteen gateways for the evening, and two thirds of the users have gone to bed.
    ours = run(gateways, steady(30_000, 1.5), replicas=15)
    theirs = run(plain, steady(30_000, 1.5), replicas=15)

    assert ours.scaler.replicas == theirs.scaler.replicas == 5
    assert ours.moved_in_a_minute < 7_000
    assert theirs.moved_in_a_minute > 18_000


def test_backlogs_bring_replicas_and_keep_them(
    rendered: dict[str, list[Document]],
) -> None:
    """A queue that fills is met within minutes; one that flickers sends nobody away."""
    document = named(rendered["default"], "HorizontalPodAutoscaler", "-history")
    scaler = Autoscaler(document["spec"], 2)
    for step in range(240):
        waiting = 1600 if 20 <= step < 60 and step % 4 else 0
        scaler.sync({"chatmesh_history_waiting": waiting, "cpu": 60})
        if step == 40:
            assert scaler.replicas == 8
    signs = [by > 0 for _, by in scaler.changes]

    assert scaler.replicas == 2
    assert sum(a != b for a, b in itertools.pairwise(signs)) == 1


def test_keda_shapes_it_the_same_way(rendered: dict[str, list[Document]]) -> None:
    """With KEDA in place of the adapter, behaviour, bounds and thresholds are the same."""
    watched = {d["metadata"]["name"]: d for d in of(rendered["full"], "ScaledObject")}
    gateway = watched["chatmesh-gateway"]["spec"]
    own = named(rendered["default"], "HorizontalPodAutoscaler", "-gateway")["spec"]
    behavior = gateway["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    thresholds = {
        t["name"]: t["metadata"]["threshold"]
        for t in gateway["triggers"]
        if t["type"] == "prometheus"
    }

    assert behavior["scaleUp"] == own["behavior"]["scaleUp"]
    # The case has a longer grace period: 120 s and a minute.
    assert [p["periodSeconds"] for p in behavior["scaleDown"]["policies"]] == [180]
    assert [p["periodSeconds"] for p in own["behavior"]["scaleDown"]["policies"]] == [
        145
    ]
    assert thresholds == {"connections": "7000"}
    assert gateway["maxReplicaCount"] == own["maxReplicas"]


def test_a_fallback_is_for_what_keda_itself_looks_at(
    rendered: dict[str, list[Document]],
) -> None:
    """KEDA refuses a fallback where every trigger is CPU, which it does not measure."""
    for scaled in of(rendered["full"], "ScaledObject"):
        kinds = {trigger["type"] for trigger in scaled["spec"]["triggers"]}
        measured = bool(kinds - {"cpu", "memory"})

        assert measured == ("fallback" in scaled["spec"]), scaled["metadata"]["name"]


def test_the_capacity_table_is_that_of_the_chart() -> None:
    """Whoever sizes by the document gets what the autoscaler will ask for."""
    gateway = manifests.values(CHART / "values.yaml")["gateway"]
    most = gateway["connectionsMax"]
    aim = most * gateway["autoscaling"]["connectionsPercent"] // 100
    text = (ROOT / "docs" / "operations.md").read_text()
    (row,) = re.findall(r"^\| gateways \(.*?\|(.*)\|$", text, re.MULTILINE)
    (copies,) = re.findall(r"^\| broker deliveries/s \|(.*)\|$", text, re.MULTILINE)
    told = [number(cell) for cell in row.split("|")]

    assert f"connections ÷ {aim:,}" in text
    assert f"a gateway takes {most:,}" in text
    assert told == [math.ceil(10**n / aim) + 1 for n in (4, 5, 6)]
    for cell, gateways, connections in zip(
        copies.split("|"), told, (10**4, 10**5, 10**6), strict=True
    ):
        heard = gateways * (1 - (1 - 1 / gateways) ** 50)
        assert number(cell) == pytest.approx(connections / 60 * heard, rel=0.05)


def number(cell: str) -> int:
    return int(cell.strip().replace(",", ""))
