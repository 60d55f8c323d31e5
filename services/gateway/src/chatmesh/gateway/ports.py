"""What the gateway's core needs of the outside world, with the promises it relies on."""

from collections.abc import Sequence
from typing import Protocol

from chatmesh.gateway.tokens import ConnectionClaims, SubscriptionClaims
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.close_codes import Disconnect
from chatmesh.wire.control import ControlMessage
from chatmesh.wire.messages import (
    CommandBatch,
    LivePublication,
    Read,
)
from chatmesh.wire.presence import PresenceAsk, PresenceLease, PresenceReport


class Sink(Protocol):
    """One client's transport, after its handshake."""

    def write(self, frame: bytes) -> None:
        """Queue bytes for the client; never blocks, keeps the order of calls."""
        ...

    def close(self, disconnect: Disconnect) -> None:
        """Say goodbye behind everything written so far, and let go of the transport."""
        ...

    def abort(self) -> None:
        """Let go of the transport at once; what is still unsent is lost."""
        ...


class Bus(Protocol):
    """The broker, as the gateway uses it. Raises PublishFailed where a call says so.

    What the calls ask for arrives later through the inbox, or never.
    """

    @property
    def connected(self) -> bool: ...

    @property
    def reply_to(self) -> str:
        """The queue that answers reach while this line stands."""
        ...

    async def watch(self, channels: Sequence[str]) -> None:
        """Hear everything of these channels from the moment this returns."""
        ...

    async def unwatch(self, channels: Sequence[str]) -> None: ...

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        """Returns when the broker has the batch for good."""
        ...

    async def send_reads(self, reads: list[Read]) -> None: ...

    async def ask_heads(self, request: int, channels: list[str]) -> None: ...

    async def publish_live(
        self, channel: str, publications: list[LivePublication]
    ) -> None: ...

    async def send_report(self, report: PresenceReport) -> None:
        """Returns when the broker has the report for good."""
        ...

    async def send_lease(self, lease: PresenceLease) -> None: ...

    async def send_presence_asks(self, asks: list[PresenceAsk]) -> None: ...

    async def send_call(self, service: str, call: ServiceCall) -> None:
        """Forward a client's call; it is dropped unheard once its deadline is over."""
        ...

    async def send_canary(self, number: int) -> None: ...

    async def bury(self, body: bytes, cause: str) -> None:
        """Hand a message nobody can read to the dead letters, with its cause."""
        ...


class ControlBus(Protocol):
    """How gateways reach each other. Raises PublishFailed."""

    @property
    def connected(self) -> bool: ...

    @property
    def reply_to(self) -> str: ...

    async def tell_gateways(self, message: ControlMessage) -> None:
        """Returns when the broker has handed it to every gateway's queue."""
        ...

    async def tell_gateway(self, node: str, message: ControlMessage) -> None:
        """Reach one gateway; unroutable when there is none of this name."""
        ...

    async def answer(self, reply_to: str, message: ControlMessage) -> None: ...

    async def truncate(self, request: int, channel: str) -> None:
        """Ask history to remove what a channel holds; a `Page` answers."""
        ...


class Tokens(Protocol):
    """Who a token speaks for. Raises what `tokens` raises."""

    def connection(self, token: str, now_s: float) -> ConnectionClaims: ...

    def subscription(self, token: str, now_s: float) -> SubscriptionClaims: ...


class KeySet(Protocol):
    """Keys that live elsewhere and may have to be fetched first."""

    async def refresh(self) -> bool:
        """Fetch the keys; True when they are now known to be the issuer's current ones."""
        ...
