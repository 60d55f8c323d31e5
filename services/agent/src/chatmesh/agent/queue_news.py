"""What the room is told of runs that wait: their position, whenever it changes."""

from collections.abc import Sequence
from typing import Final

from chatmesh.agent.agents import Agent, AgentsFile
from chatmesh.agent.draft import Draft, Shown
from chatmesh.agent.fairness import Waiting
from chatmesh.agent.ports import OpenRun, Room, RunBook
from chatmesh.wire.runs import RunStatus

POSITIONS_TOLD_MAX: Final = 100
"""Runs further behind learn their position when they have come nearer."""


async def told_positions(
    turn: Sequence[Waiting], agents: AgentsFile, book: RunBook, room: Room
) -> None:
    """Tell waiting runs where they stand. Raises RunBookUnavailable."""
    places = [
        (one, place)
        for place, one in enumerate(turn[:POSITIONS_TOLD_MAX], start=1)
        if one.position != place
    ]
    if not places:
        return
    by_run = {one.run: one for one, _ in places}
    for run, position, seq in await book.positions([(o.run, p) for o, p in places]):
        waiting = by_run[run]
        agent = _agent(agents, waiting.agent)
        draft = _draft(waiting.channel, run, agent, seq=seq - 1)
        # Another status than before, so that there is something to tell.
        draft.status = RunStatus.THINKING
        room.tell(agent, draft.now(RunStatus.QUEUED, position=position))


def shown_of(one: OpenRun, channel: str, agents: AgentsFile) -> Shown:
    """What there is to see of a run nobody has shown anything of yet."""
    draft = _draft(channel, one.run, _agent(agents, one.agent), seq=one.seq)
    draft.trigger, draft.requester = one.trigger, one.requester
    draft.attempt, draft.epoch = max(1, one.attempt), one.epoch
    draft.started_ms = one.started_ms
    if one.status == "queued":
        draft.detail = {"position": one.position} if one.position else {}
    else:
        draft.status = RunStatus.THINKING
    return draft.shown()


def _agent(agents: AgentsFile, name: str) -> Agent:
    return agents.agents.get(name) or Agent(name=name, title=name)


def _draft(channel: str, run: str, agent: Agent, *, seq: int) -> Draft:
    """A run before anybody has it: epoch 0, and already the first attempt."""
    return Draft(
        room=channel,
        run=run,
        agent=agent,
        trigger="",
        requester="",
        attempt=1,
        epoch=0,
        seq=seq,
        started_ms=0,
    )
