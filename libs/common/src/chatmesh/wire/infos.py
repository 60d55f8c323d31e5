"""What tokens say of a member, and for it: JSON as a rule, and any bytes if they like.

Clients that speak Protobuf are given the bytes. Frames of JSON can hold JSON only, so
there the rest is in a field of its own, in base64.
"""

import base64

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatmesh.wire.client import ClientInfo


def client_info(
    user: str, client: str, conn_info: bytes = b"", chan_info: bytes = b""
) -> ClientInfo:
    """Who is behind a connection, with whatever bytes its tokens say of it."""
    conn, b64conn = in_either(conn_info)
    chan, b64chan = in_either(chan_info)
    return ClientInfo(user, client, conn, chan, b64conn, b64chan)


def in_either(payload: bytes) -> tuple[Raw | UnsetType, str | UnsetType]:
    """A payload as JSON or, where it is none, in base64; neither when it is empty."""
    if not payload:
        return UNSET, UNSET
    line = on_one_line(payload)
    if line is not None:
        return Raw(line), UNSET
    return UNSET, base64.b64encode(payload).decode()


def on_one_line(payload: bytes) -> bytes | None:
    """JSON as a frame may hold it; None for what some reader cannot take for JSON.

    Numbers that no reader can hold are none.
    """
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.json.format(payload, indent=-1)
