"""Connect: who this is, what the server subscribes it to, and the welcome."""

import contextlib

import msgspec

from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import Authenticating, Connecting
from chatmesh.gateway.effects import Effect, Heard, Want
from chatmesh.gateway.rules import grants
from chatmesh.gateway.rules.footing import Footing, State, refusal, tell_end
from chatmesh.gateway.rules.grants import NotNow
from chatmesh.gateway.subscriptions import (
    Subscription,
    hearing_of,
    overridden,
    refuses_wishes,
    result_of,
    want_of,
)
from chatmesh.gateway.tokens import NOTHING_SAID, ConnectionClaims
from chatmesh.wire import channels, client, close_codes, errors
from chatmesh.wire.client import Reply, SubscribeResult
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.runs import is_agent


def begin(
    session: Footing, command: int, request: client.ConnectRequest, now_s: float
) -> list[Effect]:
    if session.state is not State.GREETING:
        return session.bad("already connected")
    session.state = State.CONNECTING
    if request.token:
        awaited = session.wait_for(Authenticating(command, request))
        return [fx.VerifyConnectionToken(awaited, request.token)]
    if not (session.policy.anonymous or session.policy.insecure):
        return session.close(close_codes.BAD_REQUEST.because("a token is required"))
    nobody = ConnectionClaims(user="")
    return _welcome(session, command, request, nobody, now_s)


def authenticated(
    session: Footing, awaited: Authenticating, heard: Heard, now_s: float
) -> list[Effect]:
    match heard:
        case fx.TokenAccepted():
            return _welcome(
                session, awaited.command, awaited.request, heard.claims, now_s
            )
        case fx.TokenExpired():
            return _refuse(session, awaited.command, errors.TOKEN_EXPIRED)
        case fx.TokenRefused():
            return session.close(close_codes.INVALID_TOKEN.because(heard.reason))
        case fx.Refused():
            return _refuse(session, awaited.command, heard.error)
        case _:
            raise AssertionError(f"not an answer to a token check: {heard}")


def _welcome(
    session: Footing,
    command: int,
    request: client.ConnectRequest,
    claims: ConnectionClaims,
    now_s: float,
) -> list[Effect]:
    if is_agent(claims.user):
        # Whoever has such a name is believed to be one, by clients and services.
        reason = "names of agents are not for clients"
        return session.close(close_codes.PERMISSION_DENIED.because(reason))
    session.user, session.known = claims.user, True
    session.role = session.policy.role_of(claims)
    session.expires_at_s = claims.expire_at
    session.conn_info = claims.info
    session.info = session.shown_info(b"")
    names = list(
        dict.fromkeys(
            [
                *session.policy.personal_channels(session.user),
                *claims.channels,
                *claims.subs,
            ]
        )
    )
    if len(names) > session.terms.channels_max:
        return session.close(close_codes.CHANNEL_LIMIT)
    wants: list[Want] = []
    for name in names:
        options = session.policy.options(name)
        if options is None or channels.refusal(name):
            return session.close(
                close_codes.BAD_REQUEST.because("token names an unknown channel")
            )
        said = claims.subs.get(name, NOTHING_SAID)
        options = overridden(options, said.override)
        wanted = request.subs.get(name)
        if wanted is not None and refuses_wishes(wanted, options):
            # Nobody is turned away for a wish about what the server decides.
            wanted = msgspec.structs.replace(wanted, tf=None)
        heard = hearing_of(wanted, options)
        wants.append(want_of(name, options, wanted, heard))
        session.subscriptions[name] = Subscription(
            options,
            server_side=True,
            info=session.shown_info(said.info) if said.info else b"",
            chan_info=said.info,
            data=said.data,
            hearing=heard,
        )
    connecting = Connecting(command, tuple(wants))
    awaited = session.wait_for(connecting)
    if not wants:
        del session.awaited[awaited]  # There is nothing that has to be ready.
        return connected(session, connecting, fx.ChannelsReady(awaited, []), now_s)
    return [fx.Watch(awaited, tuple(wants))]


def connected(
    session: Footing, awaited: Connecting, heard: Heard, now_s: float
) -> list[Effect]:
    match heard:
        case fx.ChannelsReady():
            pass
        case fx.ChannelsFailed() | fx.Refused():
            return _refuse(session, awaited.command, heard.error)
        case _:
            raise AssertionError(f"not an answer to a connect: {heard}")
    results: dict[str, SubscribeResult] = {}
    joins: list[Effect] = []
    for want, snapshot in zip(awaited.wants, heard.snapshots, strict=True):
        sub = session.subscriptions[want.channel]
        sub.joined = True
        results[want.channel] = result_of(sub, want, snapshot)
        joins.append(session.join(want.channel, sub))
    terms = session.terms
    result = client.ConnectResult(
        client=session.client_id,
        version=terms.version,
        data=terms.connect_data,
        subs=results,
    )
    if session.says_pings and terms.ping_interval_s:
        result.ping, result.pong = terms.ping_interval_s, terms.pong
    if session.session_id:
        result.session, result.node = session.session_id, terms.node
    tell_end(result, session.expires_at_s, now_s)
    session.state = State.READY
    effects: list[Effect] = [fx.Send(Reply(awaited.command, connect=result))]
    effects += joins
    for channel, sub in list(session.subscriptions.items()):
        effects += grants.revoke(session, channel, sub)
    return effects + _subscribe_granted(session)


def _subscribe_granted(session: Footing) -> list[Effect]:
    """Do what the server wanted while the connect was being decided."""
    wanted, session.grants = session.grants, []
    effects: list[Effect] = []
    for one in wanted:
        # Whoever asked is told that it does not stand.
        with contextlib.suppress(NotNow):
            effects += grants.grant(session, one)
    return effects


def _refuse(session: Footing, command: int, error: ErrorReply) -> list[Effect]:
    session.state = State.REFUSED
    session.known = False
    session.waiting.clear()
    session.subscriptions.clear()
    return [refusal(command, error)]
