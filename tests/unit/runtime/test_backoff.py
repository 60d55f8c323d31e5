"""Delays between attempts: capped, jittered, and reset by success."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.runtime.backoff import Backoff


class Highest(random.Random):
    """Chance that always draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_the_bound_doubles_up_to_the_cap() -> None:
    """Each failure doubles the longest possible wait until the cap is reached."""
    backoff = Backoff(1.0, 5.0, Highest())

    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_success_starts_over() -> None:
    """After a success the next failure is the first one again."""
    backoff = Backoff(1.0, 60.0, Highest())
    backoff.next_s()
    backoff.next_s()

    backoff.reset()

    assert backoff.next_s() == 1.0


@given(seed=st.integers(), failures=st.integers(min_value=1, max_value=3000))
def test_every_delay_lies_between_nothing_and_the_cap(seed: int, failures: int) -> None:
    """However long a neighbour is away, nobody waits longer than the cap."""
    backoff = Backoff(0.1, 20.0, random.Random(seed))

    delays = [backoff.next_s() for _ in range(failures)]

    assert all(0 <= delay <= 20.0 for delay in delays)


def test_processes_that_fail_together_do_not_return_together() -> None:
    """Different chance, different delays: that is what jitter is for."""
    delays = {Backoff(1.0, 60.0, random.Random(seed)).next_s() for seed in range(50)}

    assert len(delays) == 50


@pytest.mark.parametrize(("base_s", "cap_s"), [(0, 1), (-1, 1), (2, 1)])
def test_nonsense_bounds_are_refused(base_s: float, cap_s: float) -> None:
    """A base of zero would retry without any pause, for ever."""
    with pytest.raises(ValueError, match="0 < base <= cap"):
        Backoff(base_s, cap_s, random.Random(1))
