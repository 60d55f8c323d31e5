"""What a gateway does when its broker fails, and how it proves that it delivers."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import httpx
import pytest
from tests.service.gateway.conftest import Running, StartGateway

from chaos.proxy import Wire
from chatmesh.cli.dead import letter_of
from chatmesh.wire.topics import Topics, channel_binding
from support.eventually import eventually
from support.json_client import json_client
from support.scripted_history import ScriptedHistory

pytestmark = pytest.mark.timeout(120)

ROOM = "room:a"


async def test_a_message_nobody_can_read_is_found_in_the_dead_letters(
    gateway: Running, history: ScriptedHistory, broker_url: str, prefix: str
) -> None:
    """With the cause, the time and the queue it came from; the room goes on."""
    names = Topics(prefix)
    async with json_client(gateway.url) as ada:
        await ada.connect()
        await ada.subscribe(ROOM)

        await history.publish(
            channel_binding(ROOM).replace("*", "log"), b"\xc1 nonsense"
        )
        await history.say(ROOM)

        assert await ada.offsets(ROOM, 1) == [1]
    async with await aio_pika.connect(broker_url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(names.dead_letters)
        dead = await eventually(lambda: queue.get(fail=False, no_ack=True))
        assert dead is not None
        assert dead.body == b"\xc1 nonsense"
        letter = letter_of(dict(dead.headers), dead.body)
        assert letter.cause
        assert letter.died != "unknown"
        assert letter.queue.startswith(names.gateway_queue(""))


async def test_a_gateway_without_history_is_up_and_tells_its_clients(
    start_gateway: StartGateway, history: ScriptedHistory
) -> None:
    """Temporary errors within the SDKs' patience, and service when it is back."""
    gateway = await start_gateway()
    history.silent = True
    async with json_client(gateway.url) as ada:
        await ada.connect()
        refused = await ada.subscribe(ROOM)
        assert (refused["error"]["code"], refused["error"]["temporary"]) == (100, True)

        history.silent = False
        assert "subscribe" in await ada.subscribe(ROOM)


@pytest.fixture
async def wire(broker_url: str) -> AsyncIterator[Wire]:
    """Between the gateway and its broker."""
    parts = urlsplit(broker_url)
    made = Wire("broker", [(parts.hostname or "", parts.port or 5672)])
    await made.start()
    yield made
    await made.stop()


def through(wire: Wire, broker_url: str) -> str:
    parts = urlsplit(broker_url)
    login = f"{parts.username}:{parts.password}@" if parts.username else ""
    return urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{wire.port}"))


async def test_a_cut_link_is_told_by_readiness_and_is_a_pause_for_clients(
    start_gateway: StartGateway,
    history: ScriptedHistory,
    broker_url: str,
    wire: Wire,
) -> None:
    """Red with a reason, green when it is back, and nothing is lost or doubled."""
    gateway = await start_gateway(amqp_url=through(wire, broker_url))
    async with json_client(gateway.url) as ada:
        await ada.connect()
        await ada.subscribe(ROOM)
        await history.say(ROOM, 3)
        assert await ada.offsets(ROOM, 3) == [1, 2, 3]

        wire.cut()
        ready, checks = True, dict[str, dict[str, object]]()

        async def is_red() -> bool:
            nonlocal ready, checks
            ready, checks = await gateway.ready()
            return not ready

        await eventually(is_red, within_s=5)
        assert checks["broker"]["reason"]
        refused = await ada.ask(publish={"channel": ROOM, "data": 1})
        assert (refused["error"]["code"], refused["error"]["temporary"]) == (100, True)
        await history.say(ROOM, 3)

        wire.mend()
        await gateway.until_ready()
        await history.say(ROOM)
        assert await ada.offsets(ROOM, 7) == [1, 2, 3, 4, 5, 6, 7]
        assert "publish" in await ada.ask(publish={"channel": ROOM, "data": 1})


async def test_a_broker_that_says_nothing_turns_readiness_red(
    start_gateway: StartGateway,
    history: ScriptedHistory,
    broker_url: str,
    wire: Wire,
) -> None:
    """The link looks alive; the canary that stays away does not lie."""
    gateway = await start_gateway(amqp_url=through(wire, broker_url))
    async with json_client(gateway.url) as ada:
        await ada.connect()
        await ada.subscribe(ROOM)

        wire.stall()

        async def is_red() -> bool:
            return not (await gateway.ready())[0]

        await eventually(is_red, within_s=10)
        await history.say(ROOM, 2)
        wire.mend()
        await gateway.until_ready()
        assert await ada.offsets(ROOM, 2) == [1, 2]


async def test_without_a_broker_a_gateway_is_red_and_keeps_its_clients(
    start_gateway: StartGateway,
) -> None:
    """It says why, and tells clients to try again."""
    gateway = await start_gateway(ready=False, amqp_url="amqp://127.0.0.1:1/")

    async def answers() -> bool:
        try:
            ready, checks = await gateway.ready()
        except httpx.TransportError:
            return False
        return not ready and not checks["broker"]["ok"]

    await eventually(answers)
    async with json_client(gateway.url) as ada:
        assert "connect" in await ada.connect()
        refused = await ada.subscribe(ROOM)
        assert (refused["error"]["code"], refused["error"]["temporary"]) == (100, True)
