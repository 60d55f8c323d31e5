"""What can be set about presence, with units, defaults and reasons."""

import os
from typing import Annotated, Final

import pydantic

from chatmesh.runtime import settings
from chatmesh.runtime.service_settings import PartitionedSettings, Port, Seconds
from chatmesh.wire import limits

SECTION: Final = "presence"


class Settings(PartitionedSettings):
    """The `presence:` section of the settings file, and what all services share."""

    port: Port = 9020
    """HTTP port of the service API and of /livez, /readyz, /metrics."""

    grace_s: Annotated[float, pydantic.Field(ge=0, le=600)] = 10.0
    """How long somebody who vanished may take to come back before they have left; joins and leaves are then about users. 0: every connection joins and leaves by itself, at once."""

    large_above: Annotated[int, pydantic.Field(ge=0)] = 200
    """Connections in a channel above which it hears counts, once a second at most, instead of joins and leaves."""

    process_lease_s: Seconds = limits.PRESENCE_LEASE_S
    """A gateway that has not been heard for so long is gone, with all its connections."""

    settle_s: Annotated[float, pydantic.Field(ge=0, le=60)] = 5.0
    """After taking a partition, nobody's grace ends for so long: reports that waited come first."""

    beat_s: Annotated[float, pydantic.Field(gt=0, le=1)] = 0.25
    """How often the end of leases and graces is looked after."""

    batch_changes_max: Annotated[int, pydantic.Field(ge=1, le=50_000)] = 5000
    """Changes stored in one statement."""

    prefetch: Annotated[int, pydantic.Field(ge=1, le=65_535)] = 50
    """Unacknowledged reports per partition: what one replica holds at most."""

    pool_size: Annotated[int, pydantic.Field(ge=1, le=64)] = 4
    """Database connections for requests; storing and leases have one each."""

    drain_s: Seconds = 10.0
    """Until what is being stored at SIGTERM has to be finished."""

    @pydantic.model_validator(mode="after")
    def _periods_fit(self) -> "Settings":
        if self.process_lease_s < 2 * limits.PRESENCE_RENEW_S:
            raise ValueError(
                f"process_lease_s ({self.process_lease_s:g}) must be at least two"
                f" renewals, {2 * limits.PRESENCE_RENEW_S} s: one may get lost"
            )
        return self


def load() -> Settings:
    """The settings of this process. Raises CannotStart, one line per mistake."""
    environ = os.environ  # noqa: TID251 - the one place that reads it
    return settings.load(Settings, section=SECTION, path=None, environ=environ)
