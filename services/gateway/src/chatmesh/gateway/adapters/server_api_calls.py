"""The methods of the server API: what a backend may do to channels and connections.

A publication is answered when it is committed. What concerns connections is done by
every gateway before it is answered, or answered with an error.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, UnsetType

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway import attendance, payloads
from chatmesh.gateway.adapters import server_api_models as api
from chatmesh.gateway.control import Control, Unanswered
from chatmesh.gateway.gateway import Gateway
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.ports import ControlBus
from chatmesh.wire import (
    channels,
    client_json,
    close_codes,
    control,
    errors,
    limits,
)
from chatmesh.wire.close_codes import Disconnect
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import (
    Entry,
    LivePublication,
    Page,
    PublishCommand,
    Read,
)
from chatmesh.wire.namespaces import NamespaceOptions
from chatmesh.wire.nesting import too_deep
from chatmesh.wire.presence import (
    CountsAsk,
    MembersAsk,
    PresenceAnswer,
    PresenceAsk,
    PresenceCounts,
    PresencePage,
)

BROADCAST_CHANNELS_MAX: Final = 1000
BATCH_COMMANDS_MAX: Final = 1000
TAGS_BYTES_MAX: Final = 4 * limits.KIB
"""Names and values of a publication's tags."""
PATTERN_CHARS_MAX: Final = limits.CHANNEL_CHARS_MAX
CUSTOM_CODES: Final = range(3000, 5000)
"""Close codes that SDKs understand."""
UNIX_S_MAX: Final = 2**53 - 1
VERSION_MAX: Final = 2**63 - 1
VERSION_EPOCH_CHARS_MAX: Final = 64

Told = TypeVar("Told")
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """A call that is answered with an error."""

    def __init__(self, error: ErrorReply) -> None:
        super().__init__(error.message)
        self.error = error


def bad(reason: str) -> Refused:
    return Refused(errors.because(errors.BAD_REQUEST, reason))


class Calls:
    """Every method but the batch, which is made of them. All raise Refused."""

    def __init__(
        self,
        gateway: Gateway,
        control: Control,
        bus: ControlBus,
        policy: Policy,
        *,
        new_id: Callable[[], str],
    ) -> None:
        self._gateway = gateway
        self._control = control
        self._bus = bus
        self._policy = policy
        self._new_id = new_id

    async def perform(self, request: api.Request) -> msgspec.Struct:  # noqa: PLR0911, PLR0912, C901 - the API at a glance, a line a method
        match request:
            case api.PublishRequest():
                return await self._publish(request.channel, request)
            case api.BroadcastRequest():
                return await self._broadcast(request)
            case api.SubscribeRequest():
                return await self._subscribe(request)
            case api.UnsubscribeRequest():
                self._options(request.channel)
                act = control.Unsubscribe(_target(request), request.channel)
                return await self._have_done(act)
            case api.DisconnectRequest():
                return await self._disconnect(request)
            case api.RefreshRequest():
                return await self._refresh(request)
            case api.PresenceRequest():
                return await self._presence(request.channel)
            case api.PresenceStatsRequest():
                return await self._presence_stats(request.channel)
            case api.HistoryRequest():
                return await self._history(request)
            case api.HistoryRemoveRequest():
                return await self._history_remove(request.channel)
            case api.ChannelsRequest():
                return await self._channels(request.pattern or "")
            case api.InfoRequest():
                return await self._info()
            case _:
                raise AssertionError(f"no such request: {type(request).__name__}")

    # -- Publications -----------------------------------------------------------------

    async def _publish(self, channel: str, said: api.Publishing) -> api.PublishResult:
        options = self._options(channel)
        data = _payload(said, options)
        tags = _tags(said.tags)
        key = said.idempotency_key or ""
        if len(key) > limits.MESSAGE_ID_CHARS_MAX or "\x00" in key:
            raise bad(
                f"idempotency_key wants at most {limits.MESSAGE_ID_CHARS_MAX} characters"
            )
        if said.skip_history or not options.durable:
            if said.version or key:
                name = "version" if said.version else "idempotency_key"
                reason = f"{name}: nothing remembers it without history"
                raise Refused(errors.because(errors.NOT_AVAILABLE, reason))
            live = LivePublication(data, tags=tags)
            error = await _told(partial(self._gateway.emit, channel, live))
            if error is not None:
                raise Refused(error)
            return api.PublishResult()
        if said.version:
            command = _versioned(channel, data, tags, said)
        else:
            command = PublishCommand(channel, key or self._new_id(), data, tags=tags)
        result = await _told(partial(self._gateway.commit, command))
        if said.version and _is_outdated(result.error):
            # A newer version is there, or this very one: dropped, as was asked for.
            top = await self._page(Read(0, channel))
            return api.PublishResult(top.top, top.epoch)
        if result.error is not None:
            raise Refused(result.error)
        epoch = result.epoch or (await self._page(Read(0, channel))).epoch
        return api.PublishResult(result.offset, epoch)

    async def _broadcast(self, said: api.BroadcastRequest) -> api.BroadcastResult:
        if len(said.channels) > BROADCAST_CHANNELS_MAX:
            raise bad(f"more than {BROADCAST_CHANNELS_MAX} channels")

        async def one(channel: str) -> api.PublishResponse:
            try:
                return api.PublishResponse(await self._publish(channel, said))
            except Refused as refused:
                return api.PublishResponse(error=failure(refused.error))

        return api.BroadcastResult(await together([one(c) for c in said.channels]))

    # -- Connections ------------------------------------------------------------------

    async def _subscribe(self, said: api.SubscribeRequest) -> api.Nothing:
        self._options(said.channel)
        since = said.recover_since
        if since is not None and not 0 <= since.offset <= limits.OFFSET_MAX:
            raise bad("offset out of range")
        return await self._have_done(
            control.Subscribe(
                _target(said),
                said.channel,
                expire_at_s=_unix_s(said.expire_at),
                info=_given(said.info, said.b64info, "info"),
                data=_given(said.data, said.b64data, "data"),
                since=(
                    control.Position(since.offset, since.epoch)
                    if since is not None
                    else None
                ),
                override=_override(said.override),
            )
        )

    async def _disconnect(self, said: api.DisconnectRequest) -> api.Nothing:
        goodbye = _goodbye(said.disconnect)
        return await self._have_done(
            control.Disconnect(
                _target(said), goodbye.code, goodbye.reason, said.whitelist or []
            )
        )

    async def _refresh(self, said: api.RefreshRequest) -> api.Nothing:
        return await self._have_done(
            control.Refresh(
                _target(said),
                bool(said.expired),
                _unix_s(said.expire_at),
                _given(said.info, None, "info") or None,
            )
        )

    async def _have_done(self, act: control.Act) -> api.Nothing:
        await self._ask(act)
        return api.Nothing()

    async def _ask(self, act: control.Act) -> list[control.Answer]:
        try:
            answers = await self._control.ask(act)
        except Unanswered as unanswered:
            error = errors.because(errors.INTERNAL, str(unanswered))
            raise Refused(error) from unanswered
        for answer in answers:
            if isinstance(answer, control.Refused):
                raise Refused(ErrorReply(answer.code, answer.message, answer.temporary))
        return answers

    # -- Presence ---------------------------------------------------------------------

    async def _presence(self, channel: str) -> api.PresenceResult:
        self._with_presence(channel)
        told = await self._ask_presence(MembersAsk(0, channel))
        if not isinstance(told, PresencePage):
            raise Refused(errors.INTERNAL)
        return api.PresenceResult(
            {one.client: attendance.info_of(one) for one in told.members}
        )

    async def _presence_stats(self, channel: str) -> api.PresenceStatsResult:
        self._with_presence(channel)
        told = await self._ask_presence(CountsAsk(0, channel))
        if not isinstance(told, PresencePage | PresenceCounts):
            raise Refused(errors.INTERNAL)
        return api.PresenceStatsResult(told.num_clients, told.num_users)

    def _with_presence(self, channel: str) -> None:
        if not self._options(channel).presence:
            raise Refused(errors.NOT_AVAILABLE)

    async def _ask_presence(self, ask: PresenceAsk) -> PresenceAnswer:
        told = await _told(partial(self._gateway.presence.ask, ask))
        if told is None:
            raise Refused(errors.INTERNAL)
        if not isinstance(told, PresencePage | PresenceCounts):
            return told
        if told.error_code:
            raise Refused(ErrorReply(told.error_code, told.error_message))
        return told

    # -- History ----------------------------------------------------------------------

    async def _history(self, said: api.HistoryRequest) -> api.HistoryResult:
        self._durable(said.channel)
        since = said.since or api.Position()
        if not 0 <= since.offset <= limits.OFFSET_MAX:
            raise bad("offset out of range")
        if said.reverse and said.since is not None and since.offset == 0:
            raise bad("nothing is before offset 0")
        limit = said.limit or 0
        page = await self._page(
            Read(
                0,
                said.channel,
                since=since.offset,
                limit=limits.PAGE_ENTRIES_MAX
                if limit < 0
                else min(limit, limits.PAGE_ENTRIES_MAX),
                reverse=bool(said.reverse),
            )
        )
        if since.epoch and since.epoch != page.epoch:
            raise Refused(errors.UNRECOVERABLE_POSITION)
        publications = [_publication(entry) for entry in page.entries]
        return api.HistoryResult(publications, page.top, page.epoch)

    async def _history_remove(self, channel: str) -> api.Nothing:
        self._durable(channel)
        answered: asyncio.Future[Page | None]
        answered = asyncio.get_running_loop().create_future()
        request = self._gateway.expect_page(_setter(answered))
        try:
            await self._bus.truncate(request, channel)
        except PublishFailed as failed:
            raise Refused(errors.INTERNAL) from failed
        _found(await answered)
        # What gateways still hold of it in memory goes too, before this is answered.
        return await self._have_done(control.Forget(channel))

    async def _page(self, read: Read) -> Page:
        return _found(await _told(partial(self._gateway.read, read)))

    # -- What there is ----------------------------------------------------------------

    async def _channels(self, pattern: str) -> api.ChannelsResult:
        if len(pattern) > PATTERN_CHARS_MAX:
            raise bad(f"pattern over {PATTERN_CHARS_MAX} characters")
        totals: dict[str, int] = {}
        for answer in await self._ask(control.ListChannels(pattern)):
            if isinstance(answer, control.ChannelCounts):
                for name, count in answer.counts.items():
                    totals[name] = totals.get(name, 0) + count
        return api.ChannelsResult(
            {name: api.ChannelInfo(count) for name, count in totals.items()}
        )

    async def _info(self) -> api.InfoResult:
        nodes = [
            api.NodeInfo(
                node.uid,
                node.name,
                node.version,
                node.num_clients,
                node.num_users,
                node.num_subs,
                node.num_channels,
                node.uptime_s,
            )
            for node in await self._ask(control.Survey())
            if isinstance(node, control.Node)
        ]
        return api.InfoResult(sorted(nodes, key=lambda node: (node.name, node.uid)))

    # -- Small parts ------------------------------------------------------------------

    def _options(self, channel: str) -> NamespaceOptions:
        reason = channels.refusal(channel)
        if reason is not None:
            raise bad(reason)
        options = self._policy.options(channel)
        if options is None:
            raise Refused(errors.UNKNOWN_CHANNEL)
        return options

    def _durable(self, channel: str) -> None:
        if not self._options(channel).durable:
            raise Refused(errors.NOT_AVAILABLE)


async def _told(ask: Callable[[Callable[[Told], None]], None]) -> Told:
    """Ask something that answers by calling back, once."""
    answered: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
    ask(_setter(answered))
    return await answered


def _setter(future: "asyncio.Future[Told]") -> Callable[[Told], None]:
    def answer(told: Told) -> None:
        if not future.done():  # The caller may have gone meanwhile.
            future.set_result(told)

    return answer


async def together(calls: Sequence[Coroutine[Any, Any, Told]]) -> list[Told]:
    """Make calls at once; gives their results in order."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


def failure(error: ErrorReply) -> api.Failure:
    return api.Failure(error.code, error.message, error.temporary)


def _found(page: Page | None) -> Page:
    if page is None:
        raise Refused(errors.because(errors.INTERNAL, "history did not answer in time"))
    if page.error_code:
        raise Refused(
            ErrorReply(page.error_code, page.error_message or errors.INTERNAL.message)
        )
    return page


def _target(said: api.Targeted) -> control.Target:
    if not (said.user or said.client or said.session):
        raise bad("whose connections? say user, client or session")
    return control.Target(said.user, said.client or "", said.session or "")


def _versioned(
    channel: str, data: bytes, tags: dict[str, str], said: api.Publishing
) -> PublishCommand:
    """A publication that counts only while none of its version or a newer one is there.

    The version is its id, so the same one is stored once, and its fence, so an older one
    that comes late is not stored at all.
    """
    version, epoch = said.version or 0, said.version_epoch or ""
    if not 0 < version <= VERSION_MAX:
        raise bad(f"version wants 1 to {VERSION_MAX}")
    if len(epoch) > VERSION_EPOCH_CHARS_MAX or "\x00" in epoch:
        raise bad(f"version_epoch wants at most {VERSION_EPOCH_CHARS_MAX} characters")
    fence = f"version:{epoch}"
    return PublishCommand(
        channel,
        f"{fence}:{version}",
        data,
        tags=tags,
        fence=fence,
        fence_epoch=version,
    )


def _is_outdated(error: ErrorReply | None) -> bool:
    outdated = (errors.SUPERSEDED.code, errors.CONFLICT.code)
    return error is not None and error.code in outdated


def _payload(said: api.Publishing, options: NamespaceOptions) -> bytes:
    if said.b64data:
        data = _base64(said.b64data, "b64data")
    elif isinstance(said.data, Raw):
        data = _embeddable(bytes(said.data), "data")
    else:
        raise bad("no data")
    if len(data) > limits.PUBLICATION_BYTES_MAX:
        reason = f"over {limits.PUBLICATION_BYTES_MAX} bytes"
        raise Refused(errors.because(errors.TOO_LARGE, reason))
    refused = payloads.refuses(data, options)
    if refused is not None:
        raise bad(refused)
    return data


def _tags(tags: dict[str, str] | None) -> dict[str, str]:
    if not tags:
        return {}
    words = "".join([*tags, *tags.values()])
    if len(words.encode()) > TAGS_BYTES_MAX:
        raise bad(f"tags over {TAGS_BYTES_MAX} bytes")
    if "\x00" in words:
        raise bad("tags with a NUL character")
    return tags


def _given(said: Raw | UnsetType, in_base64: str | None, name: str) -> bytes:
    try:
        raw = bytes(said) if isinstance(said, Raw) else b""
        return payloads.given(raw, in_base64, name)
    except payloads.Unfit as unfit:
        raise bad(str(unfit)) from unfit


def _embeddable(data: bytes, name: str) -> bytes:
    if too_deep(data):
        raise bad(f"{name}: {payloads.TOO_DEEP}")
    try:
        return bytes(client_json.embeddable(data))
    except client_json.BinaryPayload as binary:
        raise bad(f"{name} is no JSON") from binary


def _base64(text: str, name: str) -> bytes:
    try:
        return payloads.base64_of(text, name)
    except payloads.Unfit as unfit:
        raise bad(str(unfit)) from unfit


def _unix_s(said: int | None) -> float:
    if said is not None and not 0 <= said <= UNIX_S_MAX:
        raise bad("expire_at is no time")
    return float(said or 0)


def _override(said: api.Override | None) -> dict[str, bool]:
    if said is None:
        return {}
    decided = msgspec.structs.asdict(said)
    return {name: one.value for name, one in decided.items() if one is not None}


def _goodbye(said: api.Goodbye | None) -> Disconnect:
    if said is None or not said.code:
        return close_codes.FORCE_DISCONNECT
    if said.code not in CUSTOM_CODES:
        raise bad(f"code wants {CUSTOM_CODES.start} to {CUSTOM_CODES.stop - 1}")
    known = {one.code: one.reason for one in close_codes.DISCONNECTS}
    reason = said.reason or known.get(said.code, "disconnected by the server")
    if len(reason.encode()) > limits.REASON_BYTES_MAX:
        raise bad(f"reason over {limits.REASON_BYTES_MAX} bytes")
    try:
        msgspec.json.decode(reason)
    except msgspec.DecodeError:
        return Disconnect(said.code, reason)
    # SDKs read a reason that parses as JSON as an instruction of their own.
    raise bad("reason must not be JSON")


def _publication(entry: Entry) -> Raw:
    try:
        return Raw(client_json.encode_entry(entry))
    except client_json.BinaryPayload:
        bare = msgspec.structs.replace(entry, data=b"null")
        said: dict[str, Any] = msgspec.json.decode(client_json.encode_entry(bare))
        said["b64data"] = base64.b64encode(entry.data).decode()
        return Raw(_encode(said))
