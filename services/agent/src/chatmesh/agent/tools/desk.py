"""Puts tool calling together for one replica: ledger, wire, registry, approvals."""

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry

from chatmesh.agent.tools.adapters.postgres_ledger import PostgresLedger
from chatmesh.agent.tools.adapters.rabbit_wire import RabbitWire
from chatmesh.agent.tools.approvals import Approvals
from chatmesh.agent.tools.calls import Calls
from chatmesh.agent.tools.metrics import ToolMetrics
from chatmesh.agent.tools.port import ToolOffer
from chatmesh.agent.tools.ports import LedgerRefused, LedgerUnavailable
from chatmesh.agent.tools.registry import Registry
from chatmesh.postgres.database import Connection, Pool
from chatmesh.runtime.clock import Clock
from chatmesh.wire import limits
from chatmesh.wire.calls import ServiceAnswer, ServiceCall
from chatmesh.wire.tools import Registration
from chatmesh.wire.topics import Topics

_log = logging.getLogger(__name__)

APPROVAL_TIMEOUT_S: Final = 600.0
SWEEP_EVERY_S: Final = 5.0
SWEEP_GRACE_MS: Final = 60_000
"""Whoever waits for a call ends it by itself; after this nobody waits."""
_ID_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class DeskOptions:
    """What tool calling has to be told."""

    amqp_url: str
    database_url: str
    prefix: str = "chatmesh"
    approval_timeout_s: float = APPROVAL_TIMEOUT_S
    """How long people may take to answer."""
    pool_size: int = 3
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 15.0


class ToolDesk:
    """Tool calling of one replica. Run once; close once, after `run` has ended.

    `bus` is what runs use. The tables of `tables.MIGRATIONS` have to be there.
    """

    def __init__(
        self, options: DeskOptions, *, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self.metrics: Final = ToolMetrics(registry)
        self._clock = clock
        self._registry = Registry()
        self._pool = Pool(
            [
                Connection(
                    options.database_url,
                    application="chatmesh-agent-tools",
                    connect_s=options.connect_timeout_s,
                    statement_s=options.statement_timeout_s,
                )
                for _ in range(options.pool_size)
            ]
        )
        self.ledger: Final = PostgresLedger(self._pool)
        self._wire = RabbitWire(
            options.amqp_url,
            name=f"agent-tools-{secrets.token_hex(_ID_BYTES)}",
            topics=Topics(options.prefix),
            registered=self._hear,
            clock=clock,
            metrics=self.metrics,
        )
        self.bus: Final = Calls(
            self.ledger,
            self._wire,
            self._registry,
            clock=clock,
            metrics=self.metrics,
            approval_timeout_s=options.approval_timeout_s,
        )
        self._wire.feed(self.bus)
        self._approvals = Approvals(
            self.ledger, self._wire, clock, self.metrics, self.bus.wake
        )

    @property
    def ready(self) -> bool:
        """Whether there is a link to the workers."""
        return self._wire.up

    async def run(self) -> None:
        """Keep the link, and end what nobody ends, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wire.run())
            group.create_task(self._sweep())

    def close(self) -> None:
        """Give the database connections back."""
        self._pool.drop()

    async def answer_approval(self, call: ServiceCall) -> ServiceAnswer:
        """The rpc `approval.answer`; never raises."""
        return await self._approvals.answer(call)

    async def list_tools(self, call: ServiceCall) -> ServiceAnswer:
        """The rpc `tools.list`: what is served now, without schemas if they are too many."""
        await asyncio.sleep(0)
        offers = self._registry.all(self._clock.unix_ms())
        full = msgspec.json.encode({"tools": [_shown(one) for one in offers]})
        if len(full) > limits.SERVICE_ANSWER_BYTES_MAX:
            short = [_shown(one, schema=False) for one in offers]
            full = msgspec.json.encode({"tools": short, "abridged": True})
        return ServiceAnswer(call.request, full)

    def _hear(self, registration: Registration) -> None:
        now_ms = self._clock.unix_ms()
        if not self._registry.hear(registration, now_ms):
            _log.warning("too many workers; one was not taken")
        self.bus.registered()
        self.metrics.offered.set(len(self._registry.all(now_ms)))

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_EVERY_S)
            now_ms = self._clock.unix_ms()
            self._registry.forget(now_ms)
            self.metrics.offered.set(len(self._registry.all(now_ms)))
            try:
                await self.bus.look_after(SWEEP_GRACE_MS)
            except (LedgerUnavailable, LedgerRefused) as error:
                _log.warning("tool calls not looked after", extra={"cause": str(error)})


def _shown(offer: ToolOffer, *, schema: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": offer.name,
        "description": offer.description if schema else offer.description[:200],
        "readOnly": offer.read_only,
        "needsApproval": offer.needs_approval,
        "approvers": list(offer.approvers),
        "timeoutMs": int(offer.timeout_s * 1000),
        "pool": offer.pool,
    }
    if schema:
        shown["parameters"] = offer.parameters
    return shown
