"""One message on its way, row by row."""

from typing import Final

from tools.boards.panels import (
    GATEWAY,
    HISTORY,
    READY,
    SENT,
    Board,
    Panel,
    latency,
    rate,
    sizes,
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
