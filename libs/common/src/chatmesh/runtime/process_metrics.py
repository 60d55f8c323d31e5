"""Metrics every process has alike: what it is, whether it is ready, what it costs."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chatmesh.runtime.health import Health

_PREFIX: Final = "chatmesh"


def add_process_metrics(
    registry: CollectorRegistry, health: Health, *, service: str, version: str
) -> None:
    """Add them to a process's registry, once: memory, CPU, files, version, health."""
    ProcessCollector(registry=registry)
    build = Gauge(
        f"{_PREFIX}_build_info",
        "Which service this is, and of which version.",
        ["service", "version"],
        registry=registry,
    )
    build.labels(service, version).set(1)
    registry.register(_HealthCollector(health))


class _HealthCollector(Collector):
    """Readiness as it stands when Prometheus asks."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[GaugeMetricFamily]:
        report = self._health.report()
        yield GaugeMetricFamily(
            f"{_PREFIX}_ready",
            "Whether /readyz says yes.",
            value=float(report["ready"]),
        )
        checks = GaugeMetricFamily(
            f"{_PREFIX}_check_ok",
            "Whether a check of /readyz is good.",
            labels=["check"],
        )
        for check, state in report["checks"].items():
            checks.add_metric([check], float(state["ok"]))
        yield checks
