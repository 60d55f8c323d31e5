"""Deltas as an official SDK applies them, typed."""

from centrifuge.fossil import (  # pyright: ignore[reportMissingTypeStubs] - it has none
    apply_delta,  # pyright: ignore[reportUnknownVariableType]
)


def applied(source: bytes, delta: bytes) -> bytes:
    """The target, or the SDK's own error."""
    return bytes(apply_delta(source, delta))  # pyright: ignore[reportUnknownArgumentType]
