"""What the server API is asked and answers, field by field; OpenAPI is written from it.

Fields that are not there and fields that are null mean the same, and unknown ones are
passed over: clients of several versions use this.
"""

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatmesh.wire.client import ClientInfo


class Request(msgspec.Struct):
    """What a method wants to know."""


class Position(msgspec.Struct):
    """A place in one life of a channel's log."""

    offset: int = 0
    epoch: str = ""


class Decided(msgspec.Struct):
    """A namespace option, decided."""

    value: bool


class Override(msgspec.Struct):
    """Options of the namespace, decided for one subscription."""

    presence: Decided | None = None
    join_leave: Decided | None = None
    force_push_join_leave: Decided | None = None
    force_recovery: Decided | None = None
    force_positioning: Decided | None = None


class Goodbye(msgspec.Struct):
    """Close code and reason. 3500 to 3999 and 4500 to 4999 keep the client away."""

    code: int = 0
    reason: str = ""


class Publishing(Request):
    """A publication, wherever it goes."""

    data: Raw | UnsetType = UNSET
    """Any JSON."""
    b64data: str | None = None
    """Bytes in base64, for binary clients; instead of `data`."""
    skip_history: bool | None = None
    """Deliver and forget: no offset, nothing stored."""
    tags: dict[str, str] | None = None
    idempotency_key: str | None = None
    """The same key, for ever, is the same publication of its channel."""
    delta: bool | None = None
    """Accepted and not needed: deltas go to whoever asks for them."""
    version: int | None = None
    version_epoch: str | None = None


class PublishRequest(Publishing, kw_only=True):
    channel: str


class BroadcastRequest(Publishing, kw_only=True):
    channels: list[str]


class Targeted(Request):
    """Connections of a user, or one of them; or the one with this client or session."""

    user: str = ""
    client: str | None = None
    session: str | None = None


class SubscribeRequest(Targeted, kw_only=True):
    channel: str
    expire_at: int | None = None
    """Unix seconds; absent or 0: never."""
    info: Raw | UnsetType = UNSET
    """JSON that others see as `chan_info`."""
    b64info: str | None = None
    """The same in base64: any bytes."""
    data: Raw | UnsetType = UNSET
    """JSON for the client."""
    b64data: str | None = None
    """The same in base64: any bytes."""
    recover_since: Position | None = None
    override: Override | None = None


class UnsubscribeRequest(Targeted, kw_only=True):
    channel: str


class DisconnectRequest(Targeted):
    whitelist: list[str] | None = None
    """Client ids that stay."""
    disconnect: Goodbye | None = None


class RefreshRequest(Targeted):
    expired: bool | None = None
    """End the connections as expired."""
    expire_at: int | None = None
    """Unix seconds; absent or 0: never."""
    info: Raw | UnsetType = UNSET
    """JSON that others see as `conn_info` from now on."""


class PresenceRequest(Request):
    channel: str


class PresenceStatsRequest(Request):
    channel: str


class HistoryRemoveRequest(Request):
    """Offsets and epoch go on, and known idempotency keys stay known."""

    channel: str


class HistoryRequest(Request, kw_only=True):
    channel: str
    limit: int | None = None
    """Absent or 0: the position only. -1: as many as one page holds."""
    since: Position | None = None
    """Exclusive, in both directions."""
    reverse: bool | None = None


class ChannelsRequest(Request):
    pattern: str | None = None
    """Shell-like: `*`, `?`, `[…]`, `{a,b}`."""


class InfoRequest(Request):
    pass


class BatchRequest(Request):
    commands: list[dict[str, Raw]]
    """Each an object with one key: the method, and what it wants to know."""
    parallel: bool | None = None


class Nothing(msgspec.Struct):
    """It is done."""


class PublishResult(msgspec.Struct, omit_defaults=True):
    """Where a durable publication stands; empty for one that is not stored."""

    offset: int = 0
    epoch: str = ""


class Failure(msgspec.Struct):
    code: int
    message: str
    temporary: bool = False


class PublishResponse(msgspec.Struct, omit_defaults=True):
    """One of both."""

    result: PublishResult | None = None
    error: Failure | None = None


class BroadcastResult(msgspec.Struct):
    """In the order of the channels."""

    responses: list[PublishResponse]


class PresenceResult(msgspec.Struct):
    presence: dict[str, ClientInfo]
    """Connections by client id."""


class PresenceStatsResult(msgspec.Struct):
    num_clients: int
    num_users: int


class HistoryResult(msgspec.Struct):
    publications: list[Raw]
    """Each with data (or b64data), offset, tags, info, time."""
    offset: int
    epoch: str


class ChannelInfo(msgspec.Struct):
    num_clients: int


class ChannelsResult(msgspec.Struct):
    channels: dict[str, ChannelInfo]


class NodeInfo(msgspec.Struct):
    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    uptime: int
    """Seconds."""


class InfoResult(msgspec.Struct):
    nodes: list[NodeInfo]


class BatchResult(msgspec.Struct):
    replies: list[Raw]
    """In the order of the commands: an object with one key, the method or `error`."""


SHAPES: Final[dict[str, tuple[type[Request], type[msgspec.Struct]]]] = {
    "publish": (PublishRequest, PublishResult),
    "broadcast": (BroadcastRequest, BroadcastResult),
    "subscribe": (SubscribeRequest, Nothing),
    "unsubscribe": (UnsubscribeRequest, Nothing),
    "disconnect": (DisconnectRequest, Nothing),
    "refresh": (RefreshRequest, Nothing),
    "presence": (PresenceRequest, PresenceResult),
    "presence_stats": (PresenceStatsRequest, PresenceStatsResult),
    "history": (HistoryRequest, HistoryResult),
    "history_remove": (HistoryRemoveRequest, Nothing),
    "channels": (ChannelsRequest, ChannelsResult),
    "info": (InfoRequest, InfoResult),
    "batch": (BatchRequest, BatchResult),
}
"""Each method with what it is asked and what it answers."""
