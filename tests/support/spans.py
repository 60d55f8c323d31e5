"""Spans as a test looks at them: kept in memory, or received over OTLP from a process."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from chatmesh.runtime.otlp import readable
from chatmesh.runtime.tracing import Span, Tracing


@dataclass(frozen=True)
class Told:
    """One span that has ended; ids as hexadecimal digits."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, object]
    links: tuple[str, ...] = ()
    failed: bool = False
    events: int = 0
    process: Mapping[str, object] = field(default_factory=dict[str, object])


class KeptSpans:
    """A tracing that samples `ratio` of what begins in it, and keeps what ends."""

    def __init__(self, ratio: float = 1.0) -> None:
        self._kept: list[ReadableSpan] = []
        self.tracing = Tracing(self._keep, ratio=ratio, random=lambda: 0.5)

    def _keep(self, span: Span) -> None:
        self._kept.append(readable(span, Resource.get_empty()))

    @property
    def ended(self) -> list[ReadableSpan]:
        """As the SDK hands them to an exporter."""
        return list(self._kept)

    @property
    def all(self) -> list[Told]:
        return [_told(span) for span in self.ended]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> Told:
        """The one span of this name that has ended."""
        (found,) = [span for span in self.all if span.name == name]
        return found


def _told(span: ReadableSpan) -> Told:
    assert span.context is not None
    return Told(
        span.name,
        f"{span.context.trace_id:032x}",
        f"{span.context.span_id:016x}",
        f"{span.parent.span_id:016x}" if span.parent else "",
        span.start_time or 0,
        span.end_time or 0,
        dict(span.attributes or {}),
        tuple(f"{link.context.span_id:016x}" for link in span.links),
        span.status.status_code is StatusCode.ERROR,
        len(span.events),
    )
