"""Calls for services: who may make them, what the service is told, what comes back."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Raw

from chatmesh.gateway import forwarding
from chatmesh.gateway.bodies import BadBody
from chatmesh.gateway.effects import TokenAccepted, VerifyConnectionToken
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.service_desk import UNANSWERED
from chatmesh.gateway.session import Session
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import ConnectionClaims
from chatmesh.wire import errors, limits
from chatmesh.wire.calls import Role, ServiceAnswer
from chatmesh.wire.client import Command, ConnectRequest
from support.gateway_rig import Client, Rig
from support.manual_clock import settle
from support.playbook import Playbook

ROOM = "room:a"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.get_the_link_back()
    yield made
    await made.close()


def call(
    client: Client,
    method: str = "run.stop",
    number: int = 9,
    channel: str = ROOM,
    **more: object,
) -> None:
    client.says(
        {
            "id": number,
            "rpc": {"method": method, "data": {"channel": channel, **more}},
        }
    )


async def test_a_call_goes_to_its_service_with_who_asks(rig: Rig) -> None:
    """User, client and role are the gateway's word, whatever the data says."""
    ada = await rig.subscribed(ROOM)
    call(ada, run="r1", user="eve", role="owner", traceparent="00-1")
    await settle()

    ((service, sent),) = rig.bus.calls
    assert service == "agent"
    assert (sent.method, sent.channel) == ("run.stop", ROOM)
    assert (sent.user, sent.role) == ("ada", Role.MEMBER)
    assert sent.client == ada.connection.session.client_id
    assert msgspec.json.decode(sent.data)["run"] == "r1"
    assert sent.deadline_ms == rig.clock.unix_ms() + limits.SERVICE_CALL_S * 1000
    assert (sent.reply_to, sent.traceparent) == ("queue", "00-1")


async def test_the_answer_is_the_callers(rig: Rig) -> None:
    """On one line, whatever the service sent; and only to who asked."""
    ada, bob = await rig.subscribed(ROOM), await rig.subscribed(ROOM, user="bob")
    call(ada)
    await settle()
    number = rig.bus.calls[0][1].request

    rig.hear(ServiceAnswer(number, b'{\n  "stopped": ["r1"]\n}'))

    assert await ada.hears() == [{"id": 9, "rpc": {"data": {"stopped": ["r1"]}}}]
    assert await bob.hears() == []


async def test_a_services_refusal_is_heard_as_it_is(rig: Rig) -> None:
    """Code, message and whether to try again."""
    ada = await rig.subscribed(ROOM)
    call(ada, "approval.answer")
    await settle()
    number = rig.bus.calls[0][1].request

    rig.hear(ServiceAnswer(number, b"", 103, "permission denied: not yours"))

    (reply,) = await ada.hears()
    assert reply["error"] == {"code": 103, "message": "permission denied: not yours"}


async def test_what_nobody_answers_ends_at_the_deadline(rig: Rig) -> None:
    """With a temporary error, once; an answer that comes later is nobody's."""
    ada = await rig.subscribed(ROOM)
    call(ada)
    await settle()
    await rig.pass_time(limits.SERVICE_CALL_S - 0.5)
    assert await ada.hears() == []

    await rig.pass_time(1.0)

    (reply,) = await ada.hears()
    assert reply["error"]["code"] == errors.INTERNAL.code  # type: ignore[index]
    assert reply["error"]["temporary"] is True  # type: ignore[index]
    rig.hear(ServiceAnswer(rig.bus.calls[0][1].request, b"{}"))
    assert await ada.hears() == []


async def test_a_lost_link_answers_at_once(rig: Rig) -> None:
    """The answer would go to a queue that is gone."""
    ada = await rig.subscribed(ROOM)
    call(ada)
    await settle()

    await rig.lose_the_link()
    call(ada, number=10)

    said = await ada.hears()
    assert [one["id"] for one in said] == [9, 10]
    assert all(
        one["error"]["message"] == UNANSWERED.message  # type: ignore[index]
        for one in said
    )


async def test_one_connection_has_so_many_calls_at_once_and_no_more(rig: Rig) -> None:
    """Others are not kept waiting by it, and it may go on when it is answered."""
    ada = await rig.subscribed(ROOM)
    for number in range(limits.SERVICE_CALLS_PER_CONNECTION_MAX + 1):
        call(ada, number=100 + number)
    (refused,) = await ada.hears()
    assert refused["error"]["code"] == errors.TOO_MANY_REQUESTS.code  # type: ignore[index]

    rig.hear(ServiceAnswer(rig.bus.calls[0][1].request, b"{}"))
    await ada.hears()
    call(ada, number=200)
    assert await ada.hears() == []
    assert len(rig.bus.calls) == limits.SERVICE_CALLS_PER_CONNECTION_MAX + 1


@pytest.mark.parametrize(
    ("method", "channel", "code"),
    [
        ("run.stop", "room:b", 103),  # Not subscribed.
        ("run.stop", "", 107),
        ("run.stop", "a b", 107),
        ("approval.answer", "room:b", 103),
        ("agent.list", "room:b", 103),
        ("run", ROOM, 108),
        ("run.", ROOM, 104),
        ("other.call", ROOM, 108),
        ("run." + "x" * 100, ROOM, 104),
    ],
)
async def test_what_may_not_be_asked_is_not_forwarded(
    rig: Rig, method: str, channel: str, code: int
) -> None:
    """Refused here, with the reason."""
    ada = await rig.subscribed(ROOM)
    call(ada, method, channel=channel)

    (reply,) = await ada.hears()

    assert reply["error"]["code"] == code  # type: ignore[index]
    assert rig.bus.calls == []


async def test_a_list_needs_no_channel(rig: Rig) -> None:
    """And no data at all."""
    ada = await rig.connected()
    ada.says({"id": 2, "rpc": {"method": "tools.list"}})
    ada.says({"id": 3, "rpc": {"method": "agent.list", "data": {}}})
    await settle()

    assert [sent.channel for _, sent in rig.bus.calls] == ["", ""]


def test_somebody_without_a_name_approves_nothing() -> None:
    """There would be nobody to say who it was."""
    refused = forwarding.refuses("approval.answer", ROOM, "", joined=True)

    assert refused is not None
    assert refused.code == errors.PERMISSION_DENIED.code
    assert forwarding.refuses("run.snapshot", ROOM, "", joined=True) is None


@pytest.mark.parametrize("data", [b"[]", b'"x"', b'{"channel":5}'])
def test_data_that_says_no_channel_is_refused(data: bytes) -> None:
    """As what it is: a bad request."""
    with pytest.raises(BadBody):
        forwarding.about("run.stop", Raw(data))


async def test_an_answer_that_is_no_json_harms_nobody(rig: Rig) -> None:
    """The caller hears an error, and the connection lives."""
    ada = await rig.subscribed(ROOM)
    call(ada)
    await settle()

    rig.hear(ServiceAnswer(rig.bus.calls[0][1].request, b"{oh"))

    (reply,) = await ada.hears()
    assert reply["error"]["code"] == errors.INTERNAL.code  # type: ignore[index]
    assert ada.goodbye is None


@pytest.mark.parametrize(
    "body", [{"id": "run:r1"}, {"agent": {"name": "helper"}}, {"run": {"id": "r"}}]
)
async def test_nobody_speaks_as_an_agent(rig: Rig, body: dict[str, object]) -> None:
    """Neither by an answer's id nor by saying which agent it was."""
    ada = await rig.subscribed(ROOM)
    data = {"channel": ROOM, "id": "m1", "text": "x", **body}
    ada.says({"id": 9, "rpc": {"method": "message.send", "data": data}})

    (reply,) = await ada.hears()

    assert reply["error"]["code"] == errors.BAD_REQUEST.code  # type: ignore[index]


# -- Roles ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        (ConnectionClaims("ada"), Role.MEMBER),
        (ConnectionClaims(""), Role.GUEST),
        (ConnectionClaims("ada", meta=b'{"role":"moderator"}'), Role.MODERATOR),
        (ConnectionClaims("ada", info=b'{"role":"owner"}'), Role.OWNER),
        (
            ConnectionClaims("ada", info=b'{"role":"owner"}', meta=b'{"role":"guest"}'),
            Role.GUEST,
        ),
        (ConnectionClaims("ada", meta=b'{"role":"emperor"}'), Role.GUEST),
        (ConnectionClaims("ada", meta=b'{"name":"x"}'), Role.MEMBER),
        (ConnectionClaims("ada", meta=b"[1]"), Role.MEMBER),
    ],
)
def test_a_role_is_what_the_token_says(claims: ConnectionClaims, role: Role) -> None:
    """What stays on the server goes first; an unknown role is the least one."""
    assert Policy({}).role_of(claims) is role


def test_a_development_gateway_makes_everybody_an_owner() -> None:
    """Unless the token says otherwise; nobody stays nobody."""
    policy = Policy({}, role=Role.OWNER)

    assert policy.role_of(ConnectionClaims("ada")) is Role.OWNER
    assert (
        policy.role_of(ConnectionClaims("a", info=b'{"role":"member"}')) is Role.MEMBER
    )
    assert policy.role_of(ConnectionClaims("")) is Role.GUEST


def test_no_client_has_the_name_of_an_agent() -> None:
    """Not even with a token that says so: it would be believed."""
    terms = Terms(Policy({}), version="v", connect_data=Raw(b"{}"), ping_interval_s=25)
    book = Playbook(Session(terms, client_id="c1"))
    book.hears(Command(1, connect=ConnectRequest(token="t")))
    book.asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenAccepted(1, ConnectionClaims("agent:helper")))

    book.closes(3507)
