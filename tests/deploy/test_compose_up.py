"""The compose file as a whole, on an engine: podman, and podman-compose.

Run by `make containers`: it wants fixed ports, and more images than are ours. The tests
belong together and stand in the order in which somebody would try it.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import pytest
import yaml

from chatmesh.local import ports
from chatmesh.wire.close_codes import SHUTDOWN
from support import podman
from support.compose import COMPOSE, Project
from support.eventually import eventually
from support.json_client import JsonClient, Said, json_client
from support.podman import Engine

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        podman.STAGE != "all",
        reason="the compose file is started by `make containers`",
    ),
]

PORTS: Final = (8001, 8011, 8012, 9011, 9012, 9090, 15672)
PAGE: Final = "http://127.0.0.1:8001"
SOCKET: Final = "ws://127.0.0.1:8001/connection/websocket"
PROMETHEUS: Final = "http://127.0.0.1:9090"
GATEWAYS: Final = {"gateway-1", "gateway-2"}
HEALTHY_WITHIN_S: Final = 180
ANSWER_WITHIN_S: Final = 60
DRAINED_WITHIN_S: Final = 60
WITHIN_S: Final = 15


@pytest.fixture(scope="module")
def project(engine: Engine) -> Iterator[Project]:
    """Everything whose image can be had, started by one `up`; its logs are kept."""
    if taken := ports.busy(PORTS):
        pytest.skip(f"the compose file's ports are taken: {taken}")
    made = Project(engine, "compose.yaml")
    services = made.get_images()
    try:
        made.run("up", "-d", "--no-build", *services)
        yield made
    finally:
        made.down("-v")


@pytest.fixture
def room() -> str:
    """A room that no other test knows."""
    return f"room:{secrets.token_hex(4)}"


async def token(user: str) -> str:
    """As the page logs somebody in."""
    async with httpx.AsyncClient(timeout=WITHIN_S) as http:
        answer = await http.post(f"{PAGE}/dev/token", params={"user": user})
    return answer.raise_for_status().json()["token"]


@asynccontextmanager
async def connected(user: str) -> AsyncGenerator[tuple[str, JsonClient]]:
    """A client through the balancer, and the gateway that it came to."""
    async with json_client(SOCKET) as client:
        said = await client.connect(await token(user))
        yield said["connect"]["data"]["gateway"], client


@asynccontextmanager
async def one_on_each() -> AsyncGenerator[tuple[JsonClient, JsonClient]]:
    """Clients through the balancer, of the first and of the second gateway."""
    async with AsyncExitStack() as stack:
        found = dict(
            [
                await stack.enter_async_context(connected(user))
                for user in ("ada", "bob")
            ]
        )
        assert set(found) == GATEWAYS, "the balancer spreads by connections"
        yield found["gateway-1"], found["gateway-2"]


async def send(client: JsonClient, room: str, text: str) -> int:
    """Say something in a room; its offset."""
    data = {"channel": room, "id": secrets.token_hex(8), "text": text}
    said = await client.ask(rpc={"method": "message.send", "data": data})
    return said["rpc"]["data"]["offset"]


async def test_everything_becomes_healthy(project: Project) -> None:
    """All at once, in whatever order they are ready; nobody gives up and has to be started again."""
    for service in project.containers():
        await eventually(
            lambda service=service: project.looks_healthy(service),
            within_s=HEALTHY_WITHIN_S,
            reason=f"{service} is healthy",
        )

    assert not any(project.restarts().values())


async def test_the_page_comes_through_the_balancer() -> None:
    """And what is for operators does not."""
    async with httpx.AsyncClient(timeout=WITHIN_S, base_url=PAGE) as http:
        page = await http.get("/")
        config = (await http.get("/dev/config")).json()
        metrics = await http.get("/metrics")

    assert page.is_success
    assert "<script" in page.text
    assert config["gateway"] in GATEWAYS
    assert metrics.status_code == httpx.codes.NOT_FOUND


async def test_a_message_crosses(room: str) -> None:
    """From a client on one gateway to a client on the other, both ways."""
    async with one_on_each() as (ada, bob):
        for client in (ada, bob):
            assert "subscribe" in await client.subscribe(room)
        assert await send(ada, room, "from the first") == 1
        assert await send(bob, room, "from the second") == 2

        for client in (ada, bob):
            assert await client.offsets(room, top=2) == [1, 2]


async def test_streams_go_through_by_their_path(room: str) -> None:
    """A client without WebSockets comes in by the same port."""
    connect = json.dumps({"id": 1, "connect": {"token": await token("ada")}})
    subscribe = json.dumps({"id": 2, "subscribe": {"channel": room}})
    async with (
        httpx.AsyncClient(timeout=WITHIN_S, base_url=PAGE) as http,
        http.stream("POST", "/connection/http_stream", content=connect) as stream,
    ):
        lines = stream.aiter_lines()
        told = json.loads(await anext(lines))["connect"]
        answer = await http.post(
            "/emulation",
            json={"session": told["session"], "node": told["node"], "data": subscribe},
        )
        said: Said = {}
        while not said:  # Pings are empty.
            said = json.loads(await anext(lines))

    assert answer.status_code == httpx.codes.NO_CONTENT
    assert "subscribe" in said


async def test_an_agent_answers_and_calls_a_tool(room: str) -> None:
    """The scripted helper, the worker of tools, and all that is between them."""

    def answers(said: Said) -> bool:
        data = said.get("push", {}).get("pub", {}).get("data", {})
        return data.get("type") == "message" and data["id"].startswith("run:")

    async with connected("ada") as (_, ada):
        await ada.subscribe(room)
        await send(ada, room, "@helper calculate 6*7")
        answer = await ada.until(answers, ANSWER_WITHIN_S)

    assert "42" in answer["push"]["pub"]["data"]["text"]


async def test_the_doctor_is_content(project: Project) -> None:
    """As operations.md says: from history's container, over everything there is."""
    asked = [("gateway-1", 9001), ("gateway-2", 9001), ("history", 9010)]
    asked += [("presence", 9020), ("agent", 9030), ("tools", 9060), ("mcp", 9060)]
    words = [f"--process=http://{name}:{port}" for name, port in asked]
    words += [f"--gateway=ws://{g}:8001/connection/websocket" for g in sorted(GATEWAYS)]
    words += ["--token", await token("doctor")]

    said = await asyncio.to_thread(
        project.run, "exec", "-T", "history", "chatmesh", "doctor", *words
    )

    assert said.strip().endswith("healthy"), said


async def test_prometheus_sees_every_process() -> None:
    """Every job of its file has targets, and all of them are up."""
    file = yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())
    jobs = {job["job_name"] for job in file["scrape_configs"]}

    async def health() -> bool:
        async with httpx.AsyncClient(timeout=WITHIN_S) as http:
            answer = await http.get(f"{PROMETHEUS}/api/v1/targets?state=active")
        targets: list[dict[str, Any]] = answer.json()["data"]["activeTargets"]
        seen = {t["labels"]["job"]: t["health"] for t in targets}
        assert seen == dict.fromkeys(jobs, "up"), [t["lastError"] for t in targets]
        return len(targets) == len(jobs) + 1  # Of gateways there are two.

    await eventually(health, within_s=HEALTHY_WITHIN_S)


async def test_a_stopped_gateway_hands_its_clients_over(
    project: Project, room: str
) -> None:
    """Told to leave, a client comes back on the other gateway, and has missed nothing."""
    async with one_on_each() as (leaving, staying):
        await staying.subscribe(room)
        told = (await leaving.subscribe(room, recoverable=True))["subscribe"]
        stopping = asyncio.create_task(
            asyncio.to_thread(project.run, "stop", "gateway-1"), name="stop"
        )
        returned = asyncio.Event()

        async def talk() -> int:
            while not returned.is_set():
                await send(staying, room, "still there?")
                await asyncio.sleep(0.2)
            return await send(staying, room, "welcome back")

        async with asyncio.TaskGroup() as group:
            talking = group.create_task(talk())
            code, _ = await leaving.goodbye(DRAINED_WITHIN_S)
            heard = _offsets(leaving.heard, room)
            async with connected("ada") as (gateway, back):
                since = {"offset": heard[-1], "epoch": told["epoch"], "recover": True}
                missed = (await back.subscribe(room, **since))["subscribe"]
                returned.set()
                top = await talking
                await back.offsets(room, top)
    await stopping

    assert code == SHUTDOWN.code
    assert gateway == "gateway-2"
    assert missed["recovered"]
    recovered = [pub["offset"] for pub in missed.get("publications", ())]
    heard += [*recovered, *_offsets(back.heard, room)]
    assert heard == list(range(1, top + 1))
    assert project.containers()["gateway-1"]["ExitCode"] == 0


async def test_a_gateway_that_is_back_is_given_clients(project: Project) -> None:
    """The balancer finds it, wherever its new container is."""
    await asyncio.to_thread(project.run, "up", "-d", "--no-build", "gateway-1")

    async def given() -> bool:
        async with connected("ada") as (first, _), connected("bob") as (second, _):
            return {first, second} == GATEWAYS

    await eventually(given, within_s=HEALTHY_WITHIN_S)


async def test_down_leaves_volumes_and_with_v_nothing(project: Project) -> None:
    """What people have said outlives the containers, until it is told not to."""
    await asyncio.to_thread(project.down)
    assert not project.containers()
    assert set(project.left()) >= {"chatmesh_postgresql", "chatmesh_rabbitmq"}
    assert "chatmesh_mesh" not in project.left()

    await asyncio.to_thread(project.down, "-v")

    assert not project.left()
    assert not ports.busy(PORTS)


def _offsets(heard: list[Said], room: str) -> list[int]:
    pushes = [said["push"] for said in heard if "push" in said]
    return [
        push["pub"]["offset"]
        for push in pushes
        if push.get("channel") == room and "pub" in push
    ]
