"""What a client asks of a service that is none of a gateway's own business.

A gateway forwards such a call to the service's queue on the rpc exchange, together with
who asks, and hands the answer back. The service trusts what the gateway says of the
caller, because only gateways and services can publish there.
"""

import enum

import msgspec


class Role(enum.StrEnum):
    """What somebody may do in a room beyond speaking; each includes those below it."""

    OWNER = "owner"
    MODERATOR = "moderator"
    MEMBER = "member"
    GUEST = "guest"


class ServiceCall(msgspec.Struct, array_like=True, frozen=True, tag="call"):
    """One call of one connection, answered by one `ServiceAnswer`, or never."""

    request: int
    """The asking process's own number."""
    reply_to: str
    """Queue that the answer is sent to, through the default exchange."""
    method: str
    """Such as `run.stop`."""
    channel: str
    """The channel it is about; the connection is subscribed to it. Empty: about none."""
    user: str
    """Who asks, as authenticated; empty for somebody anonymous."""
    client: str
    """Names the asking connection in all the mesh."""
    role: str
    """A `Role`: what the caller's token says."""
    data: bytes
    """The call's own JSON object, as the client sent it."""
    deadline_ms: int
    """Unix milliseconds by the gateway's clock, after which nobody waits any more."""
    traceparent: str = ""


class ServiceAnswer(msgspec.Struct, array_like=True, frozen=True, tag="ans"):
    """The answer to a `ServiceCall`."""

    request: int
    data: bytes = b""
    """JSON for the client; empty when refused."""
    error_code: int = 0
    """0, or a code of `wire.errors`."""
    error_message: str = ""
    error_temporary: bool = False
    """The same call may succeed in a moment."""
