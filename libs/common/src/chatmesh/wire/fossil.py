"""Differences between two payloads in the format of Fossil, as SDKs apply them.

A delta says: the target's length, then copies out of the source and literal pieces, then
a checksum of the target. Format: https://fossil-scm.org/home/doc/trunk/www/delta_format.wiki
"""

import struct
from typing import Final

_DIGITS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
BLOCK_BYTES: Final = 16
"""Copies are found by blocks of this size; shorter repetitions are sent as they are."""
_WORD_BYTES: Final = 4
_WORD_MASK: Final = 0xFFFFFFFF


def create(source: bytes, target: bytes) -> bytes:
    """The delta that turns source into target; worth sending if it is shorter."""
    made = bytearray(_number(len(target)) + b"\n")
    blocks = {
        source[at : at + BLOCK_BYTES]: at
        for at in range(0, len(source) - BLOCK_BYTES + 1, BLOCK_BYTES)
    }
    literal = at = 0
    while blocks and at + BLOCK_BYTES <= len(target):
        found = blocks.get(target[at : at + BLOCK_BYTES])
        if found is None:
            at += 1
            continue
        start, begin, length = _extend(source, target, found, at, literal)
        _put_literal(made, target[literal:begin])
        made += _number(length) + b"@" + _number(start) + b","
        at = literal = begin + length
    _put_literal(made, target[literal:])
    made += _number(_checksum(target)) + b";"
    return bytes(made)


def _extend(
    source: bytes, target: bytes, start: int, begin: int, floor: int
) -> tuple[int, int, int]:
    """Stretch a common block to both sides; gives its places and its length."""
    length = BLOCK_BYTES
    while start and begin > floor and source[start - 1] == target[begin - 1]:
        start, begin, length = start - 1, begin - 1, length + 1
    while (
        start + length < len(source)
        and begin + length < len(target)
        and source[start + length] == target[begin + length]
    ):
        length += 1
    return start, begin, length


def _put_literal(made: bytearray, piece: bytes) -> None:
    if piece:
        made += _number(len(piece)) + b":" + piece


def _number(value: int) -> bytes:
    """An integer in Fossil's base 64, most significant digit first."""
    digits = bytearray()
    while True:
        value, digit = divmod(value, len(_DIGITS))
        digits.append(_DIGITS[digit])
        if not value:
            return bytes(reversed(digits))


def _checksum(data: bytes) -> int:
    """The sum of the data's big-endian 32-bit words, the last one padded with zeros."""
    padded = data + bytes(-len(data) % _WORD_BYTES)
    words = struct.unpack(f">{len(padded) // _WORD_BYTES}I", padded)
    return sum(words) & _WORD_MASK
