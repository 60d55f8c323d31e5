"""The tables of tools, brought up to date beside those of runs."""

from typing import Final

from chatmesh.postgres.migrations import Migrations

MIGRATIONS: Final = Migrations("agent_tools", "chatmesh.agent.tools.migrations")
