"""Who may stop a run, and how much a snapshot holds."""

import msgspec
import pytest

from chatmesh.agent.calls import fitting, may_stop
from chatmesh.agent.draft import Shown, StepShown, ToolShown
from chatmesh.wire import limits


@pytest.mark.parametrize(
    ("role", "user", "whose"),
    [
        ("owner", "ada", "*"),
        ("moderator", "ada", "*"),
        ("member", "ada", "*"),
        ("guest", "ada", "ada"),
        ("guest", "", None),
        ("", "ada", "ada"),
        ("owner", "agent:owl", None),
    ],
)
def test_who_may_stop(role: str, user: str, whose: str | None) -> None:
    """Members everything, guests their own, agents nothing."""
    assert may_stop(role, user) == whose


def shown(number: int, text: str, result: str) -> Shown:
    tools = [ToolShown("c", "t", result=result)]
    return Shown(
        run=str(number),
        agent="owl",
        title="Owl",
        picture="",
        trigger="m",
        requester="ada",
        attempt=1,
        epoch=1,
        step=1,
        seq=1,
        status="streaming",
        status_detail={},
        started_ms=0,
        steps=[StepShown(1, text, tools)],
    )


def test_a_snapshot_of_a_busy_room_fits_into_one_answer() -> None:
    """Results of tools are cut before any text is."""
    runs = [shown(n, "x" * 10_000, "y" * 8000) for n in range(70)]
    found = fitting(runs)
    assert len(msgspec.json.encode(found)) <= limits.SERVICE_ANSWER_BYTES_MAX
    assert len(found) == len(runs)
    assert all(len(run["steps"][0]["text"]) == 10_000 for run in found)


def test_a_small_snapshot_is_whole() -> None:
    """Nothing is cut that fits."""
    assert fitting([shown(1, "x", "y" * 8000)]) == [shown(1, "x", "y" * 8000)]
