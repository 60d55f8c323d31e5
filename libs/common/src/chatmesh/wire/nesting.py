"""How deeply JSON is nested, found without decoding it: a decoder would recurse."""

import re
from itertools import accumulate
from typing import Final

from chatmesh.wire import limits

_WHITE_SPACE: Final = b" \t\r\n"
_OPENING: Final = (b"[", b"{")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS: Final = b"[]{}"
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_STEPS: Final = {**dict.fromkeys(b"[{", 1), **dict.fromkeys(b"]}", -1)}


def too_deep(data: bytes, *, levels: int = limits.JSON_DEPTH_MAX) -> bool:
    """Whether decoding this as JSON would go down more than so many levels.

    What is no JSON is not judged: a decoder stops where it ends to be any.
    """
    if data.count(b"[") + data.count(b"{") <= levels:
        return False
    if not data.lstrip(_WHITE_SPACE).startswith(_OPENING):
        # No decoder goes down at all, whatever comes later: binary payloads are legal.
        return False
    brackets = _STRING.sub(b"", data).translate(None, _OTHERS)
    depths = accumulate(map(_STEPS.__getitem__, brackets))
    return any(depth > levels for depth in depths)
