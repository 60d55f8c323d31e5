"""Replicas of one service, for tests in which they come and go."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from chatmesh.local.service import Service
from support.instances import Corner
from support.service_process import NOTHING


class MakesService(Protocol):
    """As `history_service` of `history_side` does."""

    def __call__(
        self,
        *,
        amqp_url: str,
        database_url: str,
        prefix: str,
        folder: Path,
        name: str,
        settings: Mapping[str, str],
    ) -> Service: ...


class Replicas:
    """Starts replicas beside one broker and one database, each with a log of its own."""

    def __init__(
        self,
        service_of: MakesService,
        name: str,
        corner: Corner,
        database_url: str,
        folder: Path,
    ) -> None:
        self._service_of = service_of
        self._name = name
        self._corner = corner
        self._database_url = database_url
        self._folder = folder
        self.started: list[Service] = []

    def make(self, settings: Mapping[str, str] = NOTHING) -> Service:
        service = self._service_of(
            amqp_url=self._corner.url,
            database_url=self._database_url,
            prefix=self._corner.prefix,
            folder=self._folder,
            name=f"{self._name}-{len(self.started)}",
            settings=settings,
        )
        self.started.append(service)
        return service

    async def start(self, settings: Mapping[str, str] = NOTHING) -> Service:
        service = self.make(settings)
        await service.start()
        return service


@asynccontextmanager
async def replicas_of(
    service_of: MakesService,
    name: str,
    corner: Corner,
    database_url: str,
    folder: Path,
) -> AsyncGenerator[Replicas]:
    """None yet; all that were started are stopped at the end."""
    made = Replicas(service_of, name, corner, database_url, folder)
    try:
        yield made
    finally:
        async with AsyncExitStack() as stack:
            for service in made.started:
                stack.push_async_callback(service.stop)
