"""Messages of a room as tools read them."""

import msgspec
import pytest

from chatmesh.agent.tools.builtin.rooms import Said, said
from chatmesh.wire.messages import Entry

DEEP = b'{"type":"message","text":"x","more":' + b"[" * 50_000 + b"]" * 50_000 + b"}"


def entry(data: bytes, info: bytes = b'{"user":"ada"}') -> Entry:
    return Entry(offset=7, id="m", at_ms=1000, data=data, info=info)


def test_a_message_has_who_said_it() -> None:
    """Anything else is no message."""
    body = msgspec.json.encode({"type": "message", "text": "hello"})
    assert said(entry(body)) == Said(7, "ada", 1000, "hello")
    assert said(entry(b'{"type":"other","text":"hello"}')) is None


@pytest.mark.parametrize(
    ("data", "info"), [(DEEP, b""), (b'{"type":"message","text":"x"}', DEEP)]
)
def test_what_is_nested_without_end_is_no_message(data: bytes, info: bytes) -> None:
    """Anybody may say it; the tools go on with the others."""
    assert said(entry(data, info)) is None
