"""What a session waits for: the command to answer, and what it needs to answer it."""

import msgspec

from chatmesh.gateway.effects import Want
from chatmesh.wire import client


class Authenticating(msgspec.Struct, frozen=True, gc=False):
    command: int
    request: client.ConnectRequest


class Connecting(msgspec.Struct, frozen=True, gc=False):
    command: int
    wants: tuple[Want, ...]


class CheckingSubscription(msgspec.Struct, frozen=True, gc=False):
    command: int
    request: client.SubscribeRequest

    @property
    def channel(self) -> str:
        return self.request.channel


class Subscribing(msgspec.Struct, frozen=True, gc=False):
    command: int
    request: client.SubscribeRequest
    want: Want

    @property
    def channel(self) -> str:
        return self.want.channel


class SubscribingForServer(msgspec.Struct, frozen=True, gc=False):
    want: Want
    data: bytes

    @property
    def channel(self) -> str:
        return self.want.channel


class Publishing(msgspec.Struct, frozen=True, gc=False):
    command: int


class SendingMessage(msgspec.Struct, frozen=True, gc=False):
    command: int
    message: str


class ReadingHistory(msgspec.Struct, frozen=True, gc=False):
    command: int


class AskingPresence(msgspec.Struct, frozen=True, gc=False):
    command: int
    counts: bool = False
    """Only how many is wanted, whatever form the answer has."""
    rpc: bool = False
    """Asked by a call of ours, which tells more than the protocol's own commands."""


class AskingService(msgspec.Struct, frozen=True, gc=False):
    command: int


class Refreshing(msgspec.Struct, frozen=True, gc=False):
    command: int


class RefreshingSubscription(msgspec.Struct, frozen=True, gc=False):
    command: int
    channel: str


OfSubscription = CheckingSubscription | Subscribing | SubscribingForServer
Awaited = (
    Authenticating
    | Connecting
    | OfSubscription
    | Publishing
    | SendingMessage
    | ReadingHistory
    | AskingPresence
    | AskingService
    | Refreshing
    | RefreshingSubscription
)
