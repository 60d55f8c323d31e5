"""What a channel is shown of a connection."""

import json

from chatmesh.presence.infos import client_info, readable


def test_infos_are_embedded_as_they_are() -> None:
    """The receiver gets the JSON that the token held."""
    info = client_info("ada", "a1", b'{"name":"Ada"}', b"[1]")

    assert json.loads(info) == {
        "user": "ada",
        "client": "a1",
        "conn_info": {"name": "Ada"},
        "chan_info": [1],
    }


def test_infos_that_are_not_there_are_left_out() -> None:
    """No info is no key; user and client are always there."""
    assert json.loads(client_info("", "x1", b"", b"")) == {"user": "", "client": "x1"}


def test_line_ends_between_tokens_are_taken_out() -> None:
    """They would end the message; those inside of strings are escaped anyway."""
    info = client_info("ada", "a1", b'{\n  "name":\r\n "A\\nda"\n}', b"")

    assert b"\n" not in info
    assert json.loads(info)["conn_info"] == {"name": "A\nda"}


def test_infos_nobody_can_read_are_left_out() -> None:
    """A binary info must not break the frames of JSON clients."""
    assert readable(b"\xff\x00") is None
    assert readable(b"{") is None
    assert readable(b"") is None
    assert "conn_info" not in json.loads(client_info("ada", "a1", b"\xff", b""))
