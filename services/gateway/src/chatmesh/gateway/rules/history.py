"""Pages of a channel's history."""

from chatmesh.gateway import effects as fx
from chatmesh.gateway.awaited import ReadingHistory
from chatmesh.gateway.effects import Effect, Heard
from chatmesh.gateway.rules.footing import Footing, refusal, refuses_name
from chatmesh.wire import client, errors, limits
from chatmesh.wire.client import Reply
from chatmesh.wire.errors import ErrorReply


def read(
    session: Footing, command: int, request: client.HistoryRequest
) -> list[Effect]:
    channel = request.channel
    if not channel:
        return session.bad("history without a channel")
    refused = _refuses(session, request)
    if refused is not None:
        return [refusal(command, refused)]
    awaited = session.wait_for(ReadingHistory(command))
    limit = limits.PAGE_ENTRIES_MAX if request.limit < 0 else request.limit
    return [
        fx.ReadPage(
            awaited,
            channel,
            min(limit, limits.PAGE_ENTRIES_MAX),
            request.since,
            request.reverse,
        )
    ]


def _refuses(session: Footing, request: client.HistoryRequest) -> ErrorReply | None:
    channel = request.channel
    if refused := refuses_name(channel):
        return refused
    options = session.policy.options(channel)
    if options is not None and not options.durable:
        return errors.NOT_AVAILABLE
    refused = session.policy.refuses_history(
        channel, session.user, session.seat_in(channel)
    )
    if refused is not None:
        return refused
    since = request.since
    if since is not None:
        if not 0 <= since.offset <= limits.OFFSET_MAX:
            return errors.because(errors.BAD_REQUEST, "offset out of range")
        if request.reverse and since.offset == 0:
            return errors.because(errors.BAD_REQUEST, "nothing is before offset 0")
    return None


def told(awaited: ReadingHistory, heard: Heard) -> list[Effect]:
    match heard:
        case fx.Refused():
            return [refusal(awaited.command, heard.error)]
        case fx.PageRead():
            page = client.HistoryResult(heard.publications, heard.epoch, heard.offset)
            return [fx.Send(Reply(awaited.command, history=page))]
        case _:
            raise AssertionError(f"not an answer to a read: {heard}")
