"""Agents beside a real RabbitMQ, a real PostgreSQL and a history that commits."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.agent_stage import Stage, staged
from support.instances import Corner

ROOMS = tuple(f"room:{name}" for name in "abcdef")


@pytest.fixture(autouse=True)
def no_blocking_calls_in_the_loop() -> None:
    """Not watched here: whole services start in this loop, and read their SQL from disk."""


@pytest.fixture
async def stage(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    """A stage without agents; a test declares them and starts replicas."""
    async with staged(corner.url, corner.prefix, database_url, tmp_path, ROOMS) as made:
        yield made
