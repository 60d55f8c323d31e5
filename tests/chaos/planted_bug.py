"""History with a bug planted in it: one kind of message kills the process, every time.

Run as a module in place of `chatmesh.history`. Everything else is the service as it is;
what is tested is how the mesh lives with such a bug, not whether this one is there.
"""

import os
import signal

from chatmesh.history import batching
from chatmesh.history.__main__ import main

MODULE = "chaos.planted_bug"
MARK = b"what kills a process"
"""A message with this text is deadly."""

_digest_of = batching.digest_of


def _deadly_digest_of(user: str, data: bytes) -> bytes:
    if MARK in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return _digest_of(user, data)


if __name__ == "__main__":
    batching.digest_of = _deadly_digest_of
    main()
