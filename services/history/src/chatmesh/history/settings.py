"""What can be set about history, with units, defaults and reasons."""

import os
from typing import Annotated, Final

import pydantic

from chatmesh.runtime import settings
from chatmesh.runtime.service_settings import PartitionedSettings, Port, Seconds

SECTION: Final = "history"

Count = Annotated[int, pydantic.Field(ge=1)]


class Settings(PartitionedSettings):
    """The `history:` section of the settings file, and what all services share."""

    port: Port = 9010
    """HTTP port of the service API and of /livez, /readyz, /metrics."""

    writers: Annotated[int, pydantic.Field(ge=1, le=16)] = 1
    """Batches committed at the same time; a partition always goes to the same writer."""

    batch_commands_max: Annotated[int, pydantic.Field(ge=1, le=20_000)] = 2000
    """Commands in one commit: one statement, one round trip, one fsync."""

    batch_bytes_max: Annotated[int, pydantic.Field(ge=65_536)] = 8 * 1024 * 1024
    """Payload bytes in one commit."""

    batches_in_flight_max: Annotated[int, pydantic.Field(ge=1, le=64)] = 4
    """Committed batches whose events the broker has not confirmed yet; then commits wait."""

    prefetch: Annotated[int, pydantic.Field(ge=1, le=65_535)] = 50
    """Unacknowledged command batches per partition: what one replica holds at most."""

    pool_size: Annotated[int, pydantic.Field(ge=1, le=64)] = 4
    """Database connections for reads, leases and the HTTP API; writers have their own."""

    drain_s: Seconds = 5.0
    """Until what is being committed at SIGTERM has to be finished."""

    attempts_max: Annotated[int, pydantic.Field(ge=1, le=10)] = 3
    """Tries at a command that fails by itself, before it becomes a dead letter."""

    suspect_deliveries: Annotated[int, pydantic.Field(ge=1, le=15)] = 3
    """Redeliveries after which a batch is processed command by command, each on record."""

    publish_reply_s: Seconds = 5.0
    """Until POST …/publications is answered; then 504, and the same id may be sent again."""

    retention_every_s: Seconds = 30.0
    """Pause between two rounds of retention."""

    retention_step: Count = 1000
    """Entries emptied in one transaction of retention."""


def load() -> Settings:
    """The settings of this process. Raises CannotStart, one line per mistake."""
    environ = os.environ  # noqa: TID251 - the one place that reads it
    return settings.load(Settings, section=SECTION, path=None, environ=environ)
