"""Meshes to measure: own broker, own database whose commits reach the disk."""

import os
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from chatmesh.local.instances import private_folder, private_instances
from chatmesh.local.mesh import Mesh, Plan

SETTINGS = {
    "CHATMESH_GATEWAY_INSECURE": "true",
    "CHATMESH_GATEWAY_CONNECTS_PER_S": "0",
    # The broker and the database are measured, not the patience with slow readers.
    "CHATMESH_GATEWAY_OUTBOX_BYTES_MAX": str(64 * 1024 * 1024),
    "CHATMESH_LOG_LEVEL": "warning",
}


@asynccontextmanager
async def measured_mesh(
    gateways: int = 2,
    agents: int = 0,
    settings: Mapping[str, str] | None = None,
    others: Sequence[str] = (),
) -> AsyncGenerator[Mesh]:
    shape = Shape(gateways, agents, settings or {}, others)
    async with measured_meshes([shape]) as (mesh,):
        yield mesh


@dataclass(frozen=True)
class Shape:
    """What one of several meshes has that the others may not have."""

    gateways: int = 2
    agents: int = 0
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    others: Sequence[str] = ()


@asynccontextmanager
async def measured_meshes(shapes: Sequence[Shape]) -> AsyncGenerator[list[Mesh]]:
    """Meshes on one broker and one database server, each with queues and tables of its own.

    For comparing: whatever broker, server and disk do, they do it to all of them.
    """
    folder = private_folder()
    environ = dict(os.environ)
    try:
        async with (
            private_instances(environ, folder, mode="dev") as instances,
            AsyncExitStack() as stack,
        ):
            meshes: list[Mesh] = []
            for number, shape in enumerate(shapes):
                name = f"bench{number}"
                plan = Plan(
                    amqp_url=instances.amqp_url,
                    database_url=await _database(instances.database_url, name),
                    folder=folder / name,
                    prefix=name,
                    gateways=shape.gateways,
                    others=shape.others,
                    agents=shape.agents,
                    settings={**SETTINGS, **shape.settings},
                )
                meshes.append(await stack.enter_async_context(Mesh(plan)))
            yield meshes
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _database(server_url: str, name: str) -> str:
    """Make a database of this name on the server; gives its address."""
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
