"""Who the agents are: the file that declares them, read with the line of every mistake."""

import difflib
import enum
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic_core import ErrorDetails

from chatmesh.runtime import settings_file
from chatmesh.runtime.settings_file import Document
from chatmesh.runtime.startup import CannotStart

SHIPPED: Final = "default_agents.yaml"
"""The agents there are without a file: one, scripted."""

_NAME: Final = re.compile(r"^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$")

Pattern = Annotated[str, pydantic.Field(min_length=1, max_length=255)]
"""A channel, where `*` stands for anything."""


class AgentsFileError(CannotStart):
    """An agents file that has to be corrected; one line per mistake, with its place."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class Trigger(_Part):
    """When an agent answers. Any of these is enough."""

    mention: bool = True
    """Its name after an at sign."""
    direct: tuple[Pattern, ...] = ()
    """Rooms in which it answers everything people say."""
    keywords: tuple[Annotated[str, pydantic.Field(min_length=2)], ...] = ()
    """Words, in any case."""
    every_message: bool = False
    """Everything, in all its rooms."""


class WhenBusy(enum.StrEnum):
    """What a message does to an agent that is answering another one in the same room."""

    STEER = "steer"
    """It goes into the answer that is being made."""
    QUEUE = "queue"
    """It is answered afterwards."""
    INTERRUPT = "interrupt"
    """The answer ends here, and this one is begun."""
    REJECT = "reject"
    """The agent says in the room that it is busy."""


class Limits(_Part):
    """What ends a run that would not end."""

    steps: Annotated[int, pydantic.Field(ge=1, le=100)] = 12
    """Responses of the model in one run."""
    tool_calls: Annotated[int, pydantic.Field(ge=0, le=500)] = 30
    """Calls of tools in one run."""
    tools_together: Annotated[int, pydantic.Field(ge=1, le=64)] = 8
    """Calls of one response that run at the same time; those that wait for people aside."""
    approval_s: Annotated[float, pydantic.Field(gt=0, le=86_400)] | None = None
    """How long people may take to allow a call; none: the setting `agent.approval_timeout_s`.

    Less when the run is over before.
    """
    duration_s: Annotated[float, pydantic.Field(gt=0, le=86_400)] = 600.0
    """From the first claim to the end, waiting for tools and people included."""
    idle_s: Annotated[float, pydantic.Field(gt=0, le=3600)] = 30.0
    """A model that sends nothing for so long is asked anew."""
    model_attempts: Annotated[int, pydantic.Field(ge=1, le=20)] = 4
    """How often one response is asked for, if it fails or breaks off."""
    retry_after_s: Annotated[float, pydantic.Field(gt=0, le=600)] = 60.0
    """The longest that a provider may ask to wait."""
    text_chars: Annotated[int, pydantic.Field(ge=100, le=40_000)] = 20_000
    """Characters of one answer, all its steps together."""
    output_tokens: Annotated[int, pydantic.Field(ge=1)] = 8192
    """Tokens of one response of the model."""
    total_tokens: Annotated[int, pydantic.Field(ge=1)] = 200_000
    """Tokens of one run, in and out."""
    context_messages: Annotated[int, pydantic.Field(ge=0, le=200)] = 20
    """Messages of the room, before the one that is answered, that the model sees."""


class Agent(_Part):
    """One agent."""

    name: str = ""
    """Its key in the file: what people write after the at sign."""
    title: Annotated[str, pydantic.Field(max_length=80)] = ""
    """Shown as its name; none: the name itself."""
    picture: Annotated[str, pydantic.Field(max_length=500)] = ""
    """An emoji or a few letters, or the address of a picture."""
    instructions: Annotated[str, pydantic.Field(max_length=50_000)] = ""
    """What the model is told of its task."""
    model: str = "scripted"
    """One of `models`."""
    tools: tuple[Annotated[str, pydantic.Field(min_length=1, max_length=128)], ...] = ()
    """Tools it may call; a `*` at the end of a name stands for the rest."""
    rooms: tuple[Pattern, ...] = ("room:*",)
    """Where it takes part."""
    trigger: Trigger = Trigger()
    when_busy: WhenBusy = WhenBusy.STEER
    when_busy_in: dict[Pattern, WhenBusy] = {}
    """Other policies for some rooms."""
    concurrency: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 20
    """Runs at the same time, over all replicas."""
    limits: Limits = Limits()


class ScriptedModel(_Part):
    """No model at all: a script that answers in a fixed way, and says so."""

    kind: Literal["scripted"]
    words_per_s: Annotated[float, pydantic.Field(gt=0, le=10_000)] = 25.0
    """How fast it speaks."""


def _endpoint(url: str) -> str:
    """An address that can be asked, or none. Raises ValueError."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        there = parts.scheme in {"http", "https"} and parts.hostname
        # Looking at the port is what finds that it is no number.
        there = there and parts.port != 0 and url.isprintable() and " " not in url
    except ValueError as error:
        raise ValueError(f"no address of an endpoint: {error}") from error
    if not there:
        raise ValueError("no address of an endpoint, such as http://localhost:8080/v1")
    return url


class HostedModel(_Part):
    """A model behind an HTTP endpoint."""

    kind: Literal["openai", "anthropic", "google", "groq", "mistral", "cohere"]
    """`openai` is any endpoint that speaks as OpenAI's; beyond `anthropic`, a package is wanted."""
    name: Annotated[str, pydantic.Field(min_length=1)]
    """What the endpoint calls the model."""
    base_url: Annotated[str, pydantic.AfterValidator(_endpoint)] = ""
    """The endpoint; none: that of the provider."""
    key: str = ""
    """Name of a key in the setting `agent.model_keys`; none: the endpoint wants none."""
    temperature: Annotated[float, pydantic.Field(ge=0, le=2)] | None = None
    input_price: Annotated[Decimal, pydantic.Field(ge=0)] | None = None
    """US dollars for a million tokens in; none: the cost is not told."""
    output_price: Annotated[Decimal, pydantic.Field(ge=0)] | None = None
    """US dollars for a million tokens out."""


ModelChoice = Annotated[
    ScriptedModel | HostedModel, pydantic.Field(discriminator="kind")
]


class AgentsFile(_Part):
    """All agents, and the models they use."""

    agents: dict[str, Agent]
    models: dict[str, ModelChoice] = {}

    @pydantic.field_validator("agents", mode="after")
    @classmethod
    def _named(cls, agents: dict[str, Agent]) -> dict[str, Agent]:
        return {
            name: agent.model_copy(update={"name": name, "title": agent.title or name})
            for name, agent in agents.items()
        }

    def model_of(self, agent: Agent) -> ScriptedModel | HostedModel:
        return self.models.get(agent.model) or ScriptedModel(kind="scripted")


def when_busy(agent: Agent, channel: str) -> WhenBusy:
    """What holds in this room: the first pattern that fits, else the agent's own."""
    for pattern, policy in agent.when_busy_in.items():
        if fnmatchcase(channel, pattern):
            return policy
    return agent.when_busy


def shipped() -> AgentsFile:
    """The agents there are without a file."""
    text = files(__package__ or "").joinpath(SHIPPED).read_text(encoding="utf-8")
    return parse(text, name=SHIPPED)


def parse(text: str, *, name: str) -> AgentsFile:
    """Read an agents file. Raises AgentsFileError, one line per mistake."""
    try:
        document = settings_file.parse(text, name=name)
    except settings_file.SettingsError as error:
        raise AgentsFileError(str(error)) from error
    try:
        found = AgentsFile.model_validate(document.values)
    except pydantic.ValidationError as error:
        told = [_describe(document, mistake) for mistake in error.errors()]
        raise AgentsFileError("\n".join(told)) from None
    problems = list(_contradictions(document, found))
    if problems:
        raise AgentsFileError("\n".join(problems))
    return found


def _contradictions(document: Document, found: AgentsFile) -> Iterator[str]:
    known = {*found.models, "scripted"}
    for name, agent in found.agents.items():
        path = ("agents", name)
        if not _NAME.match(name):
            yield _at(
                document, path, "a name has lower-case letters, digits, - and _ only"
            )
        if agent.model not in known:
            hint = _meant(agent.model, known)
            yield _at(
                document, (*path, "model"), f"no model is called {agent.model!r}{hint}"
            )
        approval_s = agent.limits.approval_s
        if approval_s is not None and approval_s >= agent.limits.duration_s:
            yield _at(
                document,
                (*path, "limits", "approval_s"),
                f"the run would be over before: duration_s is {agent.limits.duration_s:g}",
            )


def _describe(document: Document, mistake: ErrorDetails) -> str:
    where = tuple(str(part) for part in mistake["loc"])
    # The chosen member of a union is no key of the file.
    where = tuple(part for part in where if part not in _KINDS)
    reason = str(mistake["msg"]).removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        reason = f"unknown key{_meant(where[-1], _keys_at(where[:-1]))}"
    return _at(document, where, reason[:1].lower() + reason[1:])


_KINDS: Final = frozenset(
    ("scripted", "openai", "anthropic", "google", "groq", "mistral", "cohere")
)


def _keys_at(where: tuple[str, ...]) -> Mapping[str, Any]:
    """What may stand at a place: the candidates for a misspelt key."""
    match where:
        case ():
            return AgentsFile.model_fields
        case ("agents", _):
            return Agent.model_fields
        case ("agents", _, "trigger"):
            return Trigger.model_fields
        case ("agents", _, "limits"):
            return Limits.model_fields
        case ("models", _):
            return {**HostedModel.model_fields, **ScriptedModel.model_fields}
        case _:
            return {}


def _at(document: Document, path: tuple[str, ...], reason: str) -> str:
    key = ".".join(path) or "agents file"
    place = document.place(path) or document.name
    return f"{place}: {key}: {reason}"


def _meant(key: str, known: Mapping[str, Any] | set[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
