"""Runs as people in rooms see them, while replicas die and people come and go."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from chaos.runs import Answered, RunBook, check
from chatmesh.wire import runs
from support.agents_side import TELLER, AgentsSide
from support.eventually import eventually
from support.fake_openai import FakeOpenAI, Reply, broken, too_many
from support.run_screens import Screen, no_prefix
from support.run_viewer import Viewer, token, watching
from support.sdks import KINDS, Kind, Member, member, missing
from support.stories import Story

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

WITHIN_S: Final = 60.0
"""For what takes a moment on a machine that is not busy with everything else."""
TAKEN_OVER_WITHIN_S: Final = 15.0
STOPPED_WITHIN_S: Final = 1.0


async def ask(viewer: Viewer, story: Story, message: str = "m1") -> str:
    """Put a question to the teller; gives the run that there will be."""
    await viewer.say(message, f"@{TELLER} {story.question}")
    return runs.run_of(TELLER, viewer.room, message)


async def answer(
    viewer: Viewer, run: str, within_s: float = WITHIN_S
) -> dict[str, Any]:
    await eventually(lambda: run in viewer.screen.answers, within_s=within_s)
    (only,) = viewer.screen.answers[run]
    return only


async def streams(viewer: Viewer, run: str, chars: int) -> None:
    """Wait until so much of the text is on the screen."""
    await eventually(lambda: len(viewer.screen.live(run)) >= chars, within_s=WITHIN_S)


def all_right(run: str, story: Story, *screens: Screen, trigger: str = "m1") -> None:
    """No character doubled or lost, at any moment; one answer, and the right one."""
    log = [
        Answered("room", f"run:{run}", trigger, one["run"]["outcome"], one["text"])
        for one in screens[0].answers[run]
    ]
    book = RunBook(
        {("room", trigger): story.text},
        log,
        {f"screen {n}": ("room", screen) for n, screen in enumerate(screens)},
        must_complete=frozenset({trigger}),
    )
    assert check(book) == []


# -- Streaming ------------------------------------------------------------------------


async def test_an_answer_is_streamed_to_every_gateway_and_kept_once(
    side: AgentsSide, key: str
) -> None:
    """Everybody sees it grow, and then it is one message like any other."""
    room, story = f"room:{key}", Story(key, chars=600)
    one, two = side.urls()
    async with watching(one, "ada", room) as ada, watching(two, "bob", room) as bob:
        run = await ask(ada, story)
        said = await answer(ada, run)
        await answer(bob, run)

        all_right(run, story, ada.screen, bob.screen)
        for screen in (ada.screen, bob.screen):
            shown = screen.runs[run]
            assert len({moment.text for moment in shown.moments}) > 5
            assert "streaming" in shown.statuses
            await eventually(lambda shown=shown: shown.ended == "RUN_FINISHED")
        assert said["run"]["trigger"] == "m1"
        assert said["run"]["usage"]["requests"] == 1
        assert said["run"]["scripted"] is False
        assert ada.screen.offsets == [1, 2]
        assert (await ada.call("run.snapshot"))["runs"] == []


@pytest.mark.parametrize("kind", KINDS[:4:3], ids=str)
async def test_whoever_comes_late_sees_all_text_so_far_and_goes_on(
    side: AgentsSide, key: str, kind: Kind
) -> None:
    """With the published libraries: a page that is opened in the middle of an answer."""
    if (reason := missing(kind)) is not None:
        pytest.skip(reason)
    room, story = f"room:{key}", Story(key, chars=1500, pause_ms=20)
    one, two = side.urls()
    late = Screen()
    async with watching(one, "ada", room) as ada:
        run = await ask(ada, story)
        await streams(ada, run, 200)
        async with member(kind, two, token("bob")) as bob:
            await bob.sdk.subscribe(room)
            await bob.hears("subscribed", channel=room)
            seen_before = len(ada.screen.live(run))
            late.catch_up(await bob.sdk.rpc("run.snapshot", {"channel": room}))
            assert len(late.live(run)) >= seen_before
            await _follow(bob, late, run, room)
        await answer(ada, run)

    all_right(run, story, ada.screen, late)


async def _follow(bob: Member, screen: Screen, run: str, room: str) -> None:
    """Put together what an SDK hears, until the answer is there."""
    heard = 0

    async def answered() -> bool:
        nonlocal heard
        events = bob.publications(room)
        for one in events[heard:]:
            screen.hear({**one, "info": {"user": one["user"]}})
        heard = len(events)
        if screen.behind:
            screen.catch_up(await bob.sdk.rpc("run.snapshot", {"channel": room}))
        return run in screen.answers

    await eventually(answered, within_s=WITHIN_S)


async def test_reloads_in_mid_stream_lose_and_double_nothing(
    side: AgentsSide, key: str
) -> None:
    """Again and again, each time with nothing remembered."""
    room, story = f"room:{key}", Story(key, chars=1500, pause_ms=20)
    screens: list[Screen] = []
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, story)
        for chars in (100, 400, 800):
            await streams(ada, run, chars)
            screens.append(ada.screen)
            await ada.reload()
        await answer(ada, run)

    all_right(run, story, ada.screen)
    for screen in screens:
        assert no_prefix(screen.runs[run].moments, story.text) is None


# -- Stop -----------------------------------------------------------------------------


async def test_anybody_in_the_room_stops_it_from_anywhere(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """The model is hung up on within a second, and what there was is kept and marked."""
    one, two = side.urls()
    took: list[float] = []
    for attempt in range(3):
        room = f"room:{key}-{attempt}"
        story = Story(f"{key}{attempt}", chars=20_000, pause_ms=20)
        async with (
            watching(one, "ada", room) as ada,
            watching(two, "bob", room) as bob,
        ):
            run = await ask(ada, story)
            await streams(bob, run, 50)
            asked = fresh_model.asked[-1]
            before_s = time.monotonic()
            assert await bob.call("run.stop", run=run) == {"stopped": [run]}
            await eventually(
                lambda asked=asked: asked.hung_up_s is not None, within_s=WITHIN_S
            )
            said = await answer(ada, run)
        assert asked.hung_up_s is not None
        took.append(asked.hung_up_s - before_s)
        assert said["run"]["outcome"] == "cancelled"
        assert said["text"]
        assert story.text.startswith(said["text"][:50])
        if took[-1] <= STOPPED_WITHIN_S:
            break  # A machine that is busy elsewhere may need another try.

    assert min(took) <= STOPPED_WITHIN_S, took


# -- Death of replicas ----------------------------------------------------------------


async def test_a_killed_replicas_answer_is_finished_by_another_one(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """SIGKILL in mid-sentence: one answer, its exact text, and nothing seen twice."""
    room, story = f"room:{key}", Story(key, chars=1200, pause_ms=20)
    one, two = side.urls()
    async with watching(one, "ada", room) as ada, watching(two, "bob", room) as bob:
        run = await ask(ada, story)
        await streams(bob, run, 200)
        owner = await side.owner()
        owner.kill()
        killed_s = time.monotonic()
        await eventually(lambda: len(fresh_model.asked) == 2, within_s=WITHIN_S)
        taken_over_s = fresh_model.asked[1].at_s - killed_s
        said = await answer(ada, run)
        await answer(bob, run)

    await owner.restart()
    all_right(run, story, ada.screen, bob.screen)
    assert taken_over_s <= TAKEN_OVER_WITHIN_S
    assert said["run"]["attempts"] >= 2
    assert bob.screen.runs[run].attempt == said["run"]["attempts"]


async def test_a_replica_that_is_asked_to_go_hands_its_run_on_at_once(
    side: AgentsSide, key: str
) -> None:
    """SIGTERM: nobody waits for a lease to run out."""
    room, story = f"room:{key}", Story(key, chars=3000, pause_ms=20)
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, story)
        await streams(ada, run, 100)
        owner = await side.owner()
        await owner.stop()
        await owner.start()
        await answer(ada, run)

    all_right(run, story, ada.screen)


# -- Trouble with the model -----------------------------------------------------------


async def test_a_stream_that_breaks_is_said_anew(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """What was shown of the step is replaced, and the answer is whole."""
    room, story = f"room:{key}", Story(key)
    fresh_model.says(story.reply(break_after=20))
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, story)
        await answer(ada, run)

    all_right(run, story, ada.screen)
    assert len(fresh_model.asked) == 2


async def test_a_model_that_wants_patience_gets_it(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """429 and 500 are tried again, within bounds."""
    room, story = f"room:{key}", Story(key, chars=100)
    fresh_model.says(too_many(0.2), broken())
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, story)
        await answer(ada, run)

    all_right(run, story, ada.screen)


async def test_an_agent_that_cannot_answer_says_so(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """Nothing ends without a word: one line in the room, and why."""
    room = f"room:{key}"
    fresh_model.says(*[broken(400)] * 4)
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, Story(key))
        said = await answer(ada, run)

    assert said["run"]["outcome"] == "failed"
    assert said["run"]["reason"]
    assert said["text"].strip()


async def test_a_model_that_stalls_is_asked_anew(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """After the idle time of the agent; the silent connection is closed."""
    room, story = f"room:{key}", Story(key, chars=200)
    stalled = Reply.of(story.text, piece_chars=7, stall_after=5)
    fresh_model.says(stalled)
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, story)
        await answer(ada, run)

    all_right(run, story, ada.screen)
    assert fresh_model.asked[0].hung_up_s is not None


# -- Another message while it runs ----------------------------------------------------


async def two_questions(
    side: AgentsSide, room: str, first: Story, second: Story
) -> Screen:
    """Ask for a second story while the first is told, and wait for all there will be."""
    async with watching(side.urls(), "ada", room) as ada:
        run = await ask(ada, first)
        await streams(ada, run, 50)
        other = await ask(ada, second, "m2")
        await answer(ada, run)
        if not room.startswith("room:steer-"):
            await answer(ada, other)
        return ada.screen


async def test_a_second_message_goes_into_the_answer_that_is_made(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """Steering: the model reads it too, and there is one answer."""
    first, second = Story(f"{key}a", chars=700), Story(f"{key}b", chars=100)
    screen = await two_questions(side, f"room:steer-{key}", first, second)

    (answers,) = screen.answers.values()
    assert len(answers) == 1
    assert answers[0]["text"].endswith(second.text)
    assert any(second.key in asked.prompt for asked in fresh_model.asked)


async def test_a_queued_message_is_answered_afterwards(
    side: AgentsSide, key: str
) -> None:
    """Both answers are whole, in order."""
    first, second = Story(f"{key}a", chars=700), Story(f"{key}b", chars=100)
    screen = await two_questions(side, f"room:queue-{key}", first, second)

    texts = [one["text"] for answers in screen.answers.values() for one in answers]
    assert texts == [first.text, second.text]


async def test_a_message_interrupts_the_answer(side: AgentsSide, key: str) -> None:
    """What there was of the first is kept; the second is answered."""
    first, second = Story(f"{key}a", chars=20_000), Story(f"{key}b", chars=100)
    screen = await two_questions(side, f"room:interrupt-{key}", first, second)

    (interrupted,), (whole,) = screen.answered("m1"), screen.answered("m2")
    assert interrupted["run"]["outcome"] in {"cancelled", "interrupted"}
    assert interrupted["text"].startswith(first.text[:50])
    assert whole["text"] == second.text


async def test_a_busy_agent_says_that_it_is(side: AgentsSide, key: str) -> None:
    """The second is refused in one line, and the first is whole."""
    first, second = Story(f"{key}a", chars=700), Story(f"{key}b", chars=100)
    screen = await two_questions(side, f"room:reject-{key}", first, second)

    (whole,), (refused,) = screen.answered("m1"), screen.answered("m2")
    assert whole["text"] == first.text
    assert refused["run"]["outcome"] != "completed"
    assert refused["text"].strip()


# -- Who is asked, and who is not -----------------------------------------------------


async def test_only_people_who_mean_it_are_answered(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """Quoted text and code call nobody, and nobody who is not there."""
    room, story = f"room:{key}", Story(key, chars=60)
    async with watching(side.urls(), "ada", room) as ada:
        await ada.say("q1", f"> @{TELLER} #quoted")
        await ada.say("q2", f"look: `@{TELLER} #code`")
        await ada.say("q3", "@nobody are you there?")
        run = await ask(ada, story)
        await answer(ada, run)

        assert list(ada.screen.answers) == [run]
    assert len(fresh_model.asked) == 1


async def test_the_same_message_sent_twice_is_answered_once(
    side: AgentsSide, fresh_model: FakeOpenAI, key: str
) -> None:
    """By both gateways, with one id: there is one run for it."""
    room, story = f"room:{key}", Story(key, chars=60)
    async with AsyncExitStack() as stack:
        ada, also_ada = [
            await stack.enter_async_context(watching(url, "ada", room))
            for url in side.urls()
        ]
        async with asyncio.TaskGroup() as group:
            for viewer in (ada, also_ada):
                group.create_task(ask(viewer, story))
        run = runs.run_of(TELLER, room, "m1")
        await answer(ada, run)
        await answer(also_ada, run)
        all_right(run, story, ada.screen, also_ada.screen)
    assert len(fresh_model.asked) == 1


async def test_agents_are_listed_for_a_room(side: AgentsSide, key: str) -> None:
    """By name, with what people see of them."""
    async with watching(side.urls(), "ada", f"room:{key}") as ada:
        listed = await ada.call("agent.list")

    (teller,) = [one for one in listed["agents"] if one["name"] == TELLER]
    assert teller["title"] == "Teller"
