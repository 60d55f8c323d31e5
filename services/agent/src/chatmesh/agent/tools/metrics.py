"""Every metric of tool calls, declared once. No tool, room, user or run is ever a label."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX: Final = "chatmesh_agent_tools"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_OUTCOMES: Final = (
    "done",
    "failed",
    "unknown",
    "denied",
    "timeout",
    "cancelled",
    "refused",
)


class ToolMetrics:
    """The metrics of one process, on the registry it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter(
            f"{_PREFIX}_calls",
            "Calls that ended, by outcome: done, failed, unknown, denied, timeout,"
            " cancelled, refused.",
            ["outcome"],
            registry=registry,
        )
        for outcome in _OUTCOMES:
            # There from the start: Prometheus does not see a series begin at one.
            self.calls.labels(outcome)
        self.call_seconds = Histogram(
            f"{_PREFIX}_call_seconds",
            "From asking for a call to its outcome, time for approval included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.retries = Counter(
            f"{_PREFIX}_retries",
            "Calls handed to workers once more because nothing had happened.",
            registry=registry,
        )
        self.results = Counter(
            f"{_PREFIX}_results",
            "Results from workers: settled, retried, late, orphaned, malformed.",
            ["fate"],
            registry=registry,
        )
        self.approvals = Counter(
            "chatmesh_agent_approvals",
            "Questions to people, by outcome: approved, denied, timeout; and answers that"
            " were refused.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("approved", "denied", "timeout"):
            self.approvals.labels(outcome)
        self.waiting = Gauge(
            f"{_PREFIX}_calls_waiting",
            "Calls this replica waits for.",
            registry=registry,
        )
        self.offered = Gauge(
            f"{_PREFIX}_offered",
            "Tools that are served now.",
            registry=registry,
        )
