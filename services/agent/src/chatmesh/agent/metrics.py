"""Every metric of the agent service, declared once. No room, user or id is ever a label."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from chatmesh.runtime.service_metrics import ServiceMetrics
from chatmesh.wire.runs import RunOutcome

_PREFIX: Final = "chatmesh_agent"
GUARDS: Final = frozenset(
    ("steps", "tool_calls", "tokens", "deadline", "length", "crashed")
)
"""Codes of endings that say: a limit has ended the run."""
MEMORY_OUTCOMES: Final = ("found", "nothing", "failed")
_SECONDS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    15.0,
    60.0,
    300.0,
)


class Metrics(ServiceMetrics):
    """The metrics of one process, on a registry of its own."""

    def __init__(self) -> None:
        super().__init__(_PREFIX)
        r = self.registry
        self.messages = Counter(
            f"{_PREFIX}_messages",
            "Messages of rooms that were looked at.",
            registry=r,
        )
        self.triggers = Counter(
            f"{_PREFIX}_triggers",
            "Messages that call an agent, by what became of them: queued, steering,"
            " ending, known.",
            ["became"],
            registry=r,
        )
        self.runs = Gauge(
            f"{_PREFIX}_runs",
            "Runs by what they are busy with: queued (anywhere, as this replica saw them"
            " last), and of this replica thinking, tool, streaming, approval.",
            ["state"],
            registry=r,
        )
        self.wait_seconds = Histogram(
            f"{_PREFIX}_wait_seconds",
            "From the triggering message's record to the claim of its run.",
            buckets=_SECONDS,
            registry=r,
        )
        self.runs_ended = Counter(
            f"{_PREFIX}_runs_ended",
            "Runs ended, by outcome.",
            ["outcome"],
            registry=r,
        )
        for outcome in RunOutcome:
            # There from the start: Prometheus does not see a series begin at one.
            self.runs_ended.labels(outcome.value)
        self.guard_trips = Counter(
            f"{_PREFIX}_guard_trips",
            "Runs that a limit has ended, by limit: steps, tool_calls, tokens, deadline,"
            " length, crashed.",
            ["guard"],
            registry=r,
        )
        for guard in GUARDS:
            self.guard_trips.labels(guard)
        self.runs_forgotten = Counter(
            f"{_PREFIX}_runs_forgotten",
            "Ended runs whose journal was dropped because of its age.",
            registry=r,
        )
        self.run_seconds = Histogram(
            f"{_PREFIX}_run_seconds",
            "From the first claim of a run to its end.",
            buckets=_SECONDS,
            registry=r,
        )
        self.takeovers = Counter(
            f"{_PREFIX}_lease_takeovers",
            "Runs taken over from a replica that is gone or has let go.",
            registry=r,
        )
        self.runs_lost = Counter(
            f"{_PREFIX}_runs_lost",
            "Runs this replica gave up because they were somebody else's.",
            registry=r,
        )
        self.runs_parked = Counter(
            f"{_PREFIX}_runs_parked", "Runs handed on at shutdown.", registry=r
        )
        self.steered = Counter(
            f"{_PREFIX}_steered", "Messages taken into a running run.", registry=r
        )
        self.events = Counter(
            f"{_PREFIX}_events", "Events told of runs, before any loss.", registry=r
        )
        self.deltas = Counter(
            f"{_PREFIX}_deltas", "Pieces of text told while streaming.", registry=r
        )
        self.memory_queries = Counter(
            f"{_PREFIX}_memory_queries",
            "Readings of what an agent remembers, the last words of its room, by outcome:"
            " found, nothing, failed (it answers without).",
            ["outcome"],
            registry=r,
        )
        for outcome in MEMORY_OUTCOMES:
            self.memory_queries.labels(outcome)
        self.memory_query_seconds = Histogram(
            f"{_PREFIX}_memory_query_seconds",
            "From asking for what an agent remembers to having it, or to giving up.",
            buckets=_SECONDS,
            registry=r,
        )
        self.response_seconds = Histogram(
            f"{_PREFIX}_response_seconds",
            "From asking a model to the end of its response.",
            buckets=_SECONDS,
            registry=r,
        )
        self.model_calls = Counter(
            f"{_PREFIX}_model_calls",
            "Requests to models, by outcome: answered, failed (each time).",
            ["outcome"],
            registry=r,
        )
        self.first_delta_seconds = Histogram(
            f"{_PREFIX}_first_delta_seconds",
            "From asking a model to its first words.",
            buckets=_SECONDS,
            registry=r,
        )
        self.tokens = Counter(
            f"{_PREFIX}_tokens",
            "Tokens of models, by direction: input, output.",
            ["direction"],
            registry=r,
        )
        self.cost = Counter(
            f"{_PREFIX}_cost",
            "US dollars, as far as the agents file knows prices.",
            registry=r,
        )
        self.tool_calls = Counter(
            f"{_PREFIX}_tool_calls",
            "Tool calls of runs, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.commit_retries = Counter(
            f"{_PREFIX}_commit_retries",
            "Answers published again because history did not answer.",
            registry=r,
        )
        self.answers_refused = Counter(
            f"{_PREFIX}_answers_refused",
            "Answers that history refuses for good.",
            registry=r,
        )
        self.book_retries = Counter(
            f"{_PREFIX}_book_retries",
            "Statements run again because the database did not answer.",
            registry=r,
        )
        self.calls = Counter(
            f"{_PREFIX}_requests",
            "Calls of clients, by outcome: answered, refused, failed, expired.",
            ["outcome"],
            registry=r,
        )
        self.loop_lag_seconds = Gauge(
            f"{_PREFIX}_loop_lag_seconds",
            "How far the event loop is behind.",
            registry=r,
        )
