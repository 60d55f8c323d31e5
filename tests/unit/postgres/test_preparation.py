"""A service whose database is not there waits for it, and says so meanwhile."""

import random
import subprocess
import sys

import pytest

from chatmesh.postgres.migrations import Migrations
from chatmesh.postgres.preparation import until_prepared
from chatmesh.runtime import checkpoints
from chatmesh.runtime.health import DATABASE, Health
from chatmesh.runtime.replica import Replica
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.service_settings import ServiceSettings
from chatmesh.runtime.tracing import OFF
from support.history_doubles import QuickClock

NOBODY = "postgresql://chatmesh@127.0.0.1:1/chatmesh"
TRIES = 3
PROCESS_WITHIN_S = 30


class Patience(QuickClock):
    """Asks to stop after a few pauses."""

    def __init__(self, stopping: Stopping) -> None:
        super().__init__()
        self.stopping = stopping

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        if len(self.slept) == TRIES:
            self.stopping.request("SIGTERM")


@pytest.mark.parametrize("migrate", [True, False])
async def test_a_database_that_is_not_there_is_waited_for(*, migrate: bool) -> None:
    """Until somebody asks to stop; whoever looks at /readyz reads what it waits for."""
    stopping = Stopping()
    clock = Patience(stopping)
    health = Health(DATABASE)
    replica = Replica(
        me="history-1",
        clock=clock,
        chance=random.Random(1),
        checkpoint=checkpoints.ignore,
        health=health,
        tracing=OFF,
    )
    settings = ServiceSettings(database_url=NOBODY, migrate_at_start=migrate)
    tables = [Migrations("history", "chatmesh.history.migrations")]

    prepared = await until_prepared(tables, settings, replica, stopping)

    assert not prepared
    assert len(clock.slept) == TRIES
    check = health.report()["checks"][DATABASE]
    assert not check["ok"]
    assert "cannot reach the database" in check["reason"]


@pytest.mark.parametrize("service", ["history", "presence", "agent"])
def test_a_word_that_is_no_command_is_refused_with_the_usage(service: str) -> None:
    """Before anything is connected to."""
    done = subprocess.run(
        [sys.executable, "-m", f"chatmesh.{service}", "migrat"],
        capture_output=True,
        text=True,
        timeout=PROCESS_WITHIN_S,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == f"usage: python -m chatmesh.{service} [migrate]\n"
