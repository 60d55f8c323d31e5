"""The description of the broker's messages leaves out none that there is."""

import inspect
from typing import Any, Final

import msgspec
import pytest
import yaml
from tools import asyncapi

from chatmesh.wire import tools
from chatmesh.wire.topics import Topics

PAGE: Final[dict[str, Any]] = yaml.safe_load(asyncapi.PAGE.read_text(encoding="utf-8"))
EXCHANGES: Final = ("commands", "events", "rpc", "presence", "control", "tools", "dead")
# A dead letter is what it was; nobody of ours consumes their queue.
KEPT_FOR_PEOPLE: Final = {"dead_letters"}


@pytest.mark.parametrize("name", EXCHANGES)
def test_every_exchange_is_described(name: str) -> None:
    """Who writes a client of the broker finds where messages go."""
    described = {where.exchange for where in (*asyncapi.HEARD, *asyncapi.TOLD)}
    assert getattr(Topics(), name) in described


def test_no_queue_is_left_out() -> None:
    """A queue that nobody described is one that nobody looks for."""
    described = {
        channel["bindings"]["amqp"]["queue"]["name"]
        for channel in PAGE["channels"].values()
        if "queue" in channel["bindings"]["amqp"]
    }
    declared = {
        name: getattr(Topics(), name)
        for name, member in inspect.getmembers(Topics)
        if isinstance(member, property) and name not in EXCHANGES
    }

    assert set(declared) >= {"history_rpc_queue", "tool_results_queue"}
    missing = {n for n, value in declared.items() if value not in described}
    assert missing == KEPT_FOR_PEOPLE


def test_messages_of_tools_are_described_as_json() -> None:
    """Workers are written from this page in other languages."""
    kinds = {
        kind.__name__
        for _, kind in inspect.getmembers(tools, inspect.isclass)
        if issubclass(kind, msgspec.Struct) and kind.__module__ == tools.__name__
    }
    content = {
        message["payload"]["$ref"].rpartition("/")[2]: message.get("contentType")
        for message in PAGE["components"]["messages"].values()
        if "$ref" in message["payload"]
    }

    assert kinds - {"ToolDescription"} == {
        name for name, kind in content.items() if kind == tools.CONTENT_TYPE
    }
    call = PAGE["components"]["schemas"]["Call"]
    assert {"key", "tool", "deadlineMs"} <= set(call["required"])
