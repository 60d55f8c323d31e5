"""A private PostgreSQL and RabbitMQ for a test run, in folders that vanish with it.

`python -m chatmesh.local instances` prints one JSON line when both answer, and ends when
its standard input closes: however the test run ends, nothing stays behind.
"""

import asyncio
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from chatmesh.local import broker as brokers
from chatmesh.local import broker_choice
from chatmesh.local.postgres import Mode, Postgres
from chatmesh.local.supervisor import Startable, Supervisor
from chatmesh.local.trouble import Trouble


@dataclass(frozen=True)
class Instances:
    """Where the tests find their neighbours."""

    amqp_url: str
    management_url: str | None
    """With user and password; None where there is no management API."""
    database_url: str
    described: str
    metrics_url: str | None = None
    """Where Prometheus finds the broker; None where it has no such port."""


@asynccontextmanager
async def private_instances(
    environ: Mapping[str, str], folder: Path, *, mode: Mode = "test"
) -> AsyncGenerator[Instances]:
    """Those named by CHATMESH_AMQP_URL and CHATMESH_DATABASE_URL, else new ones.

    `mode` is the database's: in `test` a commit does not wait for the disk.

    Raises:
        Trouble: one of them cannot be had; the others are stopped again.
    """
    given = environ.get("CHATMESH_AMQP_URL") or None
    database_url = environ.get("CHATMESH_DATABASE_URL") or None
    found = await brokers.look_around(given, private=True)
    broker = await brokers.open_broker(
        broker_choice.choose(found),
        given=given,
        folder=folder / "rabbitmq",
        own_name=folder.name,
        management=True,
        say=_note,
    )
    servers: list[Startable] = [] if broker.server is None else [broker.server]
    database = "PostgreSQL from CHATMESH_DATABASE_URL"
    postgres: Postgres | None = None
    if database_url is None:
        postgres = Postgres(folder / "postgres", mode, binaries_near=folder)
        servers.append(postgres)
        database = "embedded PostgreSQL"
    supervisor = Supervisor(_note, restarts=False)
    try:
        await supervisor.start(servers)
        yield Instances(
            amqp_url=broker.url,
            management_url=broker.management_url,
            database_url=database_url or (postgres.url if postgres else ""),
            described=f"{broker.described}, {database}",
            metrics_url=broker.metrics_url,
        )
    finally:
        # The data goes with the folder, so nobody has to put it in order first.
        supervisor.kill()
        await supervisor.stop()


def private_folder() -> Path:
    """A new folder that a database of another user may pass through.

    Raises:
        Trouble: the folder for temporary files is closed to others.
    """
    folder = Path(tempfile.mkdtemp(prefix="chatmesh-"))
    folder.chmod(0o711)
    return folder


async def serve(environ: Mapping[str, str], stdin: TextIO, stdout: TextIO) -> int:
    """Run until `stdin` closes. Prints one line of JSON: addresses, or the trouble."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked.set)

    def until_closed() -> None:
        stdin.read()
        loop.call_soon_threadsafe(asked.set)

    threading.Thread(target=until_closed, name="standard input", daemon=True).start()
    folder = private_folder()
    try:
        async with private_instances(environ, folder) as instances:
            stdout.write(json.dumps(asdict(instances)) + "\n")
            stdout.flush()
            await asked.wait()
    except Trouble as trouble:
        stdout.write(json.dumps({"trouble": str(trouble)}) + "\n")
        stdout.flush()
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _note(text: str) -> None:
    """To the log of the test run, which reads our standard error."""
    os.write(2, f"{text}\n".encode())
