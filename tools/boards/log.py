"""The log: commits, batches, leases, and how far behind it is."""

from typing import Final

from tools.boards.panels import HISTORY, Board, Panel, latency, rate, sizes

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
