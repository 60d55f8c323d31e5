"""Runs in the terminal follow the same rules as in the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatmesh.cli.runs import SILENT_S, Run, Runs, Told, read_event, read_snapshots

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "runs.json").read_text()
)
NOW_S = 1.0


def event(**fields: object) -> Told:
    read = read_event({**VECTORS["event"], **fields}, "agent:owl")
    assert read is not None
    return read


def snapshot(**fields: object) -> list[Run]:
    return read_snapshots({"runs": [{**VECTORS["snapshot"], **fields}]})


def described(run: Run) -> dict[str, Any]:
    """A run as the vectors describe one, with what they leave out."""
    return {
        "run": run.id,
        "title": run.title,
        "picture": run.picture,
        "trigger": run.trigger,
        "requester": run.requester,
        "attempt": run.attempt,
        "epoch": run.epoch,
        "seq": run.seq,
        "status": run.status,
        "texts": [step.text for step in run.steps.values()],
        "tools": [
            {
                "id": call.id,
                "name": call.name,
                "arguments": call.arguments,
                "state": call.state,
                "progress": call.progress,
                "result": call.result,
            }
            for call in run.calls
        ],
        "approvals": [
            {
                "id": asked.id,
                "outcome": asked.outcome,
                "by": asked.by,
                "arguments": asked.arguments,
            }
            for asked in run.questions.values()
        ],
        "ended": run.ended,
    }


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors(case: dict[str, Any]) -> None:
    """What the page makes of it, the terminal makes of it."""
    runs = Runs()
    for happens in case["happens"]:
        if "event" in happens:
            runs.told(event(**happens["event"]), NOW_S)
        elif "snapshot" in happens:
            runs.snapshot(snapshot(**happens["snapshot"]), NOW_S)
        else:
            runs.over(happens["over"])

    shown = [described(run) for run in runs.live.values()]

    wanted = case["runs"]
    assert len(shown) == len(wanted)
    assert [
        {**one, **expected} for one, expected in zip(shown, wanted, strict=True)
    ] == shown
    assert any(run.missing for run in runs.live.values()) is case["missing"]


def test_silence_makes_one_ask_and_then_ends_it() -> None:
    """A run whose process and durable message are both gone is not shown for ever."""
    runs = Runs()
    runs.told(event(seq=1, type="RUN_STARTED"), NOW_S)
    assert not runs.wants_snapshot(NOW_S + SILENT_S - 1)
    assert runs.wants_snapshot(NOW_S + SILENT_S)

    runs.snapshot([], NOW_S + 1)
    assert runs.live
    runs.snapshot([], NOW_S + SILENT_S)
    assert not runs.live


def test_only_agents_are_believed() -> None:
    """A person cannot pretend to be one."""
    told = {**VECTORS["event"], "seq": 1, "type": "RUN_STARTED"}

    assert read_event(told, "agent:owl") is not None
    assert read_event(told, None) is not None
    assert read_event(told, "mallory") is None
    assert read_event({**told, "seq": "1"}, None) is None
    assert read_event("text", None) is None
