"""`ports.Model` behind an HTTP endpoint: the one module that knows the model library.

One request is one attempt: what fails is told with whether it may pass, and retried by
whoever performs the run, with the step said anew. The library's own retries are off.
"""

import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Any, Final, TypeAlias

import httpx2
import pydantic
import pydantic_core
from pydantic_ai import exceptions
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import (
    Model as LibraryModel,
)
from pydantic_ai.models import (
    ModelRequestParameters,
    StreamedResponse,
    infer_model,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from chatmesh.agent.adapters.merged_stream import merged
from chatmesh.agent.agents import AgentsFileError, HostedModel
from chatmesh.agent.conversation import (
    AgentSaid,
    Call,
    ModelAsk,
    PersonSaid,
    Responded,
    Returned,
    Turn,
    Usage,
)
from chatmesh.agent.ports import (
    Answered,
    ModelEvent,
    ModelFailed,
    StillThere,
    TextDelta,
)
from chatmesh.runtime.clock import Clock

_NO_KEY: Final = "none"
"""Endpoints without keys ignore it; the client library wants one."""
_PASSING_STATUS: Final = frozenset((408, 409, 425, 429))
_SERVER_ERROR: Final = 500
_CUT: Final = frozenset(("length", "content_filter"))
"""Reasons to end that are none of the model's own."""
_HALVES: Final = re.compile("[\ud800-\udfff]")
"""Surrogates: a character that was escaped whole has none left."""

_Said: TypeAlias = UserPromptPart | ToolReturnPart


class Hosted:
    """`ports.Model` of one entry of the agents file."""

    scripted = False

    def __init__(self, choice: HostedModel, library: LibraryModel) -> None:
        self._library = library
        self._temperature = choice.temperature
        self.name = choice.name

    @asynccontextmanager
    async def answer(
        self, ask: ModelAsk, *, step: int
    ) -> AsyncGenerator[AsyncIterator[ModelEvent]]:
        settings = ModelSettings(max_tokens=ask.output_tokens, max_retries=0)
        if self._temperature is not None:
            settings["temperature"] = self._temperature
        begun = _Begun()
        with _failures_told(begun):
            async with model_request_stream(
                self._library,
                messages_of(ask),
                model_settings=settings,
                model_request_parameters=ModelRequestParameters(
                    function_tools=[
                        ToolDefinition(
                            name=tool.name,
                            description=tool.description,
                            parameters_json_schema=dict(tool.parameters),
                            strict=False,
                        )
                        for tool in ask.tools
                    ]
                ),
            ) as stream:
                yield _events(stream, step, begun)


class _Begun:
    """Whether anything of a response has come."""

    yes = False


async def _events(
    stream: StreamedResponse, step: int, begun: _Begun
) -> AsyncIterator[ModelEvent]:
    with _failures_told(begun):
        async for event in stream:
            begun.yes = True
            match event:
                case PartStartEvent(part=TextPart(content=text)) if text:
                    yield TextDelta(_clean(text))
                case PartDeltaEvent(delta=TextPartDelta(content_delta=text)) if text:
                    yield TextDelta(_clean(text))
                case _:
                    # Arguments are shown when they are complete.
                    yield StillThere()
        response = stream.get()
        if response.finish_reason is None:
            # The stream ended politely, but the model never said that it was done.
            raise ModelFailed("the model broke off", passing=True, begun=True)
        yield Answered(
            _responded(response, step),
            finish=response.finish_reason,
            model=response.model_name or "",
        )


def _responded(response: ModelResponse, step: int) -> Responded:
    text = "".join(
        part.content for part in response.parts if isinstance(part, TextPart)
    )
    calls = [
        Call(part.tool_call_id, part.tool_name, part.args_as_json_str())
        for part in response.parts
        if isinstance(part, ToolCallPart)
    ]
    usage = Usage(response.usage.input_tokens, response.usage.output_tokens)
    cleaned = [
        Call(_clean(one.id), _clean(one.name), _clean(one.arguments)) for one in calls
    ]
    if response.finish_reason in _CUT:
        # Calls of half a response are not made: the last one is cut as well, and what
        # would have come between them nobody knows.
        return Responded(
            step,
            _clean(text),
            usage=usage,
            cut_off=True,
            cut_by=response.finish_reason or "",
        )
    # What had to be cleaned goes back to the model as it is kept here, and not as it came.
    as_said = _clean(text) == text and cleaned == calls
    raw = _raw(response) if as_said else b""
    return Responded(step, _clean(text), cleaned, usage, raw)


def _raw(response: ModelResponse) -> bytes:
    """The response in the words of the library; empty where it holds what is no text."""
    try:
        return ModelMessagesTypeAdapter.dump_json([response])
    except pydantic_core.PydanticSerializationError:
        return b""


def _clean(text: str) -> str:
    """What a model wrote, as text that can be stored and sent.

    JSON's escapes may stand for halves of characters, which have no UTF-8, and for NUL,
    which no text of the database holds.
    """
    return _HALVES.sub("\ufffd", text).replace("\x00", "")


# -- What the library is told ------------------------------------------------------------


def messages_of(ask: ModelAsk) -> list[ModelMessage]:
    """The conversation in the words of the library."""
    messages: list[ModelMessage] = []
    waiting: list[_Said] = []

    def flush() -> None:
        if waiting:
            messages.append(
                ModelRequest(parts=list(waiting), instructions=ask.instructions)
            )
            waiting.clear()

    for turn in ask.turns:
        part = _said(turn)
        if part is not None:
            waiting.append(part)
            continue
        flush()
        messages.append(_response_of(turn))
    flush()
    return messages


def _said(turn: Turn) -> _Said | None:
    match turn:
        case PersonSaid(name=name, text=text):
            return UserPromptPart(f"{name}: {text}" if name else text)
        case Returned(call=call, name=name, content=content, outcome=outcome):
            told = content if outcome == "done" else f"{outcome}: {content}"
            return ToolReturnPart(tool_name=name, content=told, tool_call_id=call)
        case AgentSaid() | Responded():
            return None


def _response_of(turn: Turn) -> ModelResponse:
    if isinstance(turn, Responded) and turn.raw:
        (message,) = ModelMessagesTypeAdapter.validate_json(turn.raw)
        assert isinstance(message, ModelResponse)
        return message
    if isinstance(turn, Responded):
        parts: Sequence[Any] = [
            *([TextPart(turn.text)] if turn.text else []),
            *(ToolCallPart(c.name, c.arguments, c.id) for c in turn.calls),
        ]
        return ModelResponse(parts=list(parts))
    assert isinstance(turn, AgentSaid)
    return ModelResponse(parts=[TextPart(turn.text)])


# -- What the library says ---------------------------------------------------------------


@contextmanager
def _failures_told(begun: _Begun) -> Generator[None]:
    """Turn what the library raises into the one exception runs know."""
    try:
        yield
    except exceptions.ModelHTTPError as error:
        status = error.status_code
        quota = isinstance(error, exceptions.ModelQuotaExceededError)
        passing = not quota and (
            status in _PASSING_STATUS or status >= _SERVER_ERROR or error.in_stream
        )
        raise ModelFailed(
            "the quota of the model is used up"
            if quota
            else f"the model answered with HTTP status {status}",
            passing=passing,
            after_s=error.retry_after,
            begun=begun.yes,
        ) from error
    except (exceptions.ModelAPIError, httpx2.HTTPError, httpx2.StreamError) as error:
        refused = isinstance(
            error,
            exceptions.ModelRequestRejectedError | exceptions.ModelQuotaExceededError,
        )
        raise ModelFailed(
            "the model broke off" if begun.yes else "the model cannot be reached",
            passing=not refused,
            after_s=getattr(error, "retry_after", None),
            begun=begun.yes,
        ) from error
    except (exceptions.UnexpectedModelBehavior, pydantic.ValidationError) as error:
        raise ModelFailed(
            "the model sent what is no answer", passing=True, begun=begun.yes
        ) from error
    except exceptions.UserError as error:
        raise ModelFailed(
            "the model refuses the conversation", passing=False
        ) from error


def build(
    choice: HostedModel, key: str, *, window_s: Callable[[], float], clock: Clock
) -> Hosted:
    """The model of an entry; blocks while it imports its library.

    Text of a model that speaks as OpenAI's do is gathered for `window_s`, asked for each
    time; the first text never waits. Raises AgentsFileError when a package it wants is
    not installed.
    """
    if choice.kind == "openai" and choice.base_url:
        provider = OpenAICompatibleProvider(
            "openai-compatible",
            base_url=choice.base_url,
            api_key=key or _NO_KEY,
            http_client=_http_client(window_s, clock),
        )
        return Hosted(choice, OpenAIChatModel(choice.name, provider=provider))
    try:
        http = _http_client(window_s, clock) if choice.kind == "openai" else None
        return Hosted(choice, _provided(choice, key, http))
    except ImportError as error:
        wanted = f"pydantic-ai-slim[{choice.kind}]=={version('pydantic-ai-slim')}"
        raise AgentsFileError(
            f"model {choice.name!r} of kind {choice.kind} cannot be used: its package is"
            f" not installed; pip install '{wanted}'"
        ) from error
    except exceptions.UserError as error:
        raise AgentsFileError(
            f"model {choice.name!r} of kind {choice.kind} cannot be used: {error}"
        ) from error


def _http_client(window_s: Callable[[], float], clock: Clock) -> httpx2.AsyncClient:
    # Reading has no deadline here: a stalled model is noticed by the run, and a slow
    # one is none of the connection's business.
    timeout = httpx2.Timeout(10.0, read=None)
    return httpx2.AsyncClient(
        timeout=timeout,
        limits=httpx2.Limits(max_connections=200),
        event_hooks={"response": [merged(window_s, clock)]},
    )


def _provided(
    choice: HostedModel, key: str, http: httpx2.AsyncClient | None
) -> LibraryModel:
    """A model of a provider that the library knows by name."""
    from pydantic_ai.providers import infer_provider_class  # noqa: PLC0415

    kind = "openai-chat" if choice.kind == "openai" else choice.kind
    provider_class: Any = infer_provider_class(choice.kind)
    options: dict[str, Any] = {"api_key": key or _NO_KEY}
    if http is not None:
        options["http_client"] = http
    if choice.base_url:
        options["base_url"] = choice.base_url
    provider = provider_class(**options)
    return infer_model(f"{kind}:{choice.name}", provider_factory=lambda _name: provider)
