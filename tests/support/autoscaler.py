"""The HorizontalPodAutoscaler of Kubernetes, as far as it decides how many there are.

After the algorithm in its documentation: the largest wish of all metrics, a tolerance of
a tenth, stabilisation windows, and policies over their periods. Time moves by hand.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

SYNC_S: Final = 15
TOLERANCE: Final = 0.1


@dataclass
class Autoscaler:
    """One rendered autoscaler over one Deployment."""

    spec: dict[str, Any]
    replicas: int
    now_s: int = 0
    changes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """When, and by how many."""
    _wishes: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])

    def __post_init__(self) -> None:
        # A controller that starts takes what it finds for a wish.
        self._wishes.append((self.now_s, self.replicas))

    def targets(self) -> dict[str, float]:
        """What each metric should be per replica: CPU in percent of the request."""
        found = dict[str, float]()
        for metric in self.spec["metrics"]:
            kind = metric["type"]
            if kind == "Resource":
                target = metric["resource"]["target"]["averageUtilization"]
                found[metric["resource"]["name"]] = float(target)
            else:
                inner = metric[kind.lower()]
                average = inner["target"]["averageValue"]
                found[inner["metric"]["name"]] = float(average)
        return found

    def sync(self, totals: dict[str, float]) -> int:
        """Look once at the metrics' totals over all replicas; the new number."""
        wish = max(
            self._wanted(totals[name], target)
            for name, target in self.targets().items()
        )
        wish = min(max(wish, self.spec["minReplicas"]), self.spec["maxReplicas"])
        self._wishes.append((self.now_s, wish))
        steady = self._stabilised(wish)
        if steady > self.replicas:
            allowed = min(steady, self.replicas + self._allowance("scaleUp"))
        elif steady < self.replicas:
            allowed = max(steady, self.replicas - self._allowance("scaleDown"))
        else:
            allowed = self.replicas
        if allowed != self.replicas:
            self.changes.append((self.now_s, allowed - self.replicas))
            self.replicas = allowed
        self.now_s += SYNC_S
        return self.replicas

    def _wanted(self, total: float, target: float) -> int:
        ratio = total / self.replicas / target
        if abs(ratio - 1) <= TOLERANCE:
            return self.replicas
        return math.ceil(total / target)

    def _stabilised(self, wish: int) -> int:
        """Growing waits for the least, shrinking for the most of what was wished."""
        behavior = self.spec["behavior"]
        up = self._within(behavior["scaleUp"]["stabilizationWindowSeconds"])
        down = self._within(behavior["scaleDown"]["stabilizationWindowSeconds"])
        if wish > self.replicas:
            return max(min(up), self.replicas)
        return min(max(down), self.replicas)

    def _within(self, window_s: int) -> list[int]:
        return [w for at_s, w in self._wishes if at_s >= self.now_s - window_s]

    def _allowance(self, direction: str) -> int:
        """How many replicas may come or go now, by the policies and what was done."""
        rules = self.spec["behavior"][direction]
        sign = 1 if direction == "scaleUp" else -1
        left = list[int]()
        for policy in rules["policies"]:
            since_s = self.now_s - policy["periodSeconds"]
            recent = [n for at_s, n in self.changes if at_s > since_s and n * sign > 0]
            done = sum(abs(n) for n in recent)
            before = self.replicas - sign * done
            share = policy["value"]
            if policy["type"] == "Percent":
                share = math.ceil(before * policy["value"] / 100)
            left.append(max(0, share - done))
        return max(left) if rules["selectPolicy"] == "Max" else min(left)
