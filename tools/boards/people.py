"""Who is here, and what it costs to know."""

from typing import Final

from tools.boards.panels import PRESENCE, Board, Panel, latency, rate

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
