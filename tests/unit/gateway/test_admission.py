"""A storm of connects is shaped: so many at once, so many a second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.gateway.admission import Admission


def test_a_burst_is_let_in_and_the_next_one_waits() -> None:
    """It hears after how long to come back."""
    admission = Admission(10.0, 3, 100.0)

    assert [admission.admit(100.0) for _ in range(3)] == [0, 0, 0]
    assert pytest.approx(admission.admit(100.0)) == 0.1


def test_room_grows_with_time_up_to_the_burst() -> None:
    """A quiet hour lets in no more than one burst."""
    admission = Admission(8.0, 3, 100.0)
    for _ in range(3):
        admission.admit(100.0)

    assert admission.admit(100.125) == 0
    assert admission.admit(100.125) > 0
    assert [admission.admit(3700.0) for _ in range(3)] == [0, 0, 0]
    assert admission.admit(3700.0) > 0


def test_a_rate_of_0_lets_everyone_in() -> None:
    """The switch for those who shape elsewhere."""
    admission = Admission(0.0, 1, 100.0)

    assert sum(admission.admit(100.0) for _ in range(10_000)) == 0


@given(
    st.floats(0.5, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(
    rate: float, burst: int, pauses: list[float]
) -> None:
    """Over any stretch from the beginning."""
    admission, now_s, let_in = Admission(rate, burst, 0.0), 0.0, 0
    for pause in pauses:
        now_s += pause
        let_in += admission.admit(now_s) == 0
        assert let_in <= burst + rate * now_s + 1e-6


@given(st.floats(0.5, 100), st.integers(1, 5))
def test_who_waits_as_told_is_let_in(rate: float, burst: int) -> None:
    """Retry-After is an honest promise to the one who comes alone."""
    admission = Admission(rate, burst, 0.0)
    while not (wait_s := admission.admit(0.0)):
        pass

    assert admission.admit(wait_s + 1e-6) == 0
