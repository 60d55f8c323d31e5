"""Subscribe and unsubscribe, as clients ask for them."""

from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import CheckingSubscription, Subscribing
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.rules import grants
from chatmesh.gateway.rules.footing import (
    Footing,
    refusal,
    refuses_name,
    tell_end,
    token_error,
)
from chatmesh.gateway.subscriptions import (
    Subscription,
    hearing_of,
    overridden,
    refuses_wishes,
    result_of,
    want_of,
)
from chatmesh.wire import client, close_codes, errors, limits
from chatmesh.wire.client import Reply
from chatmesh.wire.errors import ErrorReply


def begin(  # noqa: PLR0911 - one line for each refusal
    session: Footing, command: int, request: client.SubscribeRequest
) -> list[Effect]:
    channel = request.channel
    if not channel:
        return session.bad("subscribe without a channel")
    pending = session.subscriptions.get(channel)
    if pending is not None and pending.behind:
        # In its turn: an unsubscribe may be among them, and this begins another one.
        return session.wait_behind(pending, command, request)
    refused = _refuses(session, request)
    if refused is not None:
        return [refusal(command, refused)]
    if request.token:
        options = session.policy.options(channel)
        if options is None:
            return [refusal(command, errors.UNKNOWN_CHANNEL)]
        # The name is taken while its token is checked: a second subscribe is refused.
        session.subscriptions[channel] = Subscription(options, allowed=False)
        awaited = session.wait_for(CheckingSubscription(command, request))
        return [fx.VerifySubscriptionToken(awaited, request.token)]
    refused = session.policy.refuses_subscribe(channel, session.user)
    if refused is not None:
        return [refusal(command, refused)]
    options = session.policy.options(channel)
    if options is None:
        return [refusal(command, errors.UNKNOWN_CHANNEL)]
    refused = refuses_wishes(request, options)
    if refused is not None:
        return [refusal(command, refused)]
    sub = session.subscriptions[channel] = Subscription(options)
    return _watch(session, command, request, sub)


def _refuses(session: Footing, request: client.SubscribeRequest) -> ErrorReply | None:
    channel = request.channel
    if refused := refuses_name(channel):
        return refused
    if channel in session.subscriptions:
        return errors.ALREADY_SUBSCRIBED
    if len(session.subscriptions) >= session.terms.channels_max:
        return errors.LIMIT_EXCEEDED
    if request.type != client.SubscriptionType.STREAM:
        return errors.because(errors.NOT_AVAILABLE, "only stream subscriptions")
    if request.offset < 0 or request.offset > limits.OFFSET_MAX:
        return errors.because(errors.BAD_REQUEST, "offset out of range")
    return None


def checked(
    session: Footing, awaited: CheckingSubscription, heard: Heard
) -> list[Effect]:
    request = awaited.request
    match heard:
        case fx.SubscriptionTokenAccepted():
            claims = heard.claims
            if claims.channel != request.channel or not session.owns(claims):
                return session.close(
                    close_codes.INVALID_TOKEN.because("for another subscription")
                )
            sub = session.subscriptions[request.channel]
            sub.allowed = sub.by_token = True
            sub.expires_at_s = claims.expire_at
            sub.options = overridden(sub.options, claims.override)
            sub.data, sub.chan_info = claims.data, claims.info
            sub.info = session.shown_info(claims.info) if claims.info else b""
            refused = refuses_wishes(request, sub.options)
            if refused is None:
                return _watch(session, awaited.command, request, sub)
            error = refused
        case fx.TokenExpired() | fx.TokenRefused() | fx.Refused():
            error = token_error(heard)
        case _:
            raise AssertionError(f"not an answer to a token check: {heard}")
    return _abandon(session, request.channel, awaited.command, error)


def _watch(
    session: Footing,
    command: int,
    request: client.SubscribeRequest,
    sub: Subscription,
) -> list[Effect]:
    sub.hearing = hearing_of(request, sub.options)
    want = want_of(request.channel, sub.options, request, sub.hearing)
    awaited = session.wait_for(Subscribing(command, request, want))
    return [fx.Watch(awaited, (want,))]


def subscribed(
    session: Footing, awaited: Subscribing, heard: Heard, now_s: float
) -> list[Effect]:
    channel = awaited.want.channel
    match heard:
        case fx.ChannelsReady():
            (snapshot,) = heard.snapshots
        case fx.ChannelsFailed() | fx.Refused():
            return _abandon(session, channel, awaited.command, heard.error)
        case _:
            raise AssertionError(f"not an answer to a subscribe: {heard}")
    must_recover = awaited.request.flag & client.REJECT_UNRECOVERED
    if must_recover and awaited.want.since is not None and not snapshot.recovered:
        return _abandon(
            session, channel, awaited.command, errors.UNRECOVERABLE_POSITION
        )
    sub = session.subscriptions[channel]
    result = result_of(sub, awaited.want, snapshot)
    tell_end(result, sub.expires_at_s, now_s)
    sub.joined = True
    return [
        fx.Send(Reply(awaited.command, subscribe=result)),
        session.join(channel, sub),
        *grants.revoke(session, channel, sub),
    ]


def _abandon(
    session: Footing, channel: str, command: int, error: ErrorReply
) -> list[Effect]:
    del session.subscriptions[channel]
    return [refusal(command, error)]


def unsubscribe(
    session: Footing, command: int, request: client.UnsubscribeRequest
) -> list[Effect]:
    channel = request.channel
    if not channel:
        return session.bad("unsubscribe without a channel")
    sub = session.subscriptions.get(channel)
    if sub is not None and not sub.joined:
        return session.wait_behind(sub, command, request)
    effects: list[Effect] = []
    if sub is not None:
        del session.subscriptions[channel]
        effects.append(session.leave(channel, sub, clean=True))
    reply = Reply(command, unsubscribe=client.UnsubscribeResult())
    return [*effects, fx.Send(reply)]
