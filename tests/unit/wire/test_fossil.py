"""Deltas are only as good as what SDKs make of them."""

from hypothesis import given
from hypothesis import strategies as st

from chatmesh.wire import fossil
from support.sdk_delta import applied

_PAYLOADS = st.binary(max_size=600)


@given(source=_PAYLOADS, target=_PAYLOADS)
def test_the_sdk_gets_the_target_back(source: bytes, target: bytes) -> None:
    """Whatever the two payloads have in common, or not."""
    assert applied(source, fossil.create(source, target)) == target


@given(source=st.binary(min_size=64, max_size=400), piece=st.binary(max_size=40))
def test_an_insertion_is_a_small_delta(source: bytes, piece: bytes) -> None:
    """What stayed is copied, not sent."""
    middle = len(source) // 2
    target = source[:middle] + piece + source[middle:]

    delta = fossil.create(source, target)

    assert applied(source, delta) == target


def test_the_same_payload_costs_next_to_nothing() -> None:
    """A status that did not change is a dozen bytes."""
    payload = b'{"status":"all systems are up and nothing is wrong anywhere"}' * 10

    assert len(fossil.create(payload, payload)) < 20
