"""How a run ends, and the one message that says so.

Whatever ends a run, the room hears of it in one durable message: the answer, or as much
of it as there is, or one line that says why there is none.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET

from chatmesh.agent.agents import Agent, HostedModel, ScriptedModel
from chatmesh.agent.conversation import Journal, Usage
from chatmesh.wire import limits
from chatmesh.wire.runs import (
    Answer,
    AnswerAgent,
    AnswerRun,
    AnswerTool,
    AnswerUsage,
    RunOutcome,
    answer_id,
)

TEXT_BYTES_MAX: Final = limits.PUBLICATION_BYTES_MAX - 12 * limits.KIB
"""Of the text of an answer, as JSON; the rest of the message fits into what is left."""
_TOOLS_MAX: Final = 60
_NAME_CHARS_MAX: Final = 100
_REASON_CHARS_MAX: Final = 300
_MILLION: Final = 1_000_000
_MICRO_DOLLAR: Final = Decimal("0.000001")

_encode: Final = msgspec.json.Encoder().encode


class Ending(NamedTuple):
    """Why a run is over."""

    outcome: RunOutcome
    reason: str = ""
    """In words for people; empty when it is completed."""
    code: str = ""
    """The same for programs: in RUN_ERROR."""


COMPLETED: Final = Ending(RunOutcome.COMPLETED)


class Ends(Exception):
    """A run has to end here."""

    def __init__(self, outcome: RunOutcome, reason: str, code: str) -> None:
        super().__init__(reason)
        self.ending: Final = Ending(outcome, reason, code)


def failed(reason: str, code: str) -> Ends:
    return Ends(RunOutcome.FAILED, reason, code)


def interrupted(reason: str, code: str) -> Ends:
    return Ends(RunOutcome.INTERRUPTED, reason, code)


def encoded_bytes(text: str) -> int:
    """What a text takes in a message."""
    return len(_encode(text))


def usage_of(
    journal: Journal, model: HostedModel | ScriptedModel, requests: int
) -> AnswerUsage:
    """What a run has used. `requests`: how often a model was asked, at least."""
    used = Usage(journal.input_tokens, journal.output_tokens)
    cost = cost_of(used, model)
    return AnswerUsage(
        used.input_tokens,
        used.output_tokens,
        max(requests, len(journal.responses)),
        len(journal.results),
        UNSET if cost is None else str(cost),
    )


def cost_of(usage: Usage, model: HostedModel | ScriptedModel) -> Decimal | None:
    """US dollars; None where no price is known."""
    if (
        not isinstance(model, HostedModel)
        or model.input_price is None
        or model.output_price is None
    ):
        return None
    priced = (
        usage.input_tokens * model.input_price
        + usage.output_tokens * model.output_price
    )
    return (priced / _MILLION).quantize(_MICRO_DOLLAR)


def answer(
    *,
    run: str,
    trigger: str,
    agent: Agent,
    ending: Ending,
    text: str,
    model: str,
    scripted: bool,
    attempts: int,
    usage: AnswerUsage,
    duration_ms: int,
    tools: Iterable[AnswerTool] = (),
    retry_of: str | None = None,
) -> bytes:
    """The message a run ends with."""
    label = "(scripted) " if scripted else ""
    called = [AnswerTool(tool.name[:_NAME_CHARS_MAX], tool.outcome) for tool in tools]
    reason = ending.reason[:_REASON_CHARS_MAX]
    silent = f"{label}({reason or 'nothing was said'})"
    said = fitting(text) if text.strip() else silent
    return _encode(
        Answer(
            answer_id(run),
            said,
            AnswerAgent(agent.name, agent.title, agent.picture),
            AnswerRun(
                run,
                trigger,
                ending.outcome,
                model=model[:_NAME_CHARS_MAX],
                scripted=scripted,
                attempts=attempts,
                usage=usage,
                duration_ms=duration_ms,
                tools=called[-_TOOLS_MAX:],
                reason=reason or UNSET,
                retry_of=retry_of or UNSET,
            ),
        )
    )


def fitting(text: str) -> str:
    """As much of a text as one message holds."""
    while (size := encoded_bytes(text)) > TEXT_BYTES_MAX:
        text = text[: max(1, len(text) * TEXT_BYTES_MAX // size - 1)]
    return text
