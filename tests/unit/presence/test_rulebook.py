"""Which rules hold in a channel: its namespace's own, and the usual ones otherwise."""

from chatmesh.presence.roster import Rules
from chatmesh.presence.rulebook import Rulebook
from chatmesh.wire.namespaces import NamespaceOptions

BOOK = Rulebook(
    {
        "": NamespaceOptions(presence=True),
        "room": NamespaceOptions(join_leave=True),
        "forced": NamespaceOptions(force_push_join_leave=True),
        "exact": NamespaceOptions(join_leave=True, grace_s=0, large_above=0),
        "patient": NamespaceOptions(join_leave=True, grace_s=0.5, large_above=7),
    },
    grace_s=10.0,
    large_above=200,
)


def test_joins_are_told_where_the_namespace_says_so() -> None:
    """Whoever may hear them: which subscriber does is the gateway's question."""
    assert BOOK.of("room:a") == Rules(announce=True, grace_ms=10_000, large_above=200)
    assert not BOOK.of("forced:a").announce
    assert not BOOK.of("bare").announce


def test_a_namespace_may_have_a_grace_and_a_threshold_of_its_own() -> None:
    """Nothing is a choice as well: joins and leaves of every connection, or only counts."""
    assert BOOK.of("patient:a") == Rules(announce=True, grace_ms=500, large_above=7)
    assert BOOK.of("exact:a") == Rules(announce=True, grace_ms=0, large_above=0)
    assert not BOOK.of("exact:a").merged


def test_an_unknown_namespace_is_kept_and_not_told() -> None:
    """Gateways may know a namespace before presence has been restarted."""
    unknown = BOOK.of("news:a")

    assert unknown == Rules(announce=False, grace_ms=10_000, large_above=200)
