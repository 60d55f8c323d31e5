"""The broker: queues, rates, and what it keeps for later."""

from typing import Final

from tools.boards.panels import HISTORY, PRESENCE, Board, Panel, rate

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
