"""What becomes of a message that calls an agent, whatever becomes of who answers it."""

import asyncio
import json

import pytest

from chatmesh.wire.runs import RunOutcome, run_of
from support.agent_stage import Stage
from support.fake_openai import Reply, ToolUse, broken

pytestmark = [
    # A link that is cut while it closes; see `agent_stage`.
    pytest.mark.filterwarnings("ignore:coroutine 'Connection.close':RuntimeWarning"),
    pytest.mark.timeout(120),
]

STORY = "".join(f"word {n} and " for n in range(60))


async def test_one_answer_however_often_a_message_is_delivered(stage: Stage) -> None:
    """Two replicas, three deliveries, one run, one answer."""
    stage.declare(owl={})
    first, second = await asyncio.gather(stage.replica(), stage.replica())
    await stage.say("@owl hello", key="m1")
    entry = await _entry(stage, "m1")
    await asyncio.gather(*(stage.deliver_again(entry) for _ in range(3)))
    (answer,) = await stage.answered()

    def settled() -> bool:
        known = "triggers_total"
        return (
            first.counted(known, became="known") + second.counted(known, became="known")
            == 3
        )

    await stage.until(settled, "every repeat was recognised")
    assert len(stage.answers()) == 1
    assert answer.run.id == run_of("owl", "room:a", "m1")
    assert answer.run.outcome is RunOutcome.COMPLETED
    assert len(stage.model.asked) == 1
    await stage.has_told(answer.run.id, answer.text)


async def test_a_run_outlives_its_replica(stage: Stage) -> None:
    """Its owner goes without a word; another one says the step anew, and it is whole."""
    stage.declare(owl={})
    stage.model.says(Reply.of(STORY, pause_s=0.05), Reply.of(STORY))
    owner = await stage.replica()
    await stage.say("@owl tell me")
    await stage.until(lambda: len(stage.told("TEXT_MESSAGE_CONTENT")) > 3)
    await owner.die()
    other = await stage.replica()
    (answer,) = await stage.answered()
    assert (answer.text, answer.run.attempts) == (STORY, 2)
    assert answer.run.outcome is RunOutcome.COMPLETED
    await stage.has_told(answer.run.id, STORY)
    assert other.counted("lease_takeovers_total") == 1


async def test_a_run_goes_on_where_there_is_no_room_for_new_ones(stage: Stage) -> None:
    """Whoever is full takes over all the same, and takes nothing new meanwhile."""
    stage.declare(owl={})
    slow = Reply.of(STORY, pause_s=0.05)
    stage.model.says(slow)
    owner = await stage.replica(runs_max=1)
    await stage.say("@owl first", room="room:a")
    await stage.until(lambda: stage.told("TEXT_MESSAGE_CONTENT"))
    stage.model.says(slow)
    await stage.replica(runs_max=1)
    await stage.say("@owl second", room="room:b")
    await stage.until(lambda: len(stage.model.asked) == 2)
    await stage.say("@owl third", room="room:c")
    stage.model.otherwise = lambda _: Reply.of("Done.")
    await owner.die()
    (answer,) = await stage.answered(1, "room:a")
    assert (answer.text, answer.run.attempts) == ("Done.", 2)
    assert not stage.answers("room:b"), "what was performed there goes on"
    assert not stage.answers("room:c")
    await stage.answered(1, "room:b")
    await stage.answered(1, "room:c")


async def test_a_replica_that_leaves_hands_its_run_on(stage: Stage) -> None:
    """At once: nobody waits for the lease, and no crash is counted."""
    stage.declare(owl={})
    stage.model.says(Reply.of(STORY, pause_s=0.05), Reply.of(STORY))
    owner = await stage.replica(park_s=0.0, run_lease_s=60.0)
    await stage.say("@owl tell me")
    await stage.until(lambda: len(stage.told("TEXT_MESSAGE_CONTENT")) > 3)
    await stage.replica(run_lease_s=60.0)
    await owner.leave()
    (answer,) = await stage.answered()
    assert answer.text == STORY
    assert owner.counted("runs_parked_total") == 1


async def test_what_is_finished_is_not_done_again(stage: Stage) -> None:
    """The first step is in the journal, so only the second one is asked for anew."""
    stage.declare(owl={"tools": ["*"]})
    stage.model.says(
        Reply.of("Let me see.", tools=[ToolUse("none", {})]),
        Reply.of(STORY, pause_s=0.05),
        Reply.of(STORY),
    )
    owner = await stage.replica()
    await stage.say("@owl tell me")
    await stage.until(
        lambda: [e for e in stage.told("TEXT_MESSAGE_CONTENT") if e.step == 2]
    )
    await owner.die()
    await stage.replica()
    (answer,) = await stage.answered()
    assert answer.text == f"Let me see.\n\n{STORY}"
    await stage.has_told(answer.run.id, answer.text)
    # The tool nobody serves is told to the model, which goes on.
    assert [tool.outcome for tool in answer.run.tools] == ["failed"]
    assert len(stage.model.asked) == 3
    assert "no tool is called 'none'" in stage.model.asked[2].tool_results[0]


async def test_a_run_that_kills_its_replicas_ends(stage: Stage) -> None:
    """After so many owners it is over, with the text there is, and the room goes on."""
    stage.declare(owl={})
    stage.model.says(Reply.of(STORY, pause_s=0.05))
    owner = await stage.replica(crashes_max=1)
    await stage.say("@owl tell me")
    await stage.until(lambda: len(stage.told("TEXT_MESSAGE_CONTENT")) > 20)
    await owner.die()
    await stage.replica(crashes_max=1)
    (answer,) = await stage.answered()
    assert answer.run.outcome is RunOutcome.INTERRUPTED
    assert answer.text
    assert STORY.startswith(answer.text)
    await stage.say("@owl again")
    assert (await stage.answered(2))[1].run.outcome is RunOutcome.COMPLETED


async def test_messages_of_a_time_without_agents(stage: Stage) -> None:
    """What is fresh is answered when somebody comes; what is old is told so."""
    stage.declare(owl={})
    first = await stage.replica()
    await first.leave()
    await stage.say("@owl are you there?", room="room:a")
    await stage.replica(answer_within_s=0.001)
    (answer,) = await stage.answered()
    assert answer.run.outcome is RunOutcome.INTERRUPTED
    assert "away" in answer.text


async def test_a_loop_of_tools_ends(stage: Stage) -> None:
    """A model that calls tools for ever is stopped by the limit of steps."""
    stage.declare(owl={"tools": ["*"], "limits": {"steps": 3}})
    stage.model.otherwise = lambda _: Reply.of("Again.", tools=[ToolUse("none", {})])
    await stage.replica()
    await stage.say("@owl go")
    (answer,) = await stage.answered()
    assert (answer.run.outcome, len(stage.model.asked)) == (RunOutcome.FAILED, 3)
    assert answer.text == "Again.\n\nAgain.\n\nAgain."
    await stage.until(lambda: stage.told("RUN_ERROR"))
    # Ids that a model uses again in another step name other calls.
    ids = [
        json.loads(bytes(e.data))["toolCallId"] for e in stage.told("TOOL_CALL_START")
    ]
    assert ids == ["call_1", "call_1.2", "call_1.3"]


async def test_a_model_that_never_answers(stage: Stage) -> None:
    """After so many attempts the room is told in one line."""
    stage.declare(owl={"limits": {"model_attempts": 2}})
    stage.model.says(broken(), broken())
    await stage.replica()
    await stage.say("@owl go")
    (answer,) = await stage.answered()
    assert answer.run.outcome is RunOutcome.FAILED
    assert answer.text == "(the model answered with HTTP status 500)"


async def test_text_that_would_not_end(stage: Stage) -> None:
    """The answer is cut at its limit, and the model is hung up on."""
    stage.declare(owl={"limits": {"text_chars": 100}})
    stage.model.says(Reply.of(STORY, pause_s=0.01))
    await stage.replica()
    await stage.say("@owl go")
    (answer,) = await stage.answered()
    assert answer.text == STORY[:100]
    assert answer.run.outcome is RunOutcome.INTERRUPTED
    await stage.until(lambda: stage.model.asked[0].hung_up_s is not None)


async def test_the_model_knows_what_was_said_before(stage: Stage) -> None:
    """The room's last messages, its own among them, and the instructions."""
    stage.declare(owl={"instructions": "Be an owl.", "limits": {"context_messages": 3}})
    await stage.replica()
    for text in ("one", "two", "three"):
        await stage.say(text, user="bob")
    stage.model.says("Hoo.", "Hoo again.")
    await stage.say("@owl first")
    await stage.answered()
    await stage.say("@owl second")
    await stage.answered(2)
    told = [(one["role"], one["content"]) for one in stage.model.asked[1].messages]
    assert told[0] == ("system", "Be an owl.")
    assert [text for role, text in told if role == "assistant"] == ["Hoo."]
    assert "ada: @owl second" in str(told[-1])
    assert "one" not in str(told)


async def _entry(stage: Stage, key: str):  # noqa: ANN202 - an Entry
    await stage.until(lambda: [e for _, e in stage.entries if e.id == key])
    return next(e for _, e in stage.entries if e.id == key)
