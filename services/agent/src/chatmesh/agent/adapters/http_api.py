"""The service API: which agents there are, what they run, and how to stop it."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal, TypeVar
from uuid import UUID

import fastapi
import pydantic
from fastapi.responses import Response
from starlette.types import ASGIApp

from chatmesh.agent.agents import Agent, AgentsFile
from chatmesh.agent.news import AgentControl, Say
from chatmesh.agent.ports import Listed, Room, RunBook, RunBookUnavailable
from chatmesh.agent.settings import SECTION
from chatmesh.runtime import service_api
from chatmesh.runtime.service_api import Access, Refusal, answer, documented
from chatmesh.wire import errors, limits

T = TypeVar("T")

_PAGE_DEFAULT: Final = 50
_PAGE_MAX: Final = 500
_NOT_FOUND: Final = 404
_NAME_PATTERN: Final = "^[ -~]*$"
_AGENT_PATTERN: Final = "^[a-z0-9_-]{1,64}$"
_BY: Final = "the operator"


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(use_attribute_docstrings=True)


class AgentInfo(_Model):
    name: str
    title: str
    picture: str
    instructions: str
    model: str
    scripted: bool
    tools: list[str]
    rooms: list[str]
    mention: bool
    direct: list[str]
    keywords: list[str]
    every_message: bool
    when_busy: str
    concurrency: int
    limits: dict[str, float | None]
    """Null: the setting for all agents holds."""


class AgentList(_Model):
    agents: list[AgentInfo]
    trouble: str
    """Why the agents file, as it is now, is not in effect; empty: it is."""


class RunInfo(_Model):
    run: str
    agent: str
    channel: str
    trigger: str
    """Id of the message that is answered."""
    requester: str
    status: str
    """queued, steering, running, ending, ended."""
    outcome: str | None
    """completed, cancelled, failed, interrupted, steered (into another run)."""
    reason: str | None
    attempt: int
    epoch: int
    crashes: int
    owner: str | None
    """The replica that performs it."""
    createdMs: int  # noqa: N815 - as clients know it
    startedMs: int | None  # noqa: N815 - as clients know it
    endedMs: int | None  # noqa: N815 - as clients know it
    retryOf: str | None  # noqa: N815 - as clients know it
    """The failed run that this one does again."""


class RunPage(_Model):
    runs: list[RunInfo]
    """Newest first."""
    before: str | None
    """Ask for this next; null when this was the last page."""


class Stopped(_Model):
    stopped: list[str]
    """Empty when it was over already."""


Limit = Annotated[int, fastapi.Query(ge=1, le=_PAGE_MAX)]
Channel = Annotated[
    str, fastapi.Query(max_length=limits.CHANNEL_CHARS_MAX, pattern=_NAME_PATTERN)
]
AgentName = Annotated[str, fastapi.Query(max_length=64, pattern="^[a-z0-9_-]*$")]
AgentPath = Annotated[str, fastapi.Path(pattern=_AGENT_PATTERN)]
Status = Literal["", "queued", "steering", "running", "ending", "ended"]


def application(
    *,
    book: RunBook,
    room: Room,
    agents: Callable[[], AgentsFile],
    trouble: Callable[[], str],
    access: Access,
    operations: fastapi.APIRouter,
) -> ASGIApp:
    """The ASGI application of the HTTP port."""
    return service_api.application(
        service=SECTION,
        summary="Who the agents are, and what they do.",
        access=access,
        operations=operations,
        api=_ServiceApi(book, room, agents, trouble).router(access),
    )


class _ServiceApi:
    """The routes below /v1."""

    def __init__(
        self,
        book: RunBook,
        room: Room,
        agents: Callable[[], AgentsFile],
        trouble: Callable[[], str],
    ) -> None:
        self._book = book
        self._room = room
        self._agents = agents
        self._trouble = trouble

    def router(self, access: Access) -> fastapi.APIRouter:
        router = fastapi.APIRouter(
            prefix="/v1",
            tags=["agents"],
            dependencies=[fastapi.Depends(access.admit)],
            responses=documented(401, 403, 422, 503),
            default_response_class=Response,
        )
        get = router.get
        get("/agents", responses={200: {"model": AgentList}})(self.list_agents)
        get(
            "/agents/{name}",
            responses={200: {"model": AgentInfo}, **documented(_NOT_FOUND)},
        )(self.get_agent)
        get("/runs", responses={200: {"model": RunPage}})(self.list_runs)
        get(
            "/runs/{run}",
            responses={200: {"model": RunInfo}, **documented(_NOT_FOUND)},
        )(self.get_run)
        router.post(
            "/runs/{run}/stop",
            responses={200: {"model": Stopped}, **documented(_NOT_FOUND)},
        )(self.stop_run)
        return router

    async def list_agents(self) -> Response:
        """The agents in effect."""
        found = self._agents()
        return answer(
            {
                "agents": [_agent(found, agent) for agent in found.agents.values()],
                "trouble": self._trouble(),
            }
        )

    async def get_agent(self, name: AgentPath) -> Response:
        found = self._agents()
        agent = found.agents.get(name)
        if agent is None:
            raise _unknown("agent")
        return answer(_agent(found, agent))

    async def list_runs(
        self,
        channel: Channel = "",
        agent: AgentName = "",
        status: Status = "",
        before: UUID | None = None,
        limit: Limit = _PAGE_DEFAULT,
    ) -> Response:
        """Runs, newest first."""
        found = await _answered(
            self._book.list_runs(
                channel=channel,
                status=status,
                agent=agent,
                before=str(before) if before else "",
                limit=limit + 1,
            )
        )
        page = found[:limit]
        more = len(found) > limit
        return answer({"runs": page, "before": page[-1].run if more else None})

    async def get_run(self, run: UUID) -> Response:
        return answer(await self._one(run))

    async def stop_run(self, run: UUID) -> Response:
        """Ask for the end of a run; its partial text is kept."""
        found = await self._one(run)
        stopped = await _answered(
            self._book.stop(by=_BY, channel=found.channel, runs=[found.run])
        )
        if stopped:
            self._room.say(AgentControl(Say.STOP, stopped))
            self._room.say(AgentControl(Say.WAKE))
        return answer({"stopped": stopped})

    async def _one(self, run: UUID) -> Listed:
        found = await _answered(self._book.one(str(run)))
        if found is None:
            raise _unknown("run")
        return found


async def _answered(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except RunBookUnavailable as error:
        raise Refusal(
            503, "the database does not answer", errors.INTERNAL.code
        ) from error


def _unknown(what: str) -> Refusal:
    return Refusal(_NOT_FOUND, f"unknown {what}")


def _agent(found: AgentsFile, agent: Agent) -> dict[str, object]:
    return {
        "name": agent.name,
        "title": agent.title,
        "picture": agent.picture,
        "instructions": agent.instructions,
        "model": agent.model,
        "scripted": found.model_of(agent).kind == "scripted",
        "tools": agent.tools,
        "rooms": agent.rooms,
        "mention": agent.trigger.mention,
        "direct": agent.trigger.direct,
        "keywords": agent.trigger.keywords,
        "every_message": agent.trigger.every_message,
        "when_busy": agent.when_busy,
        "concurrency": agent.concurrency,
        "limits": agent.limits.model_dump(),
    }
