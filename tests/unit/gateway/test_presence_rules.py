"""Questions about who is where: who may ask, what is asked, how it is answered."""

import msgspec
import pytest
from msgspec import Raw

from chatmesh.gateway.effects import (
    AskPresence,
    PresenceTold,
    Refused,
    TokenAccepted,
    VerifyConnectionToken,
)
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.session import Session
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import ConnectionClaims
from chatmesh.wire import errors
from chatmesh.wire.client import (
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    PresenceRequest,
    PresenceResult,
    PresenceStatsRequest,
    PresenceStatsResult,
    Reply,
    RPCRequest,
    RPCResult,
)
from chatmesh.wire.namespaces import NamespaceOptions, Who
from chatmesh.wire.presence import (
    CountsAsk,
    Member,
    MembersAsk,
    PresenceCounts,
    PresencePage,
    PresenceUser,
    StatusSet,
    UserAsk,
)
from support.playbook import Playbook

NAMESPACES = {
    "team": NamespaceOptions(presence=True, see_presence=Who.USERS),
    "closed": NamespaceOptions(presence=True, see_presence=Who.NOBODY),
    "room": NamespaceOptions(),
}
TEAM = "team:a"
ADA = Member("c1", "ada", b'{"name":"Ada"}', b"\xff")


@pytest.fixture
def book() -> Playbook:
    """Ada is connected; her next effect has the id 3."""
    terms = Terms(Policy(NAMESPACES), "v", Raw(b"{}"), ping_interval_s=0)
    made = Playbook(Session(terms, client_id="c1"))
    made.hears(Command(1, connect=ConnectRequest("t")))
    made.asks_for(VerifyConnectionToken(1, "t"))
    made.hears(TokenAccepted(1, ConnectionClaims("ada")))
    return made.answers(Reply(1, connect=ConnectResult("c1", "v", data=Raw(b"{}"))))


def call(number: int, method: str, **data: object) -> Command:
    return Command(number, rpc=RPCRequest(Raw(msgspec.json.encode(data)), method))


def told(number: int, **data: object) -> Reply:
    return Reply(number, rpc=RPCResult(Raw(msgspec.json.encode(data))))


def test_members_are_told_as_the_protocol_has_them(book: Playbook) -> None:
    """By connection, and an info that is no JSON in base64."""
    book.hears(Command(2, presence=PresenceRequest(TEAM)))
    book.asks_for(AskPresence(3, MembersAsk(0, TEAM)))

    book.hears(PresenceTold(3, PresencePage(9, TEAM, [ADA], num_clients=1)))

    info = ClientInfo(
        "ada", "c1", conn_info=Raw(b'{"name":"Ada"}'), b64chan_info="/w=="
    )
    book.answers(Reply(2, presence=PresenceResult({"c1": info})))


@pytest.mark.parametrize(
    "answer",
    [
        PresenceCounts(9, TEAM, 3, 2),
        PresencePage(9, TEAM, [ADA], num_clients=3, num_users=2),
    ],
)
def test_counts_are_two_numbers(
    book: Playbook, answer: PresenceCounts | PresencePage
) -> None:
    """Also where what answers knows the members, too."""
    book.hears(Command(2, presence_stats=PresenceStatsRequest(TEAM)))
    book.asks_for(AskPresence(3, CountsAsk(0, TEAM)))

    book.hears(PresenceTold(3, answer))

    book.answers(Reply(2, presence_stats=PresenceStatsResult(3, 2)))


def test_a_call_tells_people_with_what_they_say_of_themselves(book: Playbook) -> None:
    """One for each user, a page at a time."""
    book.hears(call(2, "presence.members", channel=TEAM, limit=1))
    book.asks_for(AskPresence(3, MembersAsk(0, TEAM, "", 1, merged=True)))
    person = Member("", "ada", connections=2, status_text="away")
    page = PresencePage(9, TEAM, [person], next_after="ada", num_clients=2, num_users=2)

    book.hears(PresenceTold(3, page))

    ada = {"user": "ada", "connections": 2, "status": "away"}
    book.answers(told(2, members=[ada], next="ada", num_clients=2, num_users=2))


def test_where_one_is_and_what_one_says_is_ones_own(book: Playbook) -> None:
    """Nobody is told where somebody else is."""
    book.hears(call(2, "presence.user", user="bob"))
    book.answers(Reply(2, error=errors.PERMISSION_DENIED))

    book.hears(call(3, "presence.user", user="ada"))
    book.asks_for(AskPresence(3, UserAsk(0, "ada")))
    book.hears(PresenceTold(3, PresenceUser(9, "ada", [TEAM], 1, 5, "here")))
    (reply,) = [one.reply for one in book.sent()]
    assert reply.rpc is not None
    assert isinstance(reply.rpc.data, Raw)
    assert msgspec.json.decode(reply.rpc.data)["channels"] == [TEAM]

    book.hears(call(4, "presence.status", text="away", do_not_disturb=True))
    book.asks_for(AskPresence(4, StatusSet(0, "ada", "away", do_not_disturb=True)))


@pytest.mark.parametrize(
    ("channel", "error"),
    [
        ("room:a", errors.NOT_AVAILABLE),
        ("closed:a", errors.PERMISSION_DENIED),
        ("with blank", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("asks", [PresenceRequest, PresenceStatsRequest])
def test_not_every_channel_tells(
    book: Playbook,
    asks: type[PresenceRequest] | type[PresenceStatsRequest],
    channel: str,
    error: errors.ErrorReply | None,
) -> None:
    """Without presence, without the right to read it, without being a channel."""
    name = "presence" if asks is PresenceRequest else "presence_stats"
    book.hears(Command(2, **{name: asks(channel)}))  # pyright: ignore[reportArgumentType]

    if error is not None:
        book.answers(Reply(2, error=error))
    elif channel:
        (sent,) = book.sent()
        assert sent.reply.error is not None
        assert sent.reply.error.code == errors.BAD_REQUEST.code
    else:
        book.closes(3501)


def test_no_answer_is_an_error_of_the_server(book: Playbook) -> None:
    """Temporary, so that an SDK may ask again; presence's own refusal is passed on."""
    book.hears(Command(2, presence=PresenceRequest(TEAM)))
    book.asks_for(AskPresence(3, MembersAsk(0, TEAM)))
    book.hears(Refused(3, errors.INTERNAL)).answers(Reply(2, error=errors.INTERNAL))

    book.hears(Command(3, presence=PresenceRequest(TEAM)))
    book.asks_for(AskPresence(4, MembersAsk(0, TEAM)))
    book.hears(
        PresenceTold(4, PresencePage(9, TEAM, error_code=107, error_message="odd"))
    )
    book.answers(Reply(3, error=errors.ErrorReply(107, "odd")))
