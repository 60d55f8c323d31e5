"""Fences: who has been replaced is not heard any more."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.gateway.fences import Fences
from chatmesh.wire.messages import LiveEvent, LivePublication
from support.gateway_rig import Rig

ROOM = "room:a"


def said(*fenced: tuple[str, int]) -> LiveEvent:
    publications = [
        LivePublication(b'{"n":%d}' % n, fence=fence, fence_epoch=epoch)
        for n, (fence, epoch) in enumerate(fenced)
    ]
    return LiveEvent(ROOM, publications)


def epochs(event: LiveEvent) -> list[int]:
    return [one.fence_epoch for one in event.publications]


def test_a_lower_epoch_than_seen_is_dropped() -> None:
    """The same and a higher one pass; other fences have epochs of their own."""
    fences = Fences()

    assert epochs(fences.admitted(said(("r", 1), ("r", 2), ("r", 1)))) == [1, 2]
    assert epochs(fences.admitted(said(("r", 1), ("r", 2)))) == [2]
    assert epochs(fences.admitted(said(("other", 1)))) == [1]


def test_a_fence_is_one_channels_own() -> None:
    """Nobody in another channel can raise it."""
    fences = Fences()
    fences.admitted(LiveEvent("room:b", said(("r", 9)).publications))

    assert epochs(fences.admitted(said(("r", 1)))) == [1]


def test_what_has_no_fence_costs_nothing() -> None:
    """The very same event comes back."""
    fences = Fences()
    event = said(("", 0), ("", 0))

    assert fences.admitted(event) is event
    assert len(fences) == 0


def test_what_was_unheard_for_longest_is_forgotten_first() -> None:
    """Memory has a bound, and what goes on keeps its fence."""
    fences = Fences(kept_max=2)
    for name in ("a", "b", "a", "c"):
        fences.admitted(said((name, 5)))

    assert len(fences) == 2
    assert epochs(fences.admitted(said(("a", 4)))) == []
    assert epochs(fences.admitted(said(("b", 4)))) == [4]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5)), max_size=30))
def test_what_passes_never_goes_back(told: Sequence[tuple[str, int]]) -> None:
    """In whatever order epochs arrive, those let through ascend, fence by fence."""
    fences = Fences()
    passed = [
        (one.fence, one.fence_epoch)
        for event in (said(one) for one in told)
        for one in fences.admitted(event).publications
    ]

    for name in "ab":
        heard = [epoch for fence, epoch in passed if fence == name]
        assert heard == sorted(heard)
        assert max(heard, default=0) == max(
            (e for f, e in told if f == name), default=0
        )


async def test_viewers_see_nothing_of_who_was_replaced() -> None:
    """And the gateway counts it."""
    rig = Rig()
    await rig.get_the_link_back()
    ada = await rig.subscribed(ROOM)

    rig.hear(said(("r", 2), ("r", 1)))
    rig.hear(said(("r", 1)))

    told = await ada.hears()
    assert [one["push"]["pub"]["data"] for one in told] == [{"n": 0}]  # type: ignore[index]
    assert rig.metric("fenced_out_total") == 2
    await rig.close()
