"""A whole gateway with a fake broker: what clients hear, whatever happens around them."""

from collections.abc import AsyncIterator

import pytest

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.gateway import CANARY_LATE_S, CANARY_LOST_S
from chatmesh.wire import limits, messages
from chatmesh.wire.messages import Canary, Outcome, Outcomes
from support.gateway_rig import Client, Rig, offsets
from support.manual_clock import settle

ROOM = "room:a"
PERSONAL = "#ada"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.close()


def refusal(number: int, code: int, reply: dict[str, object]) -> bool:
    error = reply.get("error")
    assert isinstance(error, dict)
    assert error["message"]
    return (reply["id"], error["code"]) == (number, code)


# -- From one client to all -----------------------------------------------------------


async def test_what_one_publishes_everybody_in_the_room_hears_once(rig: Rig) -> None:
    """The author too; others hear nothing."""
    ada = await rig.subscribed(ROOM)
    bob = await rig.subscribed(ROOM, user="bob")
    eve = await rig.subscribed("room:b", user="eve")

    ada.says({"id": 9, "publish": {"channel": ROOM, "data": {"text": "hi"}}})
    await rig.answer()

    reply, push = await ada.hears()
    assert reply == {"id": 9, "publish": {}}
    pub = push["push"]["pub"]  # type: ignore[index]
    assert (pub["offset"], pub["data"]) == (1, {"text": "hi"})
    assert pub["info"]["user"] == "ada"
    assert offsets(await bob.hears()) == [1]
    assert await eve.hears() == []


async def test_a_message_is_answered_with_its_place_before_it_is_pushed(
    rig: Rig,
) -> None:
    """The sender can tell its own message by the reply."""
    ada = await rig.subscribed(ROOM)

    data = {"channel": ROOM, "id": "m1", "text": "hi"}
    ada.says({"id": 9, "rpc": {"method": "message.send", "data": data}})
    await rig.answer()

    reply, push = await ada.hears()
    assert reply["id"] == 9
    assert reply["rpc"]["data"]["offset"] == 1  # type: ignore[index]
    assert reply["rpc"]["data"]["id"] == "m1"  # type: ignore[index]
    assert push["push"]["pub"]["data"]["text"] == "hi"  # type: ignore[index]


async def test_a_burst_is_one_write_per_connection(rig: Rig) -> None:
    """Many publications of one turn leave in one frame."""
    ada = await rig.subscribed(ROOM)
    ada.ear.writes = 0

    for _ in range(50):
        rig.say(ROOM)

    assert offsets(await ada.hears()) == list(range(1, 51))
    assert ada.ear.writes == 1


async def test_a_large_backlog_is_cut_into_frames(rig: Rig) -> None:
    """A frame stays below what clients take."""
    ada = await rig.subscribed(ROOM)
    ada.ear.writes = 0

    for _ in range(40):
        rig.say(ROOM, data=b'"%s"' % (b"x" * 30_000))

    assert offsets(await ada.hears()) == list(range(1, 41))
    assert ada.ear.writes == 3


async def test_ephemeral_publications_have_no_offset(rig: Rig) -> None:
    """And go out through the broker like everything else."""
    ada = await rig.subscribed("live:a")

    ada.says({"id": 9, "publish": {"channel": "live:a", "data": 1}})
    await settle()
    ((channel, (live,)),) = rig.bus.live
    rig.say_live(channel, live.data)

    assert await ada.hears() == [
        {"id": 9, "publish": {}},
        {"push": {"channel": "live:a", "pub": {"data": 1}}},
    ]


async def test_a_commit_that_is_refused_is_heard_by_its_author_alone(rig: Rig) -> None:
    """As history says it."""
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await settle()
    (command,) = rig.bus.commands
    rig.bus.batches.clear()

    outcome = Outcome(command.request, ROOM, command.id, error_code=409)
    rig.hear(Outcomes([outcome]))

    (reply,) = await ada.hears()
    assert reply["error"]["code"] == 409  # type: ignore[index]


async def test_an_answer_that_does_not_come_is_an_unknown_outcome(rig: Rig) -> None:
    """Within the patience of the SDKs, and temporary."""
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})

    await rig.pass_time(4.5)

    (reply,) = await ada.hears()
    assert refusal(9, 504, reply)
    assert reply["error"]["temporary"]  # type: ignore[index]


async def test_without_a_broker_a_publish_is_a_temporary_error(rig: Rig) -> None:
    """For durable and ephemeral channels."""
    ada = await rig.subscribed(ROOM, "live:a")
    await rig.lose_the_link()

    ada.says(
        {"id": 8, "publish": {"channel": ROOM, "data": 1}},
        {"id": 9, "publish": {"channel": "live:a", "data": 1}},
    )

    first, second = await ada.hears()
    assert refusal(8, 100, first)
    assert refusal(9, 100, second)


async def test_an_ephemeral_publication_that_cannot_be_sent_is_refused(
    rig: Rig,
) -> None:
    """Nobody is told that it went out."""
    ada = await rig.subscribed("live:a")
    rig.bus.failing = PublishFailed("slow")

    ada.says({"id": 9, "publish": {"channel": "live:a", "data": 1}})

    (reply,) = await ada.hears()
    assert refusal(9, 100, reply)


async def test_a_flood_of_ephemeral_publications_is_messages_a_broker_takes(
    rig: Rig,
) -> None:
    """A broker closes the channel of who sends more in one message."""
    ada = await rig.subscribed("live:a")
    data = "x" * 60_000
    for number in range(10, 110):
        ada.says({"id": number, "publish": {"channel": "live:a", "data": data}})
    await settle(300)

    sizes = [sum(len(one.data) for one in batch) for _, batch in rig.bus.live]
    assert sum(len(batch) for _, batch in rig.bus.live) == 100
    assert max(sizes) <= limits.BATCH_BYTES_MAX


# -- Coming back ----------------------------------------------------------------------


async def test_a_client_that_comes_back_hears_what_it_missed(rig: Rig) -> None:
    """In the reply, at its own offset; from then on by push."""
    ada = await rig.subscribed(ROOM)
    rig.say(ROOM, 3)
    assert offsets(await ada.hears()) == [1, 2, 3]
    rig.gateway.disconnected(ada.connection)
    rig.say(ROOM, 2)

    again = await rig.connected()
    place = {"channel": ROOM, "recover": True, "offset": 3, "epoch": "e1"}
    again.says({"id": 2, "subscribe": place})
    await rig.answer()
    rig.say(ROOM)

    reply, push = await again.hears()
    result = reply["subscribe"]
    assert isinstance(result, dict)
    assert (result["recovered"], result["was_recovering"]) == (True, True)
    assert (result["offset"], result["epoch"]) == (3, "e1")
    assert [one["offset"] for one in result["publications"]] == [4, 5]
    assert offsets([push]) == [6]


async def test_personal_channels_recover_in_the_connect_reply(rig: Rig) -> None:
    """Wherever the user comes back."""
    ada = await rig.connected()
    rig.say(PERSONAL, 2)
    assert offsets(await ada.hears()) == [1, 2]
    rig.gateway.disconnected(ada.connection)
    rig.say(PERSONAL)

    again = rig.client()
    place = {"recover": True, "offset": 2, "epoch": "e1"}
    again.says({"id": 1, "connect": {"token": "ada", "subs": {PERSONAL: place}}})
    await rig.answer()

    (reply,) = await again.hears()
    result = reply["connect"]["subs"][PERSONAL]  # type: ignore[index]
    assert [one["offset"] for one in result["publications"]] == [3]
    assert result["recovered"]


async def test_a_lost_link_is_a_pause_and_nothing_else(rig: Rig) -> None:
    """Clients stay connected and hear everything once."""
    ada = await rig.subscribed(ROOM)
    rig.say(ROOM, 2)
    await rig.lose_the_link()
    rig.log(ROOM).append()
    rig.log(ROOM).append()

    await rig.get_the_link_back()
    await rig.answer()
    rig.say(ROOM)

    assert offsets(await ada.hears()) == [1, 2, 3, 4, 5]
    assert ada.goodbye is None


async def test_the_answer_that_a_lost_link_swallowed_comes_from_the_hole(
    rig: Rig,
) -> None:
    """The publish was committed; its author hears so after the link is back."""
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await settle()
    (command,) = rig.bus.commands
    rig.bus.batches.clear()
    rig.log(ROOM).append(id=command.id, data=command.data, info=command.info)
    await rig.lose_the_link()

    await rig.get_the_link_back()
    await rig.answer()

    reply, push = await ada.hears()
    assert reply == {"id": 9, "publish": {}}
    assert offsets([push]) == [1]


async def test_a_log_with_another_epoch_makes_clients_begin_again(rig: Rig) -> None:
    """Client-side subscriptions hear 2500; personal channels close with 3010."""
    ada = await rig.subscribed(ROOM)
    bob = await rig.connected("bob")
    rig.say(ROOM)
    await ada.hears()

    for channel in (ROOM, "#bob"):
        rig.log(channel).epoch = "e2"
        rig.say(channel)

    (push,) = await ada.hears()
    gone = push["push"]["unsubscribe"]  # type: ignore[index]
    assert (gone["code"], bool(gone["reason"])) == (2500, True)
    assert bob.goodbye == 3010


# -- History --------------------------------------------------------------------------


async def history(rig: Rig, **request: object) -> dict[str, object]:
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "history": {"channel": ROOM, **request}})
    await rig.answer()
    (reply,) = await ada.hears()
    return reply


async def test_history_from_the_tail_and_from_the_log_is_the_same(rig: Rig) -> None:
    """Whoever can answer, the reply is alike, and the tail saves a read."""
    rig.log(ROOM)
    ada = await rig.subscribed(ROOM)
    rig.say(ROOM, 5)
    await ada.hears()

    since = {"offset": 2, "epoch": "e1"}
    ada.says({"id": 9, "history": {"channel": ROOM, "limit": 2, "since": since}})
    (reply,) = await ada.hears()
    page = reply["history"]
    assert isinstance(page, dict)
    assert [one["offset"] for one in page["publications"]] == [3, 4]
    assert (page["epoch"], page["offset"]) == ("e1", 5)

    ada.says({"id": 10, "history": {"channel": ROOM, "limit": 2, "reverse": True}})
    await rig.answer()
    (reply,) = await ada.hears()
    assert [one["offset"] for one in reply["history"]["publications"]] == [5, 4]  # type: ignore[index]


async def test_history_without_a_limit_is_the_position(rig: Rig) -> None:
    """All three fields are there, and empty or zero ones too."""
    reply = await history(rig)

    assert reply["history"] == {"publications": [], "epoch": "e1", "offset": 0}


@pytest.mark.parametrize("tail", [True, False])
async def test_history_of_another_epoch_is_112(rig: Rig, tail: bool) -> None:  # noqa: FBT001
    """From the tail or from the log."""
    if not tail:
        rig.log("room:x")
    reply = await history(rig, limit=1, since={"offset": 1, "epoch": "e0"})

    assert refusal(9, 112, reply)


async def test_history_that_does_not_answer_is_a_temporary_error(rig: Rig) -> None:
    """In time for the SDK."""
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "history": {"channel": ROOM, "limit": 5, "reverse": True}})

    await rig.pass_time(4.0)

    (reply,) = await ada.hears()
    assert refusal(9, 100, reply)


# -- Tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "current", "outcome"),
    [(True, True, "welcome"), (False, True, "3500"), (False, False, "100")],
)
async def test_an_unknown_key_is_fetched_first(
    rig: Rig,
    found: bool,  # noqa: FBT001
    current: bool,  # noqa: FBT001
    outcome: str,
) -> None:
    """Found: welcome. Surely not there: invalid. Nobody knows: come back."""
    rig.key_set.found, rig.key_set.current = found, current
    client = rig.client()
    client.says({"id": 1, "connect": {"token": "unknownkey"}})
    await rig.answer()

    if outcome == "3500":
        assert client.goodbye == 3500
        return
    (reply,) = await client.hears()
    if outcome == "welcome":
        assert "connect" in reply
    else:
        assert refusal(1, 100, reply)


# -- The clock ------------------------------------------------------------------------


async def test_who_says_nothing_is_stale(rig: Rig) -> None:
    """10 s without a connect: 3502."""
    client = rig.client()
    await rig.pass_time(9)
    assert client.goodbye is None

    await rig.pass_time(2)

    assert client.goodbye == 3502


async def ping_of(rig: Rig, client: Client) -> float:
    """Seconds until the next ping reaches a client."""
    for quarter in range(1, 200):
        await rig.pass_time(0.25)
        if {} in await client.hears():
            return quarter / 4
    raise AssertionError("no ping came")


async def test_pings_are_answered_or_the_client_is_gone(rig: Rig) -> None:
    """The first comes early, then one each interval; no pong in 8 s is 3012."""
    ada = await rig.connected()
    assert 12.5 <= await ping_of(rig, ada) <= 26.5
    ada.says({})
    assert 24.5 <= await ping_of(rig, ada) <= 26.5
    assert ada.goodbye is None

    await rig.pass_time(7)
    assert ada.goodbye is None
    await rig.pass_time(2.5)

    assert ada.goodbye == 3012


async def test_any_word_of_the_client_is_as_good_as_a_pong(rig: Rig) -> None:
    """A busy client is there."""
    ada = await rig.connected()
    await ping_of(rig, ada)
    ada.says({"id": 5, "unsubscribe": {"channel": ROOM}})

    await rig.pass_time(10)

    assert ada.goodbye is None


async def test_pings_keep_coming_while_publications_do(rig: Rig) -> None:
    """Some SDKs are reassured by pings alone."""
    ada = await rig.subscribed(ROOM)
    pings = 0
    for _ in range(240):
        rig.say(ROOM)
        await rig.pass_time(0.25)
        said = await ada.hears()
        pings += said.count({})
        ada.says({})

    assert pings >= 2


async def test_a_token_that_is_not_refreshed_ends_the_connection(rig: Rig) -> None:
    """Ttl and 25 s of grace: 3005; refreshed in time it lives."""
    ada = await rig.connected("ada||10")
    bob = await rig.connected("bob||10")
    bob.says({"id": 2, "refresh": {"token": "bob||100"}})

    for _ in range(5):
        await rig.pass_time(7)
        ada.says({})
        bob.says({})
    await rig.pass_time(3)

    assert ada.goodbye == 3005
    assert bob.goodbye is None


# -- Slow clients ---------------------------------------------------------------------


def big(kib: int) -> bytes:
    return b'"%s"' % (b"x" * (kib * 1024))


async def test_a_slow_client_loses_in_three_steps_and_nobody_else_does(
    rig: Rig,
) -> None:
    """Ephemeral first, then the fullest subscription, then the connection."""
    slow = await rig.subscribed(ROOM, "live:a")
    quick = await rig.subscribed(ROOM, "live:a", user="bob")
    slow.connection.pause()
    for _ in range(9):
        rig.say(ROOM, data=big(30))
    await settle()
    rig.say_live("live:a", b"1")
    assert rig.metric("slow_client_steps_total", step="drop") == 1

    for _ in range(10):
        rig.say(ROOM, data=big(30))
    await settle()
    assert rig.metric("slow_client_steps_total", step="recover") == 1
    assert slow.goodbye is None
    for _ in range(30):
        rig.say(PERSONAL, data=big(60))
        await settle()

    assert slow.goodbye == 3008
    heard = await quick.hears()
    assert offsets([one for one in heard if one["push"]["channel"] == ROOM]) == list(  # type: ignore[index]
        range(1, 20)
    )
    assert quick.goodbye is None


async def test_a_slow_client_that_reads_again_recovers_what_was_dropped(
    rig: Rig,
) -> None:
    """It hears 2500 and comes back with its last offset: nothing is lost."""
    slow = await rig.subscribed(ROOM)
    rig.say(ROOM)
    assert offsets(await slow.hears()) == [1]
    slow.connection.pause()
    for _ in range(25):
        rig.say(ROOM, data=big(30))
    await settle()

    slow.connection.resume()
    (push,) = await slow.hears()
    assert push["push"]["unsubscribe"]["code"] == 2500  # type: ignore[index]
    place = {"channel": ROOM, "recover": True, "offset": 1, "epoch": "e1"}
    slow.says({"id": 5, "subscribe": place})
    await rig.answer()

    (reply,) = await slow.hears()
    missed = reply["subscribe"]["publications"]  # type: ignore[index]
    assert [one["offset"] for one in missed] == list(range(2, 27))


async def test_one_burst_over_the_whole_budget_is_recovered_from_too(
    rig: Rig,
) -> None:
    """However much comes in one piece, the connection is the last thing given up."""
    slow = await rig.subscribed(ROOM)
    slow.connection.pause()
    rig.say(ROOM, 50, data=big(30))
    await settle()
    assert slow.goodbye is None

    slow.connection.resume()
    (push,) = await slow.hears()
    assert push["push"]["unsubscribe"]["code"] == 2500  # type: ignore[index]
    assert rig.metric("slow_client_steps_total", step="close") == 0


async def test_what_cannot_be_given_up_costs_no_connection_while_something_else_can(
    rig: Rig,
) -> None:
    """The fullest channel may be the server's; the next fullest can be recovered."""
    slow = await rig.subscribed(ROOM)
    slow.connection.pause()
    rig.say(PERSONAL, 18, data=big(30))
    for _ in range(17):
        rig.say(ROOM, data=big(30))
        await settle()
    assert slow.goodbye is None

    slow.connection.resume()
    *kept, gone = await slow.hears()
    assert offsets(kept) == list(range(1, 19))
    assert gone["push"]["channel"] == ROOM  # type: ignore[index]
    assert gone["push"]["unsubscribe"]["code"] == 2500  # type: ignore[index]


async def test_who_is_closed_by_its_own_subscribe_reply_is_not_left_behind() -> None:
    """What it missed is too much for a client that does not read: it joins nothing."""
    rig = Rig(outbox_bytes_max=64 * 1024)
    rig.log("rich:a")
    for _ in range(8):
        rig.logs["rich:a"].append(data=big(30))
    slow = await rig.connected()
    slow.connection.pause()
    place = {"channel": "rich:a", "recover": True, "offset": 0, "epoch": "e1"}
    slow.says({"id": 5, "subscribe": place})
    await rig.answer()

    assert slow.goodbye == 3008
    assert "rich:a" not in rig.gateway.hub
    await rig.close()


async def test_a_filter_that_means_nothing_stays_outside(rig: Rig) -> None:
    """Also where it comes with the connect: events go on for everyone."""
    ada = rig.client()
    wish = {"#ada": {"tf": {"op": "not"}, "delta": "fossil"}}
    ada.says({"id": 1, "connect": {"token": "ada", "subs": wish}})
    await rig.answer()
    (welcome,) = await ada.hears()
    assert "#ada" in welcome["connect"]["subs"]  # type: ignore[index]

    rig.say("#ada")

    assert await ada.publications() == [1]


async def test_a_client_that_pauses_shortly_loses_nothing(rig: Rig) -> None:
    """Below the budget everything waits and comes in order."""
    slow = await rig.subscribed(ROOM)
    slow.connection.pause()
    rig.say(ROOM, 10)
    await settle()
    assert await slow.hears() == []

    slow.connection.resume()

    assert offsets(await slow.hears()) == list(range(1, 11))


async def test_a_transport_that_fails_silences_nobody_else(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """It is let go of; those behind it hear everything."""
    broken = await rig.subscribed(ROOM)
    sound = await rig.subscribed(ROOM, user="bob")

    def write(_: bytes) -> None:
        raise RuntimeError("the handle is closed")

    broken.ear.write = write  # pyright: ignore[reportAttributeAccessIssue]

    rig.say(ROOM, 2)
    assert offsets(await sound.hears()) == [1, 2]

    assert broken.ear.aborted
    assert "writing to a client failed" in caplog.text


# -- The broker -----------------------------------------------------------------------


async def test_a_message_nobody_can_read_goes_to_the_dead_letters(rig: Rig) -> None:
    """With the cause; the line stays and others are heard."""
    ada = await rig.subscribed(ROOM)

    rig.gateway.receive(b"\xc1 no message")
    rig.say(ROOM)

    assert offsets(await ada.hears()) == [1]
    ((body, cause),) = rig.bus.buried
    assert body == b"\xc1 no message"
    assert cause
    assert rig.metric("malformed_messages_total") == 1


async def test_an_answer_that_history_gives_twice_is_no_bug(rig: Rig) -> None:
    """Pages, heads and outcomes of questions that are answered already."""
    for message in (
        messages.Page(99, ROOM),
        messages.HeadsPage(99, [("e1", 1)]),
        Outcomes([Outcome(99, ROOM, "m")]),
        messages.LogEvent(ROOM, "e1", []),
        Canary("somebody else", 1),
    ):
        rig.hear(message)
    await settle()

    assert rig.dropped == []


async def test_readiness_is_red_until_the_canary_comes_back_and_when_it_stays_away(
    rig: Rig,
) -> None:
    """And after a long silence the line is given up."""
    await rig.get_the_link_back()
    assert not rig.health.ready
    await rig.pass_time(1.0)
    assert not rig.health.ready, "a tick is not a canary"
    rig.hear(Canary("me", rig.bus.canaries[-1]))

    async def answered(seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            await rig.pass_time(0.25)
            while rig.bus.canaries:
                rig.hear(Canary("me", rig.bus.canaries.pop()))

    await answered(5)
    assert rig.health.ready, rig.health.report()

    await rig.pass_time(CANARY_LATE_S + 1)
    assert not rig.health.ready
    assert rig.dropped == []
    await rig.pass_time(CANARY_LOST_S - CANARY_LATE_S)
    assert len(rig.dropped) == 1

    await answered(5)
    assert rig.health.ready


async def test_without_a_broker_a_gateway_is_not_ready(rig: Rig) -> None:
    """And says why."""
    await rig.get_the_link_back()
    await rig.lose_the_link()

    report = rig.health.report()

    assert not report["ready"]
    assert report["checks"]["broker"] == {"ok": False, "reason": "cut"}


# -- The end --------------------------------------------------------------------------


async def test_a_drain_sends_everyone_away_spread_over_the_window(rig: Rig) -> None:
    """With 3001, not all at once, and what was said before is heard before."""
    clients = [await rig.subscribed(ROOM, user=f"u{n}") for n in range(20)]
    rig.say(ROOM)
    draining = rig.tasks.spawn(rig.gateway.drain(10.0), name="drain")

    gone: list[int] = []
    for _ in range(10):
        await rig.pass_time(1.0)
        gone.append(sum(client.goodbye is not None for client in clients))
    await rig.pass_time(1.0)

    assert draining.done()
    assert {client.goodbye for client in clients} == {3001}
    assert max(b - a for a, b in zip([0, *gone], gone, strict=False)) <= 4
    for client in clients:
        assert offsets(await client.hears()) == [1]


async def test_a_drain_lets_busy_clients_hear_their_answer(rig: Rig) -> None:
    """A publish on its way is answered before the goodbye."""
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await settle()
    draining = rig.tasks.spawn(rig.gateway.drain(1.0), name="drain")
    await rig.pass_time(1.5)
    assert ada.goodbye is None

    await rig.answer()
    await rig.pass_time(0.5)

    assert draining.done()
    assert (await ada.hears())[0] == {"id": 9, "publish": {}}
    assert ada.goodbye == 3001


async def test_busy_clients_do_not_leave_in_one_storm(rig: Rig) -> None:
    """Each is closed so long after its turn, answered or not; never all at the end."""
    clients = [await rig.subscribed(ROOM, user=f"u{n}") for n in range(20)]
    for client in clients:
        client.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await settle()
    draining = rig.tasks.spawn(rig.gateway.drain(10.0), name="drain")

    gone: list[int] = []
    for _ in range(20):
        await rig.pass_time(1.0)
        gone.append(sum(client.goodbye is not None for client in clients))

    assert draining.done()
    assert gone[-1] == len(clients)
    assert max(b - a for a, b in zip([0, *gone], gone, strict=False)) <= 4


async def test_a_transport_that_is_gone_leaves_nothing_behind(rig: Rig) -> None:
    """No listener, no rider, and late answers find nobody."""
    ada = await rig.subscribed(ROOM)
    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await settle()
    before = len(rig.gateway.wheel)

    rig.gateway.disconnected(ada.connection)
    rig.gateway.disconnected(ada.connection)
    await rig.answer()

    assert ROOM not in rig.gateway.hub
    assert len(rig.gateway.connections) == 0
    assert len(rig.gateway.wheel) == before - 1
    assert await ada.hears() == []
