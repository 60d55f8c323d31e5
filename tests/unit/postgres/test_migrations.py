"""Which migrations are run, and which database is refused."""

import pytest

from chatmesh.postgres.migrations import Migration, pending, shipped
from chatmesh.runtime.startup import CannotStart

ONE = Migration(1, "0001_a.sql", "create table a ()")
TWO = Migration(2, "0002_b.sql", "create table b ()")


def test_what_was_applied_is_not_run_again() -> None:
    """Only the rest, in order."""
    assert pending([ONE, TWO], {1: ONE.checksum}) == [TWO]
    assert pending([ONE, TWO], {}) == [ONE, TWO]


def test_a_changed_migration_is_refused() -> None:
    """What ran on this database is not what the file says any more."""
    with pytest.raises(CannotStart, match=r"0001_a\.sql was changed"):
        pending([ONE, TWO], {1: "other"})


def test_a_newer_database_is_no_obstacle() -> None:
    """Changes are expand/contract, so the version before runs beside the new one."""
    assert pending([ONE], {1: ONE.checksum, 2: TWO.checksum}) == []


@pytest.mark.parametrize("service", ["history", "presence"])
def test_shipped_migrations_are_numbered_without_gaps(service: str) -> None:
    """From 0001 on."""
    found = shipped(f"chatmesh.{service}.migrations")

    assert found[0].number == 1
