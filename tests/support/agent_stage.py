"""The agent service in the test's own loop, beside a real broker, database and history."""

import asyncio
import gc
import itertools
import json
import threading
import warnings
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiormq
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands as spec

from chatmesh.agent import settings as agent_settings
from chatmesh.agent.bootstrap import AgentService
from chatmesh.bus import topology
from chatmesh.history import settings as history_settings
from chatmesh.history.bootstrap import History
from chatmesh.runtime.service import Stopping
from chatmesh.wire import messages, topics
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from chatmesh.wire.messages import (
    CommandBatch,
    Entry,
    LiveEvent,
    LogEvent,
    Outcomes,
    PublishCommand,
)
from chatmesh.wire.runs import Answer, RunEvent, decode_answer, decode_event
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.fake_openai import FakeOpenAI

WITHIN_S = 40.0
FAST = {
    "run_lease_s": 3.0,
    "run_renew_s": 0.5,
    "sweep_s": 0.3,
    "agents_file_check_s": 0.1,
}


_MAKING = threading.Lock()


class Replica:
    """One agent service of this process."""

    def __init__(self, service: AgentService, stopping: Stopping) -> None:
        self.service = service
        self.stopping = stopping
        self.serving = asyncio.create_task(self.service.serve())

    @classmethod
    async def started(cls, **settings: object) -> Self:
        own = agent_settings.Settings.model_validate({"port": 0, **FAST, **settings})
        stopping = Stopping()

        def made() -> AgentService:
            # FastAPI silences warnings for its whole process: one at a time.
            with _MAKING:
                return AgentService(own, stopping)

        return cls(await asyncio.to_thread(made), stopping)

    async def ready(self) -> Self:
        def ready() -> bool:
            if self.serving.done():
                self.serving.result()
            return self.service.health.ready

        await eventually(ready, within_s=WITHIN_S, reason="the agent service is ready")
        return self

    async def leave(self) -> None:
        """As at SIGTERM."""
        self.stopping.request("end of test")
        await asyncio.wait({self.serving})
        self.serving.result()

    async def die(self) -> None:
        """As at SIGKILL, as far as one process can: nothing more is told or stored."""
        for session in self.service._sessions:
            session.drop()
            session._dsn = "postgresql://nobody@127.0.0.1:1/gone"
        self.service._room.use(None)
        self.serving.cancel()
        await asyncio.wait({self.serving})

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric."""
        value = self.service.metrics.registry.get_sample_value(
            f"chatmesh_agent_{name}", labels
        )
        return value or 0.0


class Stage:
    """A room's gateway: says things, hears what becomes of them, and calls services."""

    def __init__(self, channel: AbstractChannel, prefix: str, folder: Path) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._answers: dict[int, ServiceAnswer] = {}
        self._outcomes: dict[int, int] = {}
        self._stack = AsyncExitStack()
        self.topics = Topics(prefix)
        self.queue = ""
        self.model = FakeOpenAI()
        self.file = folder / "agents.yaml"
        self.entries: list[tuple[str, Entry]] = []
        self.events: list[RunEvent] = []
        self.shared: dict[str, Any] = {}

    # -- Who is there ------------------------------------------------------------------

    def declare(self, **agents: Mapping[str, object]) -> None:
        """Write the agents file; every agent's model is the fake one unless it says."""
        hosted = {"kind": "openai", "name": "fake-1", "base_url": self.model.url}
        quick = {"kind": "scripted", "words_per_s": 2000}
        declared = {
            name: {"model": "fake", "limits": {"idle_s": 5}, **agent}
            for name, agent in agents.items()
        }
        models = {"fake": hosted, "scripted": quick}
        # JSON is YAML too; renamed, so that nobody reads half of it.
        half = self.file.with_suffix(".half")
        half.write_text(json.dumps({"agents": declared, "models": models}))
        half.replace(self.file)

    async def replica(self, **settings: object) -> Replica:
        made = await Replica.started(
            agents_file=str(self.file), **self.shared, **settings
        )

        async def end() -> None:
            if not made.serving.done():
                await made.leave()

        self._stack.push_async_callback(end)
        return await made.ready()

    # -- What is said ------------------------------------------------------------------

    async def say(
        self, text: str, *, room: str = "room:a", user: str = "ada", key: str = ""
    ) -> str:
        """A message of a person, committed; its id."""
        number = next(self._numbers)
        key = key or f"m{number}"
        info = json.dumps({"user": user, "client": f"c-{user}"}).encode()
        body = json.dumps({"type": "message", "id": key, "text": text}).encode()
        command = PublishCommand(room, key, body, info, user, number)
        partition = topics.partition_of(room)
        await self._publish(
            self.topics.commands,
            topics.partition_key(partition),
            messages.encode(CommandBatch("side", self.queue, [command])),
        )
        await eventually(lambda: number in self._outcomes, within_s=WITHIN_S)
        assert self._outcomes[number] == 0
        return key

    async def deliver_again(self, entry: Entry, room: str = "room:a") -> None:
        """The event of a message once more, as after a crash of history."""
        event = LogEvent(room, "e", [entry])
        await self._publish(
            self.topics.events, topics.log_key(room), messages.encode(event)
        )

    async def call(
        self,
        method: str,
        *,
        room: str = "room:a",
        user: str = "ada",
        role: str = "member",
        **data: object,
    ) -> ServiceAnswer:
        """A call as a gateway forwards it."""
        number = next(self._numbers)
        call = ServiceCall(
            number,
            self.queue,
            method,
            room,
            user,
            f"c-{user}",
            role,
            json.dumps({"channel": room, **data}).encode(),
            2**52,
        )
        await self._publish(
            self.topics.rpc, topics.AGENT_SERVICE, messages.encode(call)
        )
        await eventually(lambda: number in self._answers, within_s=WITHIN_S)
        return self._answers[number]

    async def snapshot(self, room: str = "room:a") -> list[dict[str, Any]]:
        return json.loads((await self.call("run.snapshot", room=room)).data)["runs"]

    # -- What is heard -----------------------------------------------------------------

    def answers(self, room: str = "room:a") -> list[Answer]:
        """Durable answers of agents, each as often as it was committed."""
        seen: dict[int, Entry] = {}
        for channel, entry in self.entries:
            if channel == room:
                seen.setdefault(entry.offset, entry)
        found = [decode_answer(seen[offset].data) for offset in sorted(seen)]
        return [one for one in found if one is not None]

    async def answered(self, count: int = 1, room: str = "room:a") -> list[Answer]:
        """Wait for so many answers."""

        def enough() -> bool:
            return len(self.answers(room)) >= count

        await eventually(enough, within_s=WITHIN_S, reason=f"{count} answers")
        return self.answers(room)

    def told(self, kind: str, run: str = "") -> list[RunEvent]:
        return [e for e in self.events if e.type == kind and run in {"", e.run}]

    async def has_told(self, run: str, text: str) -> None:
        """Wait until screens show this: text goes another way than the answer."""
        await self.until(lambda: self.text_told(run) == text, f"the text of {run}")

    def text_told(self, run: str) -> str:
        """The text of a run as a screen that lost nothing shows it in the end."""
        steps: dict[int, str] = {}
        attempt = 0
        for event in self.events:
            if event.run != run:
                continue
            if event.attempt > attempt:
                attempt = event.attempt
                steps = {s: t for s, t in steps.items() if s < event.step}
            if event.type == "TEXT_MESSAGE_CONTENT" and event.attempt == attempt:
                text = steps.get(event.step, "")
                assert event.off == len(text), "nothing is missing or doubled"
                steps[event.step] = text + json.loads(bytes(event.data))["delta"]
        return "\n\n".join(steps[step] for step in sorted(steps) if steps[step])

    async def until(self, seen: Callable[[], object], reason: str = "") -> None:
        await eventually(seen, within_s=WITHIN_S, reason=reason)

    # -- Inside ------------------------------------------------------------------------

    async def _publish(self, exchange: str, key: str, body: bytes) -> None:
        await self._channel.basic_publish(
            body,
            exchange=exchange,
            routing_key=key,
            mandatory=True,
            properties=spec.Basic.Properties(delivery_mode=2),
        )

    async def on_message(self, message: DeliveredMessage) -> None:
        match messages.decode_gateway_inbound(message.body):
            case LogEvent(channel=channel, entries=entries):
                self.entries += [(channel, entry) for entry in entries]
            case LiveEvent(publications=publications):
                found = [decode_event(one.data) for one in publications]
                self.events += [one for one in found if one is not None]
            case Outcomes(outcomes=outcomes):
                self._outcomes.update((o.request, o.error_code) for o in outcomes)
            case ServiceAnswer() as answer:
                self._answers[answer.request] = answer
            case _:
                raise AssertionError("nothing else goes to this queue")


@asynccontextmanager
async def staged(
    url: str, prefix: str, database_url: str, folder: Path, rooms: Sequence[str]
) -> AsyncGenerator[Stage]:
    """History, a fake model, and a gateway's ear in some rooms; replicas come by asking."""
    shared = {"amqp_url": url, "database_url": database_url, "prefix": prefix}
    stopping = Stopping()
    own = history_settings.Settings.model_validate({"port": 0, **shared})
    # In a thread: what is read of the disk at the start would block the loop.
    history = await asyncio.to_thread(History, own, stopping)
    serving = asyncio.create_task(history.serve())
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel(on_return_raises=True)
        stage = Stage(channel, prefix, folder)
        stage.shared = shared
        await topology.declare(channel, stage.topics)
        declared = await channel.queue_declare(exclusive=True)
        stage.queue = declared.queue or ""
        for room in rooms:
            binding = topics.channel_binding(room)
            await channel.queue_bind(stage.queue, stage.topics.events, binding)
        await channel.basic_consume(stage.queue, stage.on_message, no_ack=True)
        async with stage.model, stage._stack:
            await eventually(lambda: history.health.ready, within_s=WITHIN_S)
            yield stage
    finally:
        await connection.close()
        stopping.request("end of test")
        await asyncio.wait({serving})
        serving.result()
        _forget_broken_links()


def _forget_broken_links() -> None:
    """Now, and not in the middle of a later test.

    A link that was cut while it closed leaves a coroutine of the client library behind,
    which complains when it is collected.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()
