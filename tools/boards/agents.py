"""Agents: runs, how soon they speak, what they cost, which tools they call."""

from typing import Final

from tools.boards.panels import AGENT, TOOLS, Board, Panel, latency, rate

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
