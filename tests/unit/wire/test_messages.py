"""Broker messages that are none are told apart, whatever is wrong with them."""

from collections.abc import Callable

import pytest

from chatmesh.wire import messages
from chatmesh.wire.messages import Malformed

DECODERS = (
    messages.decode_gateway_inbound,
    messages.decode_command_batch,
    messages.decode_history_request,
)
BROKEN = {
    "nothing": b"",
    "not msgpack": b"\xc1",
    "cut off": b"\x93\xa3cmd",
    "a tag that is no text": b"\x91\xa3\x00\x00\x80",
    "another kind of message": b"\x92\xa5other\x01",
}


@pytest.mark.parametrize("decode", DECODERS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_bytes_that_are_no_message_are_malformed(
    decode: Callable[[bytes], object], body: bytes
) -> None:
    """One exception for all of it, so that a reader can bury it and go on."""
    with pytest.raises(Malformed):
        decode(body)
