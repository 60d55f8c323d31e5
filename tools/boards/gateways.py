"""Gateways: who is connected, what they send and get, and how well it goes."""

from typing import Final

from tools.boards.panels import GATEWAY, MEMORY, PROCESSOR, Board, Panel, rate

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
