"""The models of settings and MCP servers as JSON Schemas: what the Helm chart takes.

Helm then refuses a misspelt key before anything is installed, with the words that the
service itself would refuse it with.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, cast

import msgspec
import pydantic
from pydantic.json_schema import JsonSchemaValue
from tools import settings_reference

from chatmesh.agent.tools.mcp import servers_file
from chatmesh.runtime import settings
from chatmesh.runtime.settings import Leaf, Shared
from chatmesh.wire.namespaces import NamespaceOptions

SET_BY_CHART: Final[Mapping[str, str]] = {
    "amqp_url": "a Secret holds it",
    "database_url": "a Secret holds it",
    "crash_at": "for tests only",
    "gateway.name": "the pod's name",
    "gateway.host": "listenAddress",
    "gateway.http_host": "listenAddress",
    "gateway.port": "Services and probes name it",
    "gateway.http_port": "Services and probes name it",
    "gateway.api_keys": "a Secret holds them",
    "gateway.tokens.hmac_secrets": "a Secret holds them",
    "gateway.page": "the image has it",
    "gateway.connections_max": "gateway.connectionsMax",
    "gateway.drain_window_s": "gateway.drain.windowSeconds",
    "gateway.drain_settle_s": "gateway.drain.preStopSeconds does the same",
    "history.host": "listenAddress",
    "history.port": "Services and probes name it",
    "history.api_keys": "a Secret holds them",
    "history.migrate_at_start": "migrations.mode",
    "history.drain_s": "history.drain.windowSeconds",
    "presence.host": "listenAddress",
    "presence.port": "Services and probes name it",
    "presence.api_keys": "a Secret holds them",
    "presence.migrate_at_start": "migrations.mode",
    "presence.drain_s": "presence.drain.windowSeconds",
    "agent.host": "listenAddress",
    "agent.port": "Services and probes name it",
    "agent.api_keys": "a Secret holds them",
    "agent.migrate_at_start": "migrations.mode",
    "agent.agents_file": "agent.agents",
    "agent.model_keys": "a Secret holds them",
    "agent.park_s": "agent.drain.windowSeconds",
}
"""Settings that have a value of their own in the chart, and which; `config` lacks them."""

_NOISE: Final = ("title", "default", "format", "writeOnly")


def models() -> list[tuple[str, type[Shared]]]:
    """Every service's settings model, by its section."""
    return list(settings_reference.models())


def leaves() -> dict[str, Leaf]:
    """Every setting of every service, by its key in the file."""
    found: dict[str, Leaf] = {}
    for section, model in models():
        found |= {leaf.key: leaf for leaf in settings.leaves(model, section)}
    return found


def config_schema() -> JsonSchemaValue:
    """The schema of `config`: every setting that the chart does not set by itself."""
    root = _object()
    for key, leaf in leaves().items():
        if key in SET_BY_CHART:
            continue
        place = root
        for part in leaf.path[:-1]:
            place = place["properties"].setdefault(part, _object())
        place["properties"][leaf.path[-1]] = _of(leaf)
    return root


def mcp_schema() -> JsonSchemaValue:
    """The schema of `mcp.servers`: what the gateway's own model of a server takes."""
    made = servers_file.McpServer.model_json_schema()
    server = _inlined(made, made.get("$defs", {}))
    # What the model checks in code.
    server["oneOf"] = [{"required": ["command"]}, {"required": ["url"]}]
    server["properties"]["command"]["minItems"] = 1
    server["properties"]["url"]["pattern"] = "^https?://"
    return {
        "type": "object",
        "propertyNames": {"pattern": servers_file.NAME.pattern},
        "maxProperties": servers_file.SERVERS_MAX,
        "additionalProperties": server,
    }


def written_into(schema: Path) -> str:
    """The chart's schema file with what is ours in its `$defs` made anew."""
    whole = json.loads(schema.read_text(encoding="utf-8"))
    whole["$defs"]["config"] = config_schema()
    whole["$defs"]["mcpServers"] = mcp_schema()
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _object() -> JsonSchemaValue:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _of(leaf: Leaf) -> JsonSchemaValue:
    if leaf.key == "namespaces":
        made = _namespaces()
    else:
        kind = cast("Any", Annotated)[(leaf.annotation, *_constraints(leaf))]
        made = pydantic.TypeAdapter(kind).json_schema()
    meaning = " ".join((leaf.info.description or "").split())
    return {"description": meaning, **_inlined(made, made.get("$defs", {}))}


def _constraints(leaf: Leaf) -> Iterable[object]:
    # Annotated wants at least one; a description changes nothing.
    return (*leaf.info.metadata, pydantic.Field(description=""))


def _namespaces() -> JsonSchemaValue:
    """Any name, and options that are all optional; `{}` and nothing mean the defaults."""
    made = msgspec.json.schema(NamespaceOptions)
    options = made["$defs"][NamespaceOptions.__name__]
    options = {**options, "type": ["object", "null"], "additionalProperties": False}
    return {"type": "object", "additionalProperties": options, "$defs": made["$defs"]}


def _inlined(node: object, definitions: Mapping[str, Any]) -> JsonSchemaValue:
    """The schema with its references put in place and without what says nothing."""
    return cast("JsonSchemaValue", _plain(node, definitions))


def _plain(node: object, definitions: Mapping[str, Any]) -> object:
    if isinstance(node, list):
        return [_plain(item, definitions) for item in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    given = cast("dict[str, object]", node)
    if isinstance(reference := given.get("$ref"), str):
        return _plain(definitions[reference.rpartition("/")[2]], definitions)
    kept: dict[str, object] = {}
    for key, inner in given.items():
        if key == "properties":
            # Names of settings, which may well be called title or default.
            named = cast("dict[str, object]", inner)
            kept[key] = {
                name: _plain(each, definitions) for name, each in named.items()
            }
        elif key not in {"$defs", *_NOISE} and not (key == "description" and not inner):
            kept[key] = _plain(inner, definitions)
    return kept
