"""Spans: sampled where a trace begins, carried as text, never raising and never nosy."""

import pytest
from opentelemetry.trace import SpanKind

from chatmesh.runtime import tracing
from chatmesh.runtime.tracing import (
    ATTRIBUTE_CHARS_MAX,
    BATCH_SPANS_MAX,
    NOTHING,
    OFF,
    to_collector,
)
from support.spans import KeptSpans

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def test_without_a_collector_nothing_is_traced() -> None:
    """The default costs a truth test: no span, no context, no trace id."""
    off = to_collector("", ratio=1.0, service="x", instance="y", version="1")

    assert off is OFF
    assert off.begin_trace("message.send", parent=SAMPLED) is NOTHING
    assert not off.begin_batch("process", [SAMPLED])
    assert (NOTHING.traceparent, NOTHING.trace_id) == ("", "")


@pytest.mark.parametrize(
    ("ratio", "sampled"), [(0.0, False), (0.4, False), (0.6, True)]
)
def test_a_share_of_the_traces_is_kept(ratio: float, *, sampled: bool) -> None:
    """The decision is made where a trace begins, by the configured share."""
    kept = KeptSpans(ratio)

    kept.tracing.begin_trace("message.send").end()

    assert bool(kept.names) == sampled


def test_a_clients_own_decision_goes_before() -> None:
    """A sampled traceparent is continued at ratio 0; an unsampled one not even at 1."""
    never, always = KeptSpans(0.0), KeptSpans(1.0)

    never.tracing.begin_trace("message.send", parent=SAMPLED).end()
    always.tracing.begin_trace("message.send", parent=UNSAMPLED).end()

    span = never.named("message.send")
    assert span.trace_id == tracing.trace_id_of(SAMPLED)
    assert span.parent_id == "b7ad6b7169203331"
    assert always.names == []


def test_an_operator_may_decide_alone() -> None:
    """Where clients are not followed, none of them can have everything traced."""
    never, always = KeptSpans(0.0, follows=False), KeptSpans(1.0, follows=False)

    never.tracing.begin_trace("message.send", parent=SAMPLED).end()
    always.tracing.begin_trace("message.send", parent=UNSAMPLED).end()

    assert never.names == []
    assert always.named("message.send").parent_id == ""


@pytest.mark.parametrize(
    "parent",
    ["", "nonsense", SAMPLED.upper(), f"00-{'0' * 32}-{'0' * 16}-01", SAMPLED + "-x"],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(parent: str) -> None:
    """A client cannot break anything with a malformed context."""
    kept = KeptSpans()

    span = kept.tracing.begin_trace("message.send", parent=parent)
    span.end()

    assert kept.named("message.send").parent_id == ""
    assert tracing.trace_id_of(span.traceparent) == span.trace_id != ""


def test_work_inside_follows_only_what_is_sampled() -> None:
    """A hop whose message carries no sampled context says nothing."""
    kept = KeptSpans()
    for parent in ("", "nonsense", UNSAMPLED):
        assert kept.tracing.begin("append log", parent=parent) is NOTHING

    outer = kept.tracing.begin_trace("message.send")
    kept.tracing.begin("append log", parent=outer.traceparent, ago_s=2.0).end()
    outer.end()

    inner = kept.named("append log")
    assert inner.parent_id == kept.named("message.send").span_id
    assert inner.ended_ns - inner.started_ns >= 2_000_000_000


def test_a_batch_is_told_to_every_trace_in_it() -> None:
    """Each trace has the shared work as a span of its own, linked to the first's."""
    kept = KeptSpans()
    one, two = (kept.tracing.begin_trace("message.send") for _ in range(2))

    batch = kept.tracing.begin_batch(
        "process", [one.traceparent, "", two.traceparent, one.traceparent, "nonsense"]
    )
    batch.end()

    first, second = kept.all
    assert [first.trace_id, second.trace_id] == [one.trace_id, two.trace_id]
    assert (first.links, second.links) == ((), (first.span_id,))
    assert tracing.trace_id_of(batch.follow(two.traceparent)) == two.trace_id
    assert batch.follow(two.traceparent) != two.traceparent
    assert batch.follow("") == ""


def test_a_part_of_shared_work_is_in_all_of_its_traces() -> None:
    """Below each of the spans it is a part of; below nothing there is nothing."""
    kept = KeptSpans()
    one, two = (kept.tracing.begin_trace("message.send") for _ in range(2))
    batch = kept.tracing.begin_batch("process", [one.traceparent, two.traceparent])

    kept.tracing.begin_below("append log", batch).end()
    batch.end()

    parts, whole = kept.all[:2], kept.all[2:]
    assert {part.name for part in parts} == {"append log"}
    assert [part.parent_id for part in parts] == [span.span_id for span in whole]
    assert [part.trace_id for part in parts] == [one.trace_id, two.trace_id]
    assert not kept.tracing.begin_below("append log", NOTHING)


def test_a_huge_batch_is_told_to_some_only() -> None:
    """Tracing everything costs at most so many spans a batch; the rest goes on untold."""
    kept = KeptSpans()
    spans = [
        kept.tracing.begin_trace("message.send") for _ in range(BATCH_SPANS_MAX + 5)
    ]

    batch = kept.tracing.begin_batch("process", [s.traceparent for s in spans])
    batch.end()

    assert len(kept.all) == BATCH_SPANS_MAX
    left_out = spans[-1].traceparent
    assert batch.follow(left_out) == left_out


def test_a_failure_is_named_by_its_kind_alone() -> None:
    """An exception's words may quote a message, so only its class is kept."""
    kept = KeptSpans()

    with (
        pytest.raises(ValueError, match="secret"),
        kept.tracing.begin_trace("message.send", kind=SpanKind.SERVER),
    ):
        raise ValueError("secret words of a user")

    span = kept.named("message.send")
    assert span.failed
    assert span.attributes == {"error.type": "ValueError"}
    assert span.events == 0


def test_a_span_ends_once_and_is_closed_then() -> None:
    """Whoever ends it again, or knows something late, changes nothing."""
    kept = KeptSpans()
    span = kept.tracing.begin_trace("message.send", attributes={"a": 1})
    span.end()

    span.set({"b": 2})
    span.fail("TimeoutError")
    span.end()

    (told,) = kept.all
    assert told.attributes == {"a": 1}
    assert not told.failed
    assert told.ended_ns >= told.started_ns


def test_a_long_text_is_cut() -> None:
    """An attribute is a name or a code; nobody sends a page through a span."""
    kept = KeptSpans()
    kept.tracing.begin_trace("x", attributes={"v": "y" * 1000}).end()

    assert kept.named("x").attributes == {"v": "y" * ATTRIBUTE_CHARS_MAX}


def test_every_trace_and_span_has_an_id_of_its_own() -> None:
    """Sixteen and eight random bytes, never nought."""
    kept = KeptSpans()
    for _ in range(50):
        begun = kept.tracing.begin_trace("x")
        kept.tracing.begin("y", parent=begun.traceparent).end()
        begun.end()

    assert len({span.trace_id for span in kept.all}) == 50
    assert len({span.span_id for span in kept.all}) == 100
    assert all(int(span.trace_id, 16) and int(span.span_id, 16) for span in kept.all)
