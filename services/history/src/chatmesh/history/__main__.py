"""Starts the service: `python -m chatmesh.history`, or `… migrate` for the tables alone."""

from typing import NoReturn

from chatmesh.history import settings
from chatmesh.history.bootstrap import MIGRATIONS, History
from chatmesh.history.settings import SECTION, Settings
from chatmesh.postgres.preparation import run_service
from chatmesh.runtime.service import Stopping


def main() -> NoReturn:
    run_service(SECTION, settings.load, _serve, [MIGRATIONS])


async def _serve(own: Settings, stopping: Stopping) -> int:
    return await History(own, stopping).serve()


if __name__ == "__main__":
    main()
