"""What a channel is shown of a connection: the protocol's client info, as JSON."""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatmesh.wire.client import ClientInfo

_encode: Final = msgspec.json.Encoder().encode


def client_info(user: str, client: str, conn_info: bytes, chan_info: bytes) -> bytes:
    """JSON of a ClientInfo. Infos that are no JSON are left out: nobody could read it."""
    return _encode(ClientInfo(user, client, _embedded(conn_info), _embedded(chan_info)))


def readable(info: bytes) -> bytes | None:
    """An info on one line; None if there is none, or if it is no JSON."""
    if not info:
        return None
    try:
        # Messages of the protocol are told apart by line ends.
        return msgspec.json.format(info, indent=-1)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _embedded(info: bytes) -> Raw | UnsetType:
    line = readable(info)
    return UNSET if line is None else Raw(line)
