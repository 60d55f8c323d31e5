"""Small questions to a RabbitMQ that is already running."""

import asyncio
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

import aiormq
import httpx

from chatmesh.bus.losses import is_loss, losses_ignored

HANDSHAKE_WITHIN_S: Final = 3.0
DEFAULT_PORT: Final = 5672
MANAGEMENT_PORT: Final = 15672
_API_WITHIN_S: Final = 10.0


async def refusal(url: str, within_s: float = HANDSHAKE_WITHIN_S) -> str | None:
    """None if the broker lets us in, else why it does not."""
    parts = urlsplit(url)
    connection: aiormq.abc.AbstractConnection | None = None
    try:
        async with asyncio.timeout(within_s):
            # First a plain look: the client logs an error for every closed door.
            _, knock = await asyncio.open_connection(
                parts.hostname, parts.port or DEFAULT_PORT
            )
            knock.close()
            connection = await aiormq.connect(url)
            await connection.channel()
    except TimeoutError:
        return f"no answer within {within_s:.0f} s"
    except Exception as error:
        if not is_loss(error):
            raise
        return str(error) or "the connection was lost"
    finally:
        if connection is not None:
            with losses_ignored():
                await connection.close()
    return None


def with_virtual_host(url: str, name: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{quote(name, safe='')}"))


def without_password(url: str) -> str:
    """For people to read."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.port is not None:
        host = f"{host}:{parts.port}"
    return urlunsplit(parts._replace(netloc=host, query=""))


def usual_management_url(url: str) -> str:
    """Where the management API of a broker would be, with the same user."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name, _, port = host.rpartition(":")
    host = name if port.isdigit() else host
    return f"http://{user or 'guest:guest'}@{host}:{MANAGEMENT_PORT}"


async def manages(management_url: str) -> bool:
    """Whether there is a management API that lets us in."""
    management = Management(management_url)
    try:
        return await asyncio.to_thread(management.answers)
    finally:
        management.close()


class Management:
    """The broker's HTTP API, as far as we need it."""

    def __init__(self, url: str) -> None:
        """`url` with user and password."""
        self._client = httpx.Client(base_url=url, timeout=_API_WITHIN_S)

    def answers(self) -> bool:
        try:
            return self._client.get("/api/whoami").is_success
        except httpx.HTTPError:
            return False

    def make_virtual_host(self, name: str) -> None:
        """Harmless when it exists; its maker may do everything in it."""
        path = f"/api/vhosts/{quote(name, safe='')}"
        self._client.put(path, json={}).raise_for_status()

    def remove_virtual_host(self, name: str) -> None:
        """With all queues, exchanges and connections in it."""
        path = f"/api/vhosts/{quote(name, safe='')}"
        self._client.delete(path).raise_for_status()

    def close(self) -> None:
        self._client.close()
