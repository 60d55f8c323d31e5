"""Time in which nothing ran is given back, once and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.stalls import Stalls

SPANS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 10)).map(
        lambda s: (s[0], s[0] + s[1])
    ),
    max_size=20,
)


def noted(*spans: tuple[float, float]) -> Stalls:
    stalls = Stalls()
    for since_s, until_s in spans:
        stalls.add(since_s, until_s)
    return stalls


def test_what_two_have_seen_counts_once() -> None:
    """The machine stood still, and so the loop did too."""
    assert noted((1.0, 3.0), (2.0, 4.0)).within(0.0, 10.0) == 3.0


def test_only_what_is_in_the_window_counts() -> None:
    """A stall before a fault is no excuse for it."""
    stalls = noted((1.0, 3.0), (5.0, 6.0), (9.0, 12.0))

    assert stalls.within(2.0, 10.0) == 1.0 + 1.0 + 1.0
    assert stalls.within(3.0, 5.0) == 0.0
    assert stalls.within(0.0, float("inf")) == 6.0


def test_a_quiet_machine_gives_nothing() -> None:
    """A limit is then what it says."""
    assert noted().within(0.0, 100.0) == 0.0


@given(SPANS, st.integers(0, 60), st.integers(0, 60))
def test_whatever_is_noted_in_whatever_order_is_a_union(
    spans: list[tuple[int, int]], since_s: int, lasts_s: int
) -> None:
    """Never more than the window has, never one second twice."""
    stalled = {second for a, b in spans for second in range(a, b)}
    window = set(range(since_s, since_s + lasts_s))

    found_s = noted(*spans).within(since_s, since_s + lasts_s)

    assert found_s == pytest.approx(len(stalled & window))
