"""Subscriptions that the server makes, and those that it ends, whoever made them."""

from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import SubscribingForServer
from chatmesh.gateway.effects import Effect, Heard, Want
from chatmesh.gateway.rules.footing import Footing, State
from chatmesh.gateway.subscriptions import Grant, Subscription, hearing_of, result_of
from chatmesh.wire import client, close_codes, errors
from chatmesh.wire.close_codes import Unsubscribe
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.infos import in_either


class NotNow(Exception):
    """The server's wish cannot be granted to this connection; says why."""

    def __init__(self, error: ErrorReply) -> None:
        super().__init__(error.message)
        self.error = error


def withdraw(session: Footing, channel: str, why: Unsubscribe) -> list[Effect]:
    """The server ends one subscription and tells the client why.

    A server-side subscription that lost its state cannot be resubscribed by the
    client, so the whole connection comes back instead.
    """
    session.grants = [one for one in session.grants if one.channel != channel]
    sub = session.subscriptions.get(channel)
    if sub is None:
        return []
    if not sub.joined:
        sub.revoked = why  # It may not stand, however soon it would.
        return []
    if sub.server_side and why.resubscribes:
        expired = why is close_codes.EXPIRED
        return session.close(
            close_codes.SUBSCRIPTION_EXPIRED
            if expired
            else close_codes.INSUFFICIENT_STATE
        )
    del session.subscriptions[channel]
    push = client.Push(
        channel=channel,
        unsubscribe=client.UnsubscribePush(why.code, why.reason),
    )
    clean = not why.resubscribes
    return [session.leave(channel, sub, clean=clean), fx.Tell(push)]


def grant(session: Footing, given: Grant) -> list[Effect]:
    """The server subscribes this connection; what stands already, stands.

    One that is still connecting is subscribed right after it is welcomed. Raises
    NotNow when it cannot be subscribed to anything more.
    """
    channel = given.channel
    if not session.known:
        return []
    if channel in session.subscriptions:
        session.subscriptions[channel].revoked = None
        return []
    if session.state is State.CONNECTING:
        session.grants.append(given)
        return []
    if len(session.subscriptions) >= session.terms.channels_max:
        raise NotNow(errors.LIMIT_EXCEEDED)
    session.subscriptions[channel] = Subscription(
        given.options,
        server_side=True,
        expires_at_s=given.expires_at_s,
        info=session.shown_info(given.info) if given.info else b"",
        chan_info=given.info,
        hearing=hearing_of(None, given.options),
    )
    recovers = given.options.durable and given.options.recover
    want = Want(
        channel,
        given.since if recovers else None,
        durable=given.options.durable,
        newest_only=given.options.cache_recovery,
    )
    awaited = session.wait_for(SubscribingForServer(want, given.data))
    return [fx.Watch(awaited, (want,))]


def granted(
    session: Footing, awaited: SubscribingForServer, heard: Heard
) -> list[Effect]:
    want = awaited.want
    channel = want.channel
    sub = session.subscriptions[channel]
    match heard:
        case fx.ChannelsReady(snapshots=[snapshot]):
            pass
        case fx.ChannelsFailed() | fx.Refused():
            # The client would never learn of it: let it come back and be asked again.
            return session.close(close_codes.INSUFFICIENT_STATE)
        case _:
            raise AssertionError(f"not an answer to a subscribe: {heard}")
    if want.since is not None and not snapshot.recovered:
        # What it has to see cannot be shown any more; say where the log goes on.
        want = Want(channel, durable=want.durable)
    result = result_of(sub, want, snapshot)
    data, b64data = in_either(awaited.data)
    told = client.SubscribePush(
        recoverable=result.recoverable,
        epoch=result.epoch,
        offset=result.offset,
        positioned=result.positioned,
        data=data,
        b64data=b64data,
    )
    sub.joined = True
    # The push has no place for what was missed, so it follows as if it came just now.
    missed = [client.Push(channel=channel, pub=one) for one in result.publications]
    return [
        fx.Tell(client.Push(channel=channel, subscribe=told)),
        *map(fx.Tell, missed),
        session.join(channel, sub),
        *revoke(session, channel, sub),
    ]


def revoke(session: Footing, channel: str, sub: Subscription) -> list[Effect]:
    """End what the server has ended while it was being made."""
    return withdraw(session, channel, sub.revoked) if sub.revoked else []
