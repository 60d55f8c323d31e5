"""When gathered text is sent."""

from chatmesh.agent.pacing import SIZE_CHARS, Pace, Windows

WINDOWS = Windows(40, 250)


def test_the_first_words_go_at_once() -> None:
    """And so do those after a new beginning."""
    pace = Pace(WINDOWS)
    assert pace.wait_s(5.0, gathered=1, lag_s=0) == 0
    pace.sent(5.0)
    assert pace.wait_s(5.0, gathered=1, lag_s=0) > 0
    pace.restart()
    assert pace.wait_s(5.0, gathered=1, lag_s=0) == 0


def test_later_words_wait_for_their_window() -> None:
    """At most twenty-five a second while there is time."""
    pace = Pace(WINDOWS)
    pace.sent(5.0)
    assert abs(pace.wait_s(5.01, gathered=1, lag_s=0) - 0.03) < 1e-9
    assert pace.wait_s(5.05, gathered=1, lag_s=0) == 0


def test_much_text_does_not_wait() -> None:
    """A window is no reason to hold back two thousand characters."""
    pace = Pace(WINDOWS)
    pace.sent(5.0)
    assert pace.wait_s(5.0, gathered=SIZE_CHARS, lag_s=0) == 0


def test_a_process_that_is_behind_sends_less_often() -> None:
    """The window stretches with the lag, up to its limit."""
    windows = [WINDOWS.under(lag_s) for lag_s in (0, 0.05, 1.0)]
    assert windows == [40, 100, 250]
    assert Windows(40, 60).under(0.05) == 60
