"""Presence in the words of the client protocol and of our own calls, both ways."""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from chatmesh.gateway import bodies
from chatmesh.gateway.bodies import BadBody, body_of
from chatmesh.wire import client, limits
from chatmesh.wire.client import ClientInfo, Reply
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.infos import client_info, in_either
from chatmesh.wire.presence import (
    Member,
    MembersAsk,
    PresenceAnswer,
    PresenceCounts,
    PresencePage,
    PresenceResync,
    PresenceUser,
    StatusSet,
    UserAsk,
)
from chatmesh.wire.runs import is_agent

_json = msgspec.json.Encoder()

Told = PresencePage | PresenceCounts | PresenceUser


class NotTheirs(Exception):
    """Somebody asks for, or says, what is not theirs."""


class _Person(msgspec.Struct, omit_defaults=True):
    user: str
    connections: int
    lost: bool = False
    status: str = ""
    do_not_disturb: bool = False
    agent: Raw | UnsetType = UNSET
    """Of an agent: what it does here, `{status, tool?, position?}`."""


class _People(msgspec.Struct):
    members: list[_Person]
    next: str
    """Ask for the next page with this as `after`; empty when there is none."""
    num_clients: int
    num_users: int


class _Whereabouts(msgspec.Struct):
    user: str
    channels: list[str]
    connections: int
    last_seen_ms: int
    status: str
    do_not_disturb: bool


class _Counts(msgspec.Struct):
    num_clients: int
    num_users: int


def members_page(data: Raw) -> MembersAsk:
    """Read who asks for a page of people in a channel. Raises BadBody."""
    body = body_of(data, bodies.MembersPage)
    limit = body.limit or limits.PRESENCE_PAGE_MEMBERS_MAX
    if not 0 < limit <= limits.PRESENCE_PAGE_MEMBERS_MAX:
        raise BadBody(f"limit wants 1 to {limits.PRESENCE_PAGE_MEMBERS_MAX}")
    return MembersAsk(0, body.channel, body.after, limit, merged=True)


def where_is(data: Raw, user: str) -> UserAsk:
    """Read whose whereabouts are asked for. Raises BadBody and NotTheirs."""
    body = body_of(data, bodies.WhereIs)
    if body.user != user or not user:
        # Which channels somebody else is in is theirs to know.
        raise NotTheirs
    return UserAsk(0, body.user)


def status(data: Raw, user: str) -> StatusSet:
    """Read what somebody says about themselves. Raises BadBody and NotTheirs."""
    body = body_of(data, bodies.Status)
    if not user:
        raise NotTheirs
    if len(body.text) > limits.STATUS_CHARS_MAX:
        raise BadBody(f"status over {limits.STATUS_CHARS_MAX} characters")
    return StatusSet(0, user, body.text, body.do_not_disturb)


def answered(command: int, answer: PresenceAnswer, *, counts: bool, rpc: bool) -> Reply:
    """The reply to a command: the answer in the form it was asked for, or its error.

    `counts`: only how many is wanted, whatever form the answer has. `rpc`: asked by a
    call of ours, which tells more than the protocol's own commands.
    """
    assert not isinstance(answer, PresenceResync), "a wish of presence answers nobody"
    if answer.error_code:
        message = answer.error_message or "unavailable"
        return Reply(command, error=ErrorReply(answer.error_code, message))
    if counts and isinstance(answer, PresencePage):
        answer = PresenceCounts(
            answer.request, answer.channel, answer.num_clients, answer.num_users
        )
    if rpc:
        return Reply(command, rpc=client.RPCResult(Raw(_json.encode(told_of(answer)))))
    return reply_of(command, answer)


def info_of(member: Member) -> ClientInfo:
    """A member as clients know each other."""
    return client_info(member.user, member.client, member.conn_info, member.chan_info)


def reply_of(command: int, told: Told) -> Reply:
    """The protocol's own answer to presence and presence_stats."""
    match told:
        case PresencePage():
            present = {one.client: info_of(one) for one in told.members}
            return Reply(command, presence=client.PresenceResult(present))
        case PresenceCounts():
            counts = client.PresenceStatsResult(told.num_clients, told.num_users)
            return Reply(command, presence_stats=counts)
        case PresenceUser():
            raise AssertionError("the protocol does not ask where somebody is")


def told_of(told: Told) -> msgspec.Struct:
    """The answer to a call of ours."""
    match told:
        case PresencePage():
            people = [
                _Person(
                    one.user,
                    one.connections,
                    one.lost,
                    one.status_text,
                    one.do_not_disturb,
                    in_either(one.chan_info)[0]
                    if is_agent(one.user) and one.chan_info
                    else UNSET,
                )
                for one in told.members
            ]
            return _People(people, told.next_after, told.num_clients, told.num_users)
        case PresenceCounts():
            return _Counts(told.num_clients, told.num_users)
        case PresenceUser():
            return _Whereabouts(
                told.user,
                told.channels,
                told.connections,
                told.last_seen_ms,
                told.status_text,
                told.do_not_disturb,
            )
