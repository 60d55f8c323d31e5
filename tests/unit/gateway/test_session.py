"""Every rule of a session, as transcripts: what it lets pass, and what it refuses."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from chatmesh.gateway.effects import (
    ChannelsFailed,
    ChannelsReady,
    Close,
    Commit,
    Committed,
    Effect,
    Emit,
    Emitted,
    Join,
    Leave,
    PageRead,
    ReadPage,
    Refused,
    Send,
    Snapshot,
    SubscriptionTokenAccepted,
    Tell,
    TokenAccepted,
    TokenExpired,
    TokenRefused,
    VerifyConnectionToken,
    VerifySubscriptionToken,
    Want,
    Watch,
)
from chatmesh.gateway.payloads import NOT_JSON, TOO_DEEP
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.rules.footing import COMMANDS_WAITING_MAX, State
from chatmesh.gateway.session import WAITING_BYTES_MAX, Session
from chatmesh.gateway.subscriptions import Grant, overridden
from chatmesh.gateway.terms import Terms
from chatmesh.gateway.tokens import (
    ConnectionClaims,
    Override,
    SubscriptionClaims,
    SubscriptionOptions,
)
from chatmesh.wire import close_codes, errors, limits
from chatmesh.wire.client import (
    Command,
    ConnectRequest,
    ConnectResult,
    FilterNode,
    HistoryRequest,
    HistoryResult,
    PingRequest,
    PublishRequest,
    PublishResult,
    Push,
    RefreshRequest,
    RefreshResult,
    Reply,
    Request,
    RPCRequest,
    RPCResult,
    SendRequest,
    StreamPosition,
    SubRefreshRequest,
    SubRefreshResult,
    SubscribePush,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribePush,
    UnsubscribeRequest,
    UnsubscribeResult,
)
from chatmesh.wire.client_json import OversizedCommand
from chatmesh.wire.errors import ErrorReply
from chatmesh.wire.messages import LivePublication, PublishCommand
from chatmesh.wire.namespaces import NamespaceOptions, Who
from support.playbook import NOW_S, Playbook

ROOM = "room:a"
TOKEN = "t"
INFO = b'{"user":"ada","client":"c1"}'
CONNECT_DATA = Raw(b'{"gateway":"g"}')

NAMESPACES = {
    "": NamespaceOptions(),
    "room": NamespaceOptions(),
    "live": NamespaceOptions(durable=False),
    "cache": NamespaceOptions(cache_recovery=True),
    "fixed": NamespaceOptions(recover=False),
    "plain": NamespaceOptions(positioned=False),
    "text": NamespaceOptions(json_only=True),
    "news": NamespaceOptions(publish=Who.NOBODY, read_history=Who.NOBODY),
    "open": NamespaceOptions(
        subscribe=Who.EVERYONE, publish=Who.EVERYONE, read_history=Who.EVERYONE
    ),
}

_AS: dict[type[Request], str] = {
    ConnectRequest: "connect",
    SubscribeRequest: "subscribe",
    UnsubscribeRequest: "unsubscribe",
    PublishRequest: "publish",
    HistoryRequest: "history",
    PingRequest: "ping",
    SendRequest: "send",
    RPCRequest: "rpc",
    RefreshRequest: "refresh",
    SubRefreshRequest: "sub_refresh",
}


def command(number: int, request: Request) -> Command:
    return Command(number, **{_AS[type(request)]: request})  # pyright: ignore[reportArgumentType]


def connect(token: str = TOKEN, **more: object) -> Command:
    return command(1, ConnectRequest(token, **more))  # pyright: ignore[reportArgumentType]


def subscribe(number: int, channel: str = ROOM, **more: object) -> Command:
    return command(number, SubscribeRequest(channel, **more))  # pyright: ignore[reportArgumentType]


def unsubscribe(number: int, channel: str = ROOM) -> Command:
    return command(number, UnsubscribeRequest(channel))


def unsubscribed(number: int) -> Reply:
    return Reply(number, unsubscribe=UnsubscribeResult())


def publish(number: int, channel: str = ROOM, data: bytes = b"1") -> Command:
    return command(number, PublishRequest(channel, Raw(data)))


def send_message(number: int, **fields: object) -> Command:
    data = {"channel": ROOM, "id": "m1", "text": "hi", **fields}
    return command(number, RPCRequest(Raw(msgspec.json.encode(data)), "message.send"))


def refusal(number: int, error: ErrorReply) -> Reply:
    return Reply(number, error=error)


def because(error: ErrorReply, why: str) -> ErrorReply:
    return errors.because(error, why)


def terms(**more: object) -> Terms:
    policy = more.pop("policy", None) or Policy(NAMESPACES)
    return Terms(
        policy,  # pyright: ignore[reportArgumentType]
        version="v",
        connect_data=CONNECT_DATA,
        ping_interval_s=25,
        new_id=lambda: "made-id",
        **more,  # pyright: ignore[reportArgumentType]
    )


def fresh(**more: object) -> Playbook:
    return Playbook(Session(terms(**more), client_id="c1"))


def welcome(**more: object) -> Reply:
    result = ConnectResult("c1", "v", data=CONNECT_DATA, ping=25, pong=True, **more)  # pyright: ignore[reportArgumentType]
    return Reply(1, connect=result)


def connected(claims: ConnectionClaims | None = None, **more: object) -> Playbook:
    """Ada is connected; her next effect has the id 3."""
    book = fresh(**more)
    book.hears(connect()).asks_for(VerifyConnectionToken(1, "t"))
    accepted = TokenAccepted(1, claims or ConnectionClaims("ada"))
    return book.hears(accepted).asks_for(Send(welcome()))


def standing(channel: str = ROOM, **more: object) -> Snapshot:
    return Snapshot(channel, "e1", 7, **more)  # pyright: ignore[reportArgumentType]


def stands(**more: object) -> SubscribeResult:
    given = {
        "recoverable": True,
        "positioned": True,
        "epoch": "e1",
        "offset": 7,
        **more,
    }
    return SubscribeResult(**given)  # pyright: ignore[reportArgumentType]


def subscribed(
    channel: str = ROOM, claims: ConnectionClaims | None = None, **more: object
) -> Playbook:
    """Ada is connected and subscribed; her next effect has the id 4."""
    book = connected(claims, **more)
    book.hears(subscribe(2, channel)).asks_for(Watch(3, (wants(channel),)))
    book.hears(ChannelsReady(3, [standing(channel)]))
    return book.asks_for(Send(Reply(2, subscribe=result_of(channel))), Join(channel))


def result_of(channel: str) -> SubscribeResult:
    match channel.partition(":")[0]:
        case "live" | "plain":
            return SubscribeResult()
        case "fixed":
            return stands(recoverable=False)
        case _:
            return stands()


def wants(channel: str = ROOM, **more: object) -> Want:
    options = NAMESPACES[channel.partition(":")[0]]
    return Want(
        channel,
        durable=options.durable,
        newest_only=options.cache_recovery,
        **more,  # pyright: ignore[reportArgumentType]
    )


# -- connect --------------------------------------------------------------------------


def test_a_valid_token_is_welcomed_with_client_id_version_and_pings() -> None:
    """The connect reply has everything SDKs need, and the state is ready."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenAccepted(1, ConnectionClaims("ada"))).answers(welcome())

    assert State.READY is book.session.state
    assert book.session.user == "ada"


def test_a_token_that_ends_says_when_to_refresh() -> None:
    """`expires` and `ttl` in seconds are part of the welcome."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    claims = ConnectionClaims("ada", expire_at=int(NOW_S) + 60)

    book.hears(TokenAccepted(1, claims)).answers(welcome(expires=True, ttl=60))


@pytest.mark.parametrize(
    ("left_s", "ttl"), [(0, 1), (10**10, limits.TTL_S_MAX)], ids=["over", "far"]
)
def test_a_ttl_is_at_least_a_second_and_at_most_a_year(left_s: int, ttl: int) -> None:
    """SDKs keep it in 32-bit timers and take 0 for never."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    claims = ConnectionClaims("ada", expire_at=int(NOW_S) + left_s)

    book.hears(TokenAccepted(1, claims)).answers(welcome(expires=True, ttl=ttl))


def test_an_expired_token_gets_109_so_that_the_client_brings_another() -> None:
    """Expired is an error reply; the transport stays for the client to close."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenExpired(1)).answers(refusal(1, errors.TOKEN_EXPIRED))

    assert State.REFUSED is book.session.state


def test_an_invalid_token_ends_the_connection_for_good() -> None:
    """Invalid is 3500, never 109."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenRefused(1, "bad signature"))

    why = close_codes.INVALID_TOKEN.because("bad signature")
    book.asks_for(Close(why))
    assert (why.code, why.reconnects) == (3500, False)


def test_a_key_that_cannot_be_fetched_is_a_temporary_error() -> None:
    """Nobody knows whether the token is good, so the client may come back."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    book.hears(Refused(1, errors.INTERNAL)).answers(refusal(1, errors.INTERNAL))


def test_after_a_refused_connect_the_frame_is_dropped_and_the_next_one_ends_it() -> (
    None
):
    """An error reply to connect, then silence, then 3501."""
    book = fresh().hears(connect(), subscribe(2))
    book.asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenExpired(1)).answers(refusal(1, errors.TOKEN_EXPIRED))

    book.hears(subscribe(3)).closes(3501)


def test_without_a_token_nobody_comes_in() -> None:
    """3501 where anonymous connections are not allowed."""
    fresh().hears(connect(token="")).closes(3501)


@pytest.mark.parametrize(
    "policy",
    [Policy(NAMESPACES, anonymous=True), Policy(NAMESPACES, insecure=True)],
    ids=["anonymous", "insecure"],
)
def test_without_a_token_anybody_comes_in_where_it_is_allowed(policy: Policy) -> None:
    """An anonymous connection has the empty user."""
    book = fresh(policy=policy)

    book.hears(connect(token="")).answers(welcome())

    assert book.session.user == ""


def test_a_second_connect_is_a_bad_request() -> None:
    """3501 while ready."""
    connected().hears(connect()).closes(3501)


@pytest.mark.parametrize(
    "request_",
    [
        SubscribeRequest(ROOM),
        UnsubscribeRequest(ROOM),
        PublishRequest(ROOM, Raw(b"1")),
        HistoryRequest(ROOM),
        RPCRequest(method="message.send"),
        RefreshRequest("t"),
        SubRefreshRequest(ROOM, "t"),
        SendRequest(),
    ],
    ids=lambda request: type(request).__name__,
)
def test_the_first_command_has_to_be_connect(request_: Request) -> None:
    """Anything else first is 3501."""
    fresh().hears(command(1, request_)).closes(3501)


def test_connect_and_subscribes_come_in_one_frame() -> None:
    """The subscribes wait for the connect and are answered behind it, in order."""
    book = fresh().hears(connect(), subscribe(2), subscribe(3, "room:b"))
    book.asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenAccepted(1, ConnectionClaims("ada")))

    book.asks_for(Send(welcome()), Watch(3, (wants(),)), Watch(4, (wants("room:b"),)))
    book.hears(ChannelsReady(4, [standing("room:b")]))
    book.asks_for(Send(Reply(3, subscribe=stands())), Join("room:b"))
    book.hears(ChannelsReady(3, [standing()]))
    book.asks_for(Send(Reply(2, subscribe=stands())), Join(ROOM))


def test_what_follows_a_connect_waits_even_in_later_frames() -> None:
    """Order is kept while a token is being checked."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))
    book.hears(unsubscribe(2)).is_silent()

    book.hears(TokenAccepted(1, ConnectionClaims("ada")))

    book.answers(welcome(), unsubscribed(2))


def test_too_many_commands_behind_a_connect_end_it_temporarily() -> None:
    """What waits before anybody is known is bounded: 3013, come back."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    book.hears(*[unsubscribe(n) for n in range(2, COMMANDS_WAITING_MAX + 3)])

    book.asks_for(Close(close_codes.TOO_MANY_REQUESTS))


def test_nothing_is_heard_after_a_goodbye() -> None:
    """Late answers and late frames find nobody."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))
    book.does(book.session.close(close_codes.SHUTDOWN))
    book.asks_for(Close(close_codes.SHUTDOWN))

    book.hears(TokenAccepted(1, ConnectionClaims("ada"))).is_silent()
    book.hears(subscribe(2)).is_silent()
    book.does(book.session.malformed("late")).is_silent()
    book.does(book.session.close(close_codes.SLOW)).is_silent()


# -- Frames that are no conversation --------------------------------------------------


def test_a_frame_that_cannot_be_read_is_3501_with_the_cause() -> None:
    """The developer at the other end reads why."""
    book = connected()

    book.does(book.session.malformed("JSON is malformed"))

    book.asks_for(Close(close_codes.BAD_REQUEST.because("JSON is malformed")))


def test_a_pong_is_no_command() -> None:
    """An empty message says nothing, asked for or not."""
    connected().hears(Command()).is_silent()


def test_a_command_without_a_known_request_is_3501() -> None:
    """An id and nothing to do."""
    connected().hears(Command(7)).closes(3501)


def test_a_command_without_an_id_is_3501() -> None:
    """Nobody could match the reply."""
    connected().hears(subscribe(0)).closes(3501)


def test_ping_is_the_servers_to_send() -> None:
    """A ping command is 3501."""
    connected().hears(command(2, PingRequest())).closes(3501)


@pytest.mark.parametrize("number", [0, 2])
def test_send_is_not_available(number: int) -> None:
    """3508, with or without an id."""
    connected().hears(command(number, SendRequest(Raw(b"1")))).closes(3508)


@pytest.mark.parametrize("kind", ["presence", "presence_stats"])
def test_presence_is_not_available_where_it_is_off(kind: str) -> None:
    """108 in a namespace without presence."""
    request = msgspec.convert({"id": 2, kind: {"channel": ROOM}}, Command)

    connected().hears(request).answers(refusal(2, errors.NOT_AVAILABLE))


def test_an_oversized_command_is_refused_and_the_connection_lives() -> None:
    """The id could be read, so its command gets 413."""
    book = connected().hears(OversizedCommand(9))

    book.answers(refusal(9, because(errors.TOO_LARGE, "command over 65536 bytes")))
    book.hears(unsubscribe(10)).answers(unsubscribed(10))


def test_an_oversized_command_without_an_id_is_3501() -> None:
    """There is nobody to answer."""
    connected().hears(OversizedCommand(0)).closes(3501)


def test_an_oversized_connect_is_3501() -> None:
    """Before a connect every refusal is a goodbye."""
    fresh().hears(OversizedCommand(1)).closes(3501)


# -- subscribe ------------------------------------------------------------------------


def test_a_first_subscribe_tells_the_top_and_nothing_else() -> None:
    """Position and epoch to recover from; no publications."""
    subscribed()


@pytest.mark.parametrize("channel", ["live:a", "plain:a", "fixed:a", "cache:a"])
def test_a_subscribe_result_offers_what_the_namespace_does(channel: str) -> None:
    """Ephemeral and unpositioned channels promise nothing; others say what."""
    subscribed(channel)


def test_a_second_subscribe_is_refused_with_105() -> None:
    """One subscription per channel and connection, also while the first is pending."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))
    book.hears(subscribe(3)).answers(refusal(3, errors.ALREADY_SUBSCRIBED))
    book.hears(ChannelsReady(3, [standing()]))
    book.asks_for(Send(Reply(2, subscribe=stands())), Join(ROOM))

    book.hears(subscribe(4)).answers(refusal(4, errors.ALREADY_SUBSCRIBED))


def test_the_channel_limit_is_106() -> None:
    """Beyond it a subscribe is refused, and allowed again after an unsubscribe."""
    book = subscribed(channels_max=1)
    book.hears(subscribe(3, "room:b")).answers(refusal(3, errors.LIMIT_EXCEEDED))
    book.hears(unsubscribe(4)).asks_for(Leave(ROOM), Send(unsubscribed(4)))

    book.hears(subscribe(5, "room:b")).asks_for(Watch(4, (wants("room:b"),)))


@pytest.mark.parametrize(
    ("channel", "error"),
    [
        ("nowhere:a", errors.UNKNOWN_CHANNEL),
        ("room:$secret", errors.PERMISSION_DENIED),
        ("$secret", errors.PERMISSION_DENIED),
        ("room:dm#bob,eve", errors.PERMISSION_DENIED),
    ],
)
def test_a_channel_that_is_not_open_is_refused(channel: str, error: ErrorReply) -> None:
    """102 for an unknown namespace, 103 for a closed door."""
    connected().hears(subscribe(2, channel)).answers(refusal(2, error))


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        ("a" * 256, "channel name over 255 characters"),
        ("a b", "channel name with characters other than printable ASCII"),
        ("zoë", "channel name with characters other than printable ASCII"),
        ("a\x00", "channel name with characters other than printable ASCII"),
    ],
)
def test_a_name_that_is_no_channel_is_107(channel: str, why: str) -> None:
    """The reason says what is wrong with it."""
    refused = refusal(2, because(errors.BAD_REQUEST, why))

    connected().hears(subscribe(2, channel)).answers(refused)


def test_the_longest_channel_name_is_allowed() -> None:
    """255 characters are fine."""
    connected().hears(subscribe(2, "a" * 255)).asks_for(Watch(3, (Want("a" * 255),)))


def test_a_user_list_lets_its_users_in() -> None:
    """`#bob,ada` is open to ada."""
    connected().hears(subscribe(2, "room:dm#bob,ada")).asks_for(
        Watch(3, (Want("room:dm#bob,ada"),))
    )


def test_anonymous_connections_need_channels_open_to_everyone() -> None:
    """`users` means somebody with a name."""
    book = fresh(policy=Policy(NAMESPACES, anonymous=True))
    book.hears(connect(token="")).answers(welcome())

    book.hears(subscribe(2)).answers(refusal(2, errors.PERMISSION_DENIED))
    book.hears(subscribe(3, "open:a")).asks_for(Watch(2, (wants("open:a"),)))


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (
            SubscribeRequest(ROOM, type=1),
            because(errors.NOT_AVAILABLE, "only stream subscriptions"),
        ),
        (
            SubscribeRequest(ROOM, type=4),
            because(errors.NOT_AVAILABLE, "only stream subscriptions"),
        ),
        (
            SubscribeRequest(ROOM, recover=True, offset=-1),
            because(errors.BAD_REQUEST, "offset out of range"),
        ),
        (
            SubscribeRequest(ROOM, recover=True, offset=2**53),
            because(errors.BAD_REQUEST, "offset out of range"),
        ),
    ],
)
def test_what_is_not_spoken_is_refused(
    request_: SubscribeRequest, error: ErrorReply
) -> None:
    """Map, shared poll and impossible offsets."""
    connected().hears(command(2, request_)).answers(refusal(2, error))


def test_a_tags_filter_is_107_where_it_is_not_allowed() -> None:
    """Namespaces decide whether subscribers may filter."""
    filtered = SubscribeRequest(ROOM, tf=FilterNode(key="k", cmp="eq", val="v"))
    book = connected().hears(command(2, filtered))

    (sent,) = book._asked  # the wording belongs to the session
    book._asked = []

    assert isinstance(sent, Send)
    assert sent.reply.error is not None
    assert sent.reply.error.code == 107


@pytest.mark.parametrize(
    "request_",
    [
        SubscribeRequest(""),
        UnsubscribeRequest(""),
        PublishRequest("", Raw(b"1")),
        PublishRequest(ROOM),
        HistoryRequest(""),
        RefreshRequest(""),
        SubRefreshRequest(ROOM, ""),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_request_without_what_it_is_about_is_3501(request_: Request) -> None:
    """Missing channel, data or token."""
    connected().hears(command(2, request_)).closes(3501)


def test_a_channel_that_does_not_get_ready_is_a_temporary_error() -> None:
    """The client tries again by itself, and may."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))
    book.hears(ChannelsFailed(3, errors.INTERNAL))
    book.answers(refusal(2, errors.INTERNAL))

    book.hears(subscribe(3)).asks_for(Watch(4, (wants(),)))


# -- Recovery -------------------------------------------------------------------------

BACK = StreamPosition(5, "e1")
MISSED = [Raw(b'{"data":6,"offset":6}'), Raw(b'{"data":7,"offset":7}')]


def coming_back(channel: str = ROOM, **more: object) -> Playbook:
    again = subscribe(2, channel, recover=True, offset=5, epoch="e1", **more)
    want = wants(channel, since=BACK)
    return connected().hears(again).asks_for(Watch(3, (want,)))


def test_a_complete_recovery_echoes_the_clients_own_offset() -> None:
    """The client walks to the top by handling what it missed."""
    book = coming_back()

    book.hears(ChannelsReady(3, [standing(recovered=True, publications=MISSED)]))

    result = stands(offset=5, recovered=True, was_recovering=True, publications=MISSED)
    book.asks_for(Send(Reply(2, subscribe=result)), Join(ROOM))


def test_nothing_missed_is_recovered_without_publications() -> None:
    """Recovered, at the offset the client named."""
    book = coming_back().hears(ChannelsReady(3, [standing(recovered=True)]))

    result = stands(offset=5, recovered=True, was_recovering=True)
    book.asks_for(Send(Reply(2, subscribe=result)), Join(ROOM))


def test_an_incomplete_recovery_is_an_honest_no_from_the_top() -> None:
    """Not recovered: no publications, current top and epoch, and the subscription."""
    book = coming_back().hears(ChannelsReady(3, [standing()]))

    book.asks_for(Send(Reply(2, subscribe=stands(was_recovering=True))), Join(ROOM))


def test_flag_2_turns_a_no_into_112() -> None:
    """The client would rather hear an error and reload its state."""
    book = coming_back(flag=2).hears(ChannelsReady(3, [standing()]))
    book.answers(refusal(2, errors.UNRECOVERABLE_POSITION))

    book.hears(subscribe(3)).asks_for(Watch(4, (wants(),)))


def test_flag_2_changes_nothing_when_recovered() -> None:
    """A yes is a yes; the other bits of the flag mean nothing here."""
    book = coming_back(flag=3).hears(ChannelsReady(3, [standing(recovered=True)]))

    result = stands(offset=5, recovered=True, was_recovering=True)
    book.asks_for(Send(Reply(2, subscribe=result)), Join(ROOM))


def test_cache_recovery_gives_the_newest_at_the_top() -> None:
    """Skipped ones are skipped on purpose, so the offset is the channel's."""
    book = coming_back("cache:a")
    newest = [MISSED[1]]

    book.hears(
        ChannelsReady(3, [standing("cache:a", recovered=True, publications=newest)])
    )

    result = stands(recovered=True, was_recovering=True, publications=newest)
    book.asks_for(Send(Reply(2, subscribe=result)), Join("cache:a"))


def test_an_empty_epoch_and_offset_0_mean_from_the_beginning() -> None:
    """What `since: {}` of an SDK sends."""
    want = wants(since=StreamPosition(0, ""))

    connected().hears(subscribe(2, recover=True)).asks_for(Watch(3, (want,)))


@pytest.mark.parametrize("channel", ["live:a", "fixed:a"])
def test_where_nothing_can_be_recovered_a_wish_for_it_is_no_want(channel: str) -> None:
    """The namespace does not offer it, so the client starts from the top."""
    again = subscribe(2, channel, recover=True, offset=5, epoch="e1")

    connected().hears(again).asks_for(Watch(3, (wants(channel),)))


# -- unsubscribe ----------------------------------------------------------------------


def test_an_unsubscribe_leaves_the_channel() -> None:
    """Nothing is heard after the reply."""
    subscribed().hears(unsubscribe(3)).asks_for(Leave(ROOM), Send(unsubscribed(3)))


def test_an_unsubscribe_from_nothing_succeeds() -> None:
    """It is idempotent."""
    connected().hears(unsubscribe(2)).answers(unsubscribed(2))


def test_an_unsubscribe_waits_for_the_subscribe_before_it() -> None:
    """Replies come in the order of the commands."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))
    book.hears(unsubscribe(3)).is_silent()

    book.hears(ChannelsReady(3, [standing()]))

    book.asks_for(
        Send(Reply(2, subscribe=stands())),
        Join(ROOM),
        Leave(ROOM),
        Send(unsubscribed(3)),
    )


def test_an_unsubscribe_behind_a_failed_subscribe_succeeds() -> None:
    """Both are answered: one with the error, one with success."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))
    book.hears(unsubscribe(3)).is_silent()

    book.hears(ChannelsFailed(3, errors.INTERNAL))

    book.answers(refusal(2, errors.INTERNAL), unsubscribed(3))


def test_subscribe_unsubscribe_subscribe_in_one_go_ends_subscribed() -> None:
    """An impatient page: the last word counts, and nobody hears 105."""
    book = connected().hears(subscribe(2), unsubscribe(3), subscribe(4))
    book.asks_for(Watch(3, (wants(),)))

    book.hears(ChannelsReady(3, [standing()]))

    book.asks_for(
        Send(Reply(2, subscribe=stands())),
        Join(ROOM),
        Leave(ROOM),
        Send(unsubscribed(3)),
        Watch(4, (wants(),)),
    )
    book.hears(ChannelsReady(4, [standing()]))
    book.asks_for(Send(Reply(4, subscribe=stands())), Join(ROOM))


def test_two_subscribes_behind_an_unsubscribe_are_one_and_a_105() -> None:
    """Waiting does not make a second subscription legal."""
    book = connected().hears(subscribe(2), unsubscribe(3), subscribe(4), subscribe(5))
    book.asks_for(Watch(3, (wants(),)))

    book.hears(ChannelsFailed(3, errors.INTERNAL))

    book.asks_for(
        Send(refusal(2, errors.INTERNAL)),
        Send(unsubscribed(3)),
        Watch(4, (wants(),)),
        Send(refusal(5, errors.ALREADY_SUBSCRIBED)),
    )


def test_what_waits_behind_a_subscribe_is_bounded() -> None:
    """A client that floods while it waits is sent away for a while."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))

    book.hears(*[unsubscribe(n) for n in range(3, COMMANDS_WAITING_MAX + 4)])

    book.asks_for(Close(close_codes.TOO_MANY_REQUESTS))


def test_the_server_ends_a_subscription_with_its_code() -> None:
    """2000 is final, 2500 says come back; other channels stay."""
    for why in (close_codes.UNSUBSCRIBED_BY_SERVER, close_codes.RECOVER):
        book = subscribed()

        book.does(book.session.unsubscribe(ROOM, why))

        push = Push(ROOM, unsubscribe=UnsubscribePush(why.code, why.reason))
        book.asks_for(Leave(ROOM), Tell(push))
        book.does(book.session.unsubscribe(ROOM, why)).is_silent()


def test_a_subscription_that_the_server_ends_before_it_stands_does_not_stand() -> None:
    """Who is removed while coming in is out: the push follows the reply."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))
    book.does(
        book.session.unsubscribe(ROOM, close_codes.UNSUBSCRIBED_BY_SERVER)
    ).is_silent()

    book.hears(ChannelsReady(3, [standing()]))

    push = Push(ROOM, unsubscribe=UnsubscribePush(2000, "server unsubscribe"))
    book.asks_for(
        Send(Reply(2, subscribe=stands())), Join(ROOM), Leave(ROOM), Tell(push)
    )
    book.hears(unsubscribe(3)).answers(unsubscribed(3))


# -- Subscription tokens --------------------------------------------------------------

SECRET = "room:$secret"
MESSAGE = b'{"type":"message","id":"m1","text":"hi"}'


def asking(channel: str = SECRET) -> Playbook:
    book = connected().hears(subscribe(2, channel, token="s"))
    return book.asks_for(VerifySubscriptionToken(3, "s"))


def allows(number: int = 3, **more: object) -> SubscriptionTokenAccepted:
    claims = {"user": "ada", "channel": SECRET, **more}
    return SubscriptionTokenAccepted(number, SubscriptionClaims(**claims))  # pyright: ignore[reportArgumentType]


def test_a_subscription_token_opens_its_channel() -> None:
    """It decides alone; the result says when it ends."""
    book = asking().hears(allows(expire_at=int(NOW_S) + 30))
    book.asks_for(Watch(4, (Want(SECRET),)))

    book.hears(ChannelsReady(4, [standing(SECRET)]))

    result = stands(expires=True, ttl=30)
    book.asks_for(Send(Reply(2, subscribe=result)), Join(SECRET))


def test_an_expired_subscription_token_is_109() -> None:
    """The SDK brings another one."""
    asking().hears(TokenExpired(3)).answers(refusal(2, errors.TOKEN_EXPIRED))


def test_an_invalid_subscription_token_is_103() -> None:
    """This subscription ends; the connection lives."""
    book = asking().hears(TokenRefused(3, "bad signature"))

    book.answers(refusal(2, because(errors.PERMISSION_DENIED, "bad signature")))
    book.hears(subscribe(3)).asks_for(Watch(4, (wants(),)))


@pytest.mark.parametrize(
    "other", [{"user": "bob"}, {"channel": "room:$other"}, {"client": "c2"}]
)
def test_a_token_for_somebody_or_something_else_ends_the_connection(
    other: dict[str, Any],
) -> None:
    """A genuine token in wrong hands is 3500."""
    asking().hears(allows(3, **other)).closes(3500)


def test_a_token_for_an_unknown_namespace_is_102() -> None:
    """A token opens doors, it does not build houses."""
    connected().hears(subscribe(2, "nowhere:$x", token="s")).answers(
        refusal(2, errors.UNKNOWN_CHANNEL)
    )


def pipelined() -> Playbook:
    """A client that does not wait for its subscription before it uses it."""
    return asking().hears(
        publish(3, SECRET),
        command(4, HistoryRequest(SECRET)),
        send_message(5, channel=SECRET),
    )


def test_what_a_token_decides_waits_for_it() -> None:
    """Publish and history behind an unproven subscribe are judged once it stands."""
    book = pipelined().is_silent()
    book.hears(allows()).asks_for(Watch(4, (Want(SECRET),)))

    book.hears(ChannelsReady(4, [standing(SECRET)]))

    book.asks_for(
        Send(Reply(2, subscribe=stands())),
        Join(SECRET),
        Commit(5, published(channel=SECRET)),
        ReadPage(6, SECRET, 0, None, reverse=False),
        Commit(7, published(channel=SECRET, id="m1", data=MESSAGE)),
    )


def test_what_waits_for_a_token_ends_with_the_connection() -> None:
    """A token of somebody else closes it; nothing of what waited is performed."""
    pipelined().hears(allows(user="bob")).closes(3500)


def test_a_second_subscribe_waits_for_its_turn_and_is_one_too_many() -> None:
    """What it hears is what it would have heard without waiting."""
    book = asking().hears(publish(3, SECRET), subscribe(4, SECRET)).is_silent()
    book.hears(allows()).asks_for(Watch(4, (Want(SECRET),)))

    book.hears(ChannelsReady(4, [standing(SECRET)]))

    book.asks_for(
        Send(Reply(2, subscribe=stands())),
        Join(SECRET),
        Commit(5, published(channel=SECRET)),
        Send(refusal(4, errors.ALREADY_SUBSCRIBED)),
    )


def test_what_waits_is_weighed_as_long_as_it_waits() -> None:
    """Whoever always has a token in check never has all that was ever sent waiting."""
    session = connected().session
    earlier: list[int] = []
    for number in range(8):
        frame = [
            subscribe(2, f"{SECRET}{number}", token="s"),
            publish(3, f"{SECRET}{number}"),
        ]
        (check,) = session.receive(frame, NOW_S, WAITING_BYTES_MAX // 4)
        assert isinstance(check, VerifySubscriptionToken)
        for decided in earlier:
            session.hear(TokenRefused(decided, "bad signature"), NOW_S)
        earlier = [check.id]

    assert session.state is State.READY


def test_a_refused_token_opens_nothing_for_what_follows() -> None:
    """Each command gets its own answer, in order."""
    book = pipelined().hears(TokenRefused(3, "bad signature"))

    book.answers(
        refusal(2, because(errors.PERMISSION_DENIED, "bad signature")),
        *[refusal(number, errors.PERMISSION_DENIED) for number in (3, 4, 5)],
    )


def test_who_is_elsewhere_does_not_wait_for_a_token() -> None:
    """Only what is about the same channel is behind its subscribe."""
    book = subscribed().hears(subscribe(3, SECRET, token="s"))
    book.asks_for(VerifySubscriptionToken(4, "s"))

    book.hears(publish(4)).asks_for(Commit(5, published()))
    book.hears(send_message(5)).asks_for(Commit(6, published(id="m1", data=MESSAGE)))


def test_a_call_waits_until_its_channel_is_joined() -> None:
    """Only who has joined may say that they type, also right behind the subscribe."""
    typing = RPCRequest(Raw(b'{"channel":"room:a"}'), "presence.typing")
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))
    book.hears(command(3, typing)).is_silent()

    book.hears(ChannelsReady(3, [standing()]))

    book.asks_for(
        Send(Reply(2, subscribe=stands())),
        Join(ROOM),
        Send(refusal(3, errors.NOT_AVAILABLE)),
    )


def test_publishing_right_behind_an_allowed_subscribe_is_allowed() -> None:
    """The permission stands; only the channel is not ready yet."""
    book = connected().hears(subscribe(2)).asks_for(Watch(3, (wants(),)))

    book.hears(publish(3)).asks_for(Commit(4, published()))
    book.hears(send_message(4)).asks_for(Commit(5, published(id="m1", data=MESSAGE)))


# -- publish --------------------------------------------------------------------------


def published(**more: object) -> PublishCommand:
    values = {"channel": ROOM, "id": "made-id", "data": b"1", **more}
    return PublishCommand(info=INFO, user="ada", **values)  # pyright: ignore[reportArgumentType]


def test_a_durable_publish_is_answered_when_committed() -> None:
    """It gets an id of the gateway's and the author's info."""
    book = subscribed().hears(publish(3)).asks_for(Commit(4, published()))

    assert book.session.busy
    book.hears(Committed(4, 8, 1)).answers(Reply(3, publish=PublishResult()))
    assert not book.session.busy


def test_an_ephemeral_publish_is_answered_when_on_its_way() -> None:
    """No offset, no log."""
    book = subscribed("live:a").hears(publish(3, "live:a"))
    book.asks_for(Emit(4, "live:a", LivePublication(b"1", INFO)))

    book.hears(Emitted(4)).answers(Reply(3, publish=PublishResult()))


@pytest.mark.parametrize(
    "error", [errors.INTERNAL, errors.OUTCOME_UNKNOWN, errors.TOO_MANY_REQUESTS]
)
def test_what_history_refuses_the_client_hears(error: ErrorReply) -> None:
    """Refusals pass through as they are."""
    book = subscribed().hears(publish(3)).asks_for(Commit(4, published()))

    book.hears(Refused(4, error)).answers(refusal(3, error))


def test_only_subscribers_publish_where_it_says_so() -> None:
    """103 for everybody else."""
    connected().hears(publish(2)).answers(refusal(2, errors.PERMISSION_DENIED))


def test_nobody_publishes_where_nobody_may() -> None:
    """Not even subscribers."""
    subscribed("news:a").hears(publish(3, "news:a")).answers(
        refusal(3, errors.PERMISSION_DENIED)
    )


def test_everyone_publishes_where_everyone_may() -> None:
    """Without a subscription."""
    connected().hears(publish(2, "open:a")).asks_for(
        Commit(3, published(channel="open:a"))
    )


def test_publishing_to_no_channel_is_107_or_102() -> None:
    """A bad name, an unknown namespace."""
    book = connected()

    why = "channel name with characters other than printable ASCII"
    book.hears(publish(2, "a b")).answers(refusal(2, because(errors.BAD_REQUEST, why)))
    book.hears(publish(3, "nowhere:a")).answers(refusal(3, errors.UNKNOWN_CHANNEL))


def test_null_is_a_payload() -> None:
    """Only a payload that is not there is missing."""
    subscribed().hears(publish(3, data=b"null")).asks_for(
        Commit(4, published(data=b"null"))
    )


def test_publications_carry_what_the_tokens_say_of_their_author() -> None:
    """`conn_info` from the connection token, `chan_info` from the subscription's."""
    book = connected(ConnectionClaims("ada", info=b'{"n":"Ada"}'))
    book.hears(subscribe(2, SECRET, token="s")).asks_for(
        VerifySubscriptionToken(3, "s")
    )
    book.hears(allows(info=b'{"r":"mod"}')).asks_for(Watch(4, (Want(SECRET),)))
    book.hears(ChannelsReady(4, [standing(SECRET)]))
    book.asks_for(Send(Reply(2, subscribe=stands())), Join(SECRET))

    book.hears(publish(3, SECRET))

    info = (
        b'{"user":"ada","client":"c1","conn_info":{"n":"Ada"},"chan_info":{"r":"mod"}}'
    )
    book.asks_for(
        Commit(5, PublishCommand(SECRET, "made-id", b"1", info=info, user="ada"))
    )


# -- rpc message.send -----------------------------------------------------------------


def message(
    body: bytes = MESSAGE,
) -> PublishCommand:
    return published(id="m1", data=body)


def test_a_message_is_answered_with_its_place() -> None:
    """`{offset, id, at}` means committed."""
    book = subscribed().hears(send_message(3)).asks_for(Commit(4, message()))

    book.hears(Committed(4, 8, 1234))

    data = Raw(b'{"offset":8,"id":"m1","at":1234}')
    book.answers(Reply(3, rpc=RPCResult(data)))


def test_the_same_message_is_the_same_bytes_in_any_order() -> None:
    """That is how history knows a repeat from another message with its id."""
    body = b'{"type":"message","id":"m1","text":"hi","a":[1,2.5],"z":{"k":null}}'
    one = b'{"z": {"k":null},"id":"m1","text":"hi","channel":"room:a","a":[1, 2.5]}'
    two = b'{"a":[1,2.5],"channel":"room:a","type":"message","text":"\\u0068i","id":"m1","z":{"k": null}}'

    for data in (one, two):
        book = subscribed().hears(command(3, RPCRequest(Raw(data), "message.send")))
        book.asks_for(Commit(4, message(body)))


def test_a_conflicting_id_is_heard_as_409() -> None:
    """Same id, other body: its own error."""
    book = subscribed().hears(send_message(3)).asks_for(Commit(4, message()))

    book.hears(Refused(4, errors.CONFLICT)).answers(refusal(3, errors.CONFLICT))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no data"),
        (b"[1]", "data is no JSON object"),
        (b'"x"', "data is no JSON object"),
        (b"{}", "no channel"),
        (b'{"channel":"room:a","text":"x"}', "no id"),
        (b'{"channel":"room:a","id":"","text":"x"}', "id wants 1 to 128 characters"),
        (
            b'{"channel":"room:a","id":"%s","text":"x"}' % (b"i" * 129),
            "id wants 1 to 128 characters",
        ),
        (b'{"channel":"room:a","id":"a\\u0000","text":"x"}', "id with a NUL character"),
        (b'{"channel":"room:a","id":7,"text":"x"}', "id is no string"),
        (b'{"channel":"room:a","id":"m"}', "no text"),
        (b'{"channel":"room:a","id":"m","text":null}', "text is no string"),
        (b'{"channel":"","id":"m","text":"x"}', "no channel"),
        (
            b'{"channel":"room:a","id":"m","text":"x","type":"edit"}',
            "type is not message",
        ),
    ],
)
def test_what_is_no_message_is_107_with_the_reason(data: bytes, why: str) -> None:
    """The sender's developer reads what is wrong."""
    book = subscribed().hears(command(3, RPCRequest(Raw(data), "message.send")))

    book.answers(refusal(3, because(errors.BAD_REQUEST, why)))


@pytest.mark.parametrize(
    "value", [b"1e999", b'"\xff"', b"[" * 3000 + b"]" * 3000, b'{"a":1e999}']
)
def test_a_value_that_cannot_be_kept_is_107(value: bytes) -> None:
    """Legal for a scanner, impossible to write again: refused, nothing raised."""
    data = b'{"channel":"room:a","id":"m","text":"x","extra":%s}' % value
    book = subscribed().hears(command(3, RPCRequest(Raw(data), "message.send")))

    (sent,) = book._asked
    book._asked = []

    assert isinstance(sent, Send)
    assert sent.reply.error is not None
    assert sent.reply.error.code == 107


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("channel", [ROOM, "live:a"])
def test_json_that_readers_could_not_take_apart_is_refused(channel: str) -> None:
    """107 with the reason, whether it would be kept or not, and as a message too."""
    why = because(errors.BAD_REQUEST, TOO_DEEP)
    deep = nested(limits.JSON_DEPTH_MAX + 1)
    book = subscribed(channel).hears(publish(3, channel, data=deep))
    book.answers(refusal(3, why))

    # The data's own object is a level, too.
    more = msgspec.json.decode(nested(limits.JSON_DEPTH_MAX))
    book.hears(send_message(4, channel=channel, more=more)).answers(refusal(4, why))


def test_json_nested_up_to_the_bound_is_published() -> None:
    """As it came."""
    deep = nested(limits.JSON_DEPTH_MAX)

    subscribed().hears(publish(3, data=deep)).asks_for(
        Commit(4, PublishCommand(ROOM, "made-id", deep, info=INFO, user="ada"))
    )


def test_where_only_json_is_published_other_bytes_are_refused() -> None:
    """They would close every member that speaks JSON; elsewhere they are welcome."""
    bytes_ = b"\x00\xff"
    book = subscribed("text:a").hears(publish(3, "text:a", data=bytes_))
    book.answers(refusal(3, because(errors.BAD_REQUEST, NOT_JSON)))
    book.hears(publish(4, "text:a", data=b'{"n":1}'))
    book.asks_for(
        Commit(
            4, PublishCommand("text:a", "made-id", b'{"n":1}', info=INFO, user="ada")
        )
    )

    subscribed().hears(publish(3, data=bytes_)).asks_for(
        Commit(4, PublishCommand(ROOM, "made-id", bytes_, info=INFO, user="ada"))
    )


def test_messages_need_a_durable_channel() -> None:
    """108 where nothing is kept."""
    why = "messages need a durable channel"

    subscribed("live:a").hears(send_message(3, channel="live:a")).answers(
        refusal(3, because(errors.NOT_AVAILABLE, why))
    )


def test_only_members_send_messages() -> None:
    """The same permission as publish."""
    connected().hears(send_message(2)).answers(refusal(2, errors.PERMISSION_DENIED))


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("message.such", errors.METHOD_NOT_FOUND),
        ("presence.such", errors.METHOD_NOT_FOUND),
        ("no.such", errors.NOT_AVAILABLE),
        ("message", errors.NOT_AVAILABLE),
        ("", errors.NOT_AVAILABLE),
    ],
)
def test_a_method_nobody_answers_is_104_in_its_family_and_108_outside(
    method: str, error: ErrorReply
) -> None:
    """Whatever its data is: suites of the SDKs expect 108 where there is no handler."""
    connected().hears(command(2, RPCRequest(method=method))).answers(refusal(2, error))


# -- history --------------------------------------------------------------------------


def test_history_gives_a_page_and_where_the_log_stands() -> None:
    """Publications, epoch and top are always present."""
    since = StreamPosition(3, "e1")
    book = subscribed().hears(command(3, HistoryRequest(ROOM, 10, since)))
    book.asks_for(ReadPage(4, ROOM, 10, since, reverse=False))

    book.hears(PageRead(4, MISSED, "e1", 7))

    book.answers(Reply(3, history=HistoryResult(MISSED, "e1", 7)))


@pytest.mark.parametrize(("limit", "asked"), [(0, 0), (-1, 1000), (5000, 1000)])
def test_a_limit_of_0_is_the_position_only_and_minus_1_everything(
    limit: int, asked: int
) -> None:
    """Everything has a bound."""
    book = subscribed().hears(command(3, HistoryRequest(ROOM, limit)))

    book.asks_for(ReadPage(4, ROOM, asked, None, reverse=False))


def test_a_wrong_epoch_is_112() -> None:
    """As history, or the gateway's own tail, tells."""
    book = subscribed().hears(command(3, HistoryRequest(ROOM, 1)))
    book.asks_for(ReadPage(4, ROOM, 1, None, reverse=False))

    book.hears(Refused(4, errors.UNRECOVERABLE_POSITION)).answers(
        refusal(3, errors.UNRECOVERABLE_POSITION)
    )


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (
            HistoryRequest(ROOM, since=StreamPosition(0), reverse=True),
            because(errors.BAD_REQUEST, "nothing is before offset 0"),
        ),
        (
            HistoryRequest(ROOM, since=StreamPosition(-1)),
            because(errors.BAD_REQUEST, "offset out of range"),
        ),
        (HistoryRequest("nowhere:a"), errors.UNKNOWN_CHANNEL),
        (HistoryRequest("room:other"), errors.PERMISSION_DENIED),
        (
            HistoryRequest("a b"),
            because(
                errors.BAD_REQUEST,
                "channel name with characters other than printable ASCII",
            ),
        ),
    ],
)
def test_history_that_cannot_be_read_is_refused(
    request_: HistoryRequest, error: ErrorReply
) -> None:
    """Bad positions, unknown and closed channels."""
    subscribed().hears(command(3, request_)).answers(refusal(3, error))


def test_history_is_108_where_nothing_is_kept() -> None:
    """An ephemeral channel has none."""
    subscribed("live:a").hears(command(3, HistoryRequest("live:a"))).answers(
        refusal(3, errors.NOT_AVAILABLE)
    )


def test_nobody_reads_history_where_nobody_may() -> None:
    """103 even for subscribers."""
    subscribed("news:a").hears(command(3, HistoryRequest("news:a"))).answers(
        refusal(3, errors.PERMISSION_DENIED)
    )


# -- refresh and expiry ---------------------------------------------------------------

ENDS = ConnectionClaims("ada", expire_at=int(NOW_S) + 60)


def ending() -> Playbook:
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))
    return book.hears(TokenAccepted(1, ENDS)).answers(welcome(expires=True, ttl=60))


def test_a_connection_lives_until_its_grace_is_over_and_not_longer() -> None:
    """25 s after its token's end it closes with 3005."""
    book = ending()
    assert book.session.next_expiry_s() == NOW_S + 85

    book.after(84.9).is_silent()
    book.after(0.1).asks_for(Close(close_codes.CONNECTION_EXPIRED))


def test_a_refresh_moves_the_end() -> None:
    """The reply says the new time to live, and the old end passes."""
    book = ending().hears(command(2, RefreshRequest("t2")))
    book.asks_for(VerifyConnectionToken(3, "t2"))

    book.hears(TokenAccepted(3, ConnectionClaims("ada", expire_at=int(NOW_S) + 600)))

    result = RefreshResult("c1", "v", expires=True, ttl=600)
    book.answers(Reply(2, refresh=result))
    book.after(100).is_silent()


def test_a_refresh_without_an_end_ends_expiry() -> None:
    """Nothing is left to look at."""
    book = ending().hears(command(2, RefreshRequest("t2")))
    book.asks_for(VerifyConnectionToken(3, "t2"))

    book.hears(TokenAccepted(3, ConnectionClaims("ada")))

    book.answers(Reply(2, refresh=RefreshResult("c1", "v")))
    assert book.session.next_expiry_s() is None


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (TokenAccepted(3, ConnectionClaims("bob")), 3500),
        (TokenRefused(3, "bad"), 3500),
        (TokenExpired(3), 3005),
    ],
    ids=["other user", "invalid", "expired"],
)
def test_a_refresh_with_a_bad_token_ends_the_connection(
    verdict: TokenAccepted | TokenRefused | TokenExpired, code: int
) -> None:
    """Other user and invalid for good, expired to come back."""
    book = ending().hears(command(2, RefreshRequest("t2")))
    book.asks_for(VerifyConnectionToken(3, "t2"))

    book.hears(verdict).closes(code)


def test_a_refresh_that_cannot_be_checked_is_a_temporary_error() -> None:
    """The connection lives on its old token."""
    book = ending().hears(command(2, RefreshRequest("t2")))
    book.asks_for(VerifyConnectionToken(3, "t2"))

    book.hears(Refused(3, errors.INTERNAL)).answers(refusal(2, errors.INTERNAL))


def with_secret() -> Playbook:
    book = asking().hears(allows(expire_at=int(NOW_S) + 60))
    book.asks_for(Watch(4, (Want(SECRET),)))
    book.hears(ChannelsReady(4, [standing(SECRET)]))
    result = stands(expires=True, ttl=60)
    return book.asks_for(Send(Reply(2, subscribe=result)), Join(SECRET))


def test_a_subscription_that_is_not_refreshed_is_told_2501() -> None:
    """25 s of grace, then the subscription alone comes back."""
    book = with_secret()
    book.after(84.9).is_silent()

    book.after(0.1)

    push = Push(SECRET, unsubscribe=UnsubscribePush(2501, "subscription expired"))
    book.asks_for(Leave(SECRET), Tell(push))


@pytest.mark.parametrize("channel", [SECRET, ""], ids=["named", "left out"])
def test_a_sub_refresh_moves_the_end(channel: str) -> None:
    """An early SDK leaves the channel out; its token names it."""
    book = with_secret().hears(command(3, SubRefreshRequest(channel, "s2")))
    book.asks_for(VerifySubscriptionToken(5, "s2"))

    book.hears(allows(5, expire_at=int(NOW_S) + 600))

    result = SubRefreshResult(expires=True, ttl=600)
    book.answers(Reply(3, sub_refresh=result))
    book.after(100).is_silent()


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (TokenExpired(5), errors.TOKEN_EXPIRED),
        (TokenRefused(5, "bad"), because(errors.PERMISSION_DENIED, "bad")),
        (Refused(5, errors.INTERNAL), errors.INTERNAL),
    ],
    ids=["expired", "invalid", "unknown"],
)
def test_a_sub_refresh_with_a_bad_token_is_an_error(
    verdict: TokenExpired | TokenRefused | Refused, error: ErrorReply
) -> None:
    """The connection lives, the subscription's end stays."""
    book = with_secret().hears(command(3, SubRefreshRequest(SECRET, "s2")))
    book.asks_for(VerifySubscriptionToken(5, "s2"))

    book.hears(verdict).answers(refusal(3, error))
    assert book.session.next_expiry_s() == NOW_S + 85


def test_a_sub_refresh_with_anothers_token_is_3500() -> None:
    """A genuine token in wrong hands."""
    book = with_secret().hears(command(3, SubRefreshRequest(SECRET, "s2")))
    book.asks_for(VerifySubscriptionToken(5, "s2"))

    book.hears(allows(5, user="bob")).closes(3500)


def test_a_sub_refresh_of_nothing_is_an_error() -> None:
    """Not subscribed, named or by token."""
    error = because(errors.BAD_REQUEST, "not subscribed")
    book = connected()

    book.hears(command(2, SubRefreshRequest(ROOM, "s"))).answers(refusal(2, error))
    book.hears(command(3, SubRefreshRequest("", "s")))
    book.asks_for(VerifySubscriptionToken(3, "s"))
    book.hears(allows()).answers(refusal(3, error))


# -- Server-side subscriptions --------------------------------------------------------

PERSONAL = {**NAMESPACES, "": NamespaceOptions(personal=True)}


def server_side(
    claims: ConnectionClaims, wanted: tuple[Want, ...], request: Command | None = None
) -> Playbook:
    book = fresh(policy=Policy(PERSONAL)).hears(request or connect())
    book.asks_for(VerifyConnectionToken(1, "t"))
    return book.hears(TokenAccepted(1, claims)).asks_for(Watch(2, wanted))


def test_the_personal_channel_is_subscribed_with_the_connect() -> None:
    """Its result is in the connect reply, and it is heard from then on."""
    book = server_side(ConnectionClaims("ada"), (Want("#ada"),))

    book.hears(ChannelsReady(2, [standing("#ada")]))

    book.asks_for(Send(welcome(subs={"#ada": stands()})), Join("#ada"))
    book.hears(subscribe(2, "#ada")).answers(refusal(2, errors.ALREADY_SUBSCRIBED))


@pytest.mark.parametrize("user", ["Ada Lovelace", "zoë", "a,b", "u" * 255])
def test_a_user_whose_name_makes_no_channel_is_let_in_all_the_same(user: str) -> None:
    """They have no personal channel, and everything else."""
    book = fresh(policy=Policy(PERSONAL)).hears(connect())
    book.asks_for(VerifyConnectionToken(1, "t"))

    book.hears(TokenAccepted(1, ConnectionClaims(user))).answers(welcome())


def test_a_tokens_channels_are_subscribed_once_each() -> None:
    """`channels`, `subs` and the personal channel may name the same one."""
    claims = ConnectionClaims(
        "ada",
        channels=("room:a", "#ada"),
        subs={"room:a": SubscriptionOptions(info=b'{"r":1}')},
    )
    book = server_side(claims, (Want("#ada"), Want("room:a")))

    book.hears(ChannelsReady(2, [standing("#ada"), standing("room:a")]))

    book.asks_for(
        Send(welcome(subs={"#ada": stands(), "room:a": stands()})),
        Join("#ada"),
        Join("room:a"),
    )


def test_a_server_side_subscription_recovers_in_the_connect_reply() -> None:
    """The client says where it was; what it missed is in the result."""
    back = connect(subs={"#ada": SubscribeRequest(recover=True, offset=5, epoch="e1")})
    book = server_side(ConnectionClaims("ada"), (Want("#ada", BACK),), back)

    book.hears(
        ChannelsReady(2, [standing("#ada", recovered=True, publications=MISSED)])
    )

    result = stands(offset=5, recovered=True, was_recovering=True, publications=MISSED)
    book.asks_for(Send(welcome(subs={"#ada": result})), Join("#ada"))


def test_positions_of_channels_the_server_does_not_subscribe_are_left_out() -> None:
    """What the client remembers does not decide."""
    back = connect(subs={"room:x": SubscribeRequest(recover=True, offset=5)})
    book = server_side(ConnectionClaims("ada"), (Want("#ada"),), back)

    book.hears(ChannelsReady(2, [standing("#ada")]))

    book.asks_for(Send(welcome(subs={"#ada": stands()})), Join("#ada"))


def test_server_side_channels_that_do_not_get_ready_are_a_temporary_error() -> None:
    """The client tries to connect again."""
    book = server_side(ConnectionClaims("ada"), (Want("#ada"),))

    book.hears(ChannelsFailed(2, errors.INTERNAL))

    book.answers(refusal(1, errors.INTERNAL))


def test_too_many_server_side_channels_are_3505() -> None:
    """The token asks for more than a connection may have."""
    book = fresh(channels_max=1).hears(connect())
    book.asks_for(VerifyConnectionToken(1, "t"))

    claims = ConnectionClaims("ada", channels=("room:a", "room:b"))
    book.hears(TokenAccepted(1, claims)).closes(3505)


def test_a_token_that_names_an_unknown_channel_is_a_bad_request() -> None:
    """3501: coming back with it changes nothing."""
    book = fresh().hears(connect()).asks_for(VerifyConnectionToken(1, "t"))

    claims = ConnectionClaims("ada", channels=("nowhere:a",))
    book.hears(TokenAccepted(1, claims)).closes(3501)


@pytest.mark.parametrize(
    ("why", "code"), [(close_codes.RECOVER, 3010), (close_codes.EXPIRED, 3006)]
)
def test_a_server_side_subscription_that_is_lost_brings_the_whole_connection_back(
    why: close_codes.Unsubscribe, code: int
) -> None:
    """The client cannot subscribe again by itself."""
    book = server_side(ConnectionClaims("ada"), (Want("#ada"),))
    book.hears(ChannelsReady(2, [standing("#ada")]))
    book.asks_for(Send(welcome(subs={"#ada": stands()})), Join("#ada"))

    book.does(book.session.unsubscribe("#ada", why)).closes(code)


def test_the_server_ends_a_server_side_subscription_with_a_push() -> None:
    """2000 is no loss: the connection lives."""
    book = server_side(ConnectionClaims("ada"), (Want("#ada"),))
    book.hears(ChannelsReady(2, [standing("#ada")]))
    book.asks_for(Send(welcome(subs={"#ada": stands()})), Join("#ada"))

    book.does(book.session.unsubscribe("#ada", close_codes.UNSUBSCRIBED_BY_SERVER))

    push = Push("#ada", unsubscribe=UnsubscribePush(2000, "server unsubscribe"))
    book.asks_for(Leave("#ada"), Tell(push))


def test_a_grant_that_forces_recovery_brings_the_positions_it_needs() -> None:
    """Also where the namespace tells none: without them nobody could come back."""
    forced = overridden(NAMESPACES["plain"], Override(force_recovery=True))
    book = connected()
    book.does(book.session.subscribe(Grant("plain:a", forced)))
    book.asks_for(Watch(3, (wants("plain:a"),)))

    book.hears(ChannelsReady(3, [standing("plain:a")]))

    told = SubscribePush(recoverable=True, epoch="e1", offset=7, positioned=True)
    book.asks_for(Tell(Push("plain:a", subscribe=told)), Join("plain:a"))


# -- The end --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "leave_all"])
def test_a_connection_that_ends_leaves_every_channel(how: str) -> None:
    """Once, and only channels it had joined."""
    book = subscribed().hears(subscribe(3, "room:b"))
    book.asks_for(Watch(4, (wants("room:b"),)))
    endings: dict[str, Callable[[], list[Effect]]] = {
        "close": lambda: book.session.close(close_codes.SLOW),
        "leave_all": book.session.leave_all,
    }

    left = endings[how]()

    assert Leave(ROOM) == left[0]
    assert [Leave(ROOM)] == [one for one in left if isinstance(one, Leave)]
    assert book.session.leave_all() == []
