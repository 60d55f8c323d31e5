"""Every exchange, queue and routing key, spelled once and given a deployment's prefix."""

import hashlib
import string
import zlib
from dataclasses import dataclass
from typing import Final

from chatmesh.wire import limits
from chatmesh.wire.channels import DEFAULT_NAMESPACE, ROOM_NAMESPACE, namespace_of

_PLAIN: Final = frozenset((string.ascii_letters + string.digits + "_-").encode())
_DEFAULT_NAMESPACE_WORD: Final = "~"
LOG: Final = "log"
"""Last word of a routing key: committed entries, with offsets."""
LIVE: Final = "live"
"""Last word of a routing key: ephemeral publications, never stored."""


def partition_of(channel: str) -> int:
    """The command queue of a channel: the same in every process and every release."""
    return zlib.crc32(channel.encode()) % limits.PARTITIONS


def escape(name: str) -> str:
    """Turn any name into one legal routing-key word; distinct names stay distinct.

    Long names end in a digest: routing keys are bounded, and readers compare the name
    inside the message anyway.
    """
    word = "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in name.encode()
    )
    if len(word) <= limits.ROUTING_WORD_BYTES_MAX:
        return word or _DEFAULT_NAMESPACE_WORD
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{word[: limits.ROUTING_WORD_BYTES_MAX - 33]}~{digest}"


def _channel_words(channel: str) -> str:
    namespace = namespace_of(channel)
    word = (
        escape(namespace)[:60]
        if namespace != DEFAULT_NAMESPACE
        else (_DEFAULT_NAMESPACE_WORD)
    )
    return f"{word}.{escape(channel)}"


def log_key(channel: str) -> str:
    """Where committed entries of a channel are published on the events exchange."""
    return f"{_channel_words(channel)}.{LOG}"


def live_key(channel: str) -> str:
    """Where ephemeral publications of a channel are published on the events exchange."""
    return f"{_channel_words(channel)}.{LIVE}"


def channel_binding(channel: str) -> str:
    """Binding that hears everything of one channel, durable and ephemeral."""
    return f"{_channel_words(channel)}.*"


def partition_key(partition: int) -> str:
    return f"{partition:02d}"


def node_key(node: str) -> str:
    """Routing key on the control exchange of what one gateway hears."""
    return f"{NODE_KEY_PREFIX}.{escape(node)}"


def report_key(partition: int) -> str:
    """Routing key of one partition's reports on the presence exchange."""
    return f"reports.{partition_key(partition)}"


def tool_call_key(pool: str) -> str:
    """Routing key on the tools exchange of calls to one pool."""
    return f"call.{pool}"


def tool_cancel_key(pool: str) -> str:
    """Routing key on the tools exchange of wishes to end calls of one pool."""
    return f"cancel.{pool}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of one deployment; two deployments on one virtual host differ in prefix."""

    prefix: str = "chatmesh"

    @property
    def commands(self) -> str:
        """Direct exchange: command batches by partition key."""
        return f"{self.prefix}.commands"

    @property
    def events(self) -> str:
        """Topic exchange: what every gateway with a subscriber hears."""
        return f"{self.prefix}.events"

    @property
    def rpc(self) -> str:
        """Direct exchange: requests with a deadline, by service name."""
        return f"{self.prefix}.rpc"

    @property
    def presence(self) -> str:
        """Topic exchange: what gateways report of who is connected where."""
        return f"{self.prefix}.presence"

    @property
    def control(self) -> str:
        """Topic exchange: what every gateway must act on (disconnect, unsubscribe)."""
        return f"{self.prefix}.control"

    @property
    def tools(self) -> str:
        """Topic exchange: calls of tools by pool, and what workers tell of themselves."""
        return f"{self.prefix}.tools"

    @property
    def dead(self) -> str:
        """Fanout exchange: what nobody could process, with its cause."""
        return f"{self.prefix}.dead"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}.dead.letters"

    def command_queue(self, partition: int) -> str:
        return f"{self.prefix}.history.commands.{partition_key(partition)}"

    @property
    def history_rpc_queue(self) -> str:
        return f"{self.prefix}.history.rpc"

    def presence_reports_queue(self, partition: int) -> str:
        return f"{self.prefix}.presence.reports.{partition_key(partition)}"

    @property
    def presence_rpc_queue(self) -> str:
        return f"{self.prefix}.presence.rpc"

    def presence_lease_queue(self, replica: str) -> str:
        """The exclusive queue on which one life of a presence replica hears leases."""
        return f"{self.prefix}.presence.leases.{replica}"

    @property
    def agent_rpc_queue(self) -> str:
        return f"{self.prefix}.agent.rpc"

    @property
    def agent_messages_queue(self) -> str:
        """What is said in rooms, for agents to be triggered by; replicas compete for it."""
        return f"{self.prefix}.agent.messages"

    def agent_queue(self, replica: str) -> str:
        """The exclusive queue of one life of an agent replica: control and answers."""
        return f"{self.prefix}.agent.{replica}"

    def tool_pool_queue(self, pool: str) -> str:
        """Calls waiting for the workers of one pool."""
        return f"{self.prefix}.tools.pool.{pool}"

    @property
    def tool_results_queue(self) -> str:
        """Results of calls made for agents: any replica of the agent service takes them."""
        return f"{self.prefix}.agent.tools.results"

    def tools_queue(self, life: str) -> str:
        """The exclusive queue of one life of whoever serves, calls or lists tools."""
        return f"{self.prefix}.tools.hears.{life}"

    def gateway_queue(self, gateway: str) -> str:
        """The exclusive queue of one life of one gateway's broker link."""
        return f"{self.prefix}.gateway.{gateway}"


HISTORY_SERVICE: Final = "history"
"""Routing key of history on the rpc exchange."""
PRESENCE_SERVICE: Final = "presence"
"""Routing key of presence on the rpc exchange."""
AGENT_SERVICE: Final = "agent"
"""Routing key of the agent service on the rpc exchange."""
AGENT_CONTROL_KEY: Final = "control.agent"
"""Routing key on the control exchange of what every agent replica hears."""
TOOL_REGISTRY_KEY: Final = "registry"
"""Routing key on the tools exchange of what workers say they serve."""
TOOL_DISCOVER_KEY: Final = "discover"
"""Routing key on the tools exchange of a wish to hear all registrations now."""
TOOL_PROGRESS_KEY: Final = "progress"
"""Routing key on the tools exchange of how far calls have come."""
TOOL_SETTLED_KEY: Final = "settled"
"""Routing key on the tools exchange of calls of which there is news in the ledger."""
LEASE_KEY: Final = "lease"
"""Routing key of heartbeats on the presence exchange: every presence replica hears them."""
ROOM_LOG_BINDING: Final = f"{ROOM_NAMESPACE}.*.{LOG}"
"""Binding that hears the committed entries of all rooms."""
DEFAULT_EXCHANGE: Final = ""
"""The broker's own: a routing key is the name of a queue."""
CONTROL_KEY: Final = "control.gateway"
"""Routing key on the control exchange of what every gateway hears."""
NODE_KEY_PREFIX: Final = "control.node"
CANARY_KEY_PREFIX: Final = "canary"
"""First word of the routing key a process uses to hear itself through the broker."""
