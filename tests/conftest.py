"""Give every test the level of the folder it lives in, and catch blocking calls."""

import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from chatmesh.local import ports

pytest_plugins = (
    "support.instances",
    "support.meshes",
    "support.network",
)

# Seconds that a test of the level may take, unless it says otherwise itself.
LEVELS = {
    "unit": 30,
    "deploy": 120,
    "service": 60,
    "system": 90,
    "browser": 150,
    "chaos": 300,
}

SHORT = ("deploy", "unit")

# Portions, not the namespace: blockbuster_ctx("chatmesh") would watch nothing.
WATCHED = [
    name
    for name in (
        "chatmesh.wire",
        "chatmesh.bus",
        "chatmesh.runtime",
        "chatmesh.gateway",
        "chatmesh.history",
        "chatmesh.presence",
        "chatmesh.agent",
    )
    if find_spec(name) is not None
]


def pytest_configure() -> None:
    """Test processes beside each other have brokers, databases and ports of their own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        of = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        number = int(worker.removeprefix("gw"))
        os.environ[ports.SHARE] = ports.share(number, of)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    if os.environ.get("PYTEST_XDIST_WORKER") is not None:
        items.sort(key=lambda item: _turn(item.path.relative_to(here)))
    for item in items:
        level = item.path.relative_to(here).parts[0]
        if level not in LEVELS:
            raise pytest.UsageError(f"{item.path} lives in no known test level")
        item.add_marker(level)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LEVELS[level]))


def _turn(file: Path) -> tuple[bool, str]:
    """Where its tests stand in a run on several processes, the same in all of them.

    Files that wait and files that work are mixed, so that neither all browsers nor all
    brokers start at once; what is short comes last and fills the end.
    """
    short = file.parts[0] in SHORT
    return short, hashlib.sha256(file.as_posix().encode()).hexdigest()


@pytest.fixture(autouse=True)
def no_blocking_calls_in_the_loop() -> Iterator[None]:
    with blockbuster_ctx(WATCHED) as watched:
        # The database driver looks for key files, once per connection.
        for function in watched.functions.values():
            function.can_block_in(
                "asyncpg/connect_utils.py", "_parse_connect_dsn_and_args"
            )
        yield
