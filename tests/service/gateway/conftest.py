"""One gateway beside a real RabbitMQ and a scripted history."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from blockbuster import blockbuster_ctx

from chatmesh.gateway.bootstrap import serve
from chatmesh.gateway.settings import GatewaySettings
from chatmesh.local import ports
from chatmesh.runtime.service import Stopping
from chatmesh.wire.development import DEVELOPMENT_SECRET
from chatmesh.wire.topics import Topics
from support.eventually import eventually
from support.scripted_history import ScriptedHistory

READY_WITHIN_S = 15.0
STOPPED_WITHIN_S = 15.0


@dataclass
class Running:
    """A gateway in this test's own loop."""

    settings: GatewaySettings
    stopping: Stopping
    served: "asyncio.Task[int]"
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.settings.port}/connection/websocket"

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        url = f"http://127.0.0.1:{self.settings.http_port}/readyz"
        answer = await self.http.get(url)
        return answer.status_code == 200, answer.json()["checks"]

    async def until_ready(self) -> None:
        async def is_ready() -> bool:
            try:
                return (await self.ready())[0]
            except httpx.TransportError:
                return False

        await eventually(is_ready, within_s=READY_WITHIN_S)

    async def until_listening(self) -> None:
        async def is_listening() -> bool:
            try:
                return bool(await self.ready())
            except httpx.TransportError:
                return False

        await eventually(is_listening, within_s=READY_WITHIN_S)

    async def metric(self, line: str) -> float:
        url = f"http://127.0.0.1:{self.settings.http_port}/metrics"
        text = (await self.http.get(url)).text
        found = [one for one in text.splitlines() if one.startswith(line + " ")]
        return float(found[0].rsplit(" ", 1)[1]) if found else 0.0


StartGateway = Callable[..., Awaitable[Running]]


@pytest.fixture(autouse=True)
def no_blocking_calls_in_the_loop() -> Iterator[None]:
    """As everywhere, but for what a gateway reads while it starts."""
    watched = ["chatmesh.wire", "chatmesh.bus", "chatmesh.runtime", "chatmesh.gateway"]
    with blockbuster_ctx(watched) as watch:
        for function in watch.functions.values():
            # The page, keys and its own version: before the first client comes.
            function.can_block_in("chatmesh/gateway/bootstrap.py", {"serve"})
            # /proc, which is memory: whoever asks for metrics is told of the process too.
            function.can_block_in("prometheus_client/process_collector.py", {"collect"})
        yield


@pytest.fixture
async def history(broker_url: str, prefix: str) -> AsyncIterator[ScriptedHistory]:
    async with ScriptedHistory(broker_url, Topics(prefix)) as scripted:
        yield scripted


@asynccontextmanager
async def starting(amqp_url: str, prefix: str) -> AsyncGenerator[StartGateway]:
    """Starts gateways; all of them are stopped at the end, and have ended well."""
    running: list[Running] = []
    http = httpx.AsyncClient()

    async def start(*, ready: bool = True, **settings: object) -> Running:
        values: dict[str, object] = {
            "amqp_url": amqp_url,
            "prefix": prefix,
            "name": "g",
            "port": ports.free_port(),
            "http_port": ports.free_port(),
            "tokens": {"hmac_secrets": [DEVELOPMENT_SECRET]},
            "drain_window_s": 0,
            "insecure": True,
            **settings,
        }
        loaded = GatewaySettings.model_validate(values)
        stopping = Stopping()
        served = asyncio.create_task(serve(loaded, stopping))
        one = Running(loaded, stopping, served, http)
        running.append(one)
        await (one.until_ready() if ready else one.until_listening())
        return one

    try:
        yield start
    finally:
        for one in running:
            one.stopping.request("the test is over")
        for one in running:
            async with asyncio.timeout(STOPPED_WITHIN_S):
                assert await one.served == 0
        await http.aclose()


@pytest.fixture
async def start_gateway(broker_url: str, prefix: str) -> AsyncGenerator[StartGateway]:
    """Start a gateway with settings of your own; it is stopped after the test."""
    async with starting(broker_url, prefix) as start:
        yield start


@pytest.fixture
async def start_alone() -> AsyncIterator[StartGateway]:
    """The same without a broker, for what happens before one is needed."""
    async with starting("amqp://127.0.0.1:1/", "alone") as start:

        async def start_unready(**settings: object) -> Running:
            return await start(ready=False, **settings)

        yield start_unready


@pytest.fixture
async def alone(start_alone: StartGateway) -> Running:
    return await start_alone()


@pytest.fixture
async def gateway(start_gateway: StartGateway, history: ScriptedHistory) -> Running:
    """One that asks for no token, with history beside it."""
    assert not history.silent
    return await start_gateway()
