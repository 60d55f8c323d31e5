"""What a client and a gateway say to each other: commands in, replies and pushes out.

The structures follow the Centrifuge client protocol field by field; `client_json` and
the Protobuf codec turn them into bytes. Payloads (`data`, `conn_info`, `chan_info`)
stay raw bytes, which JSON embeds and Protobuf carries as they are; what is no JSON has
`b64…` fields for the former, see `infos`.
"""

import enum
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatmesh.wire.errors import ErrorReply


class SubscriptionType(enum.IntEnum):
    """The stream is the one kind served here; the others are another protocol."""

    STREAM = 0
    MAP = 1
    MAP_CLIENTS = 2
    MAP_USERS = 3
    SHARED_POLL = 4


REJECT_UNRECOVERED: Final = 2
"""Bit of a subscribe request's `flag`: answer 112 rather than start from the top."""
DELTA_FOSSIL: Final = "fossil"


NO_DATA: Final = Raw(b"")
"""A payload that is not there; JSON `null` is one that is."""


CommandId = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
"""Names a command to its client; 0 where no answer is wanted."""


class _Part(msgspec.Struct, omit_defaults=True, gc=False):
    """Zero values are left out on the wire; unknown fields are ignored on the way in."""


class StreamPosition(_Part):
    """A place in one life of a channel's log. Offset 0 is before the first entry."""

    offset: int = 0
    epoch: str = ""


class FilterNode(_Part):
    """A tags filter as the client sent it, checked where it is used."""

    op: str = ""
    key: str = ""
    cmp: str = ""
    val: str = ""
    vals: list[str] = []
    nodes: list["FilterNode"] = []


class SubscribeRequest(_Part):
    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    data: Raw = NO_DATA
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: FilterNode | None = None
    flag: int = 0
    type: int = 0
    phase: int = 0


class ConnectRequest(_Part):
    token: str = ""
    data: Raw = NO_DATA
    subs: dict[str, SubscribeRequest] = {}
    name: str = ""
    version: str = ""
    headers: dict[str, str] = {}
    flag: int = 0


class UnsubscribeRequest(_Part):
    channel: str = ""


class PublishRequest(_Part):
    channel: str = ""
    data: Raw = NO_DATA


class PresenceRequest(_Part):
    channel: str = ""


class PresenceStatsRequest(_Part):
    channel: str = ""


class HistoryRequest(_Part):
    channel: str = ""
    limit: int = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(_Part):
    pass


class RPCRequest(_Part):
    data: Raw = NO_DATA
    method: str = ""


class SendRequest(_Part):
    data: Raw = NO_DATA


class RefreshRequest(_Part):
    token: str = ""


class SubRefreshRequest(_Part):
    channel: str = ""
    token: str = ""


class Command(_Part):
    """One thing a client wants: an id and exactly one request."""

    id: CommandId = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: UnsubscribeRequest | None = None
    publish: PublishRequest | None = None
    presence: PresenceRequest | None = None
    presence_stats: PresenceStatsRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RPCRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


Request = (
    ConnectRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | PublishRequest
    | PresenceRequest
    | PresenceStatsRequest
    | HistoryRequest
    | PingRequest
    | RPCRequest
    | SendRequest
    | RefreshRequest
    | SubRefreshRequest
)


def request_of(command: Command) -> Request | None:
    """The one request a command carries, in the protocol's order of inspection."""
    return (
        command.connect
        or command.ping
        or command.subscribe
        or command.unsubscribe
        or command.publish
        or command.presence
        or command.presence_stats
        or command.history
        or command.rpc
        or command.send
        or command.refresh
        or command.sub_refresh
    )


class ClientInfo(msgspec.Struct, gc=False):
    """Who is behind a connection. `user` and `client` are always on the wire.

    An info that is no JSON is in its `b64…` field, as `b64data` is of other structures:
    JSON clients are shown the base64, Protobuf clients the bytes.
    """

    user: str
    client: str
    conn_info: Raw | UnsetType = UNSET
    chan_info: Raw | UnsetType = UNSET
    b64conn_info: str | UnsetType = UNSET
    b64chan_info: str | UnsetType = UNSET


class Publication(_Part):
    """One publication as a client sees it; without `offset` it is ephemeral."""

    data: Raw = Raw(b"null")
    info: Raw | UnsetType = UNSET
    """JSON of a ClientInfo."""
    offset: int = 0
    tags: dict[str, str] = {}
    delta: bool = False
    time: int = 0
    channel: str = ""


class SubscribeResult(_Part):
    expires: bool = False
    ttl: int = 0
    recoverable: bool = False
    epoch: str = ""
    publications: list[Raw] = []
    """Each the encoding of a Publication, made once for all who recover it."""
    recovered: bool = False
    offset: int = 0
    positioned: bool = False
    data: Raw | UnsetType = UNSET
    was_recovering: bool = False
    delta: bool = False
    b64data: str | UnsetType = UNSET


class ConnectResult(_Part):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0
    data: Raw | UnsetType = UNSET
    subs: dict[str, SubscribeResult] = {}
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: int = 0


class UnsubscribeResult(_Part):
    pass


class PublishResult(_Part):
    pass


class PresenceResult(msgspec.Struct, gc=False):
    presence: dict[str, ClientInfo]


class PresenceStatsResult(msgspec.Struct, gc=False):
    num_clients: int
    num_users: int


class HistoryResult(msgspec.Struct, gc=False):
    """`epoch` and `offset` are the channel's current top; all three always present."""

    publications: list[Raw]
    epoch: str
    offset: int


class RPCResult(_Part):
    data: Raw | UnsetType = UNSET


class RefreshResult(_Part):
    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class SubRefreshResult(_Part):
    expires: bool = False
    ttl: int = 0


class Reply(_Part):
    """The answer to one command: its id, and an error or exactly one result."""

    id: int = 0
    error: ErrorReply | None = None
    connect: ConnectResult | None = None
    subscribe: SubscribeResult | None = None
    unsubscribe: UnsubscribeResult | None = None
    publish: PublishResult | None = None
    presence: PresenceResult | None = None
    presence_stats: PresenceStatsResult | None = None
    history: HistoryResult | None = None
    rpc: RPCResult | None = None
    refresh: RefreshResult | None = None
    sub_refresh: SubRefreshResult | None = None


class SubscribePush(_Part):
    recoverable: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    data: Raw | UnsetType = UNSET
    b64data: str | UnsetType = UNSET


class UnsubscribePush(msgspec.Struct, gc=False):
    code: int
    reason: str


class DisconnectPush(msgspec.Struct, gc=False):
    code: int
    reason: str


class MemberPush(msgspec.Struct, gc=False):
    """Body of a join or a leave."""

    info: Raw


class Push(_Part):
    """Something the client did not ask for just now: a channel, and what happened."""

    channel: str = ""
    pub: Raw | None = None
    """The encoding of a Publication."""
    join: MemberPush | None = None
    leave: MemberPush | None = None
    unsubscribe: UnsubscribePush | None = None
    subscribe: SubscribePush | None = None
    disconnect: DisconnectPush | None = None
