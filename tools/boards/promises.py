"""What is promised, as shares and as budgets that burn."""

from typing import Final

from tools.boards.panels import GATEWAY, Board, Panel, rate

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
