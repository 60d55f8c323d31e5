"""What we write by hand is what the published schema reads."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Written
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.trace import SpanKind

from chatmesh.runtime import otlp_bytes, trace_names
from support.otlp_receiver import values_of
from support.spans import KeptSpans


def test_a_collector_reads_everything_we_tell() -> None:
    """Ids, times, kinds, every type of attribute, links, failure, resource and scope."""
    kept = KeptSpans()
    first = kept.tracing.begin_trace("message.send")
    other = kept.tracing.begin_trace("message.send")
    batch = kept.tracing.begin_batch(
        trace_names.DELIVER,
        [first.traceparent, other.traceparent],
        kind=SpanKind.CONSUMER,
        attributes={
            "s": "Grüße",
            "one": 1,
            "yes": True,
            "f": 0.5,
            "below": -7,
            "t": ("é", "b"),
        },
    )
    batch.fail("TimeoutError")
    batch.end()
    told, second = kept.all

    body = otlp_bytes.request(
        kept.ended, {"service.name": "chatmesh-x"}, scope="chatmesh"
    )

    request = ExportTraceServiceRequest.FromString(body)
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    assert values_of(resource.resource.attributes) == {"service.name": "chatmesh-x"}
    assert scope.scope.name == "chatmesh"
    one, two = scope.spans
    assert one.name == trace_names.DELIVER
    assert one.kind == Written.SPAN_KIND_CONSUMER
    assert (one.trace_id.hex(), one.span_id.hex()) == (told.trace_id, told.span_id)
    assert one.parent_span_id.hex() == told.parent_id
    assert (one.start_time_unix_nano, one.end_time_unix_nano) == (
        told.started_ns,
        told.ended_ns,
    )
    assert values_of(one.attributes) == {
        **trace_names.FACTS[trace_names.DELIVER],
        **told.attributes,
    }
    assert values_of(one.attributes)["below"] == -7
    assert one.status.code == Status.STATUS_CODE_ERROR
    assert [link.span_id.hex() for link in two.links] == [told.span_id]
    assert [link.trace_id.hex() for link in two.links] == [told.trace_id]
    assert two.span_id.hex() == second.span_id


def test_true_and_one_are_told_apart() -> None:
    """They are equal in Python, and what was told last must not stand for the other."""
    for value in (1, True, 1.0, True, 1):
        kept = KeptSpans()
        kept.tracing.begin_trace("x", attributes={"v": value}).end()
        body = otlp_bytes.request(kept.ended, {}, scope="chatmesh")
        span = ExportTraceServiceRequest.FromString(body)
        told = values_of(span.resource_spans[0].scope_spans[0].spans[0].attributes)
        assert type(told["v"]) is type(value)
