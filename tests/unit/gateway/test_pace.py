"""Haste is refused, obstinacy sent away, and nobody else notices."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from chatmesh.gateway.effects import (
    ChannelsReady,
    Close,
    Commit,
    Committed,
    ReadPage,
    Send,
    Snapshot,
    TokenAccepted,
    VerifyConnectionToken,
    Watch,
)
from chatmesh.gateway.pace import UNLIMITED, USERS_KEPT_MIN, Pace, Paces, Rate, Verdict
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.rules.footing import COMMANDS_WAITING_MAX
from chatmesh.gateway.session import WAITING_BYTES_MAX, Session
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import ConnectionClaims
from chatmesh.wire import close_codes, errors
from chatmesh.wire.client import (
    Command,
    ConnectRequest,
    HistoryRequest,
    PublishRequest,
    Reply,
    SubscribeRequest,
    UnsubscribeRequest,
)
from chatmesh.wire.namespaces import NamespaceOptions, Who

NOW_S = 1_700_000_000.0
OPEN = {"": NamespaceOptions(publish=Who.EVERYONE, read_history=Who.EVERYONE)}


def made(user: str = "ada", **more: object) -> Session:
    """A session that is connected as this user."""
    session = Session(terms(**more), client_id="c")
    connect = Command(1, connect=ConnectRequest(token="t"))
    (verify,) = session.receive([connect], NOW_S)
    assert isinstance(verify, VerifyConnectionToken)
    session.hear(TokenAccepted(verify.id, ConnectionClaims(user)), NOW_S)
    return session


def terms(**more: object) -> Terms:
    return Terms(
        Policy(OPEN),
        version="v",
        connect_data=Raw(b"{}"),
        ping_interval_s=25,
        **more,  # pyright: ignore[reportArgumentType]
    )


def publish(number: int) -> Command:
    return Command(number, publish=PublishRequest("a", Raw(b"1")))


def outcome(session: Session, command: Command, now_s: float = NOW_S) -> str:
    """What became of it: done, refused or goodbye."""
    (*_, last) = session.receive([command], now_s)
    match last:
        case Send(Reply(error=errors.TOO_MANY_REQUESTS)):
            return "refused"
        case Close(close_codes.TOO_MANY_REQUESTS):
            return "goodbye"
        case _:
            return "done"


def test_a_burst_passes_then_the_rate() -> None:
    """And the refusal is one that SDKs take as temporary."""
    session = made(paces=Paces(Rate(10.0, 3)))

    told = [outcome(session, publish(n), NOW_S) for n in range(2, 6)]
    assert told == ["done", "done", "done", "refused"]
    assert outcome(session, publish(9), NOW_S + 1.0) == "done"
    assert errors.TOO_MANY_REQUESTS.temporary


def test_who_does_not_listen_is_sent_away() -> None:
    """And may come back later: the code is not a final one."""
    session = made(paces=Paces(Rate(10.0, 5)))

    told = [outcome(session, publish(n)) for n in range(2, 17)]
    assert told[:5] == ["done"] * 5
    assert told[5:14] == ["refused"] * 9
    assert told[14] == "goodbye"
    assert close_codes.TOO_MANY_REQUESTS.reconnects


def test_an_unsubscribe_is_never_refused() -> None:
    """SDKs answer that with a reconnect, which helps nobody; but it is counted."""
    session = made(paces=Paces(Rate(1.0, 2)))
    leave = UnsubscribeRequest("a")

    told = [outcome(session, Command(n, unsubscribe=leave)) for n in range(2, 8)]
    assert told == [*["done"] * 5, "goodbye"]


def test_devices_of_a_user_share_one_allowance() -> None:
    """Wherever here they are connected, and however often they come back."""
    paces = Paces(user=Rate(1.0, 3))
    phone, desk = made("ada", paces=paces), made("ada", paces=paces)
    stranger = made("bob", paces=paces)

    told = [outcome(one, publish(9)) for one in (phone, desk, phone, desk, phone)]
    assert told == ["done", "done", "done", "refused", "refused"]
    assert outcome(made("ada", paces=paces), publish(9)) == "refused"
    assert outcome(stranger, publish(9)) == "done"
    assert outcome(desk, publish(10), NOW_S + 1.0) == "done"
    assert paces.refused == 3


def test_nobody_is_not_one_user() -> None:
    """Anonymous connections have nothing in common."""
    paces = Paces(user=Rate(1.0, 1))

    assert all(paces.admits("", NOW_S) for _ in range(100))
    assert len(paces) == 0


def test_users_that_were_quiet_are_forgotten() -> None:
    """As many are remembered as ask for something, not as many as there are."""
    paces = Paces(user=Rate(10.0, 10))
    for number in range(5 * USERS_KEPT_MIN):
        assert paces.admits(f"u{number}", NOW_S + number)

    assert len(paces) <= USERS_KEPT_MIN


def test_so_many_commands_may_be_at_work() -> None:
    """What waits for its answer is bounded; an answer makes room for the next."""
    session = made(in_flight_max=2)
    (first,) = session.receive([publish(2)], NOW_S)
    (second,) = session.receive(
        [Command(3, history=HistoryRequest("a", limit=1))], NOW_S
    )
    assert isinstance(first, Commit)
    assert isinstance(second, ReadPage)

    assert outcome(session, publish(4)) == "refused"
    session.hear(Committed(first.id, 1, 1), NOW_S)
    assert outcome(session, publish(5)) == "done"


def test_what_waits_for_the_connect_is_bounded_in_bytes() -> None:
    """Keys may take a while to be fetched; memory is not given away meanwhile."""
    session = Session(terms(), client_id="c")
    connect = Command(1, connect=ConnectRequest(token="t"))
    session.receive([connect], NOW_S, 100)
    size = WAITING_BYTES_MAX // 4
    told = [session.receive([publish(n)], NOW_S, size) for n in range(2, 7)]

    assert told[:4] == [[], [], [], []]
    assert told[4] == [Close(close_codes.TOO_MANY_REQUESTS)]


def test_what_waits_behind_subscribes_is_bounded_together() -> None:
    """One for each channel would be 128 times as much."""
    session = made()
    for name in ("a", "b"):
        request = SubscribeRequest(name)
        (watch,) = session.receive([Command(2, subscribe=request)], NOW_S)
        assert isinstance(watch, Watch)
    for number in range(COMMANDS_WAITING_MAX):
        leave = UnsubscribeRequest("ab"[number % 2])
        assert session.receive([Command(3, unsubscribe=leave)], NOW_S) == []

    leave = Command(3, unsubscribe=UnsubscribeRequest("a"))
    assert session.receive([leave], NOW_S) == [Close(close_codes.TOO_MANY_REQUESTS)]


def test_what_has_waited_makes_room() -> None:
    """Subscribing and unsubscribing in a hurry is nothing bad by itself."""
    session = made()
    for _ in range(2 * COMMANDS_WAITING_MAX):
        subscribe = Command(2, subscribe=SubscribeRequest("a"))
        (watch,) = session.receive([subscribe], NOW_S, 1000)
        assert isinstance(watch, Watch)
        leave = Command(3, unsubscribe=UnsubscribeRequest("a"))
        assert session.receive([leave], NOW_S, 1000) == []
        session.hear(ChannelsReady(watch.id, [Snapshot("a")]), NOW_S)
    assert not session.subscriptions


def test_without_a_rate_everything_passes() -> None:
    """The switch for those who shape elsewhere, and a clock may go back."""
    pace = Pace(UNLIMITED)

    assert {pace.judge(NOW_S - n) for n in range(10_000)} == {Verdict.ADMITTED}


@given(
    st.floats(0.5, 1000),
    st.integers(1, 50),
    st.lists(st.floats(-0.1, 0.5), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(
    rate: float, burst: int, pauses: list[float]
) -> None:
    """Over any stretch from the beginning, whatever the clock does."""
    pace, now_s, forward_s, admitted = Pace(Rate(rate, burst)), NOW_S, 0.0, 0
    for pause in pauses:
        now_s += pause
        forward_s += max(0.0, pause)
        admitted += pace.judge(now_s) is Verdict.ADMITTED
        assert admitted <= burst + rate * forward_s + 1e-3


@given(st.floats(1.0, 1000), st.integers(1, 50), st.floats(1.0, 1.9))
def test_up_to_twice_the_rate_is_endured(rate: float, burst: int, haste: float) -> None:
    """Refused in part, and for ever, but not sent away."""
    pace = Pace(Rate(rate, burst))

    told = {pace.judge(NOW_S + n / (rate * haste)) for n in range(1000)}
    assert Verdict.GOODBYE not in told
