"""What a client needs to understand of the protocol, and the commands it gives.

Written from the protocol's description, not with the gateway's own codec: a mistake
there must not be able to hide here.
"""

from typing import Any

import msgspec


class Body(msgspec.Struct, gc=False):
    """Data of a message; every message of the suite looks like this."""

    id: str = ""
    text: str = ""


class Info(msgspec.Struct, gc=False):
    user: str = ""


class Publication(msgspec.Struct, gc=False):
    data: Body = msgspec.field(default_factory=Body)
    info: Info | None = None
    offset: int = 0


class Unsubscribed(msgspec.Struct):
    code: int
    reason: str


class Push(msgspec.Struct):
    channel: str = ""
    pub: Publication | None = None
    unsubscribe: Unsubscribed | None = None


class Error(msgspec.Struct):
    code: int
    message: str
    temporary: bool = False


class Connected(msgspec.Struct):
    client: str
    ping: int = 0
    pong: bool = False
    expires: bool = False
    ttl: int = 0


class Subscribed(msgspec.Struct):
    epoch: str = ""
    offset: int = 0
    recoverable: bool = False
    recovered: bool = False
    was_recovering: bool = False
    publications: list[Publication] = []


class Page(msgspec.Struct):
    publications: list[Publication] = []
    epoch: str = ""
    offset: int = 0


class Sent(msgspec.Struct):
    offset: int
    id: str


class Called(msgspec.Struct):
    data: Sent


class Reply(msgspec.Struct):
    """One message from the gateway: a push, a reply, or, when empty, a ping."""

    id: int = 0
    push: Push | None = None
    error: Error | None = None
    connect: Connected | None = None
    subscribe: Subscribed | None = None
    history: Page | None = None
    rpc: Called | None = None
    refresh: dict[str, Any] | None = None


PONG = b"{}"
_decode = msgspec.json.Decoder(Reply).decode
_encode = msgspec.json.encode


def heard(frame: bytes) -> list[Reply]:
    """All messages of one frame. Raises msgspec.DecodeError for anything strange."""
    return [_decode(line) for line in frame.split(b"\n") if line]


def connect(number: int, token: str) -> bytes:
    return _encode({"id": number, "connect": {"token": token, "name": "chaos"}})


def subscribe(number: int, channel: str, position: tuple[str, int] | None) -> bytes:
    request: dict[str, Any] = {"channel": channel}
    if position is not None:
        epoch, offset = position
        request |= {"recover": True, "epoch": epoch, "offset": offset}
    return _encode({"id": number, "subscribe": request})


def history(number: int, channel: str, since: tuple[str, int], limit: int) -> bytes:
    epoch, offset = since
    request = {
        "channel": channel,
        "limit": limit,
        "since": {"epoch": epoch, "offset": offset},
    }
    return _encode({"id": number, "history": request})


def send(number: int, channel: str, message_id: str, text: str) -> bytes:
    data = {"channel": channel, "id": message_id, "text": text}
    return _encode({"id": number, "rpc": {"method": "message.send", "data": data}})


def refresh(number: int, token: str) -> bytes:
    return _encode({"id": number, "refresh": {"token": token}})
