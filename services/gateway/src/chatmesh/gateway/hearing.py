"""How one subscription hears its channel: joins and leaves, a tags filter, deltas.

Almost every subscription is plain and shares everything with its neighbours; the others
differ from it in what this says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chatmesh.wire.client import FilterNode

NODES_MAX: Final = 64
"""Nodes of a tags filter, so that judging a publication stays cheap."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a subscription has been granted beyond plain publications."""

    members: bool = False
    """Joins and leaves are pushed."""
    delta: bool = False
    """Publications come as differences to the one before."""
    tags: FilterNode | None = None
    """Only publications whose tags match are pushed."""

    @property
    def shared(self) -> bool:
        """Whether what it hears is the same as what its neighbours hear."""
        return not self.delta and self.tags is None


PLAIN: Final = Hearing()
WITH_MEMBERS: Final = Hearing(members=True)


class BadFilter(ValueError):
    """A tags filter that means nothing; says why."""


def check(node: FilterNode) -> None:
    """Refuse a filter that could not be judged. Raises BadFilter."""
    if _is_large(node):
        raise BadFilter(f"tags filter with more than {NODES_MAX} nodes")
    _check(node)


def matches(node: FilterNode, tags: Mapping[str, str]) -> bool:
    """Judge a publication's tags by a filter that `check` has let through."""
    match node.op:
        case "and":
            return all(matches(inner, tags) for inner in node.nodes)
        case "or":
            return any(matches(inner, tags) for inner in node.nodes)
        case "not":
            return not matches(node.nodes[0], tags)
        case _:
            return _compares(node, tags.get(node.key))


def _compares(node: FilterNode, value: str | None) -> bool:
    match node.cmp:
        case "ex":
            return value is not None
        case "nex":
            return value is None
        case "neq":
            return value != node.val
        case "nin":
            return value not in node.vals
        case _:
            return value is not None and _compares_text(node, value)


def _compares_text(node: FilterNode, value: str) -> bool:
    match node.cmp:
        case "eq":
            return value == node.val
        case "in":
            return value in node.vals
        case "sw":
            return value.startswith(node.val)
        case "ew":
            return value.endswith(node.val)
        case "ct":
            return node.val in value
        case _:
            return _orders(node, value)


def _orders(node: FilterNode, value: str) -> bool:
    try:
        number, bound = float(value), float(node.val)
    except ValueError:
        return False
    match node.cmp:
        case "lt":
            return number < bound
        case "lte":
            return number <= bound
        case "gt":
            return number > bound
        case _:
            return number >= bound


_NUMERIC: Final = frozenset({"lt", "lte", "gt", "gte"})
_WITH_VALUE: Final = frozenset({"eq", "neq", "sw", "ew", "ct"}) | _NUMERIC
_WITH_VALUES: Final = frozenset({"in", "nin"})
_ALONE: Final = frozenset({"ex", "nex"})


def _check(node: FilterNode) -> None:
    match node.op:
        case "":
            _check_leaf(node)
        case "and" | "or":
            if not node.nodes:
                raise BadFilter(f"{node.op} of nothing")
        case "not":
            if len(node.nodes) != 1:
                raise BadFilter("not wants exactly one node")
        case _:
            raise BadFilter("unknown op")
    for inner in node.nodes:
        _check(inner)


def _check_leaf(node: FilterNode) -> None:
    if not node.key:
        raise BadFilter("comparison without a key")
    if node.cmp not in _WITH_VALUE | _WITH_VALUES | _ALONE:
        raise BadFilter("unknown comparison")
    if node.cmp in _WITH_VALUES and not node.vals:
        raise BadFilter(f"{node.cmp} wants vals")
    if node.cmp in _NUMERIC:
        try:
            float(node.val)
        except ValueError:
            raise BadFilter(f"{node.cmp} wants a number") from None


def _is_large(node: FilterNode) -> bool:
    """Whether it has too many nodes; not by recursion, which has a limit of its own."""
    count, waiting = 0, [node]
    while waiting and count <= NODES_MAX:
        count += 1
        waiting += waiting.pop().nodes
    return count > NODES_MAX
