"""What agent replicas tell each other, all to all: news that save waiting, never truth.

Whatever is said here stands in the database as well; a lost word costs a moment.
"""

import enum

import msgspec

from chatmesh.wire.messages import Malformed


class Say(enum.StrEnum):
    """What is said."""

    WAKE = "wake"
    """There may be runs to take."""
    STOP = "stop"
    """Somebody has asked for the end of `runs`."""
    SHOW = "show"
    """Answer with what is seen of the runs in `channel`, if there are any."""


class AgentControl(msgspec.Struct, array_like=True, frozen=True, tag="agc"):
    """One word to all replicas."""

    say: Say
    runs: list[str] = []
    channel: str = ""
    reply_to: str = ""
    """Queue that a `RunsShown` is sent to."""
    number: int = 0
    """Of the asker's, for the answer."""


class RunsShown(msgspec.Struct, array_like=True, frozen=True, tag="ags"):
    """What is seen just now of runs that one replica performs."""

    number: int
    shown: bytes
    """JSON of a list of `draft.Shown`."""


_shown = msgspec.msgpack.Decoder(RunsShown)


def decode_shown(body: bytes) -> RunsShown | None:
    """Read the answer to `Say.SHOW`; None for any other message."""
    try:
        return _shown.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


_decoder = msgspec.msgpack.Decoder(AgentControl)


def decode(body: bytes) -> AgentControl:
    """Read one. Raises Malformed."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error
