"""Spans around the work on sampled messages; without an exporter nothing is done at all.

Whether a trace is kept is decided once, where it begins. From then on its context
travels as a W3C `traceparent` inside our own messages, and only sampled work carries
one: an empty string anywhere on the way says that nobody wants to know, and costs a
truth test. Spans never hold message text; names are templates, never a channel's name.

Spans are our own: the SDK's know locks, events, limits and callbacks that nobody here
uses, and beginning and ending one cost more than all else on a message's way. Work that
is shared by several traces is written down once, with an id in each of them, and becomes
a span in each only where it is sent.
"""

import random as chance
import re
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, NamedTuple

from opentelemetry.trace import SpanKind

from chatmesh.runtime.garbage import keep_what_is_loaded
from chatmesh.runtime.trace_names import ERROR_TYPE

__all__ = [
    "NOTHING",
    "OFF",
    "SPAN_ID",
    "TRACE_ID",
    "Span",
    "SpanKind",
    "Tracing",
    "Value",
    "Work",
]

Value = str | int | float | bool | tuple[str, ...]
Attributes = Mapping[str, Value]

BATCH_SPANS_MAX: Final = 32
"""Traces that one batch of work is told to; those beyond it go on without this hop."""

_TRACEPARENT: Final = re.compile(
    r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]([0-9a-f])"
)
"""The trace, and the digit that says whether it is sampled."""
_SAMPLED: Final = frozenset("13579bdf")
_NS_PER_S: Final = 1_000_000_000
_TRACE_ID_BITS: Final = 128
_SPAN_ID_BITS: Final = 64
TRACE_ID: Final = slice(3, 35)
"""Where a valid `traceparent` holds its trace, in hexadecimal digits."""
SPAN_ID: Final = slice(36, 52)
"""And the span that it is the context of."""
_TO_SPAN: Final = slice(0, 36)
_FLAGS: Final = slice(52, 55)
ATTRIBUTE_CHARS_MAX: Final = 256
"""Of the text of one attribute; the rest is cut off."""


class Work(NamedTuple):
    """A piece of work that has ended: a span in each of its traces, alike but for ids."""

    name: str
    kind: SpanKind
    started_ns: int
    ended_ns: int
    failed: bool
    attributes: Attributes
    traces: Mapping[str, str]
    """By the `traceparent` that it followed from, empty where the trace began here: its
    own. All but the first are linked to the first."""


Record = Callable[[Work], None]
"""Hears of every piece of work that has ended."""


class Span:
    """A piece of work while it goes on, in one trace or in several that share it.

    False when nobody wants to know of it; where that is asked for every message, its
    `traceparent` is asked instead, which costs a tenth of a call. Each trace stays whole
    by itself; links say with whom it shared the work. Whoever begins a span ends it,
    once; as a context manager it ends by itself, as failed when an exception passes
    through. Changes after the end are ignored.
    """

    __slots__ = (
        "_attributes",
        "_failed",
        "_kind",
        "_name",
        "_record",
        "_started_ns",
        "_traces",
        "traceparent",
    )

    def __init__(
        self,
        record: Record | None,
        name: str,
        kind: SpanKind,
        traces: Mapping[str, str],
        *,
        attributes: Attributes | None = None,
        ago_s: float = 0.0,
    ) -> None:
        """`record` hears of the end, once; without it, and without `traces`, this is no span."""
        self._record = record
        self._name = name
        self._kind = kind
        self._traces = traces
        self._failed = False
        self._attributes: dict[str, Value] = {}
        self.traceparent = next(iter(traces.values()), "")
        """Context for work that follows, in the first trace; empty when not sampled."""
        self._started_ns = time.time_ns() - int(ago_s * _NS_PER_S)
        if attributes:
            self.set(attributes)

    def __bool__(self) -> bool:
        return bool(self._traces)

    @property
    def traceparents(self) -> Iterable[str]:
        """Contexts for further work done for all of its traces."""
        return self._traces.values()

    @property
    def trace_id(self) -> str:
        """Of the first trace: 32 hexadecimal digits, or empty when not sampled."""
        return self.traceparent[TRACE_ID]

    def follow(self, traceparent: str) -> str:
        """Context for what follows from the part that came with this `traceparent`."""
        return self._traces.get(traceparent, traceparent) if traceparent else ""

    def set(self, attributes: Attributes) -> None:
        """Add facts. Never message text, prompts, arguments or results."""
        if self._record is None:
            return
        for key, value in attributes.items():
            if isinstance(value, str) and len(value) > ATTRIBUTE_CHARS_MAX:
                value = value[:ATTRIBUTE_CHARS_MAX]  # noqa: PLW2901 - cut, not changed
            self._attributes[key] = value

    def fail(self, error_type: str) -> None:
        """Mark as failed. `error_type` is one of few: a code or an exception's class.

        Nothing else is kept of it: an exception's words may quote a message.
        """
        if self._record is not None:
            self._failed = True
            self.set({ERROR_TYPE: error_type})

    def end(self) -> None:
        """The work is done."""
        record, self._record = self._record, None
        if record is not None:
            record(
                Work(
                    self._name,
                    self._kind,
                    self._started_ns,
                    time.time_ns(),
                    self._failed,
                    self._attributes,
                    self._traces,
                )
            )

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


NOTHING: Final = Span(None, "", SpanKind.INTERNAL, {})
"""The span of work that nobody traces."""


class Tracing:
    """Begins spans. With nobody to hear of them, or for work not sampled, gives NOTHING."""

    def __init__(
        self,
        record: Record | None = None,
        *,
        ratio: float = 0.0,
        follows: bool = True,
        random: Callable[[], float] = chance.random,  # noqa: S311 - a sample, no secret
        stop: Callable[[], None] | None = None,
    ) -> None:
        """`record` hears of each span that ends, at its end: it had better be quick.

        `ratio` of the traces that begin here are sampled, between 0 and 1; `follows` says
        whether a parent that comes from outside has decided already. `stop` sends what
        waits and blocks while it does; see `shut_down`.
        """
        self._record = record
        self._ratio = ratio
        self._follows = follows
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
        follows = bool(parent) and self._follows
        theirs = _TRACEPARENT.fullmatch(parent) if follows else None
        if theirs is not None:
            if theirs[2] not in _SAMPLED:
                return NOTHING
            traces = {parent: _child_of(parent)}
        elif self._ratio <= 0 or self._random() >= self._ratio:
            return NOTHING
        else:
            traces = {"": _new()}
        return Span(self._record, name, kind, traces, attributes=attributes)

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
        if not parent:
            return NOTHING
        return self.begin_batch(
            name, (parent,), kind=kind, attributes=attributes, ago_s=ago_s
        )

    def begin_batch(
        self,
        name: str,
        parents: Iterable[str],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
        ago_s: float = 0.0,
    ) -> Span:
        """Begin work done for several messages at once; most `parents` may be empty.

        At most BATCH_SPANS_MAX of their traces are told: a span each, linked to the
        first's.
        """
        if self._record is None:
            return NOTHING
        traces: dict[str, str] = {}
        for parent in filter(None, parents):
            if parent in traces:
                continue
            if len(traces) == BATCH_SPANS_MAX:
                break
            theirs = _TRACEPARENT.fullmatch(parent)
            if theirs is not None and theirs[2] in _SAMPLED:
                traces[parent] = _child_of(parent)
        if not traces:
            return NOTHING
        return Span(
            self._record, name, kind, traces, attributes=attributes, ago_s=ago_s
        )

    def begin_below(
        self,
        name: str,
        work: Span,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
    ) -> Span:
        """Begin a part of work that was begun here, in all of its traces."""
        if self._record is None or not work.traceparent:
            return NOTHING
        traces = {own: _child_of(own) for own in work.traceparents}
        return Span(self._record, name, kind, traces, attributes=attributes)

    def shut_down(self) -> None:
        """Send what waits, within the exporter's own deadline. Blocks: call it last."""
        if self._stop is not None:
            self._stop()


OFF: Final = Tracing()
"""Traces nothing: what every process has that was given nowhere to send spans to."""


def trace_id_of(traceparent: str) -> str:
    """The trace a valid `traceparent` belongs to, 32 hexadecimal digits; else empty."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return found[1] if found else ""


def to_collector(
    endpoint: str,
    *,
    ratio: float,
    service: str,
    instance: str,
    version: str,
    follows_clients: bool = True,
) -> Tracing:
    """How a service's bootstrap gets its tracing; OFF when `endpoint` is empty.

    `service` is the section's name, `instance` tells replicas apart, `follows_clients`
    says whether a client's own decision to sample goes before the ratio.
    """
    if not endpoint:
        return OFF
    # Only here: the SDK costs memory and start-up time that most processes need not pay.
    from chatmesh.runtime.otlp import open_tracing  # noqa: PLC0415

    opened = open_tracing(
        endpoint,
        ratio=ratio,
        service=service,
        instance=instance,
        version=version,
        follows=follows_clients,
    )
    keep_what_is_loaded()
    return opened


def _new() -> str:
    """Context of a trace that begins; its id is of random digits, which all may rely on."""
    return f"00-{_digits(_TRACE_ID_BITS):032x}-{_digits(_SPAN_ID_BITS):016x}-03"


def _child_of(parent: str) -> str:
    """Context of work that follows from `parent`, a valid one: the same trace and flags."""
    return f"{parent[_TO_SPAN]}{_digits(_SPAN_ID_BITS):016x}{parent[_FLAGS]}"


def _digits(bits: int) -> int:
    # Nought would say that there is no id.
    return chance.getrandbits(bits) or 1
