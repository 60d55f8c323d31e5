"""Presence beside a real RabbitMQ and a real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.instances import Corner
from support.presence_side import Replicas, ReporterSide

CHANNELS = ("room:0", "room:1", "room:2", "quiet:0")


@pytest.fixture
async def replicas(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Replicas]:
    made = Replicas(corner, database_url, tmp_path)
    yield made
    for service in made.started:
        await service.stop()


@pytest.fixture
async def side(corner: Corner) -> AsyncIterator[ReporterSide]:
    """A gateway that hears every channel of these tests."""
    async with ReporterSide.open(corner.url, corner.prefix, "g1") as opened:
        await opened.hear(*CHANNELS)
        yield opened


@pytest.fixture
async def other(corner: Corner) -> AsyncIterator[ReporterSide]:
    """A second gateway, which hears nothing and only reports."""
    async with ReporterSide.open(corner.url, corner.prefix, "g2") as opened:
        yield opened
