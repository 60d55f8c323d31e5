"""Which observations carry the id of a trace."""

from chatmesh.runtime.exemplars import EVERY_S, Exemplars


def test_one_usual_observation_a_second_has_an_exemplar() -> None:
    """The first at once; what comes within its second goes without."""
    exemplars = Exemplars(slow_s=0.25)

    given = [exemplars.of(str(n), 0.25, n * EVERY_S / 4) for n in range(9)]

    assert [one and one["trace_id"] for one in given] == [
        "0", None, None, None, "4", None, None, None, "8",
    ]  # fmt: skip


def test_what_is_slow_always_has_one() -> None:
    """Whoever looks for a slow message finds its trace."""
    exemplars = Exemplars(slow_s=0.25)

    given = [exemplars.of(str(n), 0.3, 7.0) for n in range(3)]

    assert given == [{"trace_id": "0"}, {"trace_id": "1"}, {"trace_id": "2"}]
