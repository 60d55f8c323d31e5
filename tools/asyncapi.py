"""Writes docs/asyncapi.yaml: every message between our processes, and where it goes.

FastStream makes the document from its own subscribers and publishers: channels,
operations, bindings. It knows pydantic models only, and our messages are msgspec
structs, so their schemas are put in afterwards. `--check` says when it is out of date.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

import msgspec
import pydantic
import yaml
from faststream.rabbit import (
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)
from faststream.specification import AsyncAPI

from chatmesh.wire import calls, control, messages, presence, tools, topics
from chatmesh.wire.topics import Topics

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "asyncapi.yaml"
VERSION: Final = "1"
NAMES: Final = Topics()
SCHEMA_REF: Final = "#/components/schemas/{name}"
DESCRIPTION: Final = """\
What the processes of chatmesh say to each other over RabbitMQ.

Bodies are MessagePack: a message is an array whose first item is its tag and whose other
items are the fields, in the order of the schema. Fields are only ever appended: a reader
ignores what it does not know and fills in what is missing. Where a schema says base64
the bytes themselves are sent. Messages of tools are JSON objects, so that workers can be
written in any language; their `contentType` says so.

`chatmesh` in names is the deployment's prefix. Words of routing keys are escaped, so that
any channel name is a legal one.
"""
HEADER: Final = "# Written by tools/asyncapi.py; `make docs` writes it again.\n"


class Heard(NamedTuple):
    """A queue that a service of ours consumes."""

    title: str
    queue: str
    queue_type: QueueType
    exchange: str
    exchange_type: ExchangeType
    routing_key: str
    kinds: tuple[type[msgspec.Struct], ...]
    text: str


class Told(NamedTuple):
    """An exchange that our processes publish to."""

    title: str
    exchange: str
    exchange_type: ExchangeType
    routing_key: str
    kinds: tuple[type[msgspec.Struct], ...]
    text: str


def _for_any_partition(name: str) -> str:
    """A name of partition 0 with a placeholder instead of the number."""
    return name.replace(topics.partition_key(0), "{partition}")


HEARD: Final = (
    Heard(
        "history.commands",
        _for_any_partition(NAMES.command_queue(0)),
        QueueType.QUORUM,
        NAMES.commands,
        ExchangeType.DIRECT,
        "{partition}",
        (messages.CommandBatch,),
        "Durable publications somebody wants committed, in order. One active consumer.",
    ),
    Heard(
        "history.requests",
        NAMES.history_rpc_queue,
        QueueType.QUORUM,
        NAMES.rpc,
        ExchangeType.DIRECT,
        topics.HISTORY_SERVICE,
        get_args(messages.HistoryRequest),
        "Questions about the log, answered to the queue they name.",
    ),
    Heard(
        "presence.reports",
        _for_any_partition(NAMES.presence_reports_queue(0)),
        QueueType.QUORUM,
        NAMES.presence,
        ExchangeType.TOPIC,
        _for_any_partition(topics.report_key(0)),
        (presence.PresenceReport,),
        "Who came and went, as gateways saw it. One active consumer.",
    ),
    Heard(
        "presence.leases",
        NAMES.presence_lease_queue("{replica}"),
        QueueType.CLASSIC,
        NAMES.presence,
        ExchangeType.TOPIC,
        topics.LEASE_KEY,
        (presence.PresenceLease,),
        "A gateway lives, and all its rows with it. Every replica hears them all.",
    ),
    Heard(
        "presence.requests",
        NAMES.presence_rpc_queue,
        QueueType.QUORUM,
        NAMES.rpc,
        ExchangeType.DIRECT,
        topics.PRESENCE_SERVICE,
        (presence.PresenceAsks,),
        "Questions about who is where, answered to the queue they name.",
    ),
    Heard(
        "agent.requests",
        NAMES.agent_rpc_queue,
        QueueType.QUORUM,
        NAMES.rpc,
        ExchangeType.DIRECT,
        topics.AGENT_SERVICE,
        (calls.ServiceCall,),
        "Calls of clients that gateways forward, answered to the queue they name.",
    ),
    Heard(
        "agent.messages",
        NAMES.agent_messages_queue,
        QueueType.QUORUM,
        NAMES.events,
        ExchangeType.TOPIC,
        topics.ROOM_LOG_BINDING,
        (messages.LogEvent,),
        "What is said in rooms, for agents to be called by. Replicas share it.",
    ),
    Heard(
        "tools.calls",
        NAMES.tool_pool_queue("{pool}"),
        QueueType.QUORUM,
        NAMES.tools,
        ExchangeType.TOPIC,
        topics.tool_call_key("{pool}"),
        (tools.Call,),
        "Calls for the workers of one pool, each with the queue its result goes to. A full"
        " queue refuses; a call whose deadline has passed is not run.",
    ),
    Heard(
        "tools.wishes",
        NAMES.tools_queue("{worker}"),
        QueueType.CLASSIC,
        NAMES.tools,
        ExchangeType.TOPIC,
        topics.tool_cancel_key("{pool}"),
        (tools.Cancel,),
        "Exclusive to one life of a worker: calls of its pool that nobody wants any more."
        f" It is bound to `{topics.TOOL_DISCOVER_KEY}` as well, on which an empty object"
        " asks every worker to register at once.",
    ),
    Heard(
        "tools.results",
        NAMES.tool_results_queue,
        QueueType.QUORUM,
        "default",
        ExchangeType.DIRECT,
        NAMES.tool_results_queue,
        (tools.Result,),
        "How calls of agents ended. Any replica of the agent service takes them; others who"
        " call tools name a queue of their own.",
    ),
    Heard(
        "gateway.inbound",
        NAMES.gateway_queue("{gateway}"),
        QueueType.CLASSIC,
        "default",
        ExchangeType.DIRECT,
        NAMES.gateway_queue("{gateway}"),
        get_args(messages.GatewayInbound),
        "Exclusive; bound to the events of each channel with a subscriber here. Answers"
        " of the services come to it through the default exchange.",
    ),
)
TOLD: Final = (
    Told(
        "events.log",
        NAMES.events,
        ExchangeType.TOPIC,
        "{namespace}.{channel}." + topics.LOG,
        (messages.LogEvent,),
        "By history, after the commit: entries of one channel with their offsets.",
    ),
    Told(
        "events.live",
        NAMES.events,
        ExchangeType.TOPIC,
        "{namespace}.{channel}." + topics.LIVE,
        (messages.LiveEvent,),
        "By gateways and services: never stored, no offset.",
    ),
    Told(
        "events.canary",
        NAMES.events,
        ExchangeType.TOPIC,
        topics.CANARY_KEY_PREFIX + ".{gateway}",
        (messages.Canary,),
        "By a gateway, to itself: hearing it proves the path.",
    ),
    Told(
        "control",
        NAMES.control,
        ExchangeType.TOPIC,
        topics.CONTROL_KEY,
        get_args(control.ControlMessage),
        "By gateways, to all gateways: what has to happen to connections wherever they are."
        f" What is for one gateway alone goes to `{topics.NODE_KEY_PREFIX}` and its name;"
        f" agents tell each other what saves waiting on `{topics.AGENT_CONTROL_KEY}`.",
    ),
    Told(
        "tools.registry",
        NAMES.tools,
        ExchangeType.TOPIC,
        topics.TOOL_REGISTRY_KEY,
        (tools.Registration,),
        "By workers, well within each registration's lease: which tools they serve.",
    ),
    Told(
        "tools.progress",
        NAMES.tools,
        ExchangeType.TOPIC,
        topics.TOOL_PROGRESS_KEY,
        (tools.Progress,),
        "By workers: how far a call has come. May be lost.",
    ),
    Told(
        "tools.settled",
        NAMES.tools,
        ExchangeType.TOPIC,
        topics.TOOL_SETTLED_KEY,
        (tools.Settled,),
        "By agents, to one another: there is news of a call in the ledger. May be lost.",
    ),
    Told(
        "dead",
        NAMES.dead,
        ExchangeType.FANOUT,
        "",
        (messages.CommandBatch,),
        "What nobody could process, with its cause and origin in the headers; the body is"
        " whatever it was. Kept in a queue of their own; see `chatmesh dead`.",
    ),
)


def document() -> str:
    """The text of docs/asyncapi.yaml."""
    broker = RabbitBroker("amqp://localhost", logger=None)
    stand_ins: dict[str, type[pydantic.BaseModel]] = {}
    for heard in HEARD:
        subscriber = broker.subscriber(
            RabbitQueue(
                heard.queue,
                queue_type=heard.queue_type,
                durable=True,
                routing_key=heard.routing_key,
            ),
            RabbitExchange(heard.exchange, type=heard.exchange_type, durable=True),
            title=heard.title,
            description=heard.text,
        )
        subscriber(_handler(_stand_in(heard.kinds, stand_ins)))
    for told in TOLD:
        broker.publisher(
            routing_key=told.routing_key,
            exchange=RabbitExchange(
                told.exchange, type=told.exchange_type, durable=True
            ),
            title=told.title,
            description=told.text,
            schema=_stand_in(told.kinds, stand_ins),
            # A dead letter has to arrive and to stay; nobody may be there for an event.
            mandatory=told.exchange == NAMES.dead,
            persist=told.exchange == NAMES.dead,
        )
    made = AsyncAPI(
        broker, title="chatmesh", version=VERSION, description=DESCRIPTION
    ).to_specification()
    content: dict[str, Any] = yaml.safe_load(made.to_yaml())
    content.pop("servers", None)
    content["defaultContentType"] = messages.CONTENT_TYPE
    for channel in content["channels"].values():
        channel.pop("servers", None)
    _put_schemas(content, list(_all_kinds()))
    _tell_json(content)
    # FastStream keeps its endpoints in sets, so their order changes from run to run.
    for part in ("channels", "operations"):
        content[part] = dict(sorted(content[part].items()))
    content["components"]["messages"] = dict(
        sorted(content["components"]["messages"].items())
    )
    return HEADER + yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=88
    )


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, as a person would write them."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    represent = dumper.represent_scalar  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped there
    return represent("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _all_kinds() -> Iterator[type[msgspec.Struct]]:
    seen: set[type[msgspec.Struct]] = set()
    for where in (*HEARD, *TOLD):
        for kind in where.kinds:
            if kind not in seen:
                seen.add(kind)
                yield kind


def _stand_in(
    kinds: tuple[type[msgspec.Struct], ...],
    made: dict[str, type[pydantic.BaseModel]],
) -> Any:  # noqa: ANN401 - a type made here
    """Models that FastStream can name; what is in them is put in afterwards."""
    for kind in kinds:
        if kind.__name__ not in made:
            made[kind.__name__] = pydantic.create_model(kind.__name__)
    types = [made[kind.__name__] for kind in kinds]
    union = types[0]
    for other in types[1:]:
        union = union | other  # pyright: ignore[reportAssignmentType] - types, not values
    return union


def _handler(kind: Any) -> Any:  # noqa: ANN401 - a function of a type made here
    async def handle(message: Any) -> None: ...  # noqa: ANN401 - see its annotation

    handle.__annotations__["message"] = kind
    return handle


def _put_schemas(content: dict[str, Any], kinds: list[type[msgspec.Struct]]) -> None:
    _, schemas = msgspec.json.schema_components(kinds, ref_template=SCHEMA_REF)
    own = content["components"]["schemas"]
    for kind in kinds:
        own.pop(kind.__name__, None)
    own.update(schemas)
    content["components"]["schemas"] = dict(sorted(own.items()))


def _tell_json(content: dict[str, Any]) -> None:
    """Messages of tools are not in the encoding of all others."""
    json_kinds = {
        kind.__name__
        for where in (*HEARD, *TOLD)
        for kind in where.kinds
        if kind.__module__ == tools.__name__
    }
    for message in content["components"]["messages"].values():
        name = message["payload"].get("$ref", "").rpartition("/")[2]
        if name in json_kinds:
            message["contentType"] = tools.CONTENT_TYPE


def main(words: list[str]) -> int:
    text = document()
    if "--check" in words:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/asyncapi.yaml is out of date: run `make docs`")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
