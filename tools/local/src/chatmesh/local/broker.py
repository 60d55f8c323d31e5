"""Find or start the RabbitMQ to use, in the order that `broker_choice` decides."""

import asyncio
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chatmesh.local import amqp, packages, ports, rabbit
from chatmesh.local.broker_choice import Surroundings, Way
from chatmesh.local.process import Command, Process
from chatmesh.local.supervisor import Say, Startable
from chatmesh.local.trouble import Trouble

SHARED_URL: Final = f"amqp://guest:guest@{ports.LOOPBACK}:{amqp.DEFAULT_PORT}/"
SHARED_MANAGEMENT: Final = f"http://guest:guest@{ports.LOOPBACK}:15672"
IMAGE: Final = "rabbitmq:4-management"
GIVEN_WITHIN_S: Final = 10.0
"""Somebody named this broker, so it is worth waiting for."""
_COMMAND_WITHIN_S: Final = 20.0
_PULL_AND_START_WITHIN_S: Final = 300.0


@dataclass(frozen=True)
class Broker:
    """A broker to use. `server` is there if it is ours to start and to stop."""

    url: str
    described: str
    management_url: str | None = None
    metrics_url: str | None = None
    server: Startable | None = None
    prefix: str = "chatmesh"
    """What our names have to begin with to be ours alone."""


async def look_around(given: str | None, *, private: bool) -> Surroundings:
    """What this machine offers; nothing is changed.

    `private` leaves out the broker on the usual port: it belongs to somebody.
    """
    shared = False
    if given is None and not private:
        shared = await amqp.refusal(SHARED_URL) is None
    return Surroundings(
        given=given,
        shared_lets_us_in=shared,
        installed=rabbit.is_installed(),
        installable=packages.can_install(),
        docker=await asyncio.to_thread(docker_answers),
    )


async def open_broker(
    way: Way,
    *,
    given: str | None,
    folder: Path,
    own_name: str,
    management: bool,
    say: Say,
) -> Broker:
    """The broker of that way, installed and prepared; `server` is not started yet.

    `own_name` is what we are called on a broker that others use too: two checkouts
    that shared their names would take each other's messages. `management` is whether
    a broker that we start needs its management API.

    Raises:
        Trouble: it cannot be reached, installed or started.
    """
    if way is Way.GIVEN:
        assert given is not None
        return await _given(given)
    if way is Way.SHARED:
        return await _shared(own_name)
    if way is Way.INSTALL:
        await asyncio.to_thread(packages.install, "rabbitmq-server", say=say)
        if not rabbit.is_installed():
            raise Trouble(
                "rabbitmq-server was installed but cannot be found; "
                "set CHATMESH_AMQP_URL"
            )
    if way is Way.DOCKER:
        container = DockerRabbit(folder)
        return Broker(
            url=container.url,
            management_url=container.management_url,
            described=f"container of {IMAGE}",
            server=container,
        )
    own = rabbit.Rabbit(folder, management=management)
    own.prepare()
    return Broker(
        url=own.url,
        management_url=own.management_url,
        metrics_url=own.metrics_url,
        described=f"private RabbitMQ on port {own.nodes[0].ports.amqp}",
        server=own,
    )


async def _given(url: str) -> Broker:
    reason = await amqp.refusal(url, GIVEN_WITHIN_S)
    if reason is not None:
        where = amqp.without_password(url)
        raise Trouble(
            f"no RabbitMQ at {where} ({reason}); start it, or correct or unset "
            "CHATMESH_AMQP_URL"
        )
    management = amqp.usual_management_url(url)
    return Broker(
        url=url,
        described=f"RabbitMQ at {amqp.without_password(url)}",
        management_url=management if await amqp.manages(management) else None,
    )


async def _shared(own_name: str) -> Broker:
    """A virtual host of our own where we may make one, else names with our prefix."""
    own = amqp.with_virtual_host(SHARED_URL, own_name)
    if await amqp.refusal(own) is not None:
        await asyncio.to_thread(_make_virtual_host, own_name)
    if await amqp.refusal(own) is None:
        return Broker(
            url=own, described=f"this machine's RabbitMQ, virtual host {own_name}"
        )
    return Broker(
        url=SHARED_URL,
        described=f"this machine's RabbitMQ, names that begin with {own_name}",
        prefix=own_name,
    )


def _make_virtual_host(name: str) -> None:
    """Through the management API, or as root with RabbitMQ's own command."""
    management = amqp.Management(SHARED_MANAGEMENT)
    try:
        if management.answers():
            management.make_virtual_host(name)
            return
    finally:
        management.close()
    command = shutil.which("rabbitmqctl")
    if os.geteuid() != 0 or command is None:
        return
    for words in (
        [command, "-q", "add_vhost", name],
        [command, "-q", "set_permissions", "-p", name, "guest", ".*", ".*", ".*"],
    ):
        # A failure shows when we knock at the virtual host.
        _answer_of(words)


def docker_answers() -> bool:
    """Whether there is an engine behind the command."""
    command = shutil.which("docker")
    return command is not None and bool(
        _answer_of([command, "version", "--format", "{{.Server.Version}}"])
    )


def _answer_of(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class DockerRabbit:
    """RabbitMQ in a container that is removed when it stops."""

    name = "rabbitmq"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = ports.free_port()
        self._management_port = ports.free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{ports.LOOPBACK}:{self._port}/"

    @property
    def management_url(self) -> str:
        return f"http://guest:guest@{ports.LOOPBACK}:{self._management_port}"

    @property
    def process(self) -> Process:
        if self._process is None:
            raise Trouble("the RabbitMQ container is not running")
        return self._process

    async def start(self) -> None:
        """Run the container in the foreground of a child: its end is our news."""
        words = ["docker", "run", "--rm", "--init", "--name"]
        words += [f"chatmesh-rabbitmq-{secrets.token_hex(4)}"]
        words += ["-p", f"{ports.LOOPBACK}:{self._port}:5672"]
        words += ["-p", f"{ports.LOOPBACK}:{self._management_port}:15672", IMAGE]
        command = Command(
            name=self.name,
            words=tuple(words),
            environ=dict(os.environ),
            grace_s=5.0,
        )
        self._process = Process(command, log=self._folder / "container.log")
        try:
            async with asyncio.timeout(_PULL_AND_START_WITHIN_S):
                while await amqp.refusal(self.url) is not None:
                    await asyncio.sleep(rabbit.PROBE_EVERY_S)
                    if not self._process.running:
                        raise Trouble(
                            f"the container of {IMAGE} did not start:\n"
                            + self._process.last_lines()
                        )
        except TimeoutError:
            await self.stop()
            raise Trouble(
                f"the container of {IMAGE} did not answer within "
                f"{_PULL_AND_START_WITHIN_S:.0f} s"
            ) from None

    async def stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
            self._process = None
