"""A private RabbitMQ of one or more nodes: own ports, own folders, own cookie.

Nothing of the system's RabbitMQ is read or touched, neither its configuration nor its
port mapper, so both can run side by side and as any user.
"""

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from chatmesh.local import amqp, ports
from chatmesh.local.process import Command, Process
from chatmesh.local.trouble import Trouble

START_WITHIN_S: Final = 120.0
"""Six seconds on a quiet machine; a busy one is no reason to give up."""
COMMAND_WITHIN_S: Final = 120.0
"""Each is an Erlang of its own, which starts in a second where nobody else wants one."""
PROBE_EVERY_S: Final = 0.1
STOP_GRACE_S: Final = 3.0
"""Message stores are closed within a tenth of a second; what then waits for several
seconds are plugins that want to see their listeners empty."""
NET_TICK_S: Final = 10
"""How soon nodes give up on a frozen neighbour; with RabbitMQ's own default of 60 s
every publish on every node hangs for a minute."""
USER: Final = "guest"
PASSWORD: Final = "guest"  # noqa: S105 - loopback only, and RabbitMQ's own default

_SERVERS: Final = (
    # Debian's /usr/sbin/rabbitmq-server insists on its own user and folders.
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
)


class RabbitError(Trouble):
    """One sentence, with the end of the node's log where that helps."""


def server_program() -> Path | None:
    """The installed rabbitmq-server that runs as any user, if there is one."""
    for candidate in _SERVERS:
        if Path(candidate).exists():
            return Path(candidate)
    found = shutil.which("rabbitmq-server")
    return (
        Path(found)
        if found is not None and found != "/usr/sbin/rabbitmq-server"
        else None
    )


def port_mapper_program() -> str | None:
    """Erlang's epmd, wherever the distribution keeps it."""
    found = shutil.which("epmd")
    if found is not None:
        return found
    places = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    return str(places[-1]) if places else None


def is_installed() -> bool:
    return server_program() is not None and port_mapper_program() is not None


_WATCHED_BY: Final = ("rabbitmq_management", "rabbitmq_prometheus")
"""Plugins of a broker that somebody wants to look into."""


@dataclass(frozen=True)
class NodePorts:
    amqp: int
    management: int
    distribution: int
    metrics: int

    @classmethod
    def pick(cls) -> "NodePorts":
        return cls(*(ports.free_port() for _ in range(4)))


@dataclass(frozen=True)
class PortPlan:
    """Every port of one broker, kept in a file from run to run."""

    port_mapper: int
    nodes: list[NodePorts]

    @property
    def all(self) -> list[int]:
        return [self.port_mapper, *(p for n in self.nodes for p in asdict(n).values())]

    @classmethod
    def read(cls, file: Path) -> "PortPlan | None":
        """None without the file, or with one that another version has written."""
        try:
            known = json.loads(file.read_text())
            nodes = [NodePorts(**entry) for entry in known["nodes"]]
            return cls(port_mapper=known["port_mapper"], nodes=nodes)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def write(self, file: Path) -> None:
        half = file.with_suffix(".half")
        half.write_text(json.dumps(asdict(self)))
        half.rename(file)


def configuration(own: NodePorts, nodes: Sequence[str], *, management: bool) -> str:
    """The text of a node's rabbitmq.conf."""
    lines = [
        f"listeners.tcp.1 = {ports.LOOPBACK}:{own.amqp}",
        f"default_user = {USER}",
        f"default_pass = {PASSWORD}",
        f"net_ticktime = {NET_TICK_S}",
        "log.file.level = warning",
        "disk_free_limit.absolute = 200MB",
    ]
    if management:
        lines.append(f"management.tcp.ip = {ports.LOOPBACK}")
        lines.append(f"management.tcp.port = {own.management}")
        lines.append(f"prometheus.tcp.ip = {ports.LOOPBACK}")
        lines.append(f"prometheus.tcp.port = {own.metrics}")
    if len(nodes) > 1:
        lines.append("cluster_formation.peer_discovery_backend = classic_config")
        lines += [
            f"cluster_formation.classic_config.nodes.{number} = {name}"
            for number, name in enumerate(nodes, start=1)
        ]
        lines.append("cluster_partition_handling = pause_minority")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Erlang:
    """What the nodes of one cluster share."""

    home: Path
    port_mapper_port: int

    def environ(self) -> dict[str, str]:
        return {
            "PATH": f"{os.defpath}:/usr/sbin:/usr/local/bin:/opt/homebrew/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.port_mapper_port),
            "ERL_EPMD_ADDRESS": ports.LOOPBACK,
            "ERL_CRASH_DUMP": "/dev/null",
        }


class Node:
    """One RabbitMQ process. It may be killed, frozen and started again."""

    def __init__(
        self,
        folder: Path,
        name: str,
        own: NodePorts,
        erlang: Erlang,
        *,
        config: str,
        plugins: Sequence[str],
    ) -> None:
        self.folder = folder
        self.name = name
        self.ports = own
        self._erlang = erlang
        self._config = config
        self._plugins = plugins
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@{ports.LOOPBACK}:{self.ports.amqp}/"

    @property
    def management_url(self) -> str:
        return f"http://{USER}:{PASSWORD}@{ports.LOOPBACK}:{self.ports.management}"

    @property
    def process(self) -> Process:
        if self._process is None:
            raise RabbitError(f"{self.name} is not running")
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def launch(self) -> None:
        """Start the process; `until_ready` waits for it."""
        program = server_program()
        if program is None:
            raise RabbitError("rabbitmq-server is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text(self._config)
        plugins = f"[{','.join(self._plugins)}].\n"
        (self.folder / "enabled_plugins").write_text(plugins)
        log = self.folder / "node.log"
        log.unlink(missing_ok=True)
        command = Command(
            name=self.name.partition("@")[0],
            words=(str(program), "-noinput"),
            environ=self._environ(),
            directory=self.folder,
            grace_s=STOP_GRACE_S,
        )
        self._process = Process(command, log=log)

    async def until_ready(self) -> None:
        """Ready means: it answers an AMQP handshake."""
        try:
            async with asyncio.timeout(START_WITHIN_S):
                while await amqp.refusal(self.url) is not None:
                    await asyncio.sleep(PROBE_EVERY_S)
                    if not self.process.running:
                        raise RabbitError(
                            "RabbitMQ did not start:\n" + self.process.last_lines()
                        )
        except TimeoutError:
            lines = self.process.last_lines()
            await self.stop()
            raise RabbitError(
                f"RabbitMQ did not answer within {START_WITHIN_S:.0f} s:\n{lines}"
            ) from None

    async def start(self) -> None:
        self.launch()
        await self.until_ready()

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._process = None

    async def restart(self) -> None:
        """Start again after `process.kill()` or `stop()`; same ports, same data."""
        await self.stop()
        await self.start()

    async def command(self, *words: str) -> str:
        """Ask the running node something, as `rabbitmqctl` does; gives its answer.

        Raises:
            RabbitError: with the command's last words.
        """
        program = server_program()
        if program is None:
            raise RabbitError("rabbitmq-server is not installed")
        asking = await asyncio.create_subprocess_exec(
            *(str(program.with_name("rabbitmqctl")), "--quiet", *words),
            env=self._environ(),
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(COMMAND_WITHIN_S):
                answer, _ = await asking.communicate()
        except BaseException:
            asking.kill()
            raise
        text = answer.decode(errors="replace").strip()
        if asking.returncode != 0:
            raise RabbitError(f"rabbitmqctl {words[0]} failed: {text[-500:]}")
        return text

    def _environ(self) -> dict[str, str]:
        return self._erlang.environ() | {
            "RABBITMQ_NODENAME": self.name,
            # A long name may be an address, and an address needs nobody to resolve it.
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_DIST_PORT": str(self.ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "config"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # With input allowed the script becomes the server instead of waiting for
            # it in a shell; -noinput on the command line takes the input away again.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }


class Rabbit:
    """A private broker. `nodes` are started together and form a cluster by themselves.

    The management API makes virtual hosts, and costs time at every start and stop.
    """

    def __init__(
        self, folder: Path, nodes: int = 1, *, management: bool = True
    ) -> None:
        self.name = "rabbitmq"
        self._management = management
        self._folder = folder
        self._count = nodes
        self._erlang: Erlang | None = None
        self._port_mapper: Process | None = None
        self.nodes: list[Node] = []

    @property
    def process(self) -> Process:
        """The first node's."""
        return self.nodes[0].process

    @property
    def url(self) -> str:
        return self.nodes[0].url

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def management_url(self) -> str | None:
        """None where there is no management API."""
        return self.nodes[0].management_url if self._management else None

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus finds the first node; None where nobody looks into it."""
        if not self._management:
            return None
        return f"http://{ports.LOOPBACK}:{self.nodes[0].ports.metrics}"

    async def start(self) -> None:
        """Start what is not running and wait until every node answers.

        Raises:
            RabbitError: a node did not come up; nothing is left running.
        """
        self.prepare()
        try:
            if self._port_mapper is None or not self._port_mapper.running:
                self._port_mapper = self._start_port_mapper()
            waiting = [node for node in self.nodes if not node.running]
            for node in waiting:
                node.launch()
            for node in waiting:
                await node.until_ready()
        except BaseException:
            await self.stop()
            raise

    def prepare(self) -> None:
        """Choose ports and write files, so that addresses are known; `start` does too."""
        if self.nodes:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        planned = self._known_or_picked_ports()
        erlang = Erlang(self._folder / "home", planned.port_mapper)
        self._write_cookie(erlang.home)
        self._erlang = erlang
        names = [
            f"chatmesh{number}@{ports.LOOPBACK}" for number in range(1, self._count + 1)
        ]
        self.nodes = [
            Node(
                self._folder / name.partition("@")[0],
                name,
                own,
                erlang,
                config=configuration(own, names, management=self._management),
                plugins=list(_WATCHED_BY) if self._management else [],
            )
            for name, own in zip(names, planned.nodes, strict=True)
        ]

    async def stop(self) -> None:
        """Stop all nodes at once, then what they found each other with."""
        async with asyncio.TaskGroup() as group:
            for node in self.nodes:
                group.create_task(node.stop())
        if self._port_mapper is not None:
            await self._port_mapper.stop()
            self._port_mapper = None

    def _start_port_mapper(self) -> Process:
        erlang = self._erlang
        assert erlang is not None
        program = port_mapper_program()
        if program is None:
            raise RabbitError("Erlang's epmd is missing; install erlang-base")
        port = str(erlang.port_mapper_port)
        command = Command(
            name="epmd",
            words=(program, "-address", ports.LOOPBACK, "-port", port),
            environ=erlang.environ(),
            directory=self._folder,
            grace_s=1.0,
        )
        return Process(command, log=self._folder / "epmd.log")

    def _known_or_picked_ports(self) -> "PortPlan":
        """As last time where they are free: the nodes of a cluster remember them."""
        file = self._folder / "ports.json"
        known = PortPlan.read(file)
        fits = known is not None and len(known.nodes) == self._count
        if known is not None and fits and not ports.busy(known.all):
            return known
        picked = PortPlan(
            port_mapper=ports.free_port(),
            nodes=[NodePorts.pick() for _ in range(self._count)],
        )
        picked.write(file)
        return picked

    @staticmethod
    def _write_cookie(home: Path) -> None:
        home.mkdir(mode=0o700, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            half = home / "cookie.half"
            half.unlink(missing_ok=True)
            half.touch(mode=0o600)
            half.write_text(secrets.token_hex(20))
            half.chmod(0o400)
            half.rename(cookie)
