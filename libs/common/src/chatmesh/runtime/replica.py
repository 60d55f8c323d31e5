"""What every replica of a service has, whatever the service does."""

import importlib.metadata
import random
import secrets
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from chatmesh.runtime import checkpoints
from chatmesh.runtime.checkpoints import Checkpoint
from chatmesh.runtime.clock import Clock, SystemClock
from chatmesh.runtime.health import Health
from chatmesh.runtime.process_metrics import add_process_metrics
from chatmesh.runtime.settings import Shared
from chatmesh.runtime.tracing import Tracing, to_collector

_ID_BYTES = 4


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service: its name among the others, and what it lives by."""

    me: str
    """The service and a few random digits: a process that starts again is another one."""
    clock: Clock
    chance: random.Random
    """For jitter, never for secrets."""
    checkpoint: Checkpoint
    health: Health
    tracing: Tracing
    """Whoever serves shuts it down, last of all."""


def new_replica(
    settings: Shared, service: str, registry: CollectorRegistry, *checks: str
) -> Replica:
    """A replica of `service` whose metrics are on `registry`; ready once `checks` are good.

    Raises CannotStart when `crash_at` says nothing.
    """
    me = f"{service}-{secrets.token_hex(_ID_BYTES)}"
    version = importlib.metadata.version(f"chatmesh-{service}")
    health = Health(*checks)
    add_process_metrics(registry, health, service=service, version=version)
    return Replica(
        me=me,
        clock=SystemClock(),
        chance=random.Random(),  # noqa: S311 - jitter, not secrets
        checkpoint=checkpoints.from_setting(settings.crash_at),
        health=health,
        tracing=to_collector(
            settings.trace_endpoint,
            ratio=settings.trace_ratio,
            service=service,
            instance=me,
            version=version,
        ),
    )
