"""Calls that are a service's business: whose they are, and who may make them.

A gateway knows nothing of runs, approvals and tools. It sees to it that whoever asks is
who they say, hears the channel they ask about, and asks no more at once than is fair;
everything else the service decides by the role and the user it is told.
"""

from typing import Final

from msgspec import Raw

from chatmesh.gateway.bodies import About, BadBody, Call, body_of
from chatmesh.wire import channels, errors
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.topics import AGENT_SERVICE

_SERVICES: Final = {
    "run": AGENT_SERVICE,
    "approval": AGENT_SERVICE,
    "agent": AGENT_SERVICE,
    "tools": AGENT_SERVICE,
}
"""By the first word of a method."""
_OWN: Final = frozenset(call.partition(".")[0] for call in Call)
"""First words of the methods that gateways answer themselves."""
_NEED_A_CHANNEL: Final = frozenset({"run", "approval"})
_NEED_A_PERSON: Final = frozenset({"approval"})
METHOD_CHARS_MAX: Final = 64


def service_of(method: str) -> str | None:
    """The service that answers a method; None when none does."""
    word, dot, rest = method.partition(".")
    if not (dot and rest) or len(method) > METHOD_CHARS_MAX:
        return None
    return _SERVICES.get(word)


def unanswered(method: str) -> ErrorReply:
    """What is said of a method that nobody answers.

    One of a family that exists is misspelt. For any other there is no handler at all,
    and that has a code of its own, which clients of the protocol look for.
    """
    word, dot, _ = method.partition(".")
    known = dot and (word in _SERVICES or word in _OWN)
    return errors.METHOD_NOT_FOUND if known else errors.NOT_AVAILABLE


def about(method: str, data: Raw) -> About:
    """What a call is about, of all that its data says. Raises BadBody."""
    body = body_of(data, About)
    if body.channel:
        reason = channels.refusal(body.channel)
        if reason is not None:
            raise BadBody(reason)
    elif _word(method) in _NEED_A_CHANNEL:
        raise BadBody("no channel")
    return body


def refuses(method: str, channel: str, user: str, *, joined: bool) -> ErrorReply | None:
    """Why this caller may not even ask; None when the service is to decide."""
    if channel and not joined:
        return errors.because(errors.PERMISSION_DENIED, "not subscribed to the channel")
    if _word(method) in _NEED_A_PERSON and not user:
        return errors.because(errors.PERMISSION_DENIED, "needs somebody with a name")
    return None


def _word(method: str) -> str:
    return method.partition(".")[0]
