"""Writes deploy/dashboards/*.json for Grafana; `--check` says which ones are old.

Panels are data here, and everything else about a dashboard is the same for all. What a
query may ask for is checked against a live scrape by the system tests.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
)

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "deploy" / "dashboards"
WINDOW: Final = "$__rate_interval"
MESH: Final = "$namespace"
THE_BROKER: Final = "$broker"
"""A namespace too, but often another than the mesh's."""
ALL: Final = ".*"
"""Also what has no namespace, as outside of Kubernetes."""
_COLUMNS: Final = 24
_HEIGHT: Final = 8


@dataclass(frozen=True)
class Panel:
    """One graph: a title, a sentence for whoever looks at night, and its queries."""

    title: str
    sentence: str
    unit: str
    queries: Sequence[tuple[str, str]]
    """Query and legend."""
    exemplars: bool = False


@dataclass(frozen=True)
class Board:
    """One dashboard: rows of panels, in the order in which one should look."""

    name: str
    title: str
    sentence: str
    rows: Sequence[tuple[str, Sequence[Panel]]]


def rate(metric: str, by: str = "", more: str = "") -> str:
    group = f" by ({by})" if by else ""
    return f"sum{group} (rate({metric}{more}[{WINDOW}]))"


def quantiles(metric: str, by: str = "") -> list[tuple[str, str]]:
    """The middle and the slow end of a histogram, as two queries."""
    group = f"le, {by}" if by else "le"
    name = f" {{{{{by}}}}}" if by else ""
    return [
        (
            f"histogram_quantile({share}, "
            f"sum by ({group}) (rate({metric}_bucket[{WINDOW}])))",
            f"p{share * 100:g}{name}",
        )
        for share in (0.5, 0.99)
    ]


def latency(title: str, sentence: str, metric: str) -> Panel:
    return Panel(title, sentence, "s", quantiles(metric), exemplars=True)


def sizes(title: str, sentence: str, metric: str) -> Panel:
    return Panel(title, sentence, "short", quantiles(metric))


GATEWAY: Final = "chatmesh_gateway"
HISTORY: Final = "chatmesh_history"
PRESENCE: Final = "chatmesh_presence"
AGENT: Final = "chatmesh_agent"
TOOLS: Final = "chatmesh_tools"

SENT: Final = Panel(
    "Commands and deliveries",
    "What comes in from clients, and what that becomes on all sockets.",
    "ops",
    [
        (rate(f"{GATEWAY}_publish_to_committed_seconds_count"), "answered"),
        (rate(f"{GATEWAY}_durable_deliveries_total"), "durable deliveries"),
        (rate(f"{GATEWAY}_deliveries_total"), "all deliveries"),
    ],
)
READY: Final = Panel(
    "Ready, by process",
    "1 where /readyz says yes.",
    "short",
    [("min by (instance, job) (chatmesh_ready)", "{{job}} {{instance}}")],
)
PROCESSOR: Final = Panel(
    "CPU, by process",
    "Each process of ours works in one thread: at 1 it is full.",
    "short",
    [
        (
            f"rate(process_cpu_seconds_total[{WINDOW}]) "
            "and on (instance, job) chatmesh_build_info",
            "{{job}} {{instance}}",
        )
    ],
)
MEMORY: Final = Panel(
    "Memory, by process",
    "Resident, as the limit of a pod counts it.",
    "bytes",
    [
        (
            "process_resident_memory_bytes and on (instance, job) chatmesh_build_info",
            "{{job}} {{instance}}",
        )
    ],
)

JOURNEY: Final = Board(
    "journey",
    "chatmesh: the journey of a message",
    "Rows follow a message. The first row that grew is where to look.",
    [
        ("All in all", [SENT, READY]),
        (
            "1. From the client to the outcome",
            [
                latency(
                    "Publish to committed",
                    "What a sender waits, measured by its gateway.",
                    f"{GATEWAY}_publish_to_committed_seconds",
                ),
                Panel(
                    "Without an answer in time",
                    "The sender was told that the outcome is unknown.",
                    "ops",
                    [(rate(f"{GATEWAY}_commands_overdue_total"), "overdue")],
                ),
                sizes(
                    "Commands per broker message",
                    "Batches grow by themselves under load; 1 when it is quiet.",
                    f"{GATEWAY}_commands_per_batch",
                ),
            ],
        ),
        (
            "2. Through the broker to history",
            [
                latency(
                    "Age of a command batch at its arrival",
                    "By the gateway's clock and history's.",
                    f"{HISTORY}_queue_age_seconds",
                ),
                Panel(
                    "Oldest batch not committed",
                    "Grows when the database does not answer.",
                    "s",
                    [(f"max({HISTORY}_oldest_command_seconds)", "oldest")],
                ),
            ],
        ),
        (
            "3. The one statement",
            [
                latency(
                    "Commit",
                    "One statement, one round trip, one fsync.",
                    f"{HISTORY}_commit_seconds",
                ),
                sizes(
                    "Commands per commit",
                    "Many in one is how throughput is made.",
                    f"{HISTORY}_batch_commands",
                ),
            ],
        ),
        (
            "4. Back through the broker",
            [
                latency(
                    "Events to the broker's confirm",
                    "A slow broker shows here first.",
                    f"{HISTORY}_confirm_seconds",
                ),
                sizes(
                    "Entries per event",
                    "As gateways hear them.",
                    f"{GATEWAY}_entries_per_event",
                ),
            ],
        ),
        (
            "5. To the sockets",
            [
                latency(
                    "Committed to written",
                    "From the database's commit to the write, per batch and gateway.",
                    f"{GATEWAY}_committed_to_written_seconds",
                ),
                Panel(
                    "Event loop lag",
                    "A gateway out of CPU is late with everything.",
                    "s",
                    [(f"{GATEWAY}_loop_lag_seconds", "{{instance}}")],
                ),
            ],
        ),
    ],
)

GATEWAYS: Final = Board(
    "gateways",
    "chatmesh: gateways",
    "Connections, what they cost, and who was too slow.",
    [
        (
            "Connections",
            [
                Panel(
                    "Open connections",
                    "The autoscaler goes by this.",
                    "short",
                    [(f"{GATEWAY}_connections", "{{instance}}")],
                ),
                Panel(
                    "Handshakes, by outcome",
                    "rate and full mean that newcomers were told to come back later.",
                    "ops",
                    [(rate(f"{GATEWAY}_connects_total", "outcome"), "{{outcome}}")],
                ),
                Panel(
                    "Closes, by code",
                    "3001 is a drain, 3008 a slow client, 3012 a client that was gone.",
                    "ops",
                    [(rate(f"{GATEWAY}_closes_total", "code"), "{{code}}")],
                ),
                Panel(
                    "Subscriptions and channels",
                    "Subscriptions of all connections; channels this gateway hears.",
                    "short",
                    [
                        (f"{GATEWAY}_subscriptions", "subscriptions {{instance}}"),
                        (f"{GATEWAY}_channels", "channels {{instance}}"),
                    ],
                ),
            ],
        ),
        (
            "Traffic",
            [
                Panel(
                    "Deliveries",
                    "Publications handed to connections.",
                    "ops",
                    [(rate(f"{GATEWAY}_deliveries_total", "instance"), "{{instance}}")],
                ),
                Panel(
                    "Frames",
                    "Many messages share a frame under load.",
                    "ops",
                    [
                        (rate(f"{GATEWAY}_frames_received_total"), "in"),
                        (rate(f"{GATEWAY}_frames_sent_total"), "out"),
                    ],
                ),
                Panel(
                    "Bytes",
                    "Without what TCP and TLS add.",
                    "Bps",
                    [
                        (rate(f"{GATEWAY}_received_bytes_total"), "in"),
                        (rate(f"{GATEWAY}_sent_bytes_total"), "out"),
                    ],
                ),
            ],
        ),
        (
            "Slow clients and coming back",
            [
                Panel(
                    "Bytes waiting for slow clients",
                    "All outboxes together.",
                    "bytes",
                    [(f"{GATEWAY}_outbox_bytes", "{{instance}}")],
                ),
                Panel(
                    "Given up for slow clients",
                    "First the ephemeral, then a subscription, then the connection.",
                    "ops",
                    [
                        (
                            rate(f"{GATEWAY}_slow_client_steps_total", "step"),
                            "{{step}}",
                        )
                    ],
                ),
                Panel(
                    "Returning subscribers, by outcome",
                    "refused is an honest no: they load the room anew.",
                    "ops",
                    [(rate(f"{GATEWAY}_resumes_total", "outcome"), "{{outcome}}")],
                ),
                Panel(
                    "Holes filled and repeats dropped",
                    "What the broker lost or sent twice, mended unseen.",
                    "ops",
                    [
                        (rate(f"{GATEWAY}_gaps_filled_total"), "holes filled"),
                        (rate(f"{GATEWAY}_duplicates_dropped_total"), "dropped"),
                        (rate(f"{GATEWAY}_history_reads_total"), "reads of history"),
                    ],
                ),
            ],
        ),
        (
            "The process",
            [
                PROCESSOR,
                MEMORY,
                Panel(
                    "Age of the canary",
                    "A gateway's own publication comes back every two seconds.",
                    "s",
                    [(f"{GATEWAY}_canary_age_seconds", "{{instance}}")],
                ),
            ],
        ),
    ],
)

LOG: Final = Board(
    "history",
    "chatmesh: history",
    "The log: commits, partitions, reads, dead letters.",
    [
        (
            "Commits",
            [
                Panel(
                    "Commands, by outcome",
                    "repeated: a known id was answered as before.",
                    "ops",
                    [(rate(f"{HISTORY}_commands_total", "outcome"), "{{outcome}}")],
                ),
                latency("Commit", "One statement.", f"{HISTORY}_commit_seconds"),
                sizes("Commands per commit", "", f"{HISTORY}_batch_commands"),
                Panel(
                    "Run again",
                    "Statements that the database did not answer.",
                    "ops",
                    [(rate(f"{HISTORY}_commit_retries_total"), "retries")],
                ),
            ],
        ),
        (
            "Partitions",
            [
                Panel(
                    "Partitions held",
                    "16 in all, shared fairly.",
                    "short",
                    [(f"{HISTORY}_partitions", "{{instance}}")],
                ),
                Panel(
                    "Age of the lease",
                    "Over `history.lease_s` the partitions go to others.",
                    "s",
                    [(f"{HISTORY}_lease_age_seconds", "{{instance}}")],
                ),
                Panel(
                    "Takeovers",
                    "Partitions taken from a replica that never gave them back.",
                    "ops",
                    [(rate(f"{HISTORY}_lease_takeovers_total"), "takeovers")],
                ),
            ],
        ),
        (
            "Waiting and reading",
            [
                latency(
                    "Age of a batch at its arrival", "", f"{HISTORY}_queue_age_seconds"
                ),
                Panel(
                    "Waiting here",
                    "Batches received and not yet handed to the database.",
                    "short",
                    [(f"{HISTORY}_waiting_deliveries", "{{instance}}")],
                ),
                Panel(
                    "Reads, by outcome",
                    "Pages and heads for gateways.",
                    "ops",
                    [(rate(f"{HISTORY}_reads_total", "outcome"), "{{outcome}}")],
                ),
                latency("A round of reads", "", f"{HISTORY}_read_seconds"),
            ],
        ),
        (
            "Put aside and emptied",
            [
                Panel(
                    "Dead letters, by cause",
                    "`chatmesh dead list` shows them.",
                    "ops",
                    [(rate(f"{HISTORY}_dead_letters_total", "cause"), "{{cause}}")],
                ),
                Panel(
                    "Emptied by retention",
                    "",
                    "ops",
                    [(rate(f"{HISTORY}_retention_entries_total"), "entries")],
                ),
            ],
        ),
    ],
)

BROKER: Final = Board(
    "broker",
    "chatmesh: broker",
    "RabbitMQ, as far as it concerns us; its own dashboards say the rest.",
    [
        (
            "Queues",
            [
                Panel(
                    "Waiting commands, by partition",
                    "Should be near nothing: history takes what there is.",
                    "short",
                    [
                        (
                            "sum by (queue) (rabbitmq_detailed_queue_messages_ready"
                            '{queue=~".*[.]history[.]commands[.].*"})',
                            "{{queue}}",
                        )
                    ],
                ),
                Panel(
                    "Consumers, by partition",
                    "One or more: the active one, and those who would follow it.",
                    "short",
                    [
                        (
                            "sum by (queue) (rabbitmq_detailed_queue_consumers"
                            '{queue=~".*[.]history[.]commands[.].*"})',
                            "{{queue}}",
                        )
                    ],
                ),
                Panel(
                    "Dead letters",
                    "What waits for somebody to look at it.",
                    "short",
                    [
                        (
                            "sum(rabbitmq_detailed_queue_messages_ready"
                            '{queue=~".*dead[.]letters"})',
                            "waiting",
                        )
                    ],
                ),
            ],
        ),
        (
            "Traffic",
            [
                Panel(
                    "Messages",
                    "Broker messages are batches of ours.",
                    "ops",
                    [
                        (rate("rabbitmq_global_messages_received_total"), "received"),
                        (rate("rabbitmq_global_messages_delivered_total"), "delivered"),
                        (rate("rabbitmq_global_messages_confirmed_total"), "confirmed"),
                    ],
                ),
                Panel(
                    "Trouble",
                    "Redelivered after a loss; returned because nobody was bound.",
                    "ops",
                    [
                        (
                            rate("rabbitmq_global_messages_redelivered_total"),
                            "redelivered",
                        ),
                        (
                            rate("rabbitmq_global_messages_unroutable_returned_total"),
                            "unroutable",
                        ),
                    ],
                ),
                Panel(
                    "Links built by us",
                    "More than one a process means that links were lost.",
                    "short",
                    [
                        (f"{HISTORY}_broker_links_total", "history {{instance}}"),
                        (f"{PRESENCE}_broker_links_total", "presence {{instance}}"),
                    ],
                ),
            ],
        ),
        (
            "The nodes",
            [
                Panel(
                    "Connections and channels",
                    "",
                    "short",
                    [
                        ("sum(rabbitmq_connections)", "connections"),
                        ("sum(rabbitmq_channels)", "channels"),
                    ],
                ),
                Panel(
                    "Memory against its limit",
                    "At the limit publishers are blocked.",
                    "bytes",
                    [
                        ("rabbitmq_process_resident_memory_bytes", "used {{instance}}"),
                        ("rabbitmq_resident_memory_limit_bytes", "limit {{instance}}"),
                    ],
                ),
                Panel(
                    "Disk against its limit",
                    "Below the limit publishers are blocked.",
                    "bytes",
                    [
                        ("rabbitmq_disk_space_available_bytes", "free {{instance}}"),
                        (
                            "rabbitmq_disk_space_available_limit_bytes",
                            "limit {{instance}}",
                        ),
                    ],
                ),
            ],
        ),
    ],
)

PEOPLE: Final = Board(
    "presence",
    "chatmesh: presence",
    "Who is here: rows, reports, what was told.",
    [
        (
            "What there is",
            [
                Panel(
                    "Rows",
                    "Connections times channels, of all partitions.",
                    "short",
                    [(f"sum({PRESENCE}_connections)", "rows")],
                ),
                Panel(
                    "Gateways heard",
                    "Processes whose lease is heard, by replica.",
                    "short",
                    [(f"{PRESENCE}_processes", "{{instance}}")],
                ),
                Panel(
                    "Gateways given up",
                    "Their connections are gone, after their lease.",
                    "ops",
                    [(rate(f"{PRESENCE}_processes_lost_total"), "lost")],
                ),
            ],
        ),
        (
            "Reports",
            [
                Panel(
                    "Reports, by what became of them",
                    "",
                    "ops",
                    [(rate(f"{PRESENCE}_reports_total", "outcome"), "{{outcome}}")],
                ),
                Panel(
                    "Told",
                    "Joins, leaves, counts and activities.",
                    "ops",
                    [(rate(f"{PRESENCE}_told_total", "kind"), "{{kind}}")],
                ),
                latency("Store", "One statement.", f"{PRESENCE}_store_seconds"),
                latency("Requests", "Members, counts.", f"{PRESENCE}_request_seconds"),
            ],
        ),
        (
            "Partitions",
            [
                Panel(
                    "Partitions held",
                    "",
                    "short",
                    [(f"{PRESENCE}_partitions", "{{instance}}")],
                ),
                Panel(
                    "Age of the lease",
                    "",
                    "s",
                    [(f"{PRESENCE}_lease_age_seconds", "{{instance}}")],
                ),
                Panel(
                    "Waiting reports",
                    "Received and not yet stored.",
                    "short",
                    [(f"{PRESENCE}_waiting_reports", "{{instance}}")],
                ),
            ],
        ),
    ],
)

PROMISES: Final = Board(
    "slos",
    "chatmesh: promises",
    "What we promise to people, how much of it is kept, and what must never happen.",
    [
        (
            "Within 250 ms from commit to socket: 99.9 % of deliveries",
            [
                Panel(
                    "Late deliveries",
                    "Share of deliveries, over four windows. 0.001 is the budget.",
                    "percentunit",
                    [
                        (f"chatmesh:late_deliveries:ratio_rate{window}", window)
                        for window in ("5m", "1h", "6h", "3d")
                    ],
                ),
                Panel(
                    "Late deliveries, by gateway",
                    "One, or all?",
                    "ops",
                    [
                        (
                            rate(f"{GATEWAY}_late_deliveries_total", "instance"),
                            "{{instance}}",
                        )
                    ],
                ),
            ],
        ),
        (
            "An answer in time: 99.9 % of commands",
            [
                Panel(
                    "Commands without an answer",
                    "Share of commands, over four windows. 0.001 is the budget.",
                    "percentunit",
                    [
                        (f"chatmesh:overdue_commands:ratio_rate{window}", window)
                        for window in ("5m", "1h", "6h", "3d")
                    ],
                ),
            ],
        ),
        (
            "What must never happen",
            [
                Panel(
                    "Gaps and repeats written to sockets",
                    "Counted apart from what prevents them. Always 0.",
                    "short",
                    [
                        (f"sum({GATEWAY}_gaps_written_total)", "gaps"),
                        (f"sum({GATEWAY}_duplicates_written_total)", "repeats"),
                    ],
                ),
                Panel(
                    "Holes that could not be filled",
                    "Subscribers were told so; 0 unless retention is too short.",
                    "short",
                    [(f"sum({GATEWAY}_gaps_unfilled_total)", "unfilled")],
                ),
            ],
        ),
    ],
)

AGENTS: Final = Board(
    "agents",
    "chatmesh: agents",
    "Runs, how soon they speak, what they cost, which tools they call.",
    [
        (
            "Runs",
            [
                Panel(
                    "Runs, by what they are busy with",
                    "queued is what waits for a worker.",
                    "short",
                    [(f"sum by (state) ({AGENT}_runs)", "{{state}}")],
                ),
                Panel(
                    "Ended, by outcome",
                    "interrupted: a worker died and nobody could go on.",
                    "ops",
                    [(rate(f"{AGENT}_runs_ended_total", "outcome"), "{{outcome}}")],
                ),
                latency(
                    "First words",
                    "From the start of a run to its first delta.",
                    f"{AGENT}_first_delta_seconds",
                ),
                latency(
                    "Waiting for a worker",
                    "From the message that calls to the claim of its run.",
                    f"{AGENT}_wait_seconds",
                ),
            ],
        ),
        (
            "Cost",
            [
                Panel(
                    "Tokens",
                    "",
                    "ops",
                    [(rate(f"{AGENT}_tokens_total", "direction"), "{{direction}}")],
                ),
                Panel(
                    "Money",
                    "In the currency of the agents file, per second.",
                    "short",
                    [(rate(f"{AGENT}_cost_total"), "cost")],
                ),
                Panel(
                    "Model calls, by outcome",
                    "",
                    "ops",
                    [(rate(f"{AGENT}_model_calls_total", "outcome"), "{{outcome}}")],
                ),
            ],
        ),
        (
            "What they remember",
            [
                Panel(
                    "Memory queries, by outcome",
                    "failed: the agent answers without the room's last words.",
                    "ops",
                    [
                        (
                            rate(f"{AGENT}_memory_queries_total", "outcome"),
                            "{{outcome}}",
                        )
                    ],
                ),
                latency(
                    "Until it is remembered",
                    "From asking history for the room's last words to having them.",
                    f"{AGENT}_memory_query_seconds",
                ),
            ],
        ),
        (
            "Tools, as agents see them",
            [
                Panel(
                    "Calls, by outcome",
                    "unknown: it may have happened, and was not repeated.",
                    "ops",
                    [
                        (
                            rate(f"{AGENT}_tools_calls_total", "outcome"),
                            "{{outcome}}",
                        ),
                        (rate(f"{AGENT}_tools_retries_total"), "handed on once more"),
                    ],
                ),
                latency(
                    "From asking to the outcome",
                    "Time for approval included.",
                    f"{AGENT}_tools_call_seconds",
                ),
                Panel(
                    "Waited for, and offered",
                    "Offered falls when workers go.",
                    "short",
                    [
                        (f"sum({AGENT}_tools_calls_waiting)", "calls waited for"),
                        (f"min({AGENT}_tools_offered)", "tools offered"),
                    ],
                ),
            ],
        ),
        (
            "Tools, where they run",
            [
                Panel(
                    "Calls, by worker and outcome",
                    "tools is the worker of the built-in ones, mcp the gateway to servers.",
                    "ops",
                    [
                        (
                            rate(f"{TOOLS}_calls_total", "job, outcome"),
                            "{{job}} {{outcome}}",
                        )
                    ],
                ),
                latency("A call", "At the worker.", f"{TOOLS}_call_seconds"),
                Panel(
                    "Processes",
                    "None: agents go without.",
                    "short",
                    [
                        (
                            'count by (job) (chatmesh_build_info{service="tools"})',
                            "{{job}}",
                        )
                    ],
                ),
            ],
        ),
        (
            "Runs and their tools",
            [
                Panel(
                    "Tool calls of runs, by outcome",
                    "",
                    "ops",
                    [(rate(f"{AGENT}_tool_calls_total", "outcome"), "{{outcome}}")],
                ),
                Panel(
                    "Approvals, by outcome",
                    "Questions to people before a tool may act.",
                    "ops",
                    [(rate(f"{AGENT}_approvals_total", "outcome"), "{{outcome}}")],
                ),
                Panel(
                    "Guards, by what ran out",
                    "Runs that a limit has ended.",
                    "ops",
                    [(rate(f"{AGENT}_guard_trips_total", "guard"), "{{guard}}")],
                ),
                Panel(
                    "Takeovers",
                    "Runs that went on with another worker.",
                    "ops",
                    [(rate(f"{AGENT}_lease_takeovers_total"), "takeovers")],
                ),
            ],
        ),
    ],
)

BOARDS: Final = (JOURNEY, GATEWAYS, LOG, BROKER, PEOPLE, AGENTS, PROMISES)
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_OURS: Final = re.compile(r"\b((?:chatmesh|process)[a-z0-9_:]*)(\{)?")
_THEIRS: Final = re.compile(r"\b(rabbitmq[a-z0-9_:]*)(\{)?")
_LETTERS: Final = "ABCDEFGH"


def built(board: Board) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"chatmesh-{board.name}")
        .description(board.sentence)
        .tags(["chatmesh"])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
        )
        .with_variable(
            _namespaces("namespace", "Mesh, by namespace", "chatmesh_build_info")
        )
    )
    if any(_THEIRS.search(query) for query in _queries(board)):
        made = made.with_variable(
            _namespaces("broker", "Broker, by namespace", "rabbitmq_identity_info")
        )
    for title, panels in board.rows:
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel, _COLUMNS // len(panels)))
    return JSONEncoder(sort_keys=True, indent=2).default(made.build())


def _queries(board: Board) -> Iterator[str]:
    for _, panels in board.rows:
        for panel in panels:
            for query, _ in panel.queries:
                yield query


def _namespaces(name: str, label: str, metric: str) -> dashboard.QueryVariable:
    """A choice among the namespaces that a metric comes from; first of all, every one."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(f"label_values({metric}, namespace)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(include_all=True)
        .all_value(ALL)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def of_one_mesh(query: str) -> str:
    """The query about mesh and broker that were chosen; all where there are no namespaces.

    The broker may stand in a namespace of its own, so it is chosen by itself.
    """
    return _chosen(_THEIRS, THE_BROKER, _chosen(_OURS, MESH, query))


def _chosen(metrics: re.Pattern[str], variable: str, query: str) -> str:
    return metrics.sub(
        lambda found: (
            f'{found[1]}{{namespace=~"{variable}"' + (", " if found[2] else "}")
        ),
        query,
    )


def _panel(panel: Panel, span: int) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.sentence)
        .unit(panel.unit)
        .min(0)
        .span(span)
        .height(_HEIGHT)
        .fill_opacity(8)
        .datasource(_SOURCE)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    for letter, (query, legend) in zip(_LETTERS, panel.queries, strict=False):
        made = made.with_target(
            prometheus.Dataquery()
            .ref_id(letter)
            .expr(of_one_mesh(query))
            .legend_format(legend)
            .exemplar(panel.exemplars)
        )
    return made


def main(words: list[str]) -> int:
    old: list[str] = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = {f"{board.name}.json": text_of(board) for board in BOARDS}
    for name, text in wanted.items():
        file = FOLDER / name
        if file.exists() and file.read_text() == text:
            continue
        old.append(f"deploy/dashboards/{name}")
        if "--check" not in words:
            file.write_text(text)
    old += [
        f"deploy/dashboards/{file.name}"
        for file in FOLDER.glob("*.json")
        if file.name not in wanted
    ]
    for name in old if "--check" in words else ():
        print(f"{name} is old; run `make docs`")
    return 1 if old and "--check" in words else 0


def text_of(board: Board) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(built(board)) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
