"""Tools beside a real RabbitMQ and a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from chatmesh.agent.tools.desk import ToolDesk
from chatmesh.agent.tools.tables import MIGRATIONS
from support.instances import Corner
from support.tool_rig import running_desk


@pytest.fixture
async def tools_database_url(empty_database_url: str) -> str:
    """A database of this test's own, with the tables of tools."""
    await MIGRATIONS.run(empty_database_url, connect_s=10)
    return empty_database_url


@pytest.fixture
async def desk(corner: Corner, tools_database_url: str) -> AsyncIterator[ToolDesk]:
    async with running_desk(corner.url, corner.prefix, tools_database_url) as running:
        yield running
