"""Names of users: whatever the application calls them, within bounds."""

from typing import Final

NAME_CHARS_MAX: Final = 255
_NUL: Final = "\0"
_RESERVED: Final = "\1"
"""Where presence keeps anonymous connections, they are named with this in front."""


def refusal(user: str) -> str | None:
    """Why a name is no user's, or None; empty is nobody's, and anonymous."""
    if len(user) > NAME_CHARS_MAX:
        return f"a user name over {NAME_CHARS_MAX} characters"
    if _NUL in user or user.startswith(_RESERVED):
        return "a user name with control characters"
    return None
