"""Every goodbye: close code, reason, and whether the client may come back.

SDKs derive "may come back" from the number alone: 3500 to 3999 and 4500 to 4999 are final.
Reasons fit a close frame and never parse as JSON, because SDKs try that first.
"""

from typing import Final

import msgspec

from chatmesh.wire import limits

FINAL: Final = (range(3500, 4000), range(4500, 5000))
"""Codes after which a client stays away; it comes back after every other one."""
RESUBSCRIBE_MIN: Final = 2500
"""Unsubscribe codes from here on make a client subscribe again at once."""


class Disconnect(msgspec.Struct, frozen=True):
    """Why a connection ends, as the client hears it in the close frame."""

    code: int
    reason: str

    @property
    def reconnects(self) -> bool:
        return not any(self.code in codes for codes in FINAL)

    def because(self, cause: str) -> "Disconnect":
        """The same goodbye with its cause spelled out, cut to what a close frame holds."""
        full = f"{self.reason}: {cause}".encode()[: limits.REASON_BYTES_MAX]
        return Disconnect(self.code, full.decode(errors="ignore"))


CONNECTION_CLOSED: Final = Disconnect(3000, "connection closed")
SHUTDOWN: Final = Disconnect(3001, "shutdown")
INTERNAL: Final = Disconnect(3004, "internal server error")
CONNECTION_EXPIRED: Final = Disconnect(3005, "connection expired")
SUBSCRIPTION_EXPIRED: Final = Disconnect(3006, "subscription expired")
SLOW: Final = Disconnect(3008, "slow")
WRITE_ERROR: Final = Disconnect(3009, "write error")
INSUFFICIENT_STATE: Final = Disconnect(3010, "insufficient state")
FORCE_RECONNECT: Final = Disconnect(3011, "force reconnect")
NO_PONG: Final = Disconnect(3012, "no pong")
TOO_MANY_REQUESTS: Final = Disconnect(3013, "too many requests")
STATE_INVALIDATED: Final = Disconnect(3014, "state invalidated")
INVALID_TOKEN: Final = Disconnect(3500, "invalid token")
BAD_REQUEST: Final = Disconnect(3501, "bad request")
STALE: Final = Disconnect(3502, "stale")
FORCE_DISCONNECT: Final = Disconnect(3503, "force disconnect")
CONNECTION_LIMIT: Final = Disconnect(3504, "connection limit")
CHANNEL_LIMIT: Final = Disconnect(3505, "channel limit")
INAPPROPRIATE_PROTOCOL: Final = Disconnect(3506, "inappropriate protocol")
PERMISSION_DENIED: Final = Disconnect(3507, "permission denied")
NOT_AVAILABLE: Final = Disconnect(3508, "not available")
TOO_MANY_ERRORS: Final = Disconnect(3509, "too many errors")

DISCONNECTS: Final = (
    CONNECTION_CLOSED,
    SHUTDOWN,
    INTERNAL,
    CONNECTION_EXPIRED,
    SUBSCRIPTION_EXPIRED,
    SLOW,
    WRITE_ERROR,
    INSUFFICIENT_STATE,
    FORCE_RECONNECT,
    NO_PONG,
    TOO_MANY_REQUESTS,
    STATE_INVALIDATED,
    INVALID_TOKEN,
    BAD_REQUEST,
    STALE,
    FORCE_DISCONNECT,
    CONNECTION_LIMIT,
    CHANNEL_LIMIT,
    INAPPROPRIATE_PROTOCOL,
    PERMISSION_DENIED,
    NOT_AVAILABLE,
    TOO_MANY_ERRORS,
)


class Unsubscribe(msgspec.Struct, frozen=True):
    """Why a subscription ends while its connection lives, as pushed to the client."""

    code: int
    reason: str

    @property
    def resubscribes(self) -> bool:
        return self.code >= RESUBSCRIBE_MIN


UNSUBSCRIBED_BY_SERVER: Final = Unsubscribe(2000, "server unsubscribe")
RECOVER: Final = Unsubscribe(2500, "insufficient state")
EXPIRED: Final = Unsubscribe(2501, "subscription expired")
INVALIDATED: Final = Unsubscribe(2502, "state invalidated")

UNSUBSCRIBES: Final = (UNSUBSCRIBED_BY_SERVER, RECOVER, EXPIRED, INVALIDATED)
