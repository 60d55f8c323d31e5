"""The HTTP port: it starts, answers, stops, and says in one sentence why it cannot."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncGenerator

import fastapi
import httpx
import prometheus_client
import pytest

from chatmesh.runtime.health import Health
from chatmesh.runtime.http import HttpServer, PortInUse, operations
from chatmesh.runtime.startup import CannotStart

HOST = "127.0.0.1"


@pytest.fixture
def health() -> Health:
    return Health("broker")


@pytest.fixture
async def client(health: Health) -> AsyncGenerator[httpx.AsyncClient]:
    registry = prometheus_client.CollectorRegistry()
    served = prometheus_client.Counter("served", "Things served.", registry=registry)
    served.inc(3)
    app = fastapi.FastAPI()
    app.include_router(operations(health, registry))
    server = HttpServer(app, HOST, 0)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{server.port}") as client:
        yield client
    await server.stop()


async def test_a_live_process_says_so(client: httpx.AsyncClient) -> None:
    """Liveness does not depend on readiness."""
    assert (await client.get("/livez")).status_code == 200


async def test_readiness_follows_the_checks(
    client: httpx.AsyncClient, health: Health
) -> None:
    """503 with reasons while something is wrong, 200 when all is well."""
    before = await client.get("/readyz")
    health.set("broker", ok=True)
    after = await client.get("/readyz")

    assert (before.status_code, after.status_code) == (503, 200)
    assert before.json()["checks"]["broker"]["reason"] == "not checked yet"
    assert after.json()["ready"] is True


async def test_metrics_come_in_the_format_asked_for(client: httpx.AsyncClient) -> None:
    """OpenMetrics for those who ask, the classic text for everybody else."""
    openmetrics = "application/openmetrics-text; version=1.0.0"

    classic = await client.get("/metrics")
    modern = await client.get("/metrics", headers={"accept": openmetrics})

    assert "served_total 3.0" in classic.text
    assert classic.headers["content-type"].startswith("text/plain")
    assert modern.text.endswith("# EOF\n")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")


async def test_the_operations_routes_are_documented(client: httpx.AsyncClient) -> None:
    """Somebody who reads /openapi.json finds both answers of /readyz."""
    document = (await client.get("/openapi.json")).json()

    assert set(document["paths"]["/readyz"]["get"]["responses"]) == {"200", "503"}


async def test_a_busy_port_is_one_sentence() -> None:
    """Whoever starts two of a kind hears which port is the matter."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port}"):
            await HttpServer(fastapi.FastAPI(), HOST, port).start()


async def test_a_host_that_is_not_ours_is_one_sentence() -> None:
    """An address of another machine cannot be listened on."""
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1"):
        await HttpServer(fastapi.FastAPI(), "192.0.2.1", 8000).start()


async def test_an_application_that_cannot_start_is_a_failure_to_start() -> None:
    """The process hears of it instead of dying in the middle of its loop."""

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncGenerator[None]:
        await asyncio.sleep(0)
        raise RuntimeError("no database")
        yield

    with pytest.raises(CannotStart, match="did not start"):
        await HttpServer(fastapi.FastAPI(lifespan=lifespan), HOST, 0).start()


async def test_the_port_is_free_after_stop_and_signals_stay_ours() -> None:
    """Stopping leaves nothing behind, and starting takes nobody's signal handlers."""
    before = signal.getsignal(signal.SIGTERM)
    first = HttpServer(fastapi.FastAPI(), HOST, 0)
    await first.start()
    assert signal.getsignal(signal.SIGTERM) is before
    await first.stop()

    second = HttpServer(fastapi.FastAPI(), HOST, first.port)
    await second.start()
    await second.stop()


async def test_a_request_that_is_being_answered_is_finished() -> None:
    """Stopping waits for whoever is already being served."""
    entered = asyncio.Event()
    finish = asyncio.Event()
    app = fastapi.FastAPI()

    @app.get("/slow")
    async def _() -> str:
        entered.set()
        await finish.wait()
        return "answered"

    server = HttpServer(app, HOST, 0)
    await server.start()
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
        request = group.create_task(client.get(f"http://{HOST}:{server.port}/slow"))
        await entered.wait()
        stopping = group.create_task(server.stop())
        finish.set()

    assert request.result().json() == "answered"
    assert stopping.done()


async def test_stopping_what_never_started_is_fine() -> None:
    """A clean-up may run whatever had been reached."""
    await HttpServer(fastapi.FastAPI(), HOST, 0).stop()
