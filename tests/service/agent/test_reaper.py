"""No agent is left: somebody else ends what they have begun."""

import asyncio

import pytest

from chatmesh.agent import settings
from chatmesh.agent.reaper import Reaper
from chatmesh.runtime.service import Stopping
from chatmesh.wire.runs import RunOutcome
from support.agent_stage import FAST, Stage
from support.fake_openai import Reply

pytestmark = [
    # A link that is cut while it closes; see `agent_stage`.
    pytest.mark.filterwarnings("ignore:coroutine 'Connection.close':RuntimeWarning"),
    pytest.mark.timeout(120),
]

STORY = "".join(f"word {n} and " for n in range(60))


async def test_a_run_that_nobody_goes_on_with_ends(stage: Stage) -> None:
    """With the text there is, and under its agent's name; no agent has to be there."""
    stage.declare(owl={"title": "Owl"})
    stage.model.says(Reply.of(STORY, pause_s=0.1))
    owner = await stage.replica()
    await stage.say("@owl tell me")
    await stage.until(lambda: len(stage.told("TEXT_MESSAGE_CONTENT")) > 20)
    own = settings.Settings.model_validate(
        {
            "port": 0,
            "agents_file": str(stage.file),
            "reap_after_s": 2,
            **FAST,
            **stage.shared,
        }
    )
    stopping = Stopping()
    reaper = await asyncio.to_thread(Reaper, own, stopping)
    serving = asyncio.create_task(reaper.serve())
    await stage.until(lambda: reaper.health.ready)
    await asyncio.sleep(own.run_lease_s + own.reap_after_s)
    assert not stage.answers(), "what has an owner is left alone"
    await owner.die()
    (answer,) = await stage.answered()
    assert answer.run.outcome is RunOutcome.INTERRUPTED
    assert answer.run.reason == "nobody was there to go on with it"
    assert answer.text
    assert STORY.startswith(answer.text)
    assert answer.agent.title == "Owl"
    # Told beside the answer, by another way.
    await stage.until(lambda: bool(stage.told("RUN_ERROR")))
    stopping.request("end of test")
    await asyncio.wait({serving})
    assert serving.result() == 0
