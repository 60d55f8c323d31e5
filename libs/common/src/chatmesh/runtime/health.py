"""Whether this process does its work: named checks behind /readyz."""

from dataclasses import dataclass
from typing import Any, Final

BROKER: Final = "broker"
"""Check: the broker link stands, is not blocked, and its consumers are there."""
DATABASE: Final = "database"
"""Check: the database answers, and its tables are those of this version."""

_NOT_YET: Final = "not checked yet"
_DRAINING: Final = "draining: this process is about to stop"


@dataclass(frozen=True, slots=True)
class _Check:
    ok: bool
    reason: str


class Health:
    """Ready when every check is good and nobody has begun to drain.

    Checks named at construction count as bad until somebody has looked.
    """

    def __init__(self, *checks: str) -> None:
        self._checks = {check: _Check(ok=False, reason=_NOT_YET) for check in checks}
        self._draining = False

    def set(self, check: str, ok: bool, reason: str = "") -> None:  # noqa: FBT001 - reads as a sentence
        """Record what was seen; a bad check should say why."""
        self._checks[check] = _Check(ok=ok, reason=reason)

    def drain(self) -> None:
        """Turn unready for good: no new work, please."""
        self._draining = True

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def ready(self) -> bool:
        return not self._draining and all(check.ok for check in self._checks.values())

    def report(self) -> dict[str, Any]:
        """What /readyz answers: the verdict, and each check with its reason."""
        checks = {
            name: {"ok": check.ok, "reason": check.reason}
            for name, check in self._checks.items()
        }
        if self._draining:
            checks["drain"] = {"ok": False, "reason": _DRAINING}
        return {"ready": self.ready, "checks": checks}
