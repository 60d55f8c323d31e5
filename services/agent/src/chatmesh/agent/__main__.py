"""Starts the service: `python -m chatmesh.agent`, or `… migrate` for the tables alone."""

from typing import NoReturn

from chatmesh.agent import settings
from chatmesh.agent.bootstrap import MIGRATIONS, AgentService
from chatmesh.agent.settings import SECTION, Settings
from chatmesh.postgres.preparation import run_service
from chatmesh.runtime.service import Stopping


def main() -> NoReturn:
    run_service(SECTION, settings.load, _serve, MIGRATIONS)


async def _serve(own: Settings, stopping: Stopping) -> int:
    return await AgentService(own, stopping).serve()


if __name__ == "__main__":
    main()
