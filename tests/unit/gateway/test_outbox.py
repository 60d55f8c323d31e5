"""Three steps for a client that does not read, and none for one that does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.gateway.outbox import Budget, Chunk, Outbox, Verdict

BUDGET = Budget(1000)


def chunk(size: int, channel: str = "room:a", *, ephemeral: bool = False) -> Chunk:
    return Chunk(b"x" * size, channel=channel, ephemeral=ephemeral)


def filled(*chunks: Chunk) -> Outbox:
    outbox = Outbox()
    for one in chunks:
        outbox.put(one)
    return outbox


def test_everything_comes_out_in_order_and_once() -> None:
    """Taking empties it."""
    first, second = chunk(1), chunk(2)
    outbox = filled(first, second)

    assert [first, second] == outbox.take()
    assert (bool(outbox), outbox.bytes, outbox.take()) == (False, 0, [])


@pytest.mark.parametrize(("waiting", "dropped"), [(250, 0), (251, 1)])
def test_over_a_quarter_ephemeral_publications_are_dropped(
    waiting: int, dropped: int
) -> None:
    """Typing and tokens first: they are worth least when late."""
    outbox = filled(chunk(waiting))

    verdict = outbox.put_slow(chunk(10, ephemeral=True), BUDGET)

    assert (Verdict.FINE, dropped) == (verdict, outbox.dropped)
    assert 2 - dropped == len(outbox.take())


@pytest.mark.parametrize(
    ("waiting", "verdict"),
    [
        (490, Verdict.FINE),
        (491, Verdict.RECOVER),
        (990, Verdict.RECOVER),
        (991, Verdict.CLOSE),
    ],
)
def test_over_half_it_says_recover_and_over_all_of_it_close(
    waiting: int, verdict: Verdict
) -> None:
    """The bounds are the budget's shares."""
    assert verdict is filled(chunk(waiting)).put_slow(chunk(10), BUDGET)


def test_the_fullest_channel_is_the_one_with_the_most_bytes() -> None:
    """Replies and pings belong to no channel and are never given up."""
    outbox = filled(
        chunk(10, "room:a"), chunk(30, "room:b"), chunk(25, "room:a"), chunk(99, "")
    )
    assert outbox.fullest() == ["room:a", "room:b"]

    outbox.drop("room:a")

    assert outbox.fullest() == ["room:b"]
    assert outbox.bytes == 129
    outbox.drop("room:b")
    assert outbox.fullest() == []
    assert [len(one.payload) for one in outbox.take()] == [99]


@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.sampled_from(["", "a", "b"]), st.booleans()),
        max_size=40,
    )
)
def test_a_client_that_never_reads_never_costs_more_than_its_budget(
    arrivals: list[tuple[int, str, bool]],
) -> None:
    """Whatever comes: beyond the budget by at most the chunk that says close."""
    outbox = Outbox()
    for size, channel, ephemeral in arrivals:
        before = outbox.bytes
        verdict = outbox.put_slow(chunk(size, channel, ephemeral=ephemeral), BUDGET)
        assert before <= BUDGET.bytes_max
        if verdict is Verdict.CLOSE:
            assert outbox.bytes > BUDGET.bytes_max
            return
        if verdict is Verdict.RECOVER:
            assert outbox.bytes > BUDGET.recover_bytes
            outbox.drop(next(iter(outbox.fullest()), ""))
        assert outbox.bytes <= BUDGET.bytes_max
