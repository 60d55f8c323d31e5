"""Starts the service: `python -m chatmesh.presence`, or `… migrate` for the tables alone."""

from typing import NoReturn

from chatmesh.postgres.preparation import run_service
from chatmesh.presence import settings
from chatmesh.presence.bootstrap import MIGRATIONS, Presence
from chatmesh.presence.settings import SECTION, Settings
from chatmesh.runtime.service import Stopping


def main() -> NoReturn:
    run_service(SECTION, settings.load, _serve, [MIGRATIONS])


async def _serve(own: Settings, stopping: Stopping) -> int:
    return await Presence(own, stopping).serve()


if __name__ == "__main__":
    main()
