"""What a client says: publications, messages, and that its user types."""

from typing import Final

import msgspec
from msgspec import Raw

from chatmesh.gateway import bodies, payloads
from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import Publishing, SendingMessage
from chatmesh.gateway.bodies import body_of, message_of
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.rules.footing import Footing, refusal, refuses_name
from chatmesh.wire import client, errors
from chatmesh.wire.client import Reply
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import LivePublication, PublishCommand
from chatmesh.wire.presence import Active

QUIET_S: Final = 1.0
"""So long a message ends no typing again: its user may type on another device, but each
message would be a report to presence."""

_json = msgspec.json.Encoder()


class _MessageSent(msgspec.Struct):
    """The answer to rpc message.send: committed, and where."""

    offset: int
    id: str
    at: int


def publish(
    session: Footing, command: int, request: client.PublishRequest, now_s: float
) -> list[Effect]:
    channel = request.channel
    if not channel or not request.data:
        return session.bad("publish without a channel or data")
    refused = _refuses(session, channel)
    if refused is not None:
        return [refusal(command, refused)]
    options = session.policy.options(channel)
    data, info = bytes(request.data), session.info_in(channel)
    reason = payloads.refuses(data, options)
    if reason is not None:
        return [refusal(command, errors.because(errors.BAD_REQUEST, reason))]
    awaited = session.wait_for(Publishing(command))
    typed = _end_typing(session, channel, now_s)
    if options is None or not options.durable:
        live = LivePublication(data, info)
        return [*typed, fx.Emit(awaited, channel, live)]
    made = PublishCommand(
        channel, session.terms.new_id(), data, info=info, user=session.user
    )
    return [*typed, fx.Commit(awaited, made)]


def _refuses(session: Footing, channel: str) -> ErrorReply | None:
    if refused := refuses_name(channel):
        return refused
    return session.policy.refuses_publish(
        channel, session.user, session.seat_in(channel)
    )


def send_message(
    session: Footing, command: int, data: Raw, now_s: float
) -> list[Effect]:
    message = message_of(data)
    refused = _refuses(session, message.channel)
    if refused is not None:
        return [refusal(command, refused)]
    options = session.policy.options(message.channel)
    if options is None or not options.durable:
        reason = "messages need a durable channel"
        return [refusal(command, errors.because(errors.NOT_AVAILABLE, reason))]
    awaited = session.wait_for(SendingMessage(command, message.id))
    made = PublishCommand(
        message.channel,
        message.id,
        message.body,
        info=session.info_in(message.channel),
        user=session.user,
        traceparent=message.traceparent,
    )
    typed = _end_typing(session, message.channel, now_s)
    return [*typed, fx.Commit(awaited, made)]


def published(awaited: Publishing | SendingMessage, heard: Heard) -> list[Effect]:
    command = awaited.command
    match heard, awaited:
        case fx.Refused(), _:
            return [refusal(command, heard.error)]
        case fx.Committed(), SendingMessage(message=message):
            sent = _MessageSent(heard.offset, message, heard.at_ms)
            data = Raw(_json.encode(sent))
            return [fx.Send(Reply(command, rpc=client.RPCResult(data)))]
        case ((fx.Committed() | fx.Emitted()), _):
            return [fx.Send(Reply(command, publish=client.PublishResult()))]
        case _:
            raise AssertionError(f"not an answer to {awaited}: {heard}")


def typing(session: Footing, command: int, data: Raw, now_s: float) -> list[Effect]:
    body = body_of(data, bodies.Typing)
    sub = session.subscriptions.get(body.channel)
    if sub is None or not sub.joined or not session.user:
        return [refusal(command, errors.PERMISSION_DENIED)]
    if not sub.options.presence:
        return [refusal(command, errors.NOT_AVAILABLE)]
    sub.quiet_until_s = 0.0 if body.typing else now_s + QUIET_S
    done = fx.Send(Reply(command, rpc=client.RPCResult(Raw(b"{}"))))
    return [fx.TellPresence(Active(body.channel, session.user, body.typing)), done]


def _end_typing(session: Footing, channel: str, now_s: float) -> list[Effect]:
    """What was typed is said: nobody shall be shown typing for the lease's rest."""
    sub = session.subscriptions.get(channel)
    if sub is None or not sub.joined or now_s < sub.quiet_until_s:
        return []
    if not (sub.options.presence and session.user):
        return []
    sub.quiet_until_s = now_s + QUIET_S
    return [fx.TellPresence(Active(channel, session.user, active=False))]
