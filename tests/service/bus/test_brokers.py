"""Several brokers in one setting, of which some are gone: links come to one that lives."""

from pathlib import Path

import pytest

from chatmesh.bus.duplex import open_duplex
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime.clock import SystemClock
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.history_side import history_service


@pytest.fixture
def urls(broker_url: str, free_port: int) -> str:
    """A broker that nobody runs, and one that lives."""
    return f"amqp://127.0.0.1:{free_port}/,{broker_url}"


async def test_a_link_of_tools_comes_to_one_that_lives(urls: str, prefix: str) -> None:
    """Those of agents, workers and the command line."""

    async def linked() -> bool:
        opening = open_duplex(
            urls, name="test", topics=Topics(prefix), clock=SystemClock()
        )
        try:
            async with opening:
                return True
        except LinkLost:
            return False

    assert await eventually(linked)


async def test_a_service_comes_to_one_that_lives(
    urls: str, prefix: str, database_url: str, tmp_path: Path
) -> None:
    """That of history, presence and the agents' rooms."""
    service = history_service(
        amqp_url=urls, database_url=database_url, prefix=prefix, folder=tmp_path
    )
    try:
        await service.start()  # Until it is ready.
    finally:
        await service.stop()
