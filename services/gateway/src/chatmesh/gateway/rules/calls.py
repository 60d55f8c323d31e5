"""Calls (`rpc`): some are a gateway's own, the others are forwarded to their service."""

from chatmesh.gateway import attendance, forwarding
from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import AskingService
from chatmesh.gateway.bodies import BadBody, Call
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.rules import presence, publish
from chatmesh.gateway.rules.footing import Footing, refusal
from chatmesh.wire import client, errors, limits
from chatmesh.wire.calls import ServiceCall
from chatmesh.wire.client import Reply


def call(  # noqa: PLR0911 - a line a call
    session: Footing, command: int, request: client.RPCRequest, now_s: float
) -> list[Effect]:
    try:
        match request.method:
            case Call.SEND:
                return publish.send_message(session, command, request.data, now_s)
            case Call.TYPING:
                return publish.typing(session, command, request.data, now_s)
            case Call.MEMBERS:
                page = attendance.members_page(request.data)
                return presence.ask_about(
                    session, command, page.channel, page, rpc=True
                )
            case Call.USER:
                asked = attendance.where_is(request.data, session.user)
                return presence.ask(session, command, asked, rpc=True)
            case Call.STATUS:
                said = attendance.status(request.data, session.user)
                return presence.ask(session, command, said, rpc=True)
            case _:
                return _ask_service(session, command, request)
    except BadBody as bad:
        return [refusal(command, errors.because(errors.BAD_REQUEST, str(bad)))]
    except attendance.NotTheirs:
        return [refusal(command, errors.PERMISSION_DENIED)]


def _ask_service(
    session: Footing, command: int, request: client.RPCRequest
) -> list[Effect]:
    """Forward what is none of a gateway's business. Raises BadBody."""
    method, data = request.method, request.data
    service = forwarding.service_of(method)
    if service is None:
        return [refusal(command, forwarding.unanswered(method))]
    body = forwarding.about(method, data)
    sub = session.subscriptions.get(body.channel)
    joined = sub is not None and sub.joined
    refused = forwarding.refuses(method, body.channel, session.user, joined=joined)
    if refused is None and session.calls >= limits.SERVICE_CALLS_PER_CONNECTION_MAX:
        refused = errors.TOO_MANY_REQUESTS
    if refused is not None:
        return [refusal(command, refused)]
    session.calls += 1
    asked = ServiceCall(
        request=0,
        reply_to="",
        method=method,
        channel=body.channel,
        user=session.user,
        client=session.client_id,
        role=session.role,
        data=bytes(data) or b"{}",
        deadline_ms=0,
        traceparent=body.traceparent,
    )
    return [fx.AskService(session.wait_for(AskingService(command)), service, asked)]


def service_told(
    session: Footing, awaited: AskingService, heard: Heard
) -> list[Effect]:
    session.calls -= 1
    match heard:
        case fx.Refused():
            return [refusal(awaited.command, heard.error)]
        case fx.ServiceTold():
            result = client.RPCResult(heard.data)
            return [fx.Send(Reply(awaited.command, rpc=result))]
        case _:
            raise AssertionError(f"not an answer of a service: {heard}")
