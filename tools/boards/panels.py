"""What a dashboard is made of, and the panels that more than one of them shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WINDOW: Final = "$__rate_interval"


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
