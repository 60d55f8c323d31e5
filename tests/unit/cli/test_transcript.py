"""What has been shown: once each, in order, with no hole left unnoticed."""

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.cli.transcript import Transcript, Verdict


def at(position: int) -> Transcript:
    transcript = Transcript()
    transcript.start(position, "e1")
    return transcript


def test_the_next_one_is_shown() -> None:
    """Nothing is in between."""
    assert at(4).judge(5) is Verdict.SHOW


def test_what_was_shown_is_a_repeat() -> None:
    """A reconnect may bring it again."""
    assert at(4).judge(4) is Verdict.REPEAT
    assert at(4).judge(1) is Verdict.REPEAT


def test_a_jump_is_a_gap() -> None:
    """Something has to be read first."""
    assert at(4).judge(6) is Verdict.GAP


def test_what_is_ephemeral_is_always_shown() -> None:
    """It has no place, so it can neither be missing nor repeated."""
    assert at(4).judge(0) is Verdict.SHOW


def test_before_it_started_everything_is_shown() -> None:
    """A channel without a log has nothing to compare with."""
    assert Transcript().judge(17) is Verdict.SHOW


def test_the_position_never_goes_back() -> None:
    """Showing something old does not make newer things missing."""
    transcript = at(9)
    transcript.shown(3)

    assert transcript.position == 9


def test_another_epoch_is_another_log() -> None:
    """An unknown epoch says nothing; a different one says everything."""
    assert at(4).belongs("e1")
    assert at(4).belongs("")
    assert Transcript().belongs("e2")
    assert not at(4).belongs("e2")


@given(st.integers(1, 50), st.lists(st.integers(1, 60)))
def test_any_arrival_is_shown_once_and_in_order(
    start: int, arrivals: list[int]
) -> None:
    """Filling every gap when it is noticed leaves neither holes nor repeats."""
    transcript = at(start)
    shown: list[int] = []

    for offset in arrivals:
        if transcript.judge(offset) is Verdict.GAP:
            for missing in range(transcript.position + 1, offset):
                shown.append(missing)
                transcript.shown(missing)
        if transcript.judge(offset) is Verdict.SHOW:
            shown.append(offset)
            transcript.shown(offset)

    assert shown == list(range(start + 1, start + 1 + len(shown)))
