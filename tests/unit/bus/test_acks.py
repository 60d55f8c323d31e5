"""Finished deliveries become few acknowledgements, each tag covered once."""

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.bus.acks import AckWindow


def test_nothing_is_acknowledged_past_what_is_still_at_work() -> None:
    """The third delivery finished first: it waits for the first two."""
    window = AckWindow()

    assert window.finish([3]) is None
    assert window.finish([1]) == 1
    assert window.finish([2]) == 3


def test_a_repeat_is_not_acknowledged_twice() -> None:
    """An acknowledged tag said again would close the channel."""
    window = AckWindow()
    window.finish([1, 2])

    assert window.finish([1, 2]) is None


@given(st.permutations(range(1, 30)), st.integers(1, 7))
def test_in_the_end_everything_is_covered_once(order: list[int], size: int) -> None:
    """Whatever the order, acknowledgements ascend and end at the last tag."""
    window = AckWindow()
    said = [
        covered
        for at in range(0, len(order), size)
        if (covered := window.finish(order[at : at + size])) is not None
    ]

    assert said == sorted(set(said))
    assert window.covered == 29
