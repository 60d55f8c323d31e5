"""Migrations against a real database: one at a time, each for as long as it takes."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from chatmesh.postgres import migrations
from chatmesh.postgres.migrations import Migrations, Unreachable

SLOW = "CREATE TABLE slow (); SELECT pg_sleep(1.2);"


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrations:
    """One migration that takes longer than anybody waits for the lock."""
    package = tmp_path / "slow_migrations"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "0001_slow.sql").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(migrations, "_LOCK_WAIT_S", 0.4)
    return Migrations("slow", "slow_migrations")


async def test_a_long_statement_is_not_cut_short(
    slow: Migrations, database_url: str
) -> None:
    """A large table takes longer than others wait; else it would never be done."""
    done = await slow.run(database_url, connect_s=5)

    assert done == ["0001_slow.sql"]
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM slow_migrations") == 1
    finally:
        await connection.close()


async def test_whoever_waits_for_it_gives_up(
    slow: Migrations, database_url: str
) -> None:
    """It says what it waited for, and may try again."""
    first = asyncio.create_task(slow.run(database_url, connect_s=5))
    await asyncio.sleep(0.3)

    with pytest.raises(Unreachable, match="somebody else has been migrating"):
        await slow.run(database_url, connect_s=5)

    assert await first == ["0001_slow.sql"]
    assert await slow.run(database_url, connect_s=5) == []
