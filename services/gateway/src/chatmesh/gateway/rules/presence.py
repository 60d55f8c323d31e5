"""Questions about who is where."""

from chatmesh.gateway import attendance
from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import AskingPresence
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.rules.footing import Footing, refusal, refuses_name
from chatmesh.wire import errors
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.presence import CountsAsk, PresenceAsk


def ask_about(
    session: Footing,
    command: int,
    channel: str,
    asked: PresenceAsk,
    *,
    rpc: bool = False,
) -> list[Effect]:
    if not channel:
        return session.bad("presence without a channel")
    refused = _refuses(session, channel)
    if refused is not None:
        return [refusal(command, refused)]
    return ask(session, command, asked, rpc=rpc)


def _refuses(session: Footing, channel: str) -> ErrorReply | None:
    if refused := refuses_name(channel):
        return refused
    sub = session.subscriptions.get(channel)
    options = sub.options if sub is not None else session.policy.options(channel)
    if options is not None and not options.presence:
        return errors.NOT_AVAILABLE
    return session.policy.refuses_presence(
        channel, session.user, session.seat_in(channel)
    )


def ask(
    session: Footing, command: int, asked: PresenceAsk, *, rpc: bool
) -> list[Effect]:
    awaited = session.wait_for(
        AskingPresence(command, isinstance(asked, CountsAsk), rpc)
    )
    return [fx.AskPresence(awaited, asked)]


def told(awaited: AskingPresence, heard: Heard) -> list[Effect]:
    command = awaited.command
    match heard:
        case fx.Refused():
            return [refusal(command, heard.error)]
        case fx.PresenceTold(answer=answer):
            reply = attendance.answered(
                command, answer, counts=awaited.counts, rpc=awaited.rpc
            )
            return [fx.Send(reply)]
        case _:
            raise AssertionError(f"not an answer of presence: {heard}")
