"""Every metric of the gateway, declared once; units in names, no user or room in labels."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_S = (
    0.001,
    0.0025,
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
)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """One registry per process; tests bring their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"chatmesh_gateway_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"chatmesh_gateway_{name}", text, registry=registry)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...] = _LATENCY_S
        ) -> Histogram:
            return Histogram(
                f"chatmesh_gateway_{name}", text, registry=registry, buckets=buckets
            )

        self.registry = registry
        self.connections = gauge("connections", "Open client connections")
        self.channels = gauge("channels", "Channels this gateway hears")
        self.connects = counter("connects", "Handshakes by outcome", "outcome")
        self.closes = counter("closes", "Connections closed, by close code", "code")
        self.frames_in = counter("frames_received", "Client frames received")
        self.bytes_in = counter("received_bytes", "Payload bytes received")
        self.frames_out = counter("frames_sent", "Frames written to sockets")
        self.bytes_out = counter("sent_bytes", "Frame bytes written to sockets")
        self.deliveries = counter(
            "deliveries", "Publications handed to connections, one per connection"
        )
        self.durable_deliveries = counter(
            "durable_deliveries",
            "Committed publications written to local connections, one per connection",
        )
        self.late_deliveries = counter(
            "late_deliveries",
            "Those of them written more than 250 ms after their commit",
        )
        self.gaps_written = counter(
            "gaps_written", "Channels continued behind a hole; never happens"
        )
        self.duplicates_written = counter(
            "duplicates_written", "Channels continued with an old offset; never happens"
        )
        self.slow_steps = counter(
            "slow_client_steps", "What was given up for slow clients", "step"
        )
        self.hasty_commands = counter(
            "hasty_commands", "Commands refused because too many came, or are at work"
        )
        self.service_calls = counter(
            "service_calls", "Calls forwarded to services, by outcome", "outcome"
        )
        self.fenced_out = counter(
            "fenced_out", "Live publications dropped: their author had been replaced"
        )
        self.publish_to_committed_seconds = histogram(
            "publish_to_committed_seconds", "From a client's command to its outcome"
        )
        self.committed_to_written_seconds = histogram(
            "committed_to_written_seconds",
            "From commit, by the database's clock, to the write to local sockets",
        )
        self.commands_overdue = counter(
            "commands_overdue", "Commands whose outcome did not come in time"
        )
        self.commands_per_batch = histogram(
            "commands_per_batch", "Commands per broker message", _SIZES
        )
        self.entries_per_event = histogram(
            "entries_per_event", "Entries per event heard", _SIZES
        )
        self.gaps = counter("gaps_filled", "Holes in a channel filled from history")
        self.gaps_unfilled = counter(
            "gaps_unfilled", "Holes that could not be filled; subscribers were told"
        )
        self.duplicates = counter(
            "duplicates_dropped", "Entries heard again and not delivered again"
        )
        self.resumes = counter(
            "resumes", "Returning subscribers, by outcome", "outcome"
        )
        self.reads = counter("history_reads", "Reads sent to history")
        self.api_calls = counter(
            "api_calls", "Calls of the server API, by error code", "method", "outcome"
        )
        self.malformed = counter(
            "malformed_messages", "Broker messages handed to the dead letters"
        )
        self.subscriptions = gauge("subscriptions", "Channels times local subscribers")
        self.outbox_bytes = gauge(
            "outbox_bytes", "Bytes that wait for clients that do not read fast enough"
        )
        self.commands_waiting = gauge(
            "commands_waiting", "Commands whose outcome is awaited"
        )
        self.loop_lag_seconds = gauge(
            "loop_lag_seconds",
            "How late the event loop came to its last clockwork turn",
        )
        self.canary_age_seconds = gauge(
            "canary_age_seconds", "Since the own publication last came back"
        )
        # There from the start: Prometheus does not see a series begin at one.
        for step in ("drop", "recover", "close", "no pong"):
            self.slow_steps.labels(step)
        for outcome in ("recovered", "refused"):
            self.resumes.labels(outcome)
        for outcome in ("accepted", "bad handshake", "full", "origin", "rate"):
            self.connects.labels(outcome)
        self.tail_bytes = gauge("tail_bytes", "Bytes of channel tails held in memory")
