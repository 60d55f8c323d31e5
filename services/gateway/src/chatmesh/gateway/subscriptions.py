"""One channel of one connection: what it has been granted, and what its client is told."""

from dataclasses import dataclass, field

import msgspec

from chatmesh.gateway import hearing
from chatmesh.gateway.effects import Snapshot, Want
from chatmesh.gateway.hearing import PLAIN, WITH_MEMBERS, Hearing
from chatmesh.gateway.tokens import Override
from chatmesh.wire import client, errors
from chatmesh.wire.client import StreamPosition, SubscribeResult
from chatmesh.wire.close_codes import Unsubscribe
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.infos import in_either
from chatmesh.wire.namespaces import NamespaceOptions


@dataclass(slots=True)
class Subscription:
    """One channel of one connection."""

    options: NamespaceOptions
    server_side: bool = False
    by_token: bool = False
    """A token of its own let it in, whatever the namespace says."""
    allowed: bool = True
    """False while the token that has to allow it is being checked."""
    joined: bool = False
    revoked: Unsubscribe | None = None
    """Why the server wants it to end, said before it stood."""
    expires_at_s: float = 0.0
    """Unix seconds; 0 never."""
    info: bytes = b""
    """ClientInfo of this connection in this channel, when it differs per channel."""
    chan_info: bytes = b""
    """What the channel's own token says of this connection: JSON, or any bytes."""
    data: bytes = b""
    """For the subscriber, in the subscribe result: JSON, or any bytes."""
    hearing: Hearing = PLAIN
    quiet_until_s: float = 0.0
    """Unix seconds until which presence need not be told again that its user has stopped
    typing here. At first nothing is known: an earlier connection may have typed."""
    behind: list[tuple[int, client.Request]] = field(
        default_factory=list[tuple[int, client.Request]]
    )
    """Commands that wait for the subscribe before them, because it decides on them."""

    @property
    def is_present(self) -> bool:
        """Whether presence is told of it."""
        return self.options.presence or self.options.join_leave


@dataclass(frozen=True, slots=True)
class Grant:
    """A subscription that the server makes, with what it allows and tells."""

    channel: str
    options: NamespaceOptions
    expires_at_s: float = 0.0
    """Unix seconds; 0 never."""
    info: bytes = b""
    """Shown to others as `chan_info`: JSON, or any bytes."""
    data: bytes = b""
    """Told to the client: JSON, or any bytes."""
    since: StreamPosition | None = None


def overridden(options: NamespaceOptions, override: Override) -> NamespaceOptions:
    """The namespace's options, with what a token decides for its channel."""
    decided = {
        "presence": override.presence,
        "join_leave": override.join_leave,
        "force_push_join_leave": override.force_push_join_leave,
        "force_recovery": override.force_recovery,
        "positioned": override.force_positioning,
    }
    changes = {name: value for name, value in decided.items() if value is not None}
    if override.force_recovery:
        # Without its positions told, nobody can say where to go on.
        changes["recover"] = changes["positioned"] = True
    return msgspec.structs.replace(options, **changes) if changes else options


def refuses_wishes(
    request: client.SubscribeRequest, options: NamespaceOptions
) -> ErrorReply | None:
    """Why a tags filter is refused, or None. Other wishes are granted or passed over."""
    if request.tf is None:
        return None
    if not options.allow_tags_filter:
        return errors.because(errors.BAD_REQUEST, "tags filter is not allowed here")
    if request.delta:
        return errors.because(errors.BAD_REQUEST, "tags filter together with delta")
    try:
        hearing.check(request.tf)
    except hearing.BadFilter as bad:
        return errors.because(errors.BAD_REQUEST, str(bad))
    return None


def hearing_of(
    request: client.SubscribeRequest | None, options: NamespaceOptions
) -> Hearing:
    """What a subscription hears: what its client wishes, where the namespace grants it."""
    wishes_members = request is not None and request.join_leave
    members = options.join_leave and (wishes_members or options.force_push_join_leave)
    if request is None or (not request.delta and request.tf is None):
        return WITH_MEMBERS if members else PLAIN
    delta = options.allow_delta and request.delta == client.DELTA_FOSSIL
    return Hearing(members=members, delta=delta, tags=request.tf)


def want_of(
    channel: str,
    options: NamespaceOptions,
    request: client.SubscribeRequest | None,
    heard: Hearing,
) -> Want:
    """What has to be ready before the subscription stands."""
    recovers = options.durable and options.recover
    since = None
    if request is not None and request.recover and recovers:
        since = StreamPosition(request.offset, request.epoch)
    return Want(
        channel,
        since,
        durable=options.durable,
        newest_only=options.cache_recovery,
        hearing=heard,
    )


def result_of(sub: Subscription, want: Want, snapshot: Snapshot) -> SubscribeResult:
    """What the client is told when its subscription stands."""
    options = sub.options
    data, b64data = in_either(sub.data)
    result = SubscribeResult(data=data, b64data=b64data, delta=sub.hearing.delta)
    if not (options.durable and options.positioned):
        return result
    result.recoverable = options.recover
    result.positioned = True
    result.epoch = snapshot.epoch
    result.offset = snapshot.top
    if want.since is not None:
        result.was_recovering = True
        if snapshot.recovered:
            result.recovered = True
            result.publications = snapshot.publications
            if not want.newest_only:
                # The client walks from where it was by handling what it missed.
                result.offset = want.since.offset
    return result
