"""One wheel turns to whoever is due, once, and costs nothing for the others."""

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.gateway.wheel import Wheel


class Rider:
    """Asks to be turned to again after `again_s`, or never."""

    def __init__(self, again_s: float | None = None) -> None:
        self.due_slot = 0
        self.again_s = again_s
        self.turned: list[float] = []

    def turn(self, now_s: float) -> float | None:
        self.turned.append(now_s)
        return None if self.again_s is None else now_s + self.again_s


def test_a_rider_is_turned_to_at_the_second_it_asked_for() -> None:
    """Not before, and not again."""
    wheel, rider = Wheel(100.0), Rider()
    wheel.board(rider, 103.5)

    assert wheel.turn(103.9) == 0
    assert wheel.turn(104.0) == 1
    assert wheel.turn(200.0) == 0
    assert len(wheel) == 0


def test_boarding_again_replaces_the_earlier_time() -> None:
    """Sooner or later: only the last one counts."""
    wheel, rider = Wheel(100.0), Rider()
    wheel.board(rider, 150)
    wheel.board(rider, 102)
    wheel.turn(102.0)
    assert rider.turned == [102.0]

    wheel.board(rider, 110)
    wheel.board(rider, 120)
    wheel.turn(119.0)
    assert len(rider.turned) == 1


def test_the_past_is_the_next_turn() -> None:
    """Nobody is lost who asks for a time that is over."""
    wheel, rider = Wheel(100.0), Rider()
    wheel.board(rider, 3)

    wheel.turn(101.0)

    assert rider.turned == [101.0]


def test_who_leaves_is_not_turned_to() -> None:
    """Leaving twice is no harm."""
    wheel, rider = Wheel(100.0), Rider()
    wheel.board(rider, 101)
    wheel.leave(rider)
    wheel.leave(rider)

    assert wheel.turn(200.0) == 0


def test_after_a_pause_of_the_process_everyone_is_turned_to_once() -> None:
    """A second slept over is no second turn."""
    wheel, rider = Wheel(100.0), Rider(again_s=1.0)
    wheel.board(rider, 101)

    wheel.turn(160.0)

    assert len(rider.turned) == 1
    wheel.turn(161.0)
    assert len(rider.turned) == 2


def test_a_rider_may_take_others_off_while_it_is_turned_to() -> None:
    """A connection that closes lets go of its socket's turn."""
    wheel, other = Wheel(100.0), Rider()

    class Pusher(Rider):
        def turn(self, now_s: float) -> float | None:
            wheel.leave(other)
            return super().turn(now_s)

    wheel.board(Pusher(), 101)
    wheel.board(other, 105)

    wheel.turn(110.0)

    assert len(wheel) == 0


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 10)), max_size=20),
    st.floats(0, 1),
)
def test_every_rider_gets_its_turns_and_none_too_early(
    riders: list[tuple[float, float]], start: float
) -> None:
    """Late by less than two seconds, whatever anybody asks for."""
    wheel = Wheel(start)
    aboard = [(Rider(again_s), start + at_s) for at_s, again_s in riders]
    for rider, at_s in aboard:
        wheel.board(rider, at_s)

    now_s = start
    while now_s < start + 60:
        now_s += 0.25
        wheel.turn(now_s)

    for rider, at_s in aboard:
        assert rider.again_s is not None
        assert at_s <= rider.turned[0] <= max(at_s, start) + 2
        pauses = [
            later - sooner
            for sooner, later in zip(rider.turned, rider.turned[1:], strict=False)
        ]
        assert all(rider.again_s <= pause <= rider.again_s + 2 for pause in pauses)
