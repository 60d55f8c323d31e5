"""A collector for tests: takes OTLP over HTTP and keeps every span."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from support.spans import Told


class Collector:
    """What processes have told so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = 0
        self._spans: list[Told] = []
        self._lock = threading.Lock()

    @property
    def spans(self) -> list[Told]:
        with self._lock:
            return list(self._spans)

    def trace(self, trace_id: str) -> list[Told]:
        """Spans of one trace, in the order in which they began."""
        own = [span for span in self.spans if span.trace_id == trace_id]
        return sorted(own, key=lambda span: span.started_ns)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        told = [
            _told(span, values_of(resource.resource.attributes))
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self._spans += told
            self.requests += 1


@contextmanager
def otlp_receiver() -> Generator[Collector]:
    """A collector on a port of its own, in threads of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces", self.path
            collector.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """A test's output is for its failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def _told(span: Span, process: dict[str, Any]) -> Told:
    return Told(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        values_of(span.attributes),
        tuple(link.span_id.hex() for link in span.links),
        span.status.code == Status.STATUS_CODE_ERROR,
        len(span.events),
        process,
    )


def values_of(pairs: Any) -> dict[str, Any]:  # noqa: ANN401 - a container without a type
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:  # noqa: ANN401 - what OTLP may hold
    if value.HasField("array_value"):
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, value.WhichOneof("value") or "string_value")
