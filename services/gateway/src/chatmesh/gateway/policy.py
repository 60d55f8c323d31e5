"""Who may do what in which channel; pure, and the same for people, bots and agents."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from chatmesh.gateway.tokens import ConnectionClaims
from chatmesh.wire import channels
from chatmesh.wire.calls import Role
from chatmesh.wire.errors import (
    PERMISSION_DENIED,
    UNKNOWN_CHANNEL,
    ErrorReply,
)
from chatmesh.wire.namespaces import NamespaceOptions, Who


class Seat(enum.Enum):
    """How a connection stands to a channel that it wants to act in."""

    NONE = enum.auto()
    TAKEN = enum.auto()
    """It subscribed, because the namespace's options let it in."""
    GRANTED = enum.auto()
    """The server, or a token for this channel, made it a subscriber."""


class _SaidOfRole(msgspec.Struct):
    role: str = ""


_said_of_role = msgspec.json.Decoder(_SaidOfRole)


@dataclass(frozen=True, slots=True)
class Policy:
    """What this deployment allows, for one session's questions."""

    namespaces: Mapping[str, NamespaceOptions]
    anonymous: bool = False
    """Connections without a token are let in, as nobody."""
    insecure: bool = False
    """No token is asked for and everything is allowed. For development only."""
    role: Role = Role.MEMBER
    """Of everyone with a name whose token says nothing of a role."""

    def options(self, channel: str) -> NamespaceOptions | None:
        """The options of the namespace a channel lives in; None if there is none."""
        return self.namespaces.get(channels.namespace_of(channel))

    def refuses_subscribe(self, channel: str, user: str) -> ErrorReply | None:
        """Why a subscription without a token of its own is refused, or None."""
        options = self.options(channel)
        if options is None:
            return UNKNOWN_CHANNEL
        if self.insecure:
            return None
        if channels.is_private(channel):
            return PERMISSION_DENIED
        listed = channels.users_of(channel)
        if listed is not None:
            return None if user and user in listed else PERMISSION_DENIED
        return _refuses(options.subscribe, user, subscribed=False)

    def refuses_publish(self, channel: str, user: str, seat: Seat) -> ErrorReply | None:
        return self._refuses(channel, user, "publish", seat)

    def refuses_history(self, channel: str, user: str, seat: Seat) -> ErrorReply | None:
        return self._refuses(channel, user, "read_history", seat)

    def refuses_presence(
        self, channel: str, user: str, seat: Seat
    ) -> ErrorReply | None:
        return self._refuses(channel, user, "see_presence", seat)

    def personal_channels(self, user: str) -> list[str]:
        """Channels the server subscribes this user to on every connection.

        A user whose name makes no channel name has none, and is let in all the same.
        """
        if not user or channels.USER_SEPARATOR in user:
            return []
        names = [
            channels.personal(user, namespace)
            for namespace, options in self.namespaces.items()
            if options.personal
        ]
        return [name for name in names if channels.refusal(name) is None]

    def role_of(self, claims: ConnectionClaims) -> Role:
        """What a connection may do beyond speaking: the one place that decides it.

        A token says it as `role` in its `meta`, or else in its `info`. A role that does
        not exist is the least there is, and so is somebody without a name.
        """
        for said in (claims.meta, claims.info):
            role = _role_in(said)
            if role:
                known = role in frozenset(Role)
                return Role(role) if known else Role.GUEST
        if self.insecure:
            return Role.OWNER
        return self.role if claims.user else Role.GUEST

    def _refuses(
        self, channel: str, user: str, option: str, seat: Seat
    ) -> ErrorReply | None:
        options = self.options(channel)
        if options is None:
            return UNKNOWN_CHANNEL
        if self.insecure:
            return None
        who: Who = getattr(options, option)
        if seat is Seat.GRANTED:
            # A grant widens what the namespace allows, but for what nobody may.
            return PERMISSION_DENIED if who is Who.NOBODY else None
        closed = channels.is_private(channel) or channels.users_of(channel) is not None
        if closed and seat is Seat.NONE:
            # Whoever belongs here is subscribed; options do not open it to others.
            return PERMISSION_DENIED
        return _refuses(who, user, subscribed=seat is Seat.TAKEN)


def _role_in(said: bytes) -> str:
    """The role in JSON of a token, or empty."""
    try:
        return _said_of_role.decode(said).role if said else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # It is no object, or its role is no text: nothing is said of a role.


def _refuses(who: Who, user: str, *, subscribed: bool) -> ErrorReply | None:
    match who:
        case Who.NOBODY:
            allowed = False
        case Who.SUBSCRIBERS:
            allowed = subscribed
        case Who.USERS:
            allowed = bool(user)
        case Who.EVERYONE:
            allowed = True
    return None if allowed else PERMISSION_DENIED
