"""Presence beside a real RabbitMQ and a real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.instances import Corner
from support.presence_side import ReporterSide, presence_service
from support.replicas import Replicas, replicas_of

CHANNELS = ("room:0", "room:1", "room:2", "quiet:0")


@pytest.fixture
async def replicas(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Replicas]:
    async with replicas_of(
        presence_service, "presence", corner, database_url, tmp_path
    ) as made:
        yield made


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
