"""Spans around the work on sampled messages; without an exporter nothing is done at all.

Whether a trace is kept is decided once, where it begins. From then on its context
travels as a W3C `traceparent` inside our own messages, and only sampled work carries
one: an empty string anywhere on the way says that nobody wants to know, and costs a
truth test. Spans never hold message text; names are templates, never a channel's name.

Spans are our own until they end: the SDK's know locks, events, limits and callbacks that
nobody here uses, and beginning and ending one cost more than all else on a message's
way. Ended ones are handed to the SDK, which sends them.
"""

import functools
import random as chance
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Final

from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from chatmesh.runtime.garbage import keep_what_is_loaded
from chatmesh.runtime.trace_names import ERROR_TYPE

__all__ = ["NOTHING", "NO_BATCH", "OFF", "Batch", "Span", "SpanKind", "Tracing"]

Value = str | int | float | bool
Attributes = Mapping[str, Value]

BATCH_SPANS_MAX: Final = 32
"""Traces that one batch of work is told to; those beyond it go on without this hop."""

_TRACEPARENT: Final = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_NS_PER_S: Final = 1_000_000_000
_TRACE_ID_BITS: Final = 128
_SPAN_ID_BITS: Final = 64
_BEGUN_HERE: Final = TraceFlags(TraceFlags.SAMPLED | 0x02)
"""Sampled, and with an id of random digits only, which may be told to others."""
_KNOWN_CONTEXTS_MAX: Final = 1024
ATTRIBUTE_CHARS_MAX: Final = 256
"""Of the text of one attribute; the rest is cut off."""


class Span:
    """One piece of work while it goes on. False when nobody wants to know of it.

    Whoever begins a span ends it, once; as a context manager it ends by itself, as
    failed when an exception passes through. Changes after the end are ignored.
    """

    __slots__ = (
        "_record",
        "attributes",
        "context",
        "ended_ns",
        "failed",
        "kind",
        "links",
        "name",
        "parent",
        "started_ns",
        "traceparent",
    )

    def __init__(
        self,
        record: "Record | None" = None,
        name: str = "",
        context: SpanContext | None = None,
        *,
        parent: SpanContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        started_ns: int = 0,
    ) -> None:
        """`record` hears of the end, once; without it this is no span."""
        self._record = record
        self.name = name
        self.context = context
        self.parent = parent
        self.kind = kind
        self.links = links
        self.started_ns = started_ns
        self.ended_ns = 0
        self.failed = False
        self.attributes: dict[str, Value] = {}
        self.traceparent = "" if context is None else _written(context)
        """Context for the work that follows from this; empty when not sampled."""

    def __bool__(self) -> bool:
        return self.context is not None

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits, or empty when not sampled."""
        return "" if self.context is None else f"{self.context.trace_id:032x}"

    def set(self, attributes: Attributes) -> None:
        """Add facts. Never message text, prompts, arguments or results."""
        if self._record is None:
            return
        for key, value in attributes.items():
            if isinstance(value, str) and len(value) > ATTRIBUTE_CHARS_MAX:
                value = value[:ATTRIBUTE_CHARS_MAX]  # noqa: PLW2901 - cut, not changed
            self.attributes[key] = value

    def fail(self, error_type: str) -> None:
        """Mark as failed. `error_type` is one of few: a code or an exception's class.

        Nothing else is kept of it: an exception's words may quote a message.
        """
        if self._record is not None:
            self.failed = True
            self.set({ERROR_TYPE: error_type})

    def end(self) -> None:
        """The work is done."""
        record, self._record = self._record, None
        if record is not None:
            self.ended_ns = time.time_ns()
            record(self)

    def __enter__(self) -> "Span":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()


Record = Callable[[Span], None]
"""Hears of every span that has ended."""

NOTHING: Final = Span()
"""The span of work that nobody traces."""


class Batch:
    """One piece of work done for several traces at once: a span in each, linked.

    Each trace stays whole by itself; the links say with whom it shared the work.
    """

    __slots__ = ("_spans",)

    def __init__(self, spans: Mapping[str, Span]) -> None:
        self._spans = spans

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def trace_id(self) -> str:
        """Of one of the traces, for an exemplar; empty when none is sampled."""
        return next((span.trace_id for span in self._spans.values()), "")

    @property
    def traceparents(self) -> Iterable[str]:
        """Contexts for further work done for all of them."""
        return [span.traceparent for span in self._spans.values()]

    def follow(self, traceparent: str) -> str:
        """Context for what follows from the part that came with this `traceparent`."""
        if not traceparent:
            return ""
        span = self._spans.get(traceparent)
        return traceparent if span is None else span.traceparent

    def set(self, attributes: Attributes) -> None:
        for span in self._spans.values():
            span.set(attributes)

    def fail(self, error_type: str) -> None:
        for span in self._spans.values():
            span.fail(error_type)

    def end(self) -> None:
        for span in self._spans.values():
            span.end()

    def __enter__(self) -> "Batch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.fail(kind.__name__)
        self.end()


NO_BATCH: Final = Batch({})
"""The spans of a batch in which nothing is traced."""


class Tracing:
    """Begins spans. With nobody to hear of them, or for work not sampled, gives NOTHING."""

    def __init__(
        self,
        record: Record | None = None,
        *,
        ratio: float = 0.0,
        random: Callable[[], float] = chance.random,  # noqa: S311 - a sample, no secret
        stop: Callable[[], None] | None = None,
    ) -> None:
        """`record` hears of each span that ends, at its end: it had better be quick.

        `ratio` of the traces that begin here are sampled, between 0 and 1. `stop` sends what waits and blocks while it does; see `shut_down`.
        """
        self._record = record
        self._ratio = ratio
        self._random = random
        self._stop = stop

    @property
    def on(self) -> bool:
        """Whether anything can ever be sampled in this process."""
        return self._record is not None

    def begin_trace(
        self,
        name: str,
        *,
        parent: str = "",
        kind: SpanKind = SpanKind.SERVER,
        attributes: Attributes | None = None,
    ) -> Span:
        """Begin where something enters the mesh: the decision to sample is made here.

        A valid `parent` has decided already, either way; anything else in it is
        ignored, as the standard asks.
        """
        if self._record is None:
            return NOTHING
        theirs = _read(parent) if parent else None
        if theirs is not None:
            if not theirs.trace_flags.sampled:
                return NOTHING
        elif self._ratio <= 0 or self._random() >= self._ratio:
            return NOTHING
        return _begun(self._record, name, theirs, kind=kind, attributes=attributes)

    def begin(
        self,
        name: str,
        *,
        parent: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        ago_s: float = 0.0,
    ) -> Span:
        """Begin work inside a trace; NOTHING when `parent` carries no sampled one.

        `ago_s` seconds have passed since the work really began.
        """
        if not parent or self._record is None:
            return NOTHING
        theirs = _read(parent)
        if theirs is None or not theirs.trace_flags.sampled:
            return NOTHING
        return _begun(
            self._record, name, theirs, kind=kind, attributes=attributes, ago_s=ago_s
        )

    def begin_batch(
        self,
        name: str,
        parents: Iterable[str],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        ago_s: float = 0.0,
    ) -> Batch:
        """Begin work done for several messages at once; most `parents` may be empty.

        At most BATCH_SPANS_MAX of them are told: a span each, linked to the first's.
        """
        if self._record is None:
            return NO_BATCH
        spans: dict[str, Span] = {}
        links: list[Link] = []
        for parent in parents:
            if not parent or parent in spans:
                continue
            if len(spans) == BATCH_SPANS_MAX:
                break
            theirs = _read(parent)
            if theirs is None or not theirs.trace_flags.sampled:
                continue
            span = _begun(
                self._record,
                name,
                theirs,
                kind=kind,
                attributes=attributes,
                links=links,
                ago_s=ago_s,
            )
            if not links:
                assert span.context is not None, "it has just begun"
                links = [Link(span.context)]
            spans[parent] = span
        return Batch(spans) if spans else NO_BATCH

    def shut_down(self) -> None:
        """Send what waits, within the exporter's own deadline. Blocks: call it last."""
        if self._stop is not None:
            self._stop()


OFF: Final = Tracing()
"""Traces nothing: what every process has that was given nowhere to send spans to."""


def trace_id_of(traceparent: str) -> str:
    """The trace a valid `traceparent` belongs to, 32 hexadecimal digits; else empty."""
    found = _TRACEPARENT.match(traceparent) if traceparent else None
    return found.group(1) if found else ""


def to_collector(
    endpoint: str, *, ratio: float, service: str, instance: str, version: str
) -> Tracing:
    """How a service's bootstrap gets its tracing; OFF when `endpoint` is empty.

    `service` is the section's name, `instance` tells replicas apart.
    """
    if not endpoint:
        return OFF
    # Only here: the SDK costs memory and start-up time that most processes need not pay.
    from chatmesh.runtime.otlp import open_tracing  # noqa: PLC0415

    opened = open_tracing(
        endpoint, ratio=ratio, service=service, instance=instance, version=version
    )
    keep_what_is_loaded()
    return opened


def _begun(
    record: Record,
    name: str,
    parent: SpanContext | None,
    *,
    kind: SpanKind,
    attributes: Attributes | None,
    links: Sequence[Link] = (),
    ago_s: float = 0.0,
) -> Span:
    own = SpanContext(
        parent.trace_id if parent is not None else _digits(_TRACE_ID_BITS),
        _digits(_SPAN_ID_BITS),
        is_remote=False,
        trace_flags=parent.trace_flags if parent is not None else _BEGUN_HERE,
    )
    started_ns = time.time_ns()
    if ago_s > 0:
        started_ns -= int(ago_s * _NS_PER_S)
    span = Span(
        record,
        name,
        own,
        parent=parent,
        kind=kind,
        links=links,
        started_ns=started_ns,
    )
    if attributes:
        span.set(attributes)
    return span


def _digits(bits: int) -> int:
    # Nought would say that there is no id.
    return chance.getrandbits(bits) or 1


# A batch's own context is read again by each of its steps.
@functools.lru_cache(maxsize=_KNOWN_CONTEXTS_MAX)
def _read(traceparent: str) -> SpanContext | None:
    """The context in a `traceparent`; None when it is not one."""
    found = _TRACEPARENT.match(traceparent)
    if found is None:
        return None
    theirs = SpanContext(
        trace_id=int(found.group(1), 16),
        span_id=int(found.group(2), 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found.group(3), 16)),
    )
    return theirs if theirs.is_valid else None


def _written(own: SpanContext) -> str:
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
