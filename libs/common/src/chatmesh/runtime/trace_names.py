"""Names of spans and of their attributes: the one place where they have a spelling.

Attribute names are those of OpenTelemetry's semantic conventions; what concerns
messaging and generative AI there is still in development, so it may move. No name holds
a channel, a user or an id: `destination` and the rest are templates.
"""

from collections.abc import Mapping
from typing import Final

# -- Spans of the mesh ----------------------------------------------------------------

SEND: Final = "message.send"
"""From a client's frame to its outcome, on the gateway it came to."""
SUBSCRIBE: Final = "subscribe"
"""From a subscription, perhaps with a position, to the channel's snapshot."""
SEND_COMMANDS: Final = "send chatmesh.commands"
PROCESS_COMMANDS: Final = "process chatmesh.commands"
APPEND: Final = "append log"
"""The one statement that gives the order."""
SEND_EVENTS: Final = "send chatmesh.events"
DELIVER: Final = "deliver chatmesh.events"
"""On each gateway that hears the channel: from the event to the write to its sockets."""
ASK_HISTORY: Final = "send chatmesh.rpc history"
ANSWER_READS: Final = "process chatmesh.rpc history"
READ: Final = "read log"
LEAVE: Final = "leave"
"""A connection is no longer in a channel: where its leave begins, on its gateway."""
SEND_REPORT: Final = "send chatmesh.presence"
PROCESS_REPORTS: Final = "process chatmesh.presence"
STORE_PRESENCE: Final = "store presence"
"""The one statement that keeps a batch of joins and leaves."""
ASK_PRESENCE: Final = "send chatmesh.rpc presence"
ANSWER_PRESENCE: Final = "process chatmesh.rpc presence"
LOOK_UP_PRESENCE: Final = "look up presence"
"""One statement for an answer: members, counts, a user, or a status that is set."""

# -- Attributes -----------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.template"
MESSAGE_COUNT: Final = "messaging.batch.message_count"
DATABASE: Final = "db.system.name"
STATEMENT: Final = "db.operation.name"
ROWS: Final = "db.operation.batch.size"
NAMESPACE: Final = "chatmesh.namespace"
OFFSET: Final = "chatmesh.offset"
PARTITION: Final = "chatmesh.partition"
OUTCOME: Final = "chatmesh.outcome"
RECEIVERS: Final = "chatmesh.receivers"
"""Connections of this gateway that a batch was handed to."""

RABBITMQ: Final = "rabbitmq"
POSTGRESQL: Final = "postgresql"

# -- Generative AI --------------------------------------------------------------------

AI_OPERATION: Final = "gen_ai.operation.name"
AI_PROVIDER: Final = "gen_ai.provider.name"
AI_CONVERSATION: Final = "gen_ai.conversation.id"
"""The run: the one thing that its model calls and tool calls have in common."""
AI_TOOL: Final = "gen_ai.tool.name"
AI_TOOL_CALL: Final = "gen_ai.tool.call.id"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
AI_MODEL: Final = "gen_ai.request.model"
AI_AGENT: Final = "gen_ai.agent.name"
AI_ANSWERED_BY: Final = "gen_ai.response.model"
AI_FINISH: Final = "gen_ai.response.finish_reasons"
AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"


def invoke_agent(agent: str) -> str:
    """Span of one run, by the agent's configured name."""
    return f"{INVOKE_AGENT} {agent}"


def chat(model: str) -> str:
    """Span of one model call; kind CLIENT."""
    return f"{CHAT} {model}"


UNKNOWN_TOOL: Final = "unknown"
"""Stands for a tool that nobody declares: a model may write anything as a name."""


def execute_tool(tool: str) -> str:
    """Span of one tool call, by the tool's declared name; kind INTERNAL."""
    return f"{EXECUTE_TOOL} {tool}"


def serve_tool(tool: str) -> str:
    """Span of the same call on its worker; kind CONSUMER."""
    return f"process chatmesh.tools {tool}"


def _broker(operation: str, destination: str) -> Mapping[str, str]:
    return {
        SYSTEM: RABBITMQ,
        OPERATION: operation,
        OPERATION_TYPE: operation,
        DESTINATION: destination,
    }


def _database(statement: str) -> Mapping[str, str]:
    return {DATABASE: POSTGRESQL, STATEMENT: statement}


FACTS: Final[Mapping[str, Mapping[str, str]]] = {
    SEND_COMMANDS: _broker("send", "chatmesh.commands"),
    PROCESS_COMMANDS: _broker("process", "chatmesh.commands"),
    SEND_EVENTS: _broker("send", "chatmesh.events"),
    DELIVER: _broker("process", "chatmesh.events"),
    ASK_HISTORY: _broker("send", "chatmesh.rpc"),
    ANSWER_READS: _broker("process", "chatmesh.rpc"),
    APPEND: _database("append"),
    READ: _database("read"),
    SEND_REPORT: _broker("send", "chatmesh.presence"),
    PROCESS_REPORTS: _broker("process", "chatmesh.presence"),
    STORE_PRESENCE: _database("store"),
    ASK_PRESENCE: _broker("send", "chatmesh.rpc"),
    ANSWER_PRESENCE: _broker("process", "chatmesh.rpc"),
    LOOK_UP_PRESENCE: _database("look up"),
}
"""Attributes that every span of a name has: told by the exporter, so that nobody sets
them a thousand times."""
