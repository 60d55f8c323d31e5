"""The embedded PostgreSQL, through everything that may happen to it."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from chatmesh.local.instances import private_folder
from chatmesh.local.postgres import Postgres, PostgresError
from support.eventually import eventually


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another user may pass through, and that vanishes with the test."""
    made = private_folder()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
async def postgres(folder: Path) -> AsyncIterator[Postgres]:
    server = Postgres(folder / "postgres", "test", binaries_near=folder)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def rows(url: str) -> int:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        await connection.execute("create table if not exists entries (n int)")
        await connection.execute("insert into entries values (1)")
        return await connection.fetchval("select count(*) from entries")
    finally:
        await connection.close()


async def test_it_is_what_the_services_need(postgres: Postgres) -> None:
    """Version, vectors, and an order of letters that is the same on every machine."""
    connection = await asyncpg.connect(postgres.url, timeout=5)
    try:
        await connection.execute("create extension vector")
        version = await connection.fetchval("show server_version_num")
        locale = await connection.fetchval(
            "select datlocale from pg_database where datname = current_database()"
        )
    finally:
        await connection.close()

    assert int(version) >= 180000
    assert locale == "C.UTF-8"


async def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    """Other users of the machine can reach the port too."""
    password = postgres.url.split(":")[2].partition("@")[0]

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url.replace(password, "wrong"), timeout=5)


def test_it_is_never_root(postgres: Postgres) -> None:
    """Not even when we are."""
    status = Path(f"/proc/{postgres.process.pid}/status").read_text()
    (uids,) = [line for line in status.splitlines() if line.startswith("Uid:")]

    assert uids.split()[1] != "0"
    assert os.getuid() == 0 or uids.split()[1] == str(os.getuid())


async def test_committed_rows_survive_a_kill(postgres: Postgres) -> None:
    """Same address, same data."""
    url = postgres.url
    assert await rows(url) == 1

    postgres.process.kill()
    await postgres.process.wait()
    await postgres.restart()

    assert postgres.url == url
    assert await rows(url) == 2


async def test_a_frozen_database_answers_nobody_and_thaws(postgres: Postgres) -> None:
    """Every session freezes, not only the one that takes connections."""
    connection = await asyncpg.connect(postgres.url, timeout=5)
    try:
        postgres.pause()
        with pytest.raises(TimeoutError):
            await connection.fetchval("select 1", timeout=0.3)
        postgres.resume()
    finally:
        await connection.close(timeout=5)

    assert await rows(postgres.url) == 1


async def test_a_folder_has_one_owner(postgres: Postgres) -> None:
    """A second server over the same files is refused with a sentence."""
    second = Postgres(postgres.folder, "test", binaries_near=postgres.folder)

    with pytest.raises(PostgresError, match="in use by another chatmesh"):
        await second.start()


async def test_a_first_start_that_was_cut_off_is_made_again(folder: Path) -> None:
    """No half-written state is ever taken for a whole one."""
    (folder / "postgres" / "data.half").mkdir(parents=True)
    (folder / "postgres" / "data").mkdir()
    server = Postgres(folder / "postgres", "test", binaries_near=folder)
    try:
        await server.start()

        assert await rows(server.url) == 1
    finally:
        await server.stop()


async def test_a_stale_pid_file_is_no_obstacle(postgres: Postgres) -> None:
    """The number may belong to anybody by now: to ourselves, here."""
    await postgres.stop()
    pid_file = postgres.folder / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n/elsewhere\n")

    await postgres.start()

    assert await eventually(lambda: rows(postgres.url))
