"""Agents, their tools and their models, broken in the middle of answers.

People go on talking in rooms of their own meanwhile; what they are promised is checked as
everywhere, and what is promised of runs by `chaos.runs`.
"""

from collections.abc import Sequence
from typing import Final

from chaos.scene import ASK_EVERY_S, Pace, Scene
from chaos.stage import Shape
from chaos.theatre import Theatre, theatre
from chatmesh.local.service import Service
from support.agents_side import at_work, notes
from support.fake_openai import Asked, Reply
from support.run_viewer import Refusal
from support.stories import Story, story_in, tell

CRASHES_EARLY: Final = (
    ("agent.run_inserted", "agent.result_kept"),
    ("agent.run_claimed", "agent.response_kept"),
)
CRASHES_LATE: Final = (
    ("agent.tool_called", "agent.answer_committed"),
    ("agent.first_delta", "agent.finished_told"),
)
"""Where the first owner of three runs dies, and then the one that takes over from it."""
DIES_WITHIN_S: Final = 120.0
READY_WITHIN_S: Final = 120.0
TOOLS_WITHIN_S: Final = 120.0
STAGE: Final = Shape(gateways=2, histories=2, agents=2)
"""Where agents play: two replicas, whose lease is short so that several may die."""


async def agent_killed(scene: Scene) -> None:
    """Kill -9 of whoever tells an answer, again and again; the other one goes on."""
    await _people(scene)
    async with theatre(scene) as play:
        for _ in range(2 if scene.stretch > 1 else 1):
            runs = await play.ask_everywhere(chars=1200)
            await play.streams(runs)
            owner = await _owner(scene, play)
            async with scene.fault(f"kill -9 {owner.name}"):
                owner.kill()
                await owner.process.wait()
            await play.answered(runs)
            await scene.stage.revive(owner)


async def agent_crashes_early(scene: Scene) -> None:
    """An agent dies when it has recorded or claimed runs, and the next one later on."""
    await _crashes(scene, CRASHES_EARLY)


async def agent_crashes_late(scene: Scene) -> None:
    """An agent dies in a tool or at the first words, and the next one at the answer."""
    await _crashes(scene, CRASHES_LATE)


async def _crashes(scene: Scene, pairs: Sequence[tuple[str, str]]) -> None:
    await _people(scene)
    first, second = scene.stage.mesh.agents
    async with (
        scene.stage.tools(_notebook(scene)) as (tools, _),
        theatre(scene, rooms=3) as play,
    ):
        for labels in pairs:
            await scene.stop(second)
            await scene.stop(first)
            await _lives_until(scene, first, labels[0])
            # It learns of tools by their next sign of life; before that there are none.
            await _has_tools(scene, play)
            runs = await play.ask_everywhere(tool="add")
            for victim, other, label in zip(
                (first, second), (second, first), labels, strict=True
            ):
                await scene.until(
                    lambda victim=victim: not victim.running,
                    DIES_WITHIN_S,
                    f"an agent comes to {label}",
                    must=True,
                )
                async with scene.fault(f"agent dies at {label}"):
                    await _end(victim)
                    if victim is first:
                        await _lives_until(scene, other, labels[1])
                    else:
                        await scene.stage.revive(other)
            await play.answered(runs)
        await scene.stage.revive(second)
    scene.notes.append(f"{len(notes(tools))} calls of tools were begun")


async def _lives_until(scene: Scene, agent: Service, label: str) -> None:
    """Start an agent that will die when it passes a checkpoint."""
    crash = {"CHATMESH_CRASH_AT": f"{label}:1"}
    await scene.stage.revive(agent, crash, ready=False)


async def agent_broker_restarted(scene: Scene) -> None:
    """Kill -9 of the broker in mid-stream: the answers go on where they were."""
    await _people(scene)
    async with theatre(scene) as play:
        runs = await play.ask_everywhere(chars=8000)
        await play.streams(runs)
        async with scene.fault("kill -9 broker in mid-stream", taken_over=False):
            scene.stage.rabbit.nodes[0].process.kill()
            try:
                await scene.for_a_while(3.0)
            finally:
                await scene.stage.rabbit.nodes[0].restart()
        await play.answered(runs)


async def model_stalls(scene: Scene) -> None:
    """A model falls silent for minutes, or breaks off: it is asked anew."""
    await _people(scene)
    async with theatre(scene) as play:
        # The theatre's stories are told in this order.
        stories = [Story(f"s{n}", chars=600) for n in range(1, len(play.rooms) + 1)]
        first = {
            stories[0].key: Reply.of("", stall_after=0),
            stories[1].key: stories[1].reply(stall_after=40),
            stories[2].key: stories[2].reply(break_after=40),
            stories[3].key: stories[3].reply(break_after=0),
        }

        def misbehave_once(asked: Asked) -> Reply:
            story = story_in(asked.prompt)
            return first.pop(story.key if story else "", None) or tell(asked)

        play.model.otherwise = misbehave_once
        try:
            runs = [await play.ask(room, chars=600, pause_ms=10) for room in play.rooms]
            await play.answered(runs)
        finally:
            play.model.otherwise = tell
        scene.must(not first, f"{len(first)} stories were told without a fault")


async def tool_worker_killed(scene: Scene) -> None:
    """Kill -9 of a worker in a call: what only reads is done again, and nothing else is."""
    await _people(scene)
    async with theatre(scene, rooms=2) as play:
        reading, sending = play.rooms
        async with scene.stage.tools(_notebook(scene)) as (folder, worker):
            await _has_tools(scene, play)
            runs = [
                await play.ask(reading, tool="ponder"),
                await play.ask(sending, tool="send_parcel"),
            ]
            await scene.until(
                lambda: len(notes(folder)) >= 2, TOOLS_WITHIN_S, "calls", must=True
            )
            async with scene.fault("kill -9 tool worker"):
                worker.kill()
                await worker.wait()
        async with scene.stage.tools(_notebook(scene)):
            await play.answered(runs)
        begun = [note["tool"] for note in notes(folder)]
        sent = begun.count("send_parcel")
        scene.must(sent <= 1, f"a side effect was begun {sent} times", at_any_pace=True)
        scene.must(sent >= 1, "a side effect was not begun in time")
        scene.must(
            begun.count("ponder") == 2,
            f"a tool that only reads was begun {begun.count('ponder')} times",
        )


# -- Parts --------------------------------------------------------------------------------


def _notebook(scene: Scene) -> str:
    """Where tools note their calls: of this try, for the next one counts anew."""
    return f"{scene.name}-{scene.seed}"


async def _people(scene: Scene) -> None:
    await scene.cast(clients=12, rooms=3, with_node=False)
    scene.talk(Pace(per_client_s=1.0))


async def _owner(scene: Scene, play: Theatre) -> Service:
    """A replica that listens to the model just now."""

    def found() -> bool:
        return at_work(scene.stage.mesh.agents, play.model.port) is not None

    await scene.until(found, READY_WITHIN_S, "somebody is at work", must=True)
    owner = at_work(scene.stage.mesh.agents, play.model.port)
    return owner or scene.stage.mesh.agents[0]


async def _end(service: Service) -> None:
    service.kill()
    await service.process.wait()


async def _has_tools(scene: Scene, play: Theatre) -> None:
    viewer = play.viewers[play.rooms[0]][0]

    async def listed() -> bool:
        try:
            tools = await viewer.call("tools.list")
        except (Refusal, ConnectionError, TimeoutError):
            return False  # Nobody is there yet to say it.
        return "add" in {one["name"] for one in tools["tools"]}

    await scene.until(
        listed, TOOLS_WITHIN_S, "tools are known", must=True, every_s=ASK_EVERY_S
    )
