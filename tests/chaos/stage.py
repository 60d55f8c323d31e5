"""A whole private mesh with its own broker and database, built to be broken.

Every service reaches the broker and the database through wires of its own.
"""

import asyncio
import contextlib
import dataclasses
import json
import re
import signal
import urllib.parse
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aio_pika
import asyncpg
import httpx

from chaos.chronicle import Log, LogEntry
from chaos.proxy import through
from chaos.wires import FarWire, FarWires
from chatmesh.local import http_probe, mesh, ports
from chatmesh.local.mesh import Grace, Mesh, Plan
from chatmesh.local.postgres import Postgres
from chatmesh.local.process import KILL_WAIT_S, Process
from chatmesh.local.rabbit import Rabbit
from chatmesh.local.service import EXIT_CANNOT_START, Service
from chatmesh.local.supervisor import how_it_ended
from chatmesh.wire import limits
from chatmesh.wire.topics import Topics
from support.agents_side import agents_file, settings_for, tool_worker
from support.fake_openai import FakeOpenAI
from support.stories import tell

SECRET: Final = "chaos-secret-of-at-least-thirty-two-bytes"
PREFIX: Final = "chatmesh"
LOOK_EVERY_S: Final = 0.02
READY_WITHIN_S: Final = 120.0
"""A machine that does much else takes its time to start a process."""
PATIENCE: Final = Grace(gateway_s=40.0, history_s=40.0, agent_s=40.0)
"""From SIGTERM to SIGKILL: drains take 4 s, and the rest is the machine's."""
_QUERY_WITHIN_S: Final = 60.0

MODEL_IDLE_S: Final = 6.0
"""The model is in the suite's own process, and must not seem silent where that is busy."""

SETTINGS: Final[Mapping[str, str]] = {
    "CHATMESH_GATEWAY_TOKENS_HMAC_SECRETS": SECRET,
    # Members of a room may post from a connection that is not subscribed to it: that
    # is how a message is sent again through another gateway.
    "CHATMESH_NAMESPACES": json.dumps({"room": {"publish": "users"}}),
    # Frozen clients are found out within seconds, so that a scenario can wait for it;
    # and no client is taken for frozen while the suite that plays it has no time.
    "CHATMESH_GATEWAY_PING_INTERVAL_S": "6",
    "CHATMESH_GATEWAY_PONG_WITHIN_S": "5",
    # For the same reason: whoever is late here is told to stay away for good.
    "CHATMESH_GATEWAY_CONNECT_WITHIN_S": "60",
    "CHATMESH_GATEWAY_DRAIN_WINDOW_S": "4",
    "CHATMESH_HISTORY_DRAIN_S": "4",
    "CHATMESH_LOG_FORMAT": "text",
}
"""What the suite's mesh has different from a production one; the rest are defaults."""


AGENT_SETTINGS: Final[Mapping[str, str]] = {
    # Where several owners die in one scenario, the next one waits a third as long.
    "CHATMESH_AGENT_RUN_LEASE_S": "3",
    "CHATMESH_AGENT_RUN_RENEW_S": "1",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a stage is."""

    gateways: int = 3
    histories: int = 2
    nodes: int = 1
    agents: int = 0
    """Replicas of the agent service; with them comes a model that tells stories."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class Wires:
    """What lies between one service and what it depends on."""

    broker: FarWire
    database: FarWire | None = None


class Ending(NamedTuple):
    """How a process ended that nobody had asked to."""

    name: str
    code: int

    def __str__(self) -> str:
        return f"without being asked to, {self.name} {how_it_ended(self.code)}"

    @property
    def excusable(self) -> bool:
        """It did not even begin: somebody else on the machine may have had its port."""
        return self.code == EXIT_CANNOT_START


class WiredMesh(Mesh):
    """A mesh whose services do not share their way to broker and database."""

    def __init__(self, plan: Plan, wires: Mapping[str, Wires]) -> None:
        self._wires = wires
        super().__init__(plan)

    def apart(self, name: str) -> Mapping[str, str]:
        wires = self._wires[name]
        own = {"CHATMESH_AMQP_URL": through(self.plan.amqp_url, wires.broker.port)}
        if wires.database is not None:
            own["CHATMESH_DATABASE_URL"] = through(
                self.plan.database_url, wires.database.port
            )
        return own


class Stage:
    """Everything that runs, and the means to break it. Made by `open_stage`."""

    def __init__(
        self,
        rabbit: Rabbit,
        postgres: Postgres,
        mesh: WiredMesh,
        wires: dict[str, Wires],
        model: FakeOpenAI | None = None,
    ) -> None:
        self.model = model
        """Where the stage has agents: what they ask."""
        self.rabbit = rabbit
        self.postgres = postgres
        self.mesh = mesh
        self.wires = wires
        self.topics = Topics(PREFIX)
        self.unasked: list[Ending] = []
        """Processes that were found to have ended although nobody had killed them."""

    @property
    def urls(self) -> list[str]:
        """WebSocket addresses of the gateways, in order."""
        return [gateway.ws_url for gateway in self.mesh.gateways]

    def service(self, name: str) -> Service:
        return next(one for one in self.mesh.services if one.name == name)

    # -- Processes --------------------------------------------------------------------

    @asynccontextmanager
    async def tools(self, name: str) -> AsyncGenerator[tuple[Path, Process]]:
        """A worker with tools, and the folder where it notes its calls.

        Workers with one name note in one folder.
        """
        folder = self.mesh.plan.folder.parent / name
        async with tool_worker(self.mesh, folder) as worker:
            yield folder, worker

    async def revive(
        self,
        service: Service,
        environ: Mapping[str, str] | None = None,
        *,
        ready: bool = True,
    ) -> None:
        """Start a dead service as its supervisor would, perhaps with a fault built in."""
        # One that was killed a moment ago may still hold its ports.
        async with asyncio.timeout(KILL_WAIT_S):
            await service.process.wait()
        self._note_end(service)
        plain = service.command
        if environ:
            service.command = dataclasses.replace(
                plain, environ={**plain.environ, **environ}
            )
        try:
            service.launch()
        finally:
            service.command = plain
        if ready:
            await service.until_ready(READY_WITHIN_S)

    async def revive_all(self) -> None:
        """Take back every fault there may be, and return when everything is ready.

        Raises:
            Trouble: not everything could be started again.
        """
        self._take_back()
        if not self.postgres.process.running:
            await self.postgres.restart()
        for node in self.rabbit.nodes:
            if not node.running:
                await node.restart()
        for service in self.mesh.services:
            if not service.running:
                self._note_end(service)
                service.launch()
        for service in self.mesh.services:
            await service.until_ready(READY_WITHIN_S)

    def _take_back(self) -> None:
        """Whatever was cut, delayed, stalled or frozen is so no more."""
        for wires in self.wires.values():
            wires.broker.mend()
            if wires.database is not None:
                wires.database.mend()
        for service in self.mesh.services:
            if service.running:
                service.resume()
        self.postgres.resume()

    def dead(self) -> "list[Ending]":
        """Who does not run, and how it ended; after a whole scenario there is nobody."""
        return [
            Ending(service.name, service.process.exit_code or 0)
            for service in self.mesh.services
            if not service.running
        ]

    def _note_end(self, service: Service) -> None:
        """Scenarios kill with SIGKILL or ask with SIGTERM; all else is an end of its own."""
        code = service.process.exit_code
        if code not in {None, 0, -signal.SIGKILL}:
            self.unasked.append(Ending(service.name, code or 0))

    async def readiness(self, service: Service) -> int:
        """The status of /readyz; 0 where nobody answers, which says nothing of it."""
        answer = await http_probe.get(ports.LOOPBACK, service.http_port, "/readyz")
        return 0 if answer is None else answer[0]

    async def metric(self, service: Service, name: str, label: str = "") -> float:
        """A sample of /metrics, summed over its labels; 0 when there is none.

        Raises httpx.HTTPError when nobody answers.
        """
        async with httpx.AsyncClient(timeout=_QUERY_WITHIN_S) as http:
            answer = await http.get(f"{service.http_url}/metrics")
        pattern = rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)"
        found = re.findall(pattern, answer.text, re.MULTILINE)
        return sum(float(value) for labels, value in found if label in labels)

    # -- Broker -----------------------------------------------------------------------

    async def consumers(self) -> dict[str, int]:
        """How many consumers each work queue has, by the broker's own count."""
        queues = [self.topics.command_queue(n) for n in range(limits.PARTITIONS)]
        queues.append(self.topics.history_rpc_queue)
        counts: dict[str, int] = {}
        async with await aio_pika.connect(self._live_url()) as connection:
            channel = await connection.channel()
            for name in queues:
                queue = await channel.declare_queue(name, passive=True)
                counts[name] = queue.declaration_result.consumer_count or 0
        return counts

    async def dead_letters(self) -> int:
        """How many messages wait among the dead letters."""
        async with await aio_pika.connect(self._live_url()) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(self.topics.dead_letters, passive=True)
            return queue.declaration_result.message_count or 0

    async def is_dead(self, *texts: bytes) -> bool:
        """Whether there is a dead letter with all this in it; all of them stay there."""
        async with await aio_pika.connect(self._live_url()) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(self.topics.dead_letters, passive=True)
            while (letter := await queue.get(fail=False)) is not None:
                if all(text in letter.body for text in texts):
                    return True
        # Nothing was acknowledged: with the channel everything goes back.
        return False

    async def publish(self, letters: Sequence[tuple[str, str, bytes]]) -> None:
        """Put raw messages on the broker, as a broken process might.

        Each goes to an exchange, with a routing key.
        """
        async with await aio_pika.connect(self._live_url()) as connection:
            channel = await connection.channel()
            for exchange, routing_key, body in letters:
                found = await channel.get_exchange(exchange, ensure=False)
                message = aio_pika.Message(
                    body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                )
                await found.publish(message, routing_key)

    def _live_url(self) -> str:
        for node in self.rabbit.nodes:
            if node.running:
                return node.url
        raise ConnectionError("no node of the broker runs")

    # -- Database ---------------------------------------------------------------------

    @asynccontextmanager
    async def database(self) -> AsyncGenerator[asyncpg.Connection]:
        """A connection past all wires."""
        connection = await asyncpg.connect(self.postgres.url, timeout=_QUERY_WITHIN_S)
        try:
            yield connection
        finally:
            await connection.close(timeout=_QUERY_WITHIN_S)

    async def tops(self, channels: Sequence[str]) -> dict[str, int]:
        """How far each log has come; asked often, so only that."""
        async with self.database() as connection:
            rows = await connection.fetch(
                "select channel, top from channels where channel = any($1)",
                list(channels),
            )
        return {row["channel"]: row["top"] for row in rows}

    async def logs(self, channels: Sequence[str]) -> dict[str, Log]:
        """The logs as the database has them: no code of ours in between."""
        async with (
            self.database() as connection,
            # Of one moment, for there may be somebody who still writes.
            connection.transaction(isolation="repeatable_read"),
        ):
            heads = await connection.fetch(
                "select channel, epoch, top, floor from channels "
                "where channel = any($1)",
                list(channels),
            )
            rows = await connection.fetch(
                'select channel, "offset", id, author, data from log '
                'where channel = any($1) and data is not null order by channel, "offset"',
                list(channels),
            )
        entries: dict[str, list[LogEntry]] = {name: [] for name in channels}
        for row in rows:
            text = json.loads(row["data"]).get("text", "")
            entry = LogEntry(row["offset"], row["id"], row["author"], text)
            entries[row["channel"]].append(entry)
        return {
            row["channel"]: Log(
                row["channel"],
                row["epoch"],
                entries[row["channel"]],
                floor=row["floor"],
                top=row["top"],
            )
            for row in heads
        }

    async def api_log(self, channel: str) -> list[int]:
        """Offsets of a channel, paged through history's HTTP API."""
        name = urllib.parse.quote(channel, safe="")
        url = f"{self.mesh.history.http_url}/v1/channels/{name}/publications"
        offsets: list[int] = []
        since: int | None = 0
        async with httpx.AsyncClient(timeout=_QUERY_WITHIN_S) as http:
            while since is not None:
                answer = await http.get(url, params={"since": since, "limit": 500})
                page: dict[str, Any] = answer.raise_for_status().json()
                offsets += [one["offset"] for one in page["publications"]]
                since = page["since"]
        return offsets


@asynccontextmanager
async def open_stage(folder: Path, shape: Shape) -> AsyncGenerator[Stage]:
    """Start everything; at the end nothing of it is left.

    Raises:
        Trouble: something did not come up.
    """
    rabbit = Rabbit(folder / "rabbitmq", nodes=shape.nodes)
    # "dev": what is acknowledged has to survive a kill, as in production.
    postgres = Postgres(folder / "postgres", "dev", binaries_near=folder)
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            group.create_task(rabbit.start())
            group.create_task(postgres.start())
        stack.push_async_callback(_end, rabbit, postgres)
        await mesh.migrate(postgres.url)
        wires = await _lay_wires(stack, rabbit, postgres, shape)
        model, agents = None, {}
        if shape.agents:
            model = await stack.enter_async_context(FakeOpenAI(tell))
            file = agents_file(folder / "agents", model.url, idle_s=MODEL_IDLE_S)
            agents = {**AGENT_SETTINGS, **settings_for(file)}
        plan = Plan(
            amqp_url=rabbit.url,
            database_url=postgres.url,
            folder=folder / "logs",
            prefix=PREFIX,
            gateways=shape.gateways,
            histories=shape.histories,
            agents=shape.agents,
            settings={**SETTINGS, **agents, **shape.settings},
            grace=PATIENCE,
        )
        running = await stack.enter_async_context(WiredMesh(plan, wires))
        yield Stage(rabbit, postgres, running, wires, model)


async def _lay_wires(
    stack: AsyncExitStack, rabbit: Rabbit, postgres: Postgres, shape: Shape
) -> dict[str, Wires]:
    nodes = [(ports.LOOPBACK, node.ports.amqp) for node in rabbit.nodes]
    database = ports.LOOPBACK, urllib.parse.urlsplit(postgres.url).port or 5432
    gateways = [f"gateway-{n + 1}" for n in range(shape.gateways)]
    histories = [f"history-{n + 1}" for n in range(shape.histories)]
    agents = [f"agent-{n + 1}" for n in range(shape.agents)]
    wanted: dict[str, Sequence[tuple[str, int]]] = {}
    for number, name in enumerate([*gateways, *histories, *agents]):
        # Each begins with another node, as behind a balancer.
        first = number % len(nodes)
        wanted[f"{name} to broker"] = nodes[first:] + nodes[:first]
    for name in (*histories, *agents):
        wanted[f"{name} to database"] = [database]
    laid = FarWires()
    stack.push_async_callback(laid.stop)
    await laid.start(wanted)
    wires = {name: Wires(laid[f"{name} to broker"]) for name in gateways}
    for name in (*histories, *agents):
        wires[name] = Wires(laid[f"{name} to broker"], laid[f"{name} to database"])
    return wires


async def _end(rabbit: Rabbit, postgres: Postgres) -> None:
    """The data goes with the folder, so nobody has to put it in order first."""
    for node in rabbit.nodes:
        if node.running:
            node.process.kill()
    with contextlib.suppress(Exception):
        postgres.resume()
    postgres.process.kill()
    async with asyncio.TaskGroup() as group:
        group.create_task(rabbit.stop())
        group.create_task(postgres.stop())


def resident_bytes(service: Service) -> int:
    """Memory of a process that the machine has to hold."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
