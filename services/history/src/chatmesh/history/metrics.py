"""Every metric of history, declared once. No channel, user or id is ever a label."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from chatmesh.runtime.service_metrics import (
    BATCH_SIZES,
    STEP_SECONDS,
    PartitionedMetrics,
)

_PREFIX: Final = "chatmesh_history"


class Metrics(PartitionedMetrics):
    """The metrics of one process, on a registry of its own."""

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        r = self.registry
        self.commands = Counter(
            f"{_PREFIX}_commands",
            "Commands settled, by outcome: committed, repeated (known id), refused.",
            ["outcome"],
            registry=r,
        )
        self.committed = self.commands.labels("committed")
        self.repeated = self.commands.labels("repeated")
        self.refused = self.commands.labels("refused")
        self.batch_commands = Histogram(
            f"{_PREFIX}_batch_commands",
            "Commands in one commit.",
            buckets=BATCH_SIZES,
            registry=r,
        )
        self.commit_seconds = Histogram(
            f"{_PREFIX}_commit_seconds",
            "From handing a batch to the database to its commit.",
            buckets=STEP_SECONDS,
            registry=r,
        )
        self.confirm_seconds = Histogram(
            f"{_PREFIX}_confirm_seconds",
            "From publishing a batch's events to the broker's last confirm.",
            buckets=STEP_SECONDS,
            registry=r,
        )
        self.queue_age_seconds = Histogram(
            f"{_PREFIX}_queue_age_seconds",
            "From sending a command batch (sender's clock) to its arrival here.",
            buckets=STEP_SECONDS,
            registry=r,
        )
        self.commit_retries = Counter(
            f"{_PREFIX}_commit_retries",
            "Statements run again because the database did not answer.",
            registry=r,
        )
        self.events = Counter(
            f"{_PREFIX}_events", "Log events published and confirmed.", registry=r
        )
        self.dead_letters = Counter(
            f"{_PREFIX}_dead_letters",
            "Messages put among the dead letters, by cause.",
            ["cause"],
            registry=r,
        )
        for cause in ("malformed", "poison"):
            # There from the start: Prometheus does not see a series begin at one.
            self.dead_letters.labels(cause)
        self.reads = Counter(
            f"{_PREFIX}_reads",
            "Pages and heads asked for, by outcome: answered, refused, failed, expired.",
            ["outcome"],
            registry=r,
        )
        self.read_seconds = Histogram(
            f"{_PREFIX}_read_seconds",
            "Database time of a group of reads.",
            buckets=STEP_SECONDS,
            registry=r,
        )
        self.oldest_command_seconds = Gauge(
            f"{_PREFIX}_oldest_command_seconds",
            "Age, since its arrival here, of the oldest command batch not committed yet.",
            registry=r,
        )
        self.waiting = Gauge(
            f"{_PREFIX}_waiting_deliveries",
            "Command batches received and not yet handed to the database.",
            registry=r,
        )
        self.emptied = Counter(
            f"{_PREFIX}_retention_entries",
            "Entries emptied by retention.",
            registry=r,
        )
