"""Every metric of presence, declared once. No channel, user or id is ever a label."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from chatmesh.runtime.service_metrics import (
    BATCH_SIZES,
    STEP_SECONDS,
    PartitionedMetrics,
)

_PREFIX: Final = "chatmesh_presence"


class Metrics(PartitionedMetrics):
    """The metrics of one process, on a registry of its own."""

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        r = self.registry
        self.reports = Counter(
            f"{_PREFIX}_reports",
            "Reports by what became of them: taken, repeated, malformed, buried.",
            ["outcome"],
            registry=r,
        )
        self.changes = Counter(
            f"{_PREFIX}_changes",
            "Changes in reports, by outcome: taken, refused.",
            ["outcome"],
            registry=r,
        )
        self.batch_changes = Histogram(
            f"{_PREFIX}_batch_changes",
            "Changes stored in one statement.",
            buckets=BATCH_SIZES,
            registry=r,
        )
        self.store_seconds = Histogram(
            f"{_PREFIX}_store_seconds",
            "From handing a batch to the database to its commit.",
            buckets=STEP_SECONDS,
            registry=r,
        )
        self.store_retries = Counter(
            f"{_PREFIX}_store_retries",
            "Statements run again because the database did not answer.",
            registry=r,
        )
        self.told = Counter(
            f"{_PREFIX}_told",
            "What was published, by kind: join, leave, pub (counts, activities).",
            ["kind"],
            registry=r,
        )
        self.resyncs = Counter(
            f"{_PREFIX}_resyncs",
            "Snapshots asked for because reports were missing.",
            registry=r,
        )
        self.asks = Counter(
            f"{_PREFIX}_requests",
            "Requests over the broker, by outcome: answered, refused, failed, expired.",
            ["outcome"],
            registry=r,
        )
        self.ask_seconds = Histogram(
            f"{_PREFIX}_request_seconds",
            "From taking a request to its answer.",
            buckets=STEP_SECONDS,
            registry=r,
        )
        self.connections = Gauge(
            f"{_PREFIX}_connections",
            "Connections times channels in this replica's partitions.",
            registry=r,
        )
        self.processes = Gauge(
            f"{_PREFIX}_processes",
            "Reporting processes whose lease this replica has heard.",
            registry=r,
        )
        self.processes_lost = Counter(
            f"{_PREFIX}_processes_lost",
            "Processes whose connections were given up, per partition.",
            registry=r,
        )
        self.waiting = Gauge(
            f"{_PREFIX}_waiting_reports",
            "Reports received and not yet stored.",
            registry=r,
        )
