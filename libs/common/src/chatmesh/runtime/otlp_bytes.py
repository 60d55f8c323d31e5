"""Spans as the bytes of an OTLP request, written by hand.

Made through generated messages a span costs about as much as committing a message; most
of what is in it is the same as in the last one, and is kept as bytes here. Tests read
what this writes with the published schema.
"""

import functools
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from chatmesh.runtime.trace_names import FACTS

# Field numbers of opentelemetry/proto, by message.
_REQUEST_RESOURCE_SPANS: Final = 1
_RESOURCE_SPANS_RESOURCE: Final = 1
_RESOURCE_SPANS_SCOPE_SPANS: Final = 2
_RESOURCE_ATTRIBUTES: Final = 1
_SCOPE_SPANS_SCOPE: Final = 1
_SCOPE_SPANS_SPANS: Final = 2
_SCOPE_NAME: Final = 1
_KEY_VALUE_KEY: Final = 1
_KEY_VALUE_VALUE: Final = 2
_ANY_STRING: Final = 1
_ANY_BOOL: Final = 2
_ANY_INT: Final = 3
_ANY_DOUBLE: Final = 4
_SPAN_TRACE_ID: Final = 1
_SPAN_SPAN_ID: Final = 2
_SPAN_PARENT: Final = 4
_SPAN_NAME: Final = 5
_SPAN_KIND: Final = 6
_SPAN_START: Final = 7
_SPAN_END: Final = 8
_SPAN_ATTRIBUTES: Final = 9
_SPAN_LINKS: Final = 13
_SPAN_STATUS: Final = 15
_LINK_TRACE_ID: Final = 1
_LINK_SPAN_ID: Final = 2
_STATUS_CODE: Final = 3
_STATUS_ERROR: Final = 2

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80
_INT64: Final = 1 << 64
_KNOWN_PAIRS_MAX: Final = 4096

Value = str | int | float | bool


def request(
    spans: Iterable[ReadableSpan], resource: Mapping[str, Value], scope: str
) -> bytes:
    """One request with all spans, which come from one resource and one scope."""
    about = b"".join(_field(_RESOURCE_ATTRIBUTES, _pair(*p)) for p in resource.items())
    told = b"".join(_field(_SCOPE_SPANS_SPANS, span_bytes(span)) for span in spans)
    named = _field(_SCOPE_NAME, scope.encode())
    return _field(
        _REQUEST_RESOURCE_SPANS,
        _field(_RESOURCE_SPANS_RESOURCE, about)
        + _field(_RESOURCE_SPANS_SCOPE_SPANS, _field(_SCOPE_SPANS_SCOPE, named) + told),
    )


def span_bytes(span: ReadableSpan) -> bytes:
    """One span that has ended, with what is known of all spans of its name."""
    own = span.context
    assert own is not None, "a span that was begun has a context"
    parts = [
        _field(_SPAN_TRACE_ID, own.trace_id.to_bytes(16)),
        _field(_SPAN_SPAN_ID, own.span_id.to_bytes(8)),
        _head(span.name, span.kind.value + 1),
        _moment(_SPAN_START, span.start_time or 0),
        _moment(_SPAN_END, span.end_time or 0),
    ]
    if span.parent is not None:
        parts.append(_field(_SPAN_PARENT, span.parent.span_id.to_bytes(8)))
    for key, value in (span.attributes or {}).items():
        assert isinstance(value, str | int | float | bool), "we set nothing else"
        parts.append(_field(_SPAN_ATTRIBUTES, _pair(key, value)))
    for link in span.links:
        theirs = _field(_LINK_TRACE_ID, link.context.trace_id.to_bytes(16))
        theirs += _field(_LINK_SPAN_ID, link.context.span_id.to_bytes(8))
        parts.append(_field(_SPAN_LINKS, theirs))
    if span.status.status_code is StatusCode.ERROR:
        code = _key(_STATUS_CODE, _VARINT) + _varint(_STATUS_ERROR)
        parts.append(_field(_SPAN_STATUS, code))
    return b"".join(parts)


@functools.lru_cache(maxsize=_KNOWN_PAIRS_MAX)
def _head(name: str, kind: int) -> bytes:
    """Name, kind, and the facts that hold for every span of this name."""
    facts = b"".join(
        _field(_SPAN_ATTRIBUTES, _pair(key, value))
        for key, value in FACTS.get(name, {}).items()
    )
    told = _field(_SPAN_NAME, name.encode()) + _key(_SPAN_KIND, _VARINT) + _varint(kind)
    return told + facts


# Typed, so that True and 1 are not taken for one another.
@functools.lru_cache(maxsize=_KNOWN_PAIRS_MAX, typed=True)
def _pair(key: str, value: Value) -> bytes:
    match value:
        case str():
            held = _field(_ANY_STRING, value.encode())
        case bool():
            held = _key(_ANY_BOOL, _VARINT) + _varint(int(value))
        case int():
            held = _key(_ANY_INT, _VARINT) + _varint(value % _INT64)
        case float():
            held = _key(_ANY_DOUBLE, _FIXED64) + struct.pack("<d", value)
    return _field(_KEY_VALUE_KEY, key.encode()) + _field(_KEY_VALUE_VALUE, held)


def _moment(number: int, ns: int) -> bytes:
    return _key(number, _FIXED64) + struct.pack("<Q", ns)


def _field(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


@functools.cache
def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(number: int) -> bytes:
    if number <= _SEVEN_BITS:
        return bytes((number,))
    written = bytearray()
    while number > _SEVEN_BITS:
        written.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    written.append(number)
    return bytes(written)
