"""One room over the SDK: what happens there as a queue, what one does there as calls.

The SDK waits for its handlers before it reads on, so they only put events into a queue;
whoever takes them out may await further calls without blocking the connection.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import centrifuge  # pyright: ignore[reportMissingTypeStubs] - typed inline, unmarked
import websockets.exceptions

from chatmesh.cli.lines import Message, message_of
from chatmesh.cli.runs import Told, read_event
from chatmesh.cli.sending import Confirmed, Draft, RefusedError, TryAgainError
from chatmesh.wire import errors, limits

SEND_METHOD: Final = "message.send"

_OPEN_TIMEOUT_S: Final = 5.0
"""One command, and one attempt to connect; what the SDKs of all languages use."""

_CONNECT_CALLED: Final = 0
_ROOM_FOR_THE_END: Final = 1

TEXT_BYTES_MAX: Final = limits.COMMAND_BYTES_MAX - 1024
"""As the SDK encodes it; the rest of the command needs a little room too."""

EVENTS_WAITING_MAX: Final = 10_000
"""What may have happened and not been looked at; beyond it the room is left."""

REPLACED: Final = errors.UNRECOVERABLE_POSITION.code
"""Code of a refusal: the log this client knew is not the one there is now."""


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection; the room follows."""

    gateway: str
    """What the gateway calls itself; may be empty."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone and the SDK is bringing it back."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An attempt to connect failed; the SDK goes on trying."""

    reason: str


@dataclass(frozen=True, slots=True)
class Joined:
    """The room is heard from now on; what was missed follows by itself if recovered."""

    durable: bool
    top: int
    """Where the room's log stands; with `recovered`, where this client stood."""
    epoch: str
    recovered: bool


@dataclass(frozen=True, slots=True)
class Said:
    """One publication; `message` is None for what is nothing to show."""

    offset: int
    """0 for what is ephemeral."""
    message: Message | None


@dataclass(frozen=True, slots=True)
class Ended:
    """It is over and nobody tries again."""

    reason: str


Event = Connected | Lost | Unreachable | Joined | Said | Told | Ended


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a room's log, oldest first, and where the log stands."""

    entries: list[Said]
    top: int
    epoch: str


@dataclass(frozen=True, slots=True)
class Access:
    """How to get to a gateway, and as whom."""

    url: str
    token: str = ""
    get_token: Callable[[], Awaitable[str]] | None = None
    direct: bool = False
    """Do not use a proxy that the environment names."""
    headers: dict[str, str] = field(default_factory=dict[str, str])


class Room:
    """A connection to one gateway with one subscription. `join` it, later `leave` it.

    Whoever does not look at `events` for so long that too many of them wait has left:
    the newest of them says so, and nothing between them is missing.
    """

    def __init__(self, access: Access, channel: str) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue(
            EVENTS_WAITING_MAX + _ROOM_FOR_THE_END
        )
        self._channel = channel
        self._over = ""
        self._client = _Client(
            access.url,
            events=_ClientEvents(self),
            token=access.token,
            get_token=access.get_token,
            name="chatmesh",
            timeout=_OPEN_TIMEOUT_S,
            headers=access.headers,
            proxy=None if access.direct else True,
        )
        self._subscription = self._client.new_subscription(
            channel,
            events=_RoomEvents(self),
            recoverable=True,
            positioned=True,
        )

    async def join(self) -> None:
        """Begin to connect, for ever; whether it works is told by events."""
        # Asked for first, so that it is never seen as not wanted.
        await self._subscription.subscribe()
        await self._client.connect()

    async def leave(self) -> None:
        """Disconnect; nothing more happens here."""
        self._over = self._over or "left the room"
        await self._client.disconnect()

    async def send(self, draft: Draft) -> Confirmed:
        """Send once. Raises TryAgainError or RefusedError."""
        if len(json.dumps(draft.text)) > TEXT_BYTES_MAX:
            # Such a frame would end the connection, and with it everything else.
            raise RefusedError(errors.TOO_LARGE.message, errors.TOO_LARGE.code)
        data = {"channel": self._channel, "id": draft.id, "text": draft.text}
        # A connection that has just come back is not in the room yet.
        await self._asked(self._subscription.ready, sent=False)
        result = await self._asked(lambda: self._client.rpc(SEND_METHOD, data))
        answer: object = result.data
        offset = (
            cast("dict[str, object]", answer).get("offset")
            if isinstance(answer, dict)
            else None
        )
        return Confirmed(offset if isinstance(offset, int) else 0)

    async def call(self, method: str, data: dict[str, object]) -> object:
        """Call a method about this room. Raises TryAgainError or RefusedError."""
        await self._asked(self._subscription.ready, sent=False)
        about = {"channel": self._channel, **data}
        result = await self._asked(lambda: self._client.rpc(method, about))
        return result.data

    async def newest(self, limit: int) -> Page:
        """The last `limit` entries. Raises TryAgainError or RefusedError."""
        result = await self._asked(
            lambda: self._client.history(self._channel, limit=limit, reverse=True)
        )
        return _page(result, reverse=True)

    async def after(self, offset: int, epoch: str, limit: int) -> Page:
        """Up to `limit` entries behind an offset. Raises TryAgainError or RefusedError."""
        since = centrifuge.StreamPosition(offset=offset, epoch=epoch)
        result = await self._asked(
            lambda: self._client.history(self._channel, limit=limit, since=since)
        )
        return _page(result, reverse=False)

    async def happened(self, event: Event) -> None:
        """Put an event where it is looked at; leave when nobody looks."""
        if self._over:
            return
        if self.events.qsize() < EVENTS_WAITING_MAX:
            self.events.put_nowait(event)
            return
        self.end("more happens here than can be shown")
        await self._client.disconnect()

    def end(self, reason: str) -> None:
        """Remember and tell that it is over; the first reason stays."""
        if not self._over:
            self._over = reason
            self.events.put_nowait(Ended(reason))

    async def _asked(
        self,
        call: Callable[[], Awaitable[Any]],
        *,
        sent: bool = True,
    ) -> Any:  # noqa: ANN401 - the SDK's results
        """What the SDK answers, with its failures sorted into later and never."""
        if self._over:
            raise RefusedError(self._over)
        try:
            return await call()
        except centrifuge.ReplyError as error:
            if error.temporary:
                raise TryAgainError(error.message, sent=sent) from error
            raise RefusedError(error.message, error.code) from error
        except centrifuge.CentrifugeError as error:
            if self._over:
                raise RefusedError(self._over) from error
            if not isinstance(error, centrifuge.OperationTimeoutError):
                reason = "the connection was lost"
            else:
                reason = "no answer in time" if sent else "no connection"
            raise TryAgainError(reason, sent=sent) from error


def _page(result: centrifuge.HistoryResult, *, reverse: bool) -> Page:
    entries = [_said(publication) for publication in result.publications]
    if reverse:
        entries.reverse()
    return Page(entries, result.offset, result.epoch)


def _told(publication: centrifuge.Publication) -> Told | None:
    user = publication.info.user if publication.info is not None else None
    return read_event(publication.data, user)


def _said(publication: centrifuge.Publication) -> Said:
    user = publication.info.user if publication.info is not None else ""
    at_ms = publication.at_ms if isinstance(publication, _Publication) else 0
    return Said(publication.offset, message_of(publication.data, user, at_ms))


@dataclass
class _Publication(centrifuge.Publication):
    """A publication with the time of its commit, which the SDK leaves out."""

    at_ms: int = 0


class _Client(centrifuge.Client):
    def _publication_from_proto(self, pub: Any) -> centrifuge.Publication:  # noqa: ANN401
        read = super()._publication_from_proto(pub)
        return _Publication(**vars(read), at_ms=int(pub.get("time", 0)))


class _ClientEvents(centrifuge.ClientEventHandler):
    def __init__(self, room: Room) -> None:
        self._room = room

    async def on_connecting(self, ctx: centrifuge.ConnectingContext) -> None:
        if ctx.code != _CONNECT_CALLED:
            await self._room.happened(Lost())

    async def on_connected(self, ctx: centrifuge.ConnectedContext) -> None:
        await self._room.happened(Connected(_gateway_in(ctx.data)))

    async def on_disconnected(self, ctx: centrifuge.DisconnectedContext) -> None:
        self._room.end(ctx.reason or f"disconnected with code {ctx.code}")

    async def on_error(self, ctx: centrifuge.ErrorContext) -> None:
        await self._room.happened(Unreachable(reason_of(ctx.error)))


class _RoomEvents(centrifuge.SubscriptionEventHandler):
    def __init__(self, room: Room) -> None:
        self._room = room

    async def on_subscribed(self, ctx: centrifuge.SubscribedContext) -> None:
        position = ctx.stream_position
        await self._room.happened(
            Joined(
                durable=position is not None,
                top=position.offset if position is not None else 0,
                epoch=position.epoch if position is not None else "",
                recovered=ctx.recovered,
            )
        )

    async def on_publication(self, ctx: centrifuge.PublicationContext) -> None:
        # Anything else without an offset (who types, counts) is nothing to show here.
        told = None if ctx.pub.offset else _told(ctx.pub)
        await self._room.happened(told or _said(ctx.pub))

    async def on_unsubscribed(self, ctx: centrifuge.UnsubscribedContext) -> None:
        self._room.end(ctx.reason or f"unsubscribed with code {ctx.code}")


def reason_of(error: Exception) -> str:
    """What an attempt to connect failed of, for a person."""
    if isinstance(error, websockets.exceptions.InvalidStatus):
        return f"it answers HTTP status {error.response.status_code}"
    if isinstance(error, websockets.exceptions.InvalidHandshake):
        return "what answers there is no gateway"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        known = error.errno if error.errno is not None and error.errno > 0 else None
        reason = os.strerror(known) if known else error.strerror or "no connection"
        return reason[:1].lower() + reason[1:]
    if isinstance(error, centrifuge.ReplyError):
        return error.message
    return str(error) or type(error).__name__


def _gateway_in(data: object) -> str:
    if not isinstance(data, dict):
        return ""
    name = cast("dict[str, object]", data).get("gateway")
    return name if isinstance(name, str) else ""
