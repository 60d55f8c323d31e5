"""What is wrong with a reported change, before it reaches the books."""

from typing import Final

from chatmesh.wire import channels, limits, users
from chatmesh.wire.presence import Active, Change, Joined, Left
from chatmesh.wire.topics import partition_of

_NAME_CHARS_MAX: Final = 255
_WHAT_CHARS_MAX: Final = 32
_NUL: Final = "\0"


def refuse(change: Change, partition: int) -> str | None:
    """Why a change cannot be taken; None when nothing speaks against it."""
    reason = channels.refusal(change.channel)
    if reason is None and partition_of(change.channel) != partition:
        reason = "a channel of another partition"
    if reason is None:
        match change:
            case Active():
                reason = users.refusal(change.user) or _refuse_what(change.what)
            case Joined():
                reason = _refuse_client(change.client) or users.refusal(change.user)
                reason = reason or _refuse_infos(change)
            case Left():
                reason = _refuse_client(change.client)
    return reason


def refuse_status(text: str) -> str | None:
    """Why a text is no status."""
    if len(text) > limits.STATUS_CHARS_MAX:
        return f"a status over {limits.STATUS_CHARS_MAX} characters"
    if any(ord(char) < ord(" ") for char in text):
        return "a status of more than one line"
    return None


def _refuse_client(client: str) -> str | None:
    if not client or len(client) > _NAME_CHARS_MAX or _NUL in client:
        return f"a client id has 1 to {_NAME_CHARS_MAX} characters, none of them NUL"
    return None


def _refuse_infos(joined: Joined) -> str | None:
    if max(len(joined.conn_info), len(joined.chan_info)) > limits.COMMAND_BYTES_MAX:
        return f"an info over {limits.COMMAND_BYTES_MAX} bytes"
    return None


def _refuse_what(what: str) -> str | None:
    if not what or len(what) > _WHAT_CHARS_MAX:
        return f"an activity has 1 to {_WHAT_CHARS_MAX} characters"
    return None
