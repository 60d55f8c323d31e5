"""What services behind the broker count alike: links, leases, shares of the work."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

STEP_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    15.0,
    60.0,
)
"""Buckets for steps of a message's way: half a millisecond is good, a minute is trouble."""
BATCH_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Buckets for how much was done at once."""


class ServiceMetrics:
    """The metrics of one process, on a registry of its own."""

    def __init__(self, prefix: str) -> None:
        """`prefix` begins every name: `chatmesh_` and the service."""
        self.registry: Final = CollectorRegistry()
        self.links: Final = Counter(
            f"{prefix}_broker_links",
            "Broker links built since the start.",
            registry=self.registry,
        )
        self.lease_age_seconds: Final = Gauge(
            f"{prefix}_lease_age_seconds",
            "Seconds since this replica's lease was last renewed.",
            registry=self.registry,
        )


class PartitionedMetrics(ServiceMetrics):
    """Of a service whose replicas share out the partitions among each other."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.partitions: Final = Gauge(
            f"{prefix}_partitions",
            "Partitions this replica works on.",
            registry=self.registry,
        )
        self.takeovers: Final = Counter(
            f"{prefix}_lease_takeovers",
            "Partitions taken whose last holder had not given them back.",
            registry=self.registry,
        )

    def saw_lease(self, held: int, age_s: float) -> None:
        """What `Shares` sees at each tick: partitions held, and the lease's age."""
        self.partitions.set(held)
        self.lease_age_seconds.set(age_s)
