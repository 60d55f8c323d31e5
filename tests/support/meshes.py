"""Whole meshes for the system and browser tests: real processes on free ports."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from chatmesh.local.development import development_settings
from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh, Plan
from support.instances import Corner, corner_of, database_of

CHECKOUT = Path(__file__).resolve().parents[2]

StartMesh = Callable[..., Awaitable[Mesh]]


@pytest.fixture
async def start_mesh(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[StartMesh]:
    """Start a mesh of any shape; everything of it is gone after the test.

    `await start_mesh(gateways=5, histories=2, settings={"CHATMESH_…": "…"})`
    """
    async with AsyncExitStack() as stack:

        async def start(
            *,
            gateways: int = 2,
            histories: int = 1,
            others: Sequence[str] = (),
            agents: int = 0,
            tool_workers: int = 0,
            settings: Mapping[str, str] | None = None,
        ) -> Mesh:
            plan = plan_of(
                corner,
                database_url,
                tmp_path / "logs",
                gateways=gateways,
                histories=histories,
                others=others,
                agents=agents,
                tool_workers=tool_workers,
                settings=settings,
            )
            return await stack.enter_async_context(Mesh(plan))

        yield start


@pytest.fixture
async def mesh(start_mesh: StartMesh) -> Mesh:
    """Two gateways and one history, in development mode, ready."""
    return await start_mesh()


def plan_of(
    corner: Corner,
    database_url: str,
    folder: Path,
    *,
    gateways: int = 2,
    histories: int = 1,
    others: Sequence[str] = (),
    agents: int = 0,
    tool_workers: int = 0,
    settings: Mapping[str, str] | None = None,
) -> Plan:
    """A mesh in development mode, with the page if it has been built."""
    dist = CHECKOUT / "web" / "dist"
    development = development_settings({}, page=dist if dist.exists() else None)
    return Plan(
        amqp_url=corner.url,
        database_url=database_url,
        folder=folder,
        prefix=corner.prefix,
        gateways=gateways,
        histories=histories,
        others=others,
        agents=agents,
        tool_workers=tool_workers,
        settings={**development, **(settings or {})},
    )


@asynccontextmanager
async def shared_mesh(
    instances: Instances,
    template: str,
    folder: Path,
    *,
    others: Sequence[str] = (),
    agents: int = 0,
    tool_workers: int = 0,
    settings: Mapping[str, str] | None = None,
) -> AsyncGenerator[Mesh]:
    """A mesh for all tests of a module, which keep to users and channels of their own.

    For a fixture of module scope, in a module whose tests share one event loop.
    """
    async with (
        corner_of(instances) as corner,
        database_of(instances.database_url, template) as url,
        Mesh(
            plan_of(
                corner,
                url,
                folder,
                others=others,
                agents=agents,
                tool_workers=tool_workers,
                settings=settings,
            )
        ) as mesh,
    ):
        yield mesh
