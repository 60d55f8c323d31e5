"""Refresh and expiry: how long this lasts, and what else another token changes."""

from typing import Final

from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import Refreshing, RefreshingSubscription
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.rules import grants
from chatmesh.gateway.rules.footing import Footing, refusal, tell_end, token_error
from chatmesh.gateway.subscriptions import Subscription
from chatmesh.wire import client, close_codes, errors
from chatmesh.wire.client import Reply

REFRESH_GRACE_S: Final = 25.0
"""How long after its expiry a token may still be refreshed."""


def by_server(
    session: Footing, expires_at_s: float, info: bytes | None, now_s: float
) -> list[Effect]:
    """The server gives the connection another expiry; one in the past ends it."""
    if not session.known:
        return []
    if expires_at_s and expires_at_s <= now_s:
        return session.close(close_codes.CONNECTION_EXPIRED)
    session.expires_at_s = expires_at_s
    return _introduce_as(session, info) if info is not None else []


def _introduce_as(session: Footing, info: bytes) -> list[Effect]:
    """Others are shown another info from now on, wherever the client is."""
    if info == session.conn_info:
        return []
    session.conn_info = info
    session.info = session.shown_info(b"")
    effects: list[Effect] = []
    for channel, sub in session.subscriptions.items():
        if sub.info:
            sub.info = session.shown_info(sub.chan_info)
        effects += _present_again(session, channel, sub)
    return effects


def _introduce_in(
    session: Footing, channel: str, sub: Subscription, info: bytes
) -> list[Effect]:
    """Others are shown another info in this channel from now on."""
    if info == sub.chan_info:
        return []
    sub.chan_info, sub.info = info, session.shown_info(info)
    return _present_again(session, channel, sub)


def _present_again(session: Footing, channel: str, sub: Subscription) -> list[Effect]:
    present = session.present(channel, sub) if sub.joined else None
    return [fx.TellPresence(present)] if present is not None else []


def renew_connection(
    session: Footing, command: int, request: client.RefreshRequest
) -> list[Effect]:
    if not request.token:
        return session.bad("refresh without a token")
    awaited = session.wait_for(Refreshing(command))
    return [fx.VerifyConnectionToken(awaited, request.token)]


def connection_renewed(
    session: Footing, awaited: Refreshing, heard: Heard, now_s: float
) -> list[Effect]:
    match heard:
        case fx.TokenAccepted(claims=claims):
            if claims.user != session.user:
                return session.close(
                    close_codes.INVALID_TOKEN.because("for another user")
                )
            session.expires_at_s = claims.expire_at
            session.role = session.policy.role_of(claims)
            # A token that says nothing of it leaves what is shown.
            told = _introduce_as(session, claims.info) if claims.info else []
            result = client.RefreshResult(
                client=session.client_id, version=session.terms.version
            )
            tell_end(result, session.expires_at_s, now_s)
            return [fx.Send(Reply(awaited.command, refresh=result)), *told]
        case fx.TokenExpired():
            return session.close(close_codes.CONNECTION_EXPIRED)
        case fx.TokenRefused():
            return session.close(close_codes.INVALID_TOKEN.because(heard.reason))
        case fx.Refused():
            return [refusal(awaited.command, heard.error)]
        case _:
            raise AssertionError(f"not an answer to a token check: {heard}")


def renew_subscription(
    session: Footing, command: int, request: client.SubRefreshRequest
) -> list[Effect]:
    if not request.token:
        return session.bad("sub_refresh without a token")
    # An early release of one SDK leaves the channel out; its token names it.
    if request.channel and request.channel not in session.subscriptions:
        return [refusal(command, errors.because(errors.BAD_REQUEST, "not subscribed"))]
    awaited = session.wait_for(RefreshingSubscription(command, request.channel))
    return [fx.VerifySubscriptionToken(awaited, request.token)]


def subscription_renewed(
    session: Footing, awaited: RefreshingSubscription, heard: Heard, now_s: float
) -> list[Effect]:
    match heard:
        case fx.SubscriptionTokenAccepted(claims=claims):
            channel = awaited.channel or claims.channel
            if claims.channel != channel or not session.owns(claims):
                return session.close(
                    close_codes.INVALID_TOKEN.because("for another subscription")
                )
            sub = session.subscriptions.get(channel)
            if sub is None:
                reason = errors.because(errors.BAD_REQUEST, "not subscribed")
                return [refusal(awaited.command, reason)]
            sub.expires_at_s = claims.expire_at
            # A token that says nothing of it leaves what is shown.
            told = (
                _introduce_in(session, channel, sub, claims.info) if claims.info else []
            )
            result = client.SubRefreshResult()
            tell_end(result, sub.expires_at_s, now_s)
            return [fx.Send(Reply(awaited.command, sub_refresh=result)), *told]
        case fx.TokenExpired() | fx.TokenRefused() | fx.Refused():
            return [refusal(awaited.command, token_error(heard))]
        case _:
            raise AssertionError(f"not an answer to a token check: {heard}")


def next_expiry_s(session: Footing) -> float | None:
    """Unix time at which `expire` has something to do, or None."""
    times = [s.expires_at_s for s in session.subscriptions.values() if s.expires_at_s]
    if session.expires_at_s:
        times.append(session.expires_at_s)
    return min(times) + REFRESH_GRACE_S if times else None


def expire(session: Footing, now_s: float) -> list[Effect]:
    """End what was not refreshed in time."""
    if _over(session.expires_at_s, now_s):
        return session.close(close_codes.CONNECTION_EXPIRED)
    effects: list[Effect] = []
    for channel, sub in list(session.subscriptions.items()):
        if sub.joined and _over(sub.expires_at_s, now_s):
            effects += grants.withdraw(session, channel, close_codes.EXPIRED)
    return effects


def _over(expires_at_s: float, now_s: float) -> bool:
    return bool(expires_at_s) and now_s >= expires_at_s + REFRESH_GRACE_S
