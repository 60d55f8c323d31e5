"""What can be set about the agent service, with units, defaults and reasons."""

import os
from typing import Annotated, Final

import pydantic

from chatmesh.runtime import settings
from chatmesh.runtime.service_settings import Port, Seconds, ServiceSettings

SECTION: Final = "agent"


class Settings(ServiceSettings):
    """The `agent:` section of the settings file, and what all services share."""

    port: Port = 9030
    """HTTP port of the service API and of /livez, /readyz, /metrics."""

    agents_file: str = ""
    """YAML file of the agents; none: the shipped one, whose only agent is scripted. A change takes effect without a restart."""

    agents_file_check_s: Seconds = 1.0
    """How often the agents file is looked at."""

    model_keys: Annotated[
        dict[str, pydantic.SecretStr],
        pydantic.Field(default_factory=dict[str, pydantic.SecretStr]),
    ]
    """Keys of model endpoints by the name that the agents file gives them (`key: name`)."""

    runs_max: Annotated[int, pydantic.Field(ge=1, le=1000)] = 30
    """Runs that one replica performs at the same time; one core carries about so many."""

    run_lease_s: Seconds = 10.0
    """A run whose owner has not renewed for so long is taken over by another replica."""

    run_renew_s: Seconds = 3.0
    """How often a replica renews the one lease of all its runs."""

    sweep_s: Seconds = 1.0
    """How often each replica looks for runs that wait, or whose owner is gone."""

    reap_after_s: Seconds = 60.0
    """What no replica has taken over so long after its lease, the reaper ends as interrupted, with the text there is."""

    crashes_max: Annotated[int, pydantic.Field(ge=1, le=20)] = 3
    """Owners that may die over one run; then it ends as interrupted, with the text there is."""

    answer_within_s: Seconds = 900.0
    """A message older than this when it is first seen is not answered any more, only told so."""

    approval_timeout_s: Seconds = 600.0
    """How long people may take to allow a call of a tool; an agent's `limits.approval_s` goes before it."""

    journals_kept_days: Annotated[float, pydantic.Field(ge=0)] = 30.0
    """What an ended run read and wrote is kept for so long, and can be gone on from by a retry; 0: for ever. That it answered its message, and the audit record of its tools, are always kept."""

    forget_every_s: Seconds = 60.0
    """How often each replica looks for runs that have been kept for long enough."""

    present_s: Annotated[float, pydantic.Field(ge=0)] = 900.0
    """An agent is shown as a member of a room for so long after it was last asked there; in rooms that its declaration names, always."""

    window_ms: Annotated[int, pydantic.Field(ge=1, le=1000)] = 40
    """Text is gathered for so long before it is sent; the first words never wait."""

    window_ms_max: Annotated[int, pydantic.Field(ge=1, le=5000)] = 250
    """What the window is stretched to at most when there is more to do than time."""

    checkpoint_s: Seconds = 0.5
    """How often the text so far is stored for those who come late."""

    park_s: Annotated[float, pydantic.Field(ge=0)] = 2.0
    """At SIGTERM, runs may end by themselves for so long; the others are handed on."""

    prefetch: Annotated[int, pydantic.Field(ge=1, le=65_535)] = 200
    """Unacknowledged messages that one replica holds at most."""

    statement_timeout_s: Seconds = 5.0
    """Until the database has to have answered; then the statement is run again."""

    commit_timeout_s: Seconds = 5.0
    """Until history has to have answered to an answer's publication; then it is sent again."""

    pool_size: Annotated[int, pydantic.Field(ge=1, le=64)] = 4
    """Database connections of the runs and of requests; leases and triggers have one each."""

    @pydantic.model_validator(mode="after")
    def _periods_fit(self) -> "Settings":
        if self.run_lease_s < 3 * self.run_renew_s:
            raise ValueError(
                f"run_lease_s ({self.run_lease_s:g}) must be at least three"
                f" run_renew_s ({self.run_renew_s:g}): two missed renewals are no death"
            )
        if self.window_ms_max < self.window_ms:
            raise ValueError("window_ms_max must be at least window_ms")
        return self


def load() -> Settings:
    """The settings of this process. Raises CannotStart, one line per mistake."""
    environ = os.environ  # noqa: TID251 - the one place that reads it
    return settings.load(Settings, section=SECTION, path=None, environ=environ)
