"""Spans as a test looks at them: kept in memory, or received over OTLP from a process."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from chatmesh.runtime.tracing import SPAN_ID, TRACE_ID, Tracing, Work


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

    def __init__(self, ratio: float = 1.0, *, follows: bool = True) -> None:
        self.ended: list[Work] = []
        self.tracing = Tracing(
            self.ended.append, ratio=ratio, follows=follows, random=lambda: 0.5
        )

    @property
    def all(self) -> list[Told]:
        return [span for work in self.ended for span in _told(work)]

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> Told:
        """The one span of this name that has ended."""
        (found,) = [span for span in self.all if span.name == name]
        return found


def _told(work: Work) -> Iterator[Told]:
    first = ""
    for parent, own in work.traces.items():
        yield Told(
            work.name,
            own[TRACE_ID],
            own[SPAN_ID],
            parent[SPAN_ID],
            work.started_ns,
            work.ended_ns,
            dict(work.attributes),
            (first,) if first else (),
            work.failed,
        )
        first = first or own[SPAN_ID]
