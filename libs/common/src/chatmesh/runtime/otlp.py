"""Sends spans to an OpenTelemetry collector: OTLP over HTTP, in a thread of its own.

Nothing waits for it. What the collector does not take in time is dropped, and the log
says so once; a collector that is away costs spans, never messages.
"""

import http.client
import logging
import threading
import urllib.request
from collections.abc import Sequence
from typing import Final, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import SpanContext, TraceFlags

from chatmesh.runtime import otlp_bytes
from chatmesh.runtime.tracing import Tracing, Work

WAITING_PIECES_MAX: Final = 8192
"""Pieces of work that wait for the exporter; the oldest go when there are more."""
PIECES_PER_REQUEST_MAX: Final = 2048
EXPORT_EVERY_MS: Final = 5000
EXPORT_WITHIN_S: Final = 3.0
"""A request to the collector; what it does not take by then is dropped."""
STOP_WITHIN_S: Final = 4.0
"""At the end of the process: for what still waits."""

_PATH: Final = "/v1/traces"
_SCOPE: Final = "chatmesh"
_HEADERS: Final = {"content-type": "application/x-protobuf"}
_SAMPLED: Final = SpanContext(
    trace_id=1, span_id=1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
)

_log = logging.getLogger(__name__)


class _Waiting(ReadableSpan):
    """Work that has ended, in the SDK's queue.

    Its processor asks nothing of a span but whether it is sampled, and ours always is;
    what is sent is read from `work` by the exporter alone.
    """

    def __init__(self, work: Work, resource: Resource) -> None:
        super().__init__(work.name, _SAMPLED, resource=resource)
        self.work = work


class _Exporter(SpanExporter):
    """Posts spans to the collector, once: they are not worth a second try."""

    def __init__(self, url: str, resource: Resource) -> None:
        self._url = url
        self._about = {
            key: value
            for key, value in resource.attributes.items()
            if isinstance(value, str | int | float | bool)
        }
        self._dropping = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        ended = [cast("_Waiting", span).work for span in spans]
        body = otlp_bytes.request(ended, self._about, _SCOPE)
        asked = urllib.request.Request(self._url, data=body, headers=_HEADERS)  # noqa: S310 - the operator's own URL
        try:
            with urllib.request.urlopen(asked, timeout=EXPORT_WITHIN_S):  # noqa: S310 - the same
                pass
        except (OSError, http.client.HTTPException) as error:
            if not self._dropping:
                # Once, not with every batch, until it works again.
                _log.warning("spans are dropped", extra={"cause": str(error)})
            self._dropping = True
            return SpanExportResult.FAILURE
        self._dropping = False
        return SpanExportResult.SUCCESS


def open_tracing(
    endpoint: str,
    *,
    ratio: float,
    service: str,
    instance: str,
    version: str,
    follows: bool = True,
) -> Tracing:
    """Trace to the collector at `endpoint`, such as `http://collector:4318`.

    `service` and `instance` name the process among all others. Never raises for a
    collector that is not there: spans are dropped until it is.
    """
    resource = Resource.create(
        {
            "service.name": f"chatmesh-{service}",
            "service.namespace": "chatmesh",
            "service.instance.id": instance,
            "service.version": version,
        }
    )
    processor = BatchSpanProcessor(
        _Exporter(endpoint.rstrip("/").removesuffix(_PATH) + _PATH, resource),
        max_queue_size=WAITING_PIECES_MAX,
        schedule_delay_millis=EXPORT_EVERY_MS,
        max_export_batch_size=PIECES_PER_REQUEST_MAX,
    )

    def record(work: Work) -> None:
        processor.on_end(_Waiting(work, resource))

    def stop() -> None:
        # A thread that may be left behind: a collector that hangs holds up nobody's end.
        stopping = threading.Thread(
            target=processor.shutdown, name="trace stop", daemon=True
        )
        stopping.start()
        stopping.join(STOP_WITHIN_S)
        if stopping.is_alive():
            _log.warning("the trace collector did not take the last spans in time")

    return Tracing(record, ratio=ratio, follows=follows, stop=stop)
