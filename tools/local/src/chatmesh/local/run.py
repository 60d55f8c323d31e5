"""`make run`: find or start what is needed, start the mesh, say where it is, stop it."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from chatmesh.local import broker as brokers
from chatmesh.local import broker_choice, mesh, places, ports
from chatmesh.local.announcement import Facts, announcement
from chatmesh.local.console import Console
from chatmesh.local.development import development_settings
from chatmesh.local.mesh import Mesh, Plan
from chatmesh.local.postgres import Postgres
from chatmesh.local.supervisor import Supervisor
from chatmesh.local.trouble import Trouble
from chatmesh.local.web_page import Page, WebPage
from chatmesh.runtime.failures import sole

STOP_WITHIN_S: Final = 10.0
EXIT_IMPATIENT: Final = 130
SETTINGS_FILE: Final = "mesh.json"


@dataclass(frozen=True)
class Wishes:
    """What `make run` can be told by variables."""

    amqp_url: str | None
    database_url: str | None
    gateways: int
    histories: int
    agents: int
    base_port: int
    private_broker: bool
    """Start a RabbitMQ of our own even where one is running already."""
    watched: bool = False
    """Give our RabbitMQ its management API and its metrics; it starts and stops later."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Wishes":
        """Read and check them.

        Raises:
            Trouble: one of them is no number, or too large.
        """
        gateways = _number(environ, "CHATMESH_LOCAL_GATEWAYS", 2)
        if not 1 <= gateways <= mesh.GATEWAYS_MAX_ON_FIXED_PORTS:
            raise Trouble(
                f"CHATMESH_LOCAL_GATEWAYS must be 1 to "
                f"{mesh.GATEWAYS_MAX_ON_FIXED_PORTS}, not {gateways}"
            )
        return cls(
            amqp_url=environ.get("CHATMESH_AMQP_URL") or None,
            database_url=environ.get("CHATMESH_DATABASE_URL") or None,
            gateways=gateways,
            histories=max(1, _number(environ, "CHATMESH_LOCAL_HISTORIES", 1)),
            agents=_number(environ, "CHATMESH_LOCAL_AGENTS", 1),
            base_port=_number(environ, "CHATMESH_LOCAL_PORT", 8001),
            private_broker=environ.get("CHATMESH_LOCAL_BROKER") == "private",
            watched=environ.get("CHATMESH_LOCAL_WATCHED") == "1",
        )


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise Trouble(f"{name} must be a number, not {text!r}")
    return int(text)


class Run:
    """One `make run`, from the first look around to the last process gone."""

    def __init__(
        self, checkout: Path, environ: Mapping[str, str], console: Console
    ) -> None:
        self._environ = environ
        self._console = console
        self._wishes = Wishes.from_environ(environ)
        self._places = places.places(checkout)
        self._logs = self._places.state / "logs"
        self._supervisor = Supervisor(console.say, restarts=True)
        self._stop = asyncio.Event()
        self._signals = 0

    async def __call__(self) -> int:
        """Run until somebody asks to stop. Returns the exit code.

        Raises:
            Trouble: it did not come up; nothing is left running.
        """
        lock = self._take_checkout()
        self._listen_to_signals()
        try:
            starting = asyncio.ensure_future(self._start())
            asked = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
            elif starting.exception() is None:
                await asked
            asked.cancel()
            failure = None if starting.cancelled() else starting.exception()
            if failure is not None:
                raise failure
        finally:
            await self._end()
            os.close(lock)
        return 0

    def _take_checkout(self) -> int:
        """The folder is its own lock: nothing to remove, nothing that can be stale."""
        folder = os.open(self._places.state, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            raise Trouble(
                "this checkout is running already; stop the other `make run` first"
            ) from None
        return folder

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._console.say("stopping (again to stop at once)")
            self._stop.set()
        elif self._signals > 1:
            self._supervisor.kill()

    async def _end(self) -> None:
        started_s = time.monotonic()
        await self._supervisor.stop()
        if self._signals:
            seconds = time.monotonic() - started_s
            self._console.say(f"stopped, nothing is left running ({seconds:.1f} s)")

    async def _start(self) -> None:
        started_s = time.monotonic()
        self._refuse_busy_ports(mesh.fixed_ports(self._plan()))
        shutil.rmtree(self._logs, ignore_errors=True)
        self._logs.mkdir(parents=True)
        page = WebPage(self._places.checkout, self._logs / "web.log")
        try:
            async with asyncio.TaskGroup() as group:
                building = group.create_task(page.ensure(self._console.say))
                broker_task = group.create_task(self._broker())
                database_task = group.create_task(self._database())
        except BaseExceptionGroup as failures:
            raise sole(failures, Trouble) from None
        broker = broker_task.result()
        database_url, database = database_task.result()
        plan = replace(
            self._plan(),
            amqp_url=broker.url,
            database_url=database_url,
            prefix=self._environ.get("CHATMESH_PREFIX") or broker.prefix,
            settings=development_settings(self._environ, page=page.dist),
        )
        self._write_settings(plan)
        running = Mesh(plan, supervisor=self._supervisor, sink=self._console.sink)
        await running.start()
        state = building.result()
        facts = Facts(
            seconds=time.monotonic() - started_s,
            pages=[gateway.page_url for gateway in running.gateways],
            sockets=[gateway.ws_url for gateway in running.gateways],
            page_trouble=None if state is Page.THERE else state.value,
            history_api=running.history.http_url,
            chat_command=".venv/bin/chatmesh",
            broker=broker.described,
            database=database,
            logs=f"{places.STATE}/logs",
            settings=f"{places.STATE}/{SETTINGS_FILE}",
            agents=plan.agents > 0,
        )
        self._console.block(announcement(facts))

    def _write_settings(self, plan: Plan) -> None:
        """Where broker and database are, for whoever looks at this mesh from outside."""
        known = {
            "amqp_url": plan.amqp_url,
            "database_url": plan.database_url,
            "prefix": plan.prefix,
        }
        path = self._places.state / SETTINGS_FILE
        path.touch(mode=0o600)
        path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")

    async def _broker(self) -> brokers.Broker:
        broker = await brokers.open_broker(
            await self._way(),
            given=self._wishes.amqp_url,
            folder=self._places.state / "rabbitmq",
            own_name=self._places.own_name,
            management=self._wishes.watched,
            say=self._console.say,
        )
        if broker.server is not None:
            self._console.say(f"starting {broker.described}")
            await self._supervisor.start([broker.server])
        return broker

    async def _database(self) -> tuple[str, str]:
        """Address and description of a database with up-to-date tables."""
        url, described = self._wishes.database_url, "from CHATMESH_DATABASE_URL"
        if url is None:
            shared = self._places.shared
            postgres = Postgres(shared / "postgres", "dev", binaries_near=shared)
            await self._supervisor.start([postgres])
            url, described = postgres.url, "embedded PostgreSQL"
        await mesh.migrate(url, self._inherited())
        return url, described

    async def _way(self) -> broker_choice.Way:
        found = await brokers.look_around(
            self._wishes.amqp_url, private=self._wishes.private_broker
        )
        return broker_choice.choose(found)

    def _inherited(self) -> dict[str, str]:
        """Everything of the caller's, but nothing that was meant for us alone."""
        return {
            name: value
            for name, value in self._environ.items()
            if not name.startswith("CHATMESH_LOCAL_")
        }

    def _plan(self) -> Plan:
        """What is known before anything has been looked for."""
        wishes = self._wishes
        return Plan(
            amqp_url="",
            database_url="",
            folder=self._logs,
            gateways=wishes.gateways,
            histories=wishes.histories,
            others=mesh.others_there(),
            agents=wishes.agents if mesh.agent_there() else 0,
            # Without them agents can only talk.
            tool_workers=1 if wishes.agents and mesh.agent_there() else 0,
            # Without it nobody ends what they leave behind when all of them are gone.
            reapers=1 if wishes.agents and mesh.agent_there() else 0,
            base_port=wishes.base_port,
            environ=self._inherited(),
        )

    def _refuse_busy_ports(self, wanted: list[int]) -> None:
        busy = ports.busy(wanted)
        if not busy:
            return
        other = self._wishes.base_port + 100
        numbers = ", ".join(str(port) for port in busy)
        are = "port {} is" if len(busy) == 1 else "ports {} are"
        raise Trouble(
            f"{are.format(numbers)} in use; stop who uses it, or take others: "
            f"CHATMESH_LOCAL_PORT={other} make run"
        )
