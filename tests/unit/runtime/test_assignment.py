"""Who consumes which partition: everybody's, fairly, with few moves."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.runtime.assignment import Moves, Silence, View, assign, moves

NOBODY: dict[int, str | None] = dict.fromkeys(range(16))

replicas = st.sets(st.sampled_from("abcdefg"), min_size=1, max_size=7)
owners = st.dictionaries(
    st.integers(0, 15), st.none() | st.sampled_from("abcdefgxy"), max_size=16
).map(lambda some: {**NOBODY, **some})


@given(owners, replicas)
def test_every_partition_has_exactly_one_living_owner(
    owners: dict[int, str | None], living: set[str]
) -> None:
    """Nothing is left lying, nothing goes to the dead."""
    assigned = assign(owners, sorted(living))

    assert set(assigned) == set(owners)
    assert set(assigned.values()) <= living


@given(owners, replicas)
def test_shares_differ_by_at_most_one(
    owners: dict[int, str | None], living: set[str]
) -> None:
    """Fair, as far as whole partitions allow."""
    counts = Counter(assign(owners, sorted(living)).values())
    shares = [counts[replica] for replica in living]

    assert max(shares) - min(shares) <= 1


@given(owners, replicas)
def test_no_more_moves_than_fairness_needs(
    owners: dict[int, str | None], living: set[str]
) -> None:
    """A living holder loses only what is above its share."""
    assigned = assign(owners, sorted(living))
    shares = Counter(assigned.values())
    for replica in living:
        held = {p for p, owner in owners.items() if owner == replica}
        kept = {p for p in held if assigned[p] == replica}
        assert len(kept) == min(len(held), shares[replica])


@given(owners, replicas)
def test_the_assignment_is_stable(
    owners: dict[int, str | None], living: set[str]
) -> None:
    """Once it is carried out nothing moves any more."""
    assigned = assign(owners, sorted(living))

    assert assign(dict(assigned), sorted(living)) == assigned


@given(owners, replicas, st.randoms())
def test_everybody_decides_the_same(
    owners: dict[int, str | None], living: set[str], random: object
) -> None:
    """The order in which the replicas are listed does not matter."""
    del random
    assert assign(owners, sorted(living)) == assign(
        owners, sorted(living, reverse=True)
    )


def test_a_newcomer_gets_its_share_and_nobody_else_moves() -> None:
    """Two become three: sixteen split into six, five and five."""
    two = assign(NOBODY, ["a", "b"])
    three = assign(dict(two), ["a", "b", "c"])

    moved = [p for p in two if two[p] != three[p]]
    assert Counter(three.values()) == {"a": 6, "b": 5, "c": 5}
    assert len(moved) == 5


def test_nobody_alive_means_nobody_assigned() -> None:
    """An empty view is answered with an empty assignment."""
    assert assign(NOBODY, []) == {}


def test_a_replica_releases_before_another_claims() -> None:
    """What a living replica holds is not claimed, it is waited for."""
    held: dict[int, str | None] = dict.fromkeys(range(4), "a")
    view = View({"a": 9.0, "b": 9.0}, held)

    assert moves("a", view, frozenset(range(4))) == Moves([2, 3], [])
    assert moves("b", view, frozenset()) == Moves([], [])


def test_what_is_free_or_of_the_dead_is_claimed() -> None:
    """The dead are those whose lease does not run any more."""
    view = View({"b": 9.0}, {0: None, 1: "dead", 2: "b", 3: "b"})

    assert moves("b", view, frozenset({2})) == Moves([], [0, 1, 3])


def test_nothing_is_meant_for_a_silent_replica() -> None:
    """Its lease runs, so what it holds is waited for; what is free is not kept for it."""
    view = View({"a": 9.0, "b": 9.0}, {0: "a", 1: "a", 2: "b", 3: None})

    assert moves("a", view, frozenset({0, 1}), frozenset({"b"})) == Moves([], [3])


def test_whoever_doubts_everybody_still_counts_itself() -> None:
    """A replica that was frozen finds the marks of its own silence as well."""
    view = View({"a": 9.0}, {0: None})

    assert moves("a", view, frozenset(), frozenset({"a"})) == Moves([], [0])


def test_silent_is_whose_lease_nobody_renews() -> None:
    """However long it still runs; with the first renewal it is back."""
    silence = Silence(after_s=2.5)

    assert silence.look(View({"a": 6.0, "b": 6.0}, {}), 0.0) == frozenset()
    assert silence.look(View({"a": 7.0, "b": 6.0}, {}), 2.0) == frozenset()
    assert silence.look(View({"a": 8.0, "b": 6.0}, {}), 3.0) == {"b"}
    assert silence.look(View({"a": 9.0, "b": 9.0}, {}), 4.0) == frozenset()


def test_who_comes_back_under_its_name_begins_anew() -> None:
    """What was seen before it was gone is forgotten."""
    silence = Silence(after_s=2.5)
    silence.look(View({"b": 6.0}, {}), 0.0)
    silence.look(View({}, {}), 1.0)

    assert silence.look(View({"b": 6.0}, {}), 5.0) == frozenset()
