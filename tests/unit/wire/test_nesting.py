"""How deeply JSON is nested, without a decoder."""

import json
from typing import TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.wire import limits
from chatmesh.wire.nesting import too_deep

Json: TypeAlias = "str | list[Json] | dict[str, Json] | None"
DEEPEST = limits.JSON_DEPTH_MAX


def nested(levels: int) -> bytes:
    return (
        b'{"a":[' * (levels // 2)
        + b"[" * (levels % 2)
        + b"]" * (levels % 2)
        + b"]}" * (levels // 2)
    )


def depth_of(value: Json) -> int:
    match value:
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case _:
            return 0


def test_as_deep_as_the_bound_is_not_too_deep() -> None:
    """One level more is, whatever stands around it."""
    assert not too_deep(nested(DEEPEST))
    assert too_deep(nested(DEEPEST + 1))
    assert too_deep(b" \n[1," + nested(DEEPEST) + b", 2]")


def test_a_stack_overflow_is_seen_coming() -> None:
    """Also where nothing is ever closed, and behind a string."""
    assert too_deep(b"[" * 60_000)
    assert too_deep(b'{"a":' * 10_000)
    assert too_deep(b'["\\"",' + b"[" * 10_000)


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * 1000 + b"[]]",
        b'"' + b"[" * 1000 + b'"',
        b'["' + b"[{" * 1000 + b'"]',
        b'["\\"' + b"[{" * 1000 + b'\\\\"]',
        b"\x08\x01" + b"[{" * 1000,
        b"",
    ],
)
def test_brackets_beside_each_other_or_in_text_are_no_levels(data: bytes) -> None:
    """Nor are those of a binary payload."""
    assert not too_deep(data)


@given(
    st.recursive(
        st.none() | st.text('[]{}"\\a'),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text('[{"\\'), inner, max_size=3)
        ),
    ),
    st.integers(0, 4),
)
def test_every_document_is_judged_as_a_decoder_would(value: Json, levels: int) -> None:
    """Whatever stands in its strings and keys."""
    expected = depth_of(value) > levels

    assert too_deep(json.dumps(value).encode(), levels=levels) == expected
    assert too_deep(msgspec.json.encode(value), levels=levels) == expected


@given(st.binary(), st.integers(0, 4))
def test_anything_is_judged_without_an_error(data: bytes, levels: int) -> None:
    """Also what is no JSON at all."""
    too_deep(b"[" + data, levels=levels)
