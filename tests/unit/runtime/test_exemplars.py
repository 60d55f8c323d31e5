"""Which observations carry the id of a trace."""

from chatmesh.runtime.exemplars import EVERY_S, Exemplars


def test_one_observation_a_second_has_an_exemplar() -> None:
    """The first at once; what comes within its second goes without."""
    exemplars = Exemplars()

    given = [exemplars.of(str(n), n * EVERY_S / 4) for n in range(9)]

    assert [one and one["trace_id"] for one in given] == [
        "0", None, None, None, "4", None, None, None, "8",
    ]  # fmt: skip
