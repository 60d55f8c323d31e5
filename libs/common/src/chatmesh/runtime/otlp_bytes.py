"""Spans as the bytes of an OTLP request, written by hand.

Made through generated messages a span costs about as much as committing a message; most
of what is in it is the same as in the last one, and is kept as bytes here. Tests read
what this writes with the published schema.
"""

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from chatmesh.runtime.trace_names import FACTS
from chatmesh.runtime.tracing import SPAN_ID, TRACE_ID, Value, Work

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
_ANY_ARRAY: Final = 5
_ARRAY_VALUES: Final = 1
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


def request(ended: Iterable[Work], resource: Mapping[str, Value], scope: str) -> bytes:
    """One request with all spans, which come from one resource and one scope."""
    about = b"".join(_field(_RESOURCE_ATTRIBUTES, _pair(*p)) for p in resource.items())
    told = b"".join(span for work in ended for span in _spans(work))
    named = _field(_SCOPE_NAME, scope.encode())
    return _field(
        _REQUEST_RESOURCE_SPANS,
        _field(_RESOURCE_SPANS_RESOURCE, about)
        + _field(_RESOURCE_SPANS_SCOPE_SPANS, _field(_SCOPE_SPANS_SCOPE, named) + told),
    )


def _spans(work: Work) -> Iterator[bytes]:
    """A span for each trace of a piece of work; all but the first linked to the first."""
    alike = _alike(work)
    link = b""
    for parent, own in work.traces.items():
        trace, span = bytes.fromhex(own[TRACE_ID]), bytes.fromhex(own[SPAN_ID])
        told = _IN_TRACE + trace + _AS_SPAN + span + alike + link
        if parent:
            told += _BELOW + bytes.fromhex(parent[SPAN_ID])
        yield _field(_SCOPE_SPANS_SPANS, told)
        if not link:
            theirs = _field(_LINK_TRACE_ID, trace) + _field(_LINK_SPAN_ID, span)
            link = _field(_SPAN_LINKS, theirs)


def _alike(work: Work) -> bytes:
    """What the spans of a piece of work have in common: all but ids and links."""
    parts = [
        _head(work.name, work.kind.value + 1),
        _STARTED + _FIXED.pack(work.started_ns),
        _ENDED + _FIXED.pack(work.ended_ns),
    ]
    for key, value in work.attributes.items():
        parts.append(_field(_SPAN_ATTRIBUTES, _pair(key, value)))
    if work.failed:
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
    return _field(_KEY_VALUE_KEY, key.encode()) + _field(_KEY_VALUE_VALUE, _any(value))


def _any(value: Value) -> bytes:
    match value:
        case str():
            return _field(_ANY_STRING, value.encode())
        case bool():
            return _key(_ANY_BOOL, _VARINT) + _varint(int(value))
        case int():
            return _key(_ANY_INT, _VARINT) + _varint(value % _INT64)
        case float():
            return _key(_ANY_DOUBLE, _FIXED64) + struct.pack("<d", value)
        case tuple():
            held = b"".join(_field(_ARRAY_VALUES, _any(one)) for one in value)
            return _field(_ANY_ARRAY, held)


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


_FIXED: Final = struct.Struct("<Q")
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
# What stands before a value that always has the same length.
_IN_TRACE: Final = _key(_SPAN_TRACE_ID, _BYTES) + _varint(_TRACE_ID_BYTES)
_AS_SPAN: Final = _key(_SPAN_SPAN_ID, _BYTES) + _varint(_SPAN_ID_BYTES)
_BELOW: Final = _key(_SPAN_PARENT, _BYTES) + _varint(_SPAN_ID_BYTES)
_STARTED: Final = _key(_SPAN_START, _FIXED64)
_ENDED: Final = _key(_SPAN_END, _FIXED64)
