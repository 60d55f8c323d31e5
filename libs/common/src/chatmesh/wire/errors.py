"""Every refusal a command can get: code, message, and whether to try again.

0 to 99 belong to the SDKs, 100 to 399 to the protocol, 400 to 1999 to us. SDKs retry what is
temporary (and 109, with a fresh token) and give every other refusal to the application.
"""

from typing import Final

import msgspec


class ErrorReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal as it stands in a reply. `code` and `message` are never empty."""

    code: int
    message: str
    temporary: bool = False


INTERNAL: Final = ErrorReply(100, "internal server error", temporary=True)
UNAUTHORIZED: Final = ErrorReply(101, "unauthorized")
UNKNOWN_CHANNEL: Final = ErrorReply(102, "unknown channel")
PERMISSION_DENIED: Final = ErrorReply(103, "permission denied")
METHOD_NOT_FOUND: Final = ErrorReply(104, "method not found")
ALREADY_SUBSCRIBED: Final = ErrorReply(105, "already subscribed")
LIMIT_EXCEEDED: Final = ErrorReply(106, "limit exceeded")
BAD_REQUEST: Final = ErrorReply(107, "bad request")
NOT_AVAILABLE: Final = ErrorReply(108, "not available")
TOKEN_EXPIRED: Final = ErrorReply(109, "token expired")
EXPIRED: Final = ErrorReply(110, "expired")
TOO_MANY_REQUESTS: Final = ErrorReply(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION: Final = ErrorReply(112, "unrecoverable position")

CONFLICT: Final = ErrorReply(409, "conflict: this id was used for another message")
"""The id is taken in this channel, by another body or another author."""

SUPERSEDED: Final = ErrorReply(410, "superseded: somebody else goes on with this")
"""A higher epoch of the command's fence has been seen: its author was replaced."""

TOO_LARGE: Final = ErrorReply(413, "message too large")

OUTCOME_UNKNOWN: Final = ErrorReply(
    504, "no answer in time: send again with the same id", temporary=True
)
"""The command may or may not be committed; the same id sent again settles it."""

PROTOCOL_ERRORS: Final = (
    INTERNAL,
    UNAUTHORIZED,
    UNKNOWN_CHANNEL,
    PERMISSION_DENIED,
    METHOD_NOT_FOUND,
    ALREADY_SUBSCRIBED,
    LIMIT_EXCEEDED,
    BAD_REQUEST,
    NOT_AVAILABLE,
    TOKEN_EXPIRED,
    EXPIRED,
    TOO_MANY_REQUESTS,
    UNRECOVERABLE_POSITION,
)
OWN_ERRORS: Final = (CONFLICT, SUPERSEDED, TOO_LARGE, OUTCOME_UNKNOWN)


def because(error: ErrorReply, reason: str) -> ErrorReply:
    """The same refusal with its cause spelled out for the developer at the other end."""
    return ErrorReply(error.code, f"{error.message}: {reason}", error.temporary)
