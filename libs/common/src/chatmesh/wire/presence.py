"""What processes that hold connections and the presence service tell each other.

Three streams go to presence:

- *Reports*: what changed, in the order it happened, per presence partition (the
  partition of the channel), numbered per process and partition from 1. A snapshot is a
  report that replaces everything this process has reported of the partition before.
- *Leases*: one heartbeat per process renews all its rows, whatever their number.
- *Requests*: who is in a channel, how many, where is a user, set a status.

Presence answers to the queue a message names (`reply_to`), with the messages at the end
of this file. Joins and leaves go out as `LiveEvent` on the events exchange, like every
ephemeral publication.

A process asked to resync sends snapshots; it does so unasked whenever it cannot know
that all its reports arrived: after every loss of its broker link.
"""

import enum

import msgspec


class Joined(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="j"):
    """A connection has subscribed to a channel. Told twice, it is the same fact."""

    channel: str
    client: str
    """Names the connection in all the mesh; a connection that comes back has another."""
    user: str = ""
    """Empty for an anonymous connection."""
    conn_info: bytes = b""
    """What its tokens say of it, in general and here: JSON, or any bytes."""
    chan_info: bytes = b""
    traceparent: str = ""
    """Of the subscription, when it is traced. No part of the fact: snapshots lack it."""
    announce: bool | None = None
    """Whether others are told of its coming and going; None: as the channel's namespace
    says. A token may decide otherwise for one subscription."""


class Left(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="l"):
    """A connection is no longer subscribed to a channel."""

    channel: str
    client: str
    clean: bool = False
    """The client wanted it: it unsubscribed, or closed with code 1000. Anything else (a
    lost socket, a drain, a page reload) may be followed by a return, and gets the grace."""
    traceparent: str = ""


class Active(msgspec.Struct, array_like=True, frozen=True, gc=False, tag="a"):
    """A user does something in a channel for the next seconds, or has stopped."""

    channel: str
    user: str
    active: bool = True
    """Renews the lease of `TYPING_LEASE_S`; off ends it, as every message of the user does."""
    what: str = "typing"
    """`typing` for people; agents also think, use a tool, stream."""


Change = Joined | Left | Active


class PresenceReport(msgspec.Struct, array_like=True, frozen=True, tag="prep"):
    """What changed in one partition since this process's report before.

    Goes to exchange `Topics.presence`, key `topics.report_key(partition)`, persistent,
    with confirm. A report whose fate is unknown is followed by a snapshot.
    """

    origin: str
    """The reporting process: unique per process life."""
    partition: int
    """`topics.partition_of` every channel in it."""
    sequence: int
    """1, 2, 3 … per origin and partition, snapshots included: a repeat is dropped, a gap
    makes presence ask for a snapshot."""
    reply_to: str
    changes: list[Change]
    snapshot_part: int = 0
    """0: changes. 1 … snapshot_parts: a snapshot, in as many reports as keep each small;
    `changes` are then `Joined` only, and what no part names has left, not cleanly."""
    snapshot_parts: int = 0


class PresenceLease(msgspec.Struct, array_like=True, frozen=True, tag="plse"):
    """This process lives: all its rows are good for another `PRESENCE_LEASE_S`.

    Goes to exchange `Topics.presence`, key `topics.LEASE_KEY`, transient, every
    `PRESENCE_RENEW_S`, from the first report on.
    """

    origin: str
    reply_to: str
    sequences: list[int]
    """Last sequence sent (and confirmed), for each partition; 0 where there is none."""
    ended: bool = False
    """This process is leaving: what it has not reported as left is lost as of now."""


# -- Requests: exchange `Topics.rpc`, key `topics.PRESENCE_SERVICE`, expiring ----------------


class MembersAsk(msgspec.Struct, array_like=True, frozen=True, tag="mem"):
    """Who is in a channel. Answered by `PresencePage`s, the last of which says so."""

    request: int
    channel: str
    after: str = ""
    """`next_after` of the page before; empty for the first page."""
    limit: int = 0
    """Members wanted; 0: all, in as many pages as it takes."""
    merged: bool = False
    """One member per user, not per connection."""
    traceparent: str = ""


class CountsAsk(msgspec.Struct, array_like=True, frozen=True, tag="cnt"):
    """How many are in a channel. Answered by `PresenceCounts`."""

    request: int
    channel: str
    traceparent: str = ""


class UserAsk(msgspec.Struct, array_like=True, frozen=True, tag="usr"):
    """Where is a user. Answered by `PresenceUser`."""

    request: int
    user: str
    traceparent: str = ""


class StatusSet(msgspec.Struct, array_like=True, frozen=True, tag="sta"):
    """A user's status is now this. Answered by `PresenceUser`; told in the user's channels."""

    request: int
    user: str
    text: str = ""
    do_not_disturb: bool = False
    traceparent: str = ""


PresenceAsk = MembersAsk | CountsAsk | UserAsk | StatusSet


class PresenceAsks(msgspec.Struct, array_like=True, frozen=True, tag="pask"):
    """Requests of one process, each answered by itself."""

    reply_to: str
    asks: list[PresenceAsk]


# -- Answers, to the queue of the asking process -------------------------------------------


class Member(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One connection in a channel or, merged, one user.

    Reports travel beside requests: who asks replaces the members of its own origin by
    what it knows itself, and so always sees its own clients as they are.
    """

    client: str
    """Merged: the connection the user was announced with."""
    user: str
    conn_info: bytes = b""
    chan_info: bytes = b""
    origin: str = ""
    """The process that reported it; empty when merged."""
    lost: bool = False
    """In its grace: gone without a word, and perhaps back in a moment."""
    connections: int = 1
    status_text: str = ""
    """Merged only, as the next field."""
    do_not_disturb: bool = False


class PresencePage(msgspec.Struct, array_like=True, frozen=True, tag="pmem"):
    """Some members of a channel, and how many there are."""

    request: int
    channel: str
    members: list[Member] = []
    last: bool = True
    """No other page follows for this request."""
    next_after: str = ""
    """Where a next request goes on; empty when there is nothing more."""
    num_clients: int = 0
    num_users: int = 0
    error_code: int = 0
    error_message: str = ""


class PresenceCounts(msgspec.Struct, array_like=True, frozen=True, tag="pcnt"):
    """How many connections and users a channel has."""

    request: int
    channel: str
    num_clients: int = 0
    num_users: int = 0
    """An anonymous connection counts as a user of its own."""
    error_code: int = 0
    error_message: str = ""


class PresenceUser(msgspec.Struct, array_like=True, frozen=True, tag="pusr"):
    """Where a user is, what they say about themselves, when they were last seen."""

    request: int
    user: str
    channels: list[str] = []
    """Sorted; empty when the user is nowhere."""
    connections: int = 0
    last_seen_ms: int = 0
    """Now while online; 0 if never seen. By the database's clock."""
    status_text: str = ""
    do_not_disturb: bool = False
    error_code: int = 0
    error_message: str = ""


class PresenceResync(msgspec.Struct, array_like=True, frozen=True, tag="prsy"):
    """Send a snapshot of each of these partitions: reports are missing, or were lost."""

    partitions: list[int]


PresenceAnswer = PresencePage | PresenceCounts | PresenceUser | PresenceResync


# -- Payloads of publications --------------------------------------------------------------


class PayloadType(enum.StrEnum):
    """`type` of what presence publishes as data into a channel."""

    COUNTS = "presence"
    """`{type, num_clients, num_users}`: a large room, at most once a second."""
    TYPING = "typing"
    """`{type, user, ttl_ms}`: shown for that long, 0 ends it. So does a message of theirs."""
    ACTIVITY = "activity"
    """`{type, user, activity, ttl_ms}`: what an agent does."""
    STATUS = "status"
    """`{type, user, text, do_not_disturb}`."""
