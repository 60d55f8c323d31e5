"""The grammar of channel names: `namespace:rest`, `#` for users, `$` for private.

A bare name lives in the default namespace, written as the empty string. A name with a
`#` ends in the comma-separated users who may subscribe; `#ada` alone is ada's personal
channel. A name (or the rest behind its namespace) that starts with `$` needs a
subscription token. The `:` of a user list does not open a namespace.
"""

from typing import Final

from chatmesh.wire import limits

NAMESPACE_BOUNDARY: Final = ":"
USER_BOUNDARY: Final = "#"
USER_SEPARATOR: Final = ","
PRIVATE_PREFIX: Final = "$"
DEFAULT_NAMESPACE: Final = ""
ROOM_NAMESPACE: Final = "room"


def refusal(channel: str) -> str | None:
    """Say why this is no channel name, or None when it is one."""
    if not channel:
        return "empty channel name"
    if len(channel) > limits.CHANNEL_CHARS_MAX:
        return f"channel name over {limits.CHANNEL_CHARS_MAX} characters"
    if not channel.isascii() or not channel.isprintable() or " " in channel:
        return "channel name with characters other than printable ASCII"
    return None


def namespace_of(channel: str) -> str:
    """The namespace a channel lives in; the default one for a bare name."""
    before_users = channel.partition(USER_BOUNDARY)[0].removeprefix(PRIVATE_PREFIX)
    namespace, boundary, _ = before_users.partition(NAMESPACE_BOUNDARY)
    return namespace if boundary else DEFAULT_NAMESPACE


def users_of(channel: str) -> frozenset[str] | None:
    """Who may subscribe to a user-limited channel; None for any other channel."""
    _, boundary, users = channel.partition(USER_BOUNDARY)
    return frozenset(users.split(USER_SEPARATOR)) if boundary else None


def is_private(channel: str) -> bool:
    """Private channels are open to holders of a subscription token only."""
    if channel.startswith(PRIVATE_PREFIX):
        return True
    before_users = channel.partition(USER_BOUNDARY)[0]
    _, boundary, rest = before_users.partition(NAMESPACE_BOUNDARY)
    return bool(boundary) and rest.startswith(PRIVATE_PREFIX)


def personal(user: str, namespace: str = DEFAULT_NAMESPACE) -> str:
    """The channel only this user hears, whichever device they are on."""
    prefix = f"{namespace}{NAMESPACE_BOUNDARY}" if namespace else ""
    return f"{prefix}{USER_BOUNDARY}{user}"
