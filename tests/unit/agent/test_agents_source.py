"""The agents file while the service runs: what is wrong with it changes nothing."""

import asyncio
from pathlib import Path

import pytest

from chatmesh.agent.adapters import hosted_model
from chatmesh.agent.adapters.agents_source import AgentsSource
from chatmesh.runtime.tasks import Tasks
from support.eventually import eventually
from support.manual_clock import ManualClock

GOOD = "agents: {owl: {}}\n"
HOSTED = """
agents: {owl: {model: local}, fox: {}}
models:
  local: {kind: openai, name: small, base_url: "http://127.0.0.1:1/v1"}
"""


async def test_a_model_that_cannot_be_made_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its library raises: the agents stay, and the file is followed further."""

    def build(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(hosted_model, "build", build)
    path = tmp_path / "agents.yaml"
    path.write_text(GOOD)
    clock = ManualClock()
    source = AgentsSource(
        str(path), keys={}, window_s=lambda: 0.0, clock=clock, check_s=1.0
    )
    await source.load()
    tasks = Tasks()
    following = tasks.spawn(source.run(), name="follow")

    async def changed(text: str, trouble: str) -> None:
        await asyncio.to_thread(path.write_text, text)

        def seen() -> bool:
            clock.pass_time(1.0)
            return trouble in source.trouble if trouble else not source.trouble

        await eventually(seen, within_s=10)

    await changed(HOSTED, "cannot be used: no such thing")
    assert set(source().agents) == {"owl"}
    await changed(GOOD.replace("owl", "hen"), "")
    assert set(source().agents) == {"hen"}
    assert not following.done()
    await tasks.stop(1.0)
