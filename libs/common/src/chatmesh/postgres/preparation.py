"""A service's tables brought up to date before it serves, by itself or by a command."""

import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NoReturn, TypeVar

from chatmesh.postgres.migrations import Migrations, Unreachable
from chatmesh.runtime import logging as logs
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.health import DATABASE
from chatmesh.runtime.replica import Replica
from chatmesh.runtime.service import Stopping, run
from chatmesh.runtime.service_settings import ServiceSettings

_log = logging.getLogger(__name__)

_RETRY_BASE_S: Final = 0.1
_RETRY_CAP_S: Final = 2.0
_MIGRATE: Final = "migrate"

S = TypeVar("S", bound=ServiceSettings)


async def until_prepared(
    tables: Sequence[Migrations],
    settings: ServiceSettings,
    replica: Replica,
    stopping: Stopping,
) -> bool:
    """Bring the tables up to date, however long the database takes to come.

    With `migrate_at_start` off only looks that they are. False when asked to stop
    before. Raises CannotStart when waiting does not help.
    """
    backoff = Backoff(_RETRY_BASE_S, _RETRY_CAP_S, replica.chance)
    while not stopping.requested:
        try:
            for each in tables:
                prepare = (
                    each.run if settings.migrate_at_start else each.require_current
                )
                await prepare(
                    settings.database_url, connect_s=settings.connect_timeout_s
                )
        except Unreachable as error:
            replica.health.set(DATABASE, ok=False, reason=str(error))
            _log.warning("waiting for the database", extra={"cause": str(error)})
            await replica.clock.sleep(backoff.next_s())
        else:
            replica.health.set(DATABASE, ok=True)
            return True
    return False


def run_service(
    service: str,
    load: Callable[[], S],
    serve: Callable[[S, Stopping], Awaitable[int]],
    tables: Sequence[Migrations],
) -> NoReturn:
    """The whole command line of a service: nothing to serve, `migrate` for the tables alone.

    Leaves the process, as `chatmesh.runtime.service.run` does.
    """

    def settings() -> S:
        loaded = load()
        logs.configure(service, loaded.log_level, loaded.log_format)
        return loaded

    async def serving(stopping: Stopping) -> int:
        return await serve(settings(), stopping)

    async def migrating(_: Stopping) -> int:
        own = settings()
        applied: list[str] = []
        for each in tables:
            applied += await each.run(own.database_url, connect_s=own.connect_timeout_s)
        told = "".join(f"applied {name}\n" for name in applied)
        sys.stdout.write(told or "up to date\n")
        return 0

    match sys.argv[1:]:
        case []:
            run(serving, service=service)
        case [word] if word == _MIGRATE:
            run(migrating, service=service)
        case _:
            sys.exit(f"usage: python -m chatmesh.{service} [{_MIGRATE}]")
