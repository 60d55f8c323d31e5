"""A mesh of any shape: gateways, history replicas, and the other services there are."""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chatmesh.local import ports
from chatmesh.local.process import Command, Process, Sink
from chatmesh.local.service import Service
from chatmesh.local.supervisor import Supervisor
from chatmesh.local.trouble import Trouble

SOCKET_PATH: Final = "/connection/websocket"
OTHER_SERVICES: Final = ("presence",)
"""Started when they are there; each has one HTTP port."""
AGENT: Final = "agent"
TOOLS: Final = "agent.tools.worker"
REAPER: Final = "agent.reaper"

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Grace:
    """From SIGTERM to SIGKILL, in seconds: enough for the drain that is configured."""

    gateway_s: float = 3.0
    history_s: float = 3.0
    other_s: float = 2.0
    agent_s: float = 5.0


@dataclass(frozen=True)
class Plan:
    """What to start, and where it finds its neighbours."""

    amqp_url: str
    database_url: str
    folder: Path
    """For logs."""
    prefix: str = "chatmesh"
    gateways: int = 2
    histories: int = 1
    others: Sequence[str] = ()
    agents: int = 0
    """Replicas of the agent service."""
    tool_workers: int = 0
    """Workers of the tools that come with the agent service."""
    reapers: int = 0
    """Processes that end what no agent goes on with."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    """`CHATMESH_…` variables for every process; they beat what is set here."""
    base_port: int | None = None
    """The first gateway's port, from which all others follow; None: any free ones."""
    environ: Mapping[str, str] | None = None
    """What processes inherit; None: the little that a test may depend on."""
    grace: Grace = Grace()


def port_of(plan: Plan, shift: int) -> int:
    """8001 for a gateway means 9001 for its HTTP port and 9010 for history."""
    return ports.free_port() if plan.base_port is None else plan.base_port + shift


HTTP_SHIFT: Final = 1000
HISTORY_SHIFT: Final = 1009
OTHER_SHIFTS: Final[Mapping[str, int]] = {"presence": 1019}
AGENT_SHIFT: Final = 1029
TOOLS_SHIFT: Final = 1059
REAPER_SHIFT: Final = 1069
GATEWAYS_MAX_ON_FIXED_PORTS: Final = 9
"""One more and a gateway's HTTP port would be history's."""


def fixed_ports(plan: Plan) -> list[int]:
    """Every port that a plan with a `base_port` wants to itself."""
    if plan.base_port is None:
        return []
    shifts = [*range(plan.gateways)]
    shifts += [HTTP_SHIFT + number for number in range(plan.gateways)]
    shifts += [HISTORY_SHIFT + number for number in range(plan.histories)]
    shifts += [OTHER_SHIFTS[name] for name in plan.others]
    shifts += [AGENT_SHIFT + number for number in range(plan.agents)]
    shifts += [TOOLS_SHIFT + number for number in range(plan.tool_workers)]
    shifts += [REAPER_SHIFT + number for number in range(plan.reapers)]
    return [plan.base_port + shift for shift in shifts]


def others_there() -> list[str]:
    """The services beside gateway and history that this checkout has."""
    return [name for name in OTHER_SERVICES if _is_there(name)]


def agent_there() -> bool:
    """Whether this checkout has the agent service."""
    return _is_there(AGENT)


def _is_there(name: str) -> bool:
    return (
        importlib.util.find_spec("chatmesh." + name) is not None
        and importlib.util.find_spec(f"chatmesh.{name}.__main__") is not None
    )


def socket_url(port: int) -> str:
    return f"ws://{ports.LOOPBACK}:{port}{SOCKET_PATH}"


class Gateway(Service):
    """A gateway and where clients find it."""

    port: int

    @property
    def page_url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def ws_url(self) -> str:
        return socket_url(self.port)


class Mesh:
    """The running services of one plan. Use it as an async context manager."""

    def __init__(
        self,
        plan: Plan,
        *,
        supervisor: Supervisor | None = None,
        sink: Callable[[str], Sink] | None = None,
    ) -> None:
        """Without a supervisor a crash stays a crash: tests want to see it."""
        self.plan = plan
        self._sink = sink
        self._supervisor = supervisor or Supervisor(_silent, restarts=False)
        numbers = range(plan.gateways)
        self._gateway_ports = [self._ports_of(number) for number in numbers]
        self.gateways: list[Gateway] = [
            self._gateway(number) for number in range(plan.gateways)
        ]
        self.histories: list[Service] = [
            self._history(number) for number in range(plan.histories)
        ]
        self.others: list[Service] = [self._other(name) for name in plan.others]
        self.agents: list[Service] = [
            self._agent(number) for number in range(plan.agents)
        ]
        self.tool_workers: list[Service] = [
            self._tool_worker(number) for number in range(plan.tool_workers)
        ]
        self.reapers: list[Service] = [
            self._reaper(number) for number in range(plan.reapers)
        ]

    @property
    def services(self) -> list[Service]:
        return [
            *self.histories,
            *self.others,
            *self.agents,
            *self.tool_workers,
            *self.reapers,
            *self.gateways,
        ]

    @property
    def history(self) -> Service:
        return self.histories[0]

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything at once; return when everything is ready.

        At once, because a service waits for its neighbours anyway, and importing is
        what takes the time.
        """
        await self._supervisor.start(
            self.histories,
            self.others,
            self.agents,
            self.tool_workers,
            self.reapers,
            self.gateways,
        )

    async def stop(self) -> None:
        await self._supervisor.stop()

    async def add_gateway(self) -> Gateway:
        """One more, ready to take connections."""
        number = len(self.gateways)
        self._gateway_ports.append(self._ports_of(number))
        gateway = self._gateway(number)
        self.gateways.append(gateway)
        await self._supervisor.start([gateway])
        return gateway

    def _gateway(self, number: int) -> Gateway:
        name = f"gateway-{number + 1}"
        port, http_port = self._gateway_ports[number]
        own = {
            "CHATMESH_GATEWAY_NAME": name,
            "CHATMESH_GATEWAY_PORT": str(port),
            "CHATMESH_GATEWAY_HTTP_PORT": str(http_port),
            "CHATMESH_GATEWAY_NEIGHBOURS": self._neighbours(),
        }
        command = self._command(name, "gateway", own, self.plan.grace.gateway_s)
        gateway = Gateway(
            command, http_port=http_port, log=self._log(name), sink=self._sink
        )
        gateway.port = port
        return gateway

    def _ports_of(self, number: int) -> tuple[int, int]:
        """Of a gateway: where sockets come in, and its HTTP port."""
        return port_of(self.plan, number), port_of(self.plan, HTTP_SHIFT + number)

    def _neighbours(self) -> str:
        """For the page of a development gateway: where else one could be."""
        return json.dumps(
            [
                {
                    "name": f"gateway-{number}",
                    "url": socket_url(port),
                    "http": f"http://{ports.LOOPBACK}:{http_port}",
                }
                for number, (port, http_port) in enumerate(self._gateway_ports, start=1)
            ]
        )

    def _history(self, number: int) -> Service:
        name = "history" if self.plan.histories == 1 else f"history-{number + 1}"
        http_port = port_of(self.plan, HISTORY_SHIFT + number)
        own = {"CHATMESH_HISTORY_PORT": str(http_port)}
        command = self._command(name, "history", own, self.plan.grace.history_s)
        return Service(
            command, http_port=http_port, log=self._log(name), sink=self._sink
        )

    def _other(self, name: str) -> Service:
        http_port = port_of(self.plan, OTHER_SHIFTS[name])
        own = {f"CHATMESH_{name.upper()}_PORT": str(http_port)}
        command = self._command(name, name, own, self.plan.grace.other_s)
        return Service(
            command, http_port=http_port, log=self._log(name), sink=self._sink
        )

    def _agent(self, number: int) -> Service:
        name = f"agent-{number + 1}"
        http_port = port_of(self.plan, AGENT_SHIFT + number)
        own = {"CHATMESH_AGENT_PORT": str(http_port)}
        command = self._command(name, AGENT, own, self.plan.grace.agent_s)
        return Service(
            command, http_port=http_port, log=self._log(name), sink=self._sink
        )

    def _reaper(self, number: int) -> Service:
        name = f"reaper-{number + 1}"
        http_port = port_of(self.plan, REAPER_SHIFT + number)
        own = {"CHATMESH_AGENT_PORT": str(http_port)}
        command = self._command(name, REAPER, own, self.plan.grace.other_s)
        return Service(
            command, http_port=http_port, log=self._log(name), sink=self._sink
        )

    def _tool_worker(self, number: int) -> Service:
        name = f"tools-{number + 1}"
        http_port = port_of(self.plan, TOOLS_SHIFT + number)
        command = self._command(
            name,
            TOOLS,
            {},
            self.plan.grace.other_s,
            words=("--port", str(http_port)),
        )
        return Service(
            command, http_port=http_port, log=self._log(name), sink=self._sink
        )

    def _command(
        self,
        name: str,
        module: str,
        own: Mapping[str, str],
        grace_s: float,
        words: Sequence[str] = (),
    ) -> Command:
        environ = {
            **inherited(self.plan.environ),
            "CHATMESH_AMQP_URL": self.plan.amqp_url,
            "CHATMESH_DATABASE_URL": self.plan.database_url,
            "CHATMESH_PREFIX": self.plan.prefix,
            **self.plan.settings,
            **own,
            **self.apart(name),
        }
        return Command(
            name=name,
            words=(sys.executable, "-m", f"chatmesh.{module}", *words),
            environ=environ,
            grace_s=grace_s,
        )

    def apart(self, name: str) -> Mapping[str, str]:
        """Settings that one process has for itself; none, but in meshes of tests."""
        del name
        return {}

    def _log(self, name: str) -> Path:
        return self.plan.folder / f"{name}.log"


def inherited(environ: Mapping[str, str] | None) -> dict[str, str]:
    """What a child sees of our own variables."""
    if environ is not None:
        return dict(environ)
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


async def migrate(database_url: str, environ: Mapping[str, str] | None = None) -> None:
    """Bring a database's tables up to date, as `make run` and a deployment do.

    Raises:
        Trouble: with the last words of the migration.
    """
    agent = (AGENT,) if agent_there() else ()
    for service in ("history", *others_there(), *agent):
        await _migrate(service, database_url, environ)


async def _migrate(
    service: str, database_url: str, environ: Mapping[str, str] | None
) -> None:
    lines: list[str] = []
    command = Command(
        name="migrate",
        words=(sys.executable, "-m", f"chatmesh.{service}", "migrate"),
        environ={**inherited(environ), "CHATMESH_DATABASE_URL": database_url},
        grace_s=1.0,
    )
    process = Process(command, sink=lines.append)
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        await process.stop()
        raise
    if code != 0:
        raise Trouble("the database could not be migrated:\n" + "\n".join(lines[-20:]))


def _silent(_text: str) -> None:
    """Nobody reads along; the logs tell."""
