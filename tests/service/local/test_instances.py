"""What every service and system test stands on."""

import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from chatmesh.local import amqp
from chatmesh.local.instances import Instances
from support.eventually import eventually


async def test_every_test_has_a_broker_to_itself(broker_url: str, prefix: str) -> None:
    """An address that lets us in, and a beginning for names."""
    assert await amqp.refusal(broker_url) is None
    assert prefix


async def test_every_test_has_a_database_to_itself(empty_database_url: str) -> None:
    """Nobody else's tables."""
    connection = await asyncpg.connect(empty_database_url, timeout=5)
    try:
        tables = await connection.fetchval(
            "select count(*) from pg_tables where schemaname = 'public'"
        )
    finally:
        await connection.close()

    assert tables == 0


async def test_the_database_has_the_tables_of_the_services(database_url: str) -> None:
    """Copied from a migrated one."""
    connection = await asyncpg.connect(database_url, timeout=5)
    try:
        tables = await connection.fetchval(
            "select count(*) from pg_tables where schemaname = 'public'"
        )
    finally:
        await connection.close()

    assert tables > 0


@pytest.mark.timeout(60)
async def test_instances_go_when_nobody_wants_them_any_more(
    instances: Instances,
) -> None:
    """Closing standard input is enough, which a crash does as well."""
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/bin",
        "CHATMESH_AMQP_URL": instances.amqp_url,
    }
    words = [sys.executable, "-m", "chatmesh.local", "instances"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answer = json.loads(process.stdout.readline())
        assert answer["amqp_url"] == instances.amqp_url
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        started = [int(word) for word in children.read_text().split()]
        assert started

        process.stdin.close()

        assert await eventually(lambda: process.poll() is not None, within_s=10)
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
