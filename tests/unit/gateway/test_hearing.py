"""Tags filters: judged as the protocol says, refused when they mean nothing."""

import pytest

from chatmesh.gateway import hearing
from chatmesh.gateway.hearing import BadFilter
from chatmesh.wire.client import FilterNode

TAGS = {"team": "red", "score": "12.5", "city": "Bern"}


def leaf(cmp: str, key: str = "team", val: str = "", *vals: str) -> FilterNode:
    return FilterNode(key=key, cmp=cmp, val=val, vals=list(vals))


@pytest.mark.parametrize(
    ("node", "passes"),
    [
        (leaf("eq", val="red"), True),
        (leaf("eq", val="blue"), False),
        (leaf("neq", val="blue"), True),
        (leaf("neq", "none", "x"), True),
        (leaf("in", "team", "", "red", "blue"), True),
        (leaf("nin", "team", "", "red"), False),
        (leaf("nin", "none", "", "red"), True),
        (leaf("ex"), True),
        (leaf("ex", "none"), False),
        (leaf("nex", "none"), True),
        (leaf("sw", "city", "Be"), True),
        (leaf("ew", "city", "rn"), True),
        (leaf("ct", "city", "er"), True),
        (leaf("ct", "none", "er"), False),
        (leaf("lt", "score", "13"), True),
        (leaf("lte", "score", "12.5"), True),
        (leaf("gt", "score", "12.5"), False),
        (leaf("gte", "score", "12.5"), True),
        (leaf("gt", "city", "1"), False),
    ],
)
def test_a_comparison(node: FilterNode, passes: bool) -> None:  # noqa: FBT001
    """Numbers are compared as numbers; what is absent passes only negations."""
    hearing.check(node)

    assert hearing.matches(node, TAGS) is passes


def test_nodes_combine() -> None:
    """And, or and not, as deep as the limit allows."""
    red, cold = leaf("eq", val="red"), leaf("lt", "score", "0")

    assert hearing.matches(FilterNode(op="or", nodes=[red, cold]), TAGS)
    assert not hearing.matches(FilterNode(op="and", nodes=[red, cold]), TAGS)
    assert hearing.matches(FilterNode(op="not", nodes=[cold]), TAGS)


@pytest.mark.parametrize(
    "node",
    [
        FilterNode(op="xor"),
        FilterNode(op="and"),
        FilterNode(op="not", nodes=[leaf("ex"), leaf("ex")]),
        leaf("eq", key=""),
        leaf("about"),
        leaf("in"),
        leaf("gt", "score", "high"),
        FilterNode(op="or", nodes=[leaf("ex")] * hearing.NODES_MAX),
    ],
    ids=["op", "empty and", "not of two", "key", "cmp", "vals", "number", "too many"],
)
def test_a_filter_that_means_nothing_is_refused(node: FilterNode) -> None:
    """At subscribe, with a reason, not at every publication."""
    with pytest.raises(BadFilter) as caught:
        hearing.check(node)

    assert str(caught.value)


def test_a_filter_deeper_than_the_interpreter_can_follow_is_refused() -> None:
    """By counting, not by falling over."""
    node = leaf("ex")
    for _ in range(5000):
        node = FilterNode(op="not", nodes=[node])

    with pytest.raises(hearing.BadFilter, match="more than"):
        hearing.check(node)
