"""Addresses of brokers."""

import asyncio

import aiormq
import pytest

from chatmesh.local import amqp
from support.lost_lines import LOST, ending_with


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@host:5672/", "amqp://u:p@host:5672/own"),
        ("amqps://host/old?heartbeat=5", "amqps://host/own?heartbeat=5"),
    ],
)
def test_a_virtual_host_replaces_the_path_alone(url: str, expected: str) -> None:
    """User, port and options stay."""
    assert amqp.with_virtual_host(url, "own") == expected


def test_a_virtual_host_with_a_slash_is_one_name() -> None:
    """The AMQP address escapes it."""
    assert amqp.with_virtual_host("amqp://h/", "a/b") == "amqp://h/a%2Fb"


def test_what_people_read_holds_no_password() -> None:
    """It ends up in terminals and bug reports."""
    shown = amqp.without_password("amqp://user:secret@host:5672/vhost?x=1")

    assert shown == "amqp://host:5672/vhost"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://u:p@host:5673/v", "http://u:p@host:15672"),
        ("amqp://host/", "http://guest:guest@host:15672"),
    ],
)
def test_the_management_api_is_looked_for_where_it_usually_is(
    url: str, expected: str
) -> None:
    """Same host, same user."""
    assert amqp.usual_management_url(url) == expected


async def test_a_closed_door_is_a_reason_not_an_exception() -> None:
    """Nobody listens on port 1."""
    assert await amqp.refusal("amqp://guest:guest@127.0.0.1:1/") is not None


@pytest.mark.parametrize("error", [*LOST, aiormq.exceptions.AMQPError()])
async def test_a_broker_that_ends_the_connection_is_one_that_refuses(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be starting just now: whoever waits for it asks again."""
    monkeypatch.setattr(aiormq, "connect", ending_with(error))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]

        reason = await amqp.refusal(f"amqp://127.0.0.1:{port}/")

    assert reason == (str(error) or "the connection was lost")


async def test_a_bug_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would ask for it again and again."""
    monkeypatch.setattr(aiormq, "connect", ending_with(ValueError("a bug")))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]

        with pytest.raises(ValueError, match="a bug"):
            await amqp.refusal(f"amqp://127.0.0.1:{port}/")
