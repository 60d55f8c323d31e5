"""Which tools are served now: registrations with a lease, heard by every replica.

Nothing of it is stored: whoever comes asks all workers to register again, and a worker
that falls silent is forgotten when its lease is over. Time is an argument.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from chatmesh.agent.tools.arguments import NoJson, canonical, digest, schema_refusal
from chatmesh.agent.tools.port import ToolOffer
from chatmesh.wire import limits
from chatmesh.wire.tools import Registration, ToolDescription

_log = logging.getLogger(__name__)

WORKERS_MAX: Final = 1000
JUDGED_MAX: Final = 10_000
"""Schemas of which it is known whether they are any; workers say them again and again."""
_REST: Final = "*"


@dataclass(slots=True)
class _Lease:
    registration: Registration
    until_ms: int
    heard: int


class Registry:
    """What workers have said of themselves."""

    def __init__(self) -> None:
        self._leases: dict[str, _Lease] = {}
        self._heard = 0
        self._judged: dict[str, str] = {}
        """By the digest of a schema, what is wrong with it; empty: nothing."""

    def hear(self, registration: Registration, now_ms: int) -> bool:
        """Take a registration; False when there are too many workers to keep it.

        Of its tools those are left out whose schemas are none: nobody could call them.
        """
        self.forget(now_ms)
        if registration.ttl_ms <= 0:
            self._leases.pop(registration.worker, None)
            return True
        if registration.worker not in self._leases and (
            len(self._leases) >= WORKERS_MAX
        ):
            return False
        sound = [tool for tool in registration.tools if self._is_sound(tool)]
        registration = msgspec.structs.replace(registration, tools=sound)
        self._heard += 1
        ttl_ms = min(registration.ttl_ms, limits.TOOL_LEASE_S * 1000)
        self._leases[registration.worker] = _Lease(
            registration, now_ms + ttl_ms, self._heard
        )
        return True

    def _is_sound(self, tool: ToolDescription) -> bool:
        return not any(
            self._fault(schema, tool.name)
            for schema in (tool.parameters, tool.result)
            if schema
        )

    def _fault(self, schema: dict[str, Any], tool: str) -> str:
        try:
            known = digest(canonical(schema))
        except NoJson as error:
            return str(error)
        fault = self._judged.get(known)
        if fault is None:
            if len(self._judged) >= JUDGED_MAX:
                self._judged.clear()
            fault = self._judged[known] = schema_refusal(schema) or ""
            if fault:
                _log.warning(
                    "a tool with a broken schema is not offered",
                    extra={"tool": tool, "cause": fault},
                )
        return fault

    def forget(self, now_ms: int) -> None:
        """Drop workers whose lease is over."""
        for worker, lease in list(self._leases.items()):
            if lease.until_ms <= now_ms:
                del self._leases[worker]

    def all(self, now_ms: int) -> list[ToolOffer]:
        """Every tool that is served, by name.

        When pools disagree about a name, the pool whose name sorts first has it; within
        a pool, the worker that registered last: in a rolling deploy, the newer one.
        """
        best: dict[str, tuple[str, int, ToolDescription]] = {}
        for lease in self._leases.values():
            if lease.until_ms <= now_ms:
                continue
            pool = lease.registration.pool
            for tool in lease.registration.tools:
                known = best.get(tool.name)
                if known is None or (pool, -lease.heard) < (known[0], -known[1]):
                    best[tool.name] = (pool, lease.heard, tool)
        return [_offer(tool, pool) for _, (pool, _, tool) in sorted(best.items())]

    def offers(self, names: Sequence[str], now_ms: int) -> list[ToolOffer]:
        """Those of `names` that are served; a `*` at the end of one stands for the rest."""
        return [one for one in self.all(now_ms) if chosen(one.name, names)]

    def workers(self, now_ms: int) -> list[Registration]:
        return [
            lease.registration
            for lease in self._leases.values()
            if lease.until_ms > now_ms
        ]


def chosen(name: str, names: Iterable[str]) -> bool:
    """Whether a tool is among `names`."""
    return any(
        name.startswith(wanted[:-1]) if wanted.endswith(_REST) else name == wanted
        for wanted in names
    )


def _offer(tool: ToolDescription, pool: str) -> ToolOffer:
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    return ToolOffer(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters or empty,
        result=tool.result,
        read_only=tool.read_only,
        side_effect=tool.side_effect,
        needs_approval=tool.needs_approval,
        timeout_s=tool.timeout_ms / 1000,
        pool=pool,
        approvers=tuple(tool.approvers),
    )
