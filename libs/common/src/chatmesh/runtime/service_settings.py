"""What can be set alike about every service that works behind the broker."""

from typing import Annotated

import pydantic

from chatmesh.runtime.settings import Shared

Seconds = Annotated[float, pydantic.Field(gt=0)]
Port = Annotated[int, pydantic.Field(ge=0, le=65535)]


class ServiceSettings(Shared):
    """HTTP port, broker link and database; a service adds its own section's keys."""

    host: str = "127.0.0.1"
    """Address of the HTTP port; beyond loopback wants `api_keys`."""

    port: Port = 0
    """HTTP port of the service API and of /livez, /readyz, /metrics."""

    api_keys: tuple[pydantic.SecretStr, ...] = ()
    """Keys that open the service API (`Authorization: Bearer`). None: open, on loopback only."""

    migrate_at_start: bool = True
    """Bring the database's tables up to date before serving; off: refuse to start on old ones."""

    heartbeat_s: Annotated[int, pydantic.Field(ge=1, le=600)] = 10
    """AMQP heartbeat when the URL names none; a dead link is noticed in about three of them."""

    link_check_s: Seconds = 1.0
    """How often consumers and the broker link are looked after."""

    connect_timeout_s: Seconds = 10.0
    """Until a connection to the broker or the database counts as failed."""

    publish_timeout_s: Seconds = 15.0
    """Until the broker has to have confirmed; then the link is built anew."""

    statement_timeout_s: Seconds = 15.0
    """Until the database has to have answered; then the statement is run again."""

    read_timeout_s: Seconds = 3.0
    """Until a request is answered, if need be with a temporary error."""

    @property
    def opening_keys(self) -> list[str]:
        """`api_keys` as who asks has to say them."""
        return [key.get_secret_value() for key in self.api_keys]


class PartitionedSettings(ServiceSettings):
    """Of a service whose replicas share out the partitions among each other."""

    heartbeat_s: Annotated[int, pydantic.Field(ge=1, le=600)] = 2
    """AMQP heartbeat when the URL names none; we notice a dead link after two of them, the
    broker after three, and until then it keeps the queues of a frozen replica for it."""

    lease_s: Seconds = 6.0
    """A replica that has not renewed for so long has lost its partitions."""

    tick_s: Seconds = 1.0
    """How often the replica's lease is renewed and the fair share is looked at."""

    @pydantic.model_validator(mode="after")
    def _lease_outlives_ticks(self) -> "PartitionedSettings":
        if self.lease_s < 3 * self.tick_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least three tick_s"
                f" ({self.tick_s:g}): two missed renewals are no death"
            )
        return self
