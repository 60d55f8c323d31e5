"""Which results of a scenario a second try may replace."""

from collections.abc import Sequence
from typing import cast

import pytest

from chaos.checker import Kind, Violation
from chaos.scene import Result, Scene
from chaos.stage import Stage
from chaos.suite import is_only_late


def result_of(kinds: Sequence[Kind]) -> Result:
    return Result(
        name="poison",
        seed=1,
        clients=1,
        messages=1,
        deliveries=1,
        faults=[],
        violations=[Violation(kind, "room:a", "what happened") for kind in kinds],
        notes=[],
        took_s=1.0,
        began_s=0.0,
        latencies=[],
    )


def test_a_missed_limit_may_be_the_machines_fault() -> None:
    """Others may have had its cores; then it is asked once more."""
    assert is_only_late(result_of([Kind.UNKEPT, Kind.UNKEPT]))
    assert not is_only_late(result_of([]))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.UNKEPT])
def test_what_was_lost_is_never_forgiven(kind: Kind) -> None:
    """Nor doubled, reordered or invented: no machine is an excuse for that."""
    assert not is_only_late(result_of([kind]))
    assert not is_only_late(result_of([Kind.UNKEPT, kind]))


def test_some_promises_hold_at_any_pace() -> None:
    """A side effect done twice is no question of the machine."""
    scene = Scene("poison", cast("Stage", None), seed=1, stretch=1.0)

    scene.must(True, "kept")  # noqa: FBT003
    scene.must(False, "late")  # noqa: FBT003
    assert [violation.kind for violation in scene.violations] == [Kind.UNKEPT]
    scene.must(False, "done twice", at_any_pace=True)  # noqa: FBT003

    assert scene.violations[-1].kind is Kind.BROKEN
