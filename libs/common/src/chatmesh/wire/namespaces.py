"""What may be done in a namespace, and how long it is kept.

Gateways decide permissions by these options and history decides retention, so both
read the same structure from the same settings file.
"""

import enum
from typing import Annotated

import msgspec


class Who(enum.StrEnum):
    """Whom an option lets in; a subscription token may widen it for its channel."""

    NOBODY = "nobody"
    SUBSCRIBERS = "subscribers"
    USERS = "users"
    """Everyone with a name: any authenticated, not anonymous, connection."""
    EVERYONE = "everyone"
    """Anonymous connections too."""


class NamespaceOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One namespace. Every default is what a chat room wants of an unknown deployment."""

    durable: bool = True
    """Publications get offsets and are kept; off: they are delivered and forgotten."""

    history_size: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Entries kept per channel; 0 keeps all. Ids stay known for ever."""

    history_age_s: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Seconds an entry is kept; 0 keeps it for ever."""

    json_only: bool = False
    """Publications have to be JSON: any other closes members that speak JSON, for good."""

    subscribe: Who = Who.USERS
    """Who may subscribe; `subscribers` means nothing here and is refused at start."""

    publish: Who = Who.SUBSCRIBERS
    """Who may publish, by protocol publish and by rpc message.send."""

    read_history: Who = Who.SUBSCRIBERS
    """Who may read earlier publications."""

    see_presence: Who = Who.SUBSCRIBERS
    """Who may ask who is there."""

    presence: bool = False
    """Keep who is there."""

    join_leave: bool = False
    """Tell subscribers that ask for it when somebody comes or goes."""

    force_push_join_leave: bool = False
    """With `join_leave`: push them whether or not the client asked."""

    grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] | None = None
    """Seconds somebody who vanished may take to come back; none given: `presence.grace_s`."""

    large_above: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Connections above which counts replace joins and leaves; none given: `presence.large_above`."""

    positioned: bool = True
    """Watch subscribers' positions and repair loss, for durable channels."""
    recover: bool = True
    """Offer recovery to subscribers of durable channels."""
    force_recovery: bool = False
    """Known from servers that ask clients whether to recover; here all do, with `recover`."""

    cache_recovery: bool = False
    """Recovery gives the newest publication only: for status channels."""
    allow_delta: bool = False
    """Send differences to subscribers that ask for them (fossil)."""

    allow_tags_filter: bool = False
    """Let subscribers choose publications by their tags."""

    personal: bool = False
    """Every user is subscribed, by the server, to their own channel here."""
