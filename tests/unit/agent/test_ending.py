"""The message a run ends with."""

from decimal import Decimal

from chatmesh.agent.agents import Agent, HostedModel, ScriptedModel
from chatmesh.agent.conversation import Call, Journal, Responded, Returned, Usage
from chatmesh.agent.ending import (
    COMPLETED,
    TEXT_BYTES_MAX,
    Ending,
    answer,
    cost_of,
    encoded_bytes,
    fitting,
    usage_of,
)
from chatmesh.wire import limits
from chatmesh.wire.runs import (
    Answer,
    AnswerTool,
    AnswerUsage,
    RunOutcome,
    decode_answer,
)

STOPPED = Ending(RunOutcome.CANCELLED, "stopped by bo", "cancelled")


def made(ending: Ending, text: str, *, scripted: bool = False, tools: int = 0) -> bytes:
    return answer(
        run="r",
        trigger="m",
        agent=Agent(name="owl", title="Owl"),
        ending=ending,
        text=text,
        model="small",
        scripted=scripted,
        attempts=2,
        usage=AnswerUsage(1, 2, 3, 4),
        duration_ms=5,
        tools=[AnswerTool("t" * 200, "done")] * tools,
    )


def read(body: bytes) -> Answer:
    found = decode_answer(body)
    assert found is not None
    return found


def test_a_completed_answer() -> None:
    """The text as the model wrote it, to the last blank, and how it came about."""
    found = read(made(COMPLETED, "Hello \n"))
    assert (found.id, found.text) == ("run:r", "Hello \n")
    assert (found.run.outcome, found.run.attempts) == (RunOutcome.COMPLETED, 2)


def test_a_stopped_answer_keeps_its_text() -> None:
    """And says why there is no more of it."""
    found = read(made(STOPPED, "Hel"))
    assert (found.text, found.run.reason) == ("Hel", "stopped by bo")


def test_a_run_without_text_says_so() -> None:
    """In one line, labelled where a script speaks."""
    assert read(made(STOPPED, " ")).text == "(stopped by bo)"
    assert read(made(COMPLETED, "")).text == "(nothing was said)"
    assert read(made(STOPPED, "", scripted=True)).text == "(scripted) (stopped by bo)"


def test_the_largest_answer_fits_into_a_message() -> None:
    """However the text is encoded, and however many tools were called."""
    for char in ("x", "ä", "🦉", '"', "\x01"):
        text = fitting(char * 60_000)
        assert encoded_bytes(text) <= TEXT_BYTES_MAX
        body = made(COMPLETED, char * 60_000, tools=500)
        assert len(body) <= limits.PUBLICATION_BYTES_MAX


def test_usage_is_that_of_the_whole_run() -> None:
    """Over all its steps, whoever performed them; the cost where prices are known."""
    journal = Journal(
        [
            Responded(1, "", [Call("c", "t", "")], Usage(10, 20)),
            Returned(1, "c", "t", "done", ""),
            Responded(2, "x", usage=Usage(1, 2)),
        ]
    )
    used = usage_of(journal, ScriptedModel(kind="scripted"), 1)
    assert (used.input_tokens, used.output_tokens) == (11, 22)
    assert (used.requests, used.tool_calls) == (2, 1)
    priced = HostedModel(
        kind="openai", name="m", input_price=Decimal(2), output_price=Decimal(10)
    )
    assert cost_of(Usage(1000, 100), priced) == Decimal("0.003000")
    assert cost_of(Usage(1000, 100), ScriptedModel(kind="scripted")) is None
