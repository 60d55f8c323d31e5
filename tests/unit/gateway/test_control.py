"""What gateways do for each other, with several of them on a broker of a few lines."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.control import (
    BEAT_LOST_S,
    BadPattern,
    Control,
    Unanswered,
    matcher,
)
from chatmesh.gateway.policy import Policy
from chatmesh.wire import close_codes, control, errors
from chatmesh.wire.control import Beat, ControlMessage, Target
from support.gateway_rig import NAMESPACES, Client, Rig
from support.manual_clock import settle

SOON_S: Final = 0.25
"""Few tests here wait it out; the others need it on a machine that does much else."""


class Exchange:
    """Hands what gateways say to whom it is for; a muted one hears and says nothing."""

    def __init__(self) -> None:
        self.nodes: dict[str, Control] = {}
        self.muted: set[str] = set()
        self.said: list[ControlMessage] = []

    def deliver(self, node: str, message: ControlMessage) -> None:
        self.said.append(message)
        if node in self.nodes and node not in self.muted:
            self.nodes[node].hear(message)


class Plug:
    """One gateway's end of the exchange."""

    def __init__(self, exchange: Exchange, node: str) -> None:
        self.connected = True
        self.reply_to = node
        self._exchange = exchange

    async def tell_gateways(self, message: ControlMessage) -> None:
        if not self.connected:
            raise PublishFailed("cut")
        for node in list(self._exchange.nodes):
            self._exchange.deliver(node, message)

    async def tell_gateway(self, node: str, message: ControlMessage) -> None:
        if node not in self._exchange.nodes:
            raise PublishFailed("nobody", unroutable=True)
        self._exchange.deliver(node, message)

    async def answer(self, reply_to: str, message: ControlMessage) -> None:
        self._exchange.deliver(reply_to, message)

    async def truncate(self, request: int, channel: str) -> None:
        raise AssertionError("nobody asks for this here")


class Two:
    """Two gateways that know each other."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.rigs = {"a": Rig(), "b": Rig()}
        self.plugs = {node: Plug(self.exchange, node) for node in self.rigs}
        for node, rig in self.rigs.items():
            self.exchange.nodes[node] = Control(
                self.plugs[node],
                rig.gateway,
                Policy(NAMESPACES),
                node=node,
                name=f"gateway-{node}",
                version="v",
                clock=rig.clock,
                tasks=rig.tasks,
                answer_within_s=SOON_S,
            )

    @property
    def a(self) -> Control:
        return self.exchange.nodes["a"]

    @property
    def b(self) -> Control:
        return self.exchange.nodes["b"]

    async def introduce(self) -> None:
        for one in (self.a, self.b):
            await one.link_up()
        await settle()


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    """Introduced to each other; no task of theirs may fail."""
    pair = Two()
    await pair.introduce()
    yield pair
    for rig in pair.rigs.values():
        await rig.close()


async def test_everybody_is_asked_and_everybody_answers(two: Two) -> None:
    """A survey speaks for all gateways, the asking one included."""
    await two.rigs["a"].subscribed("room:x", "room:y")
    await two.rigs["b"].subscribed("room:x", user="bob")
    await two.rigs["b"].connected("bob")

    told = await two.a.ask(control.Survey())

    nodes = {one.uid: one for one in told if isinstance(one, control.Node)}
    assert set(nodes) == {"a", "b"}
    assert (nodes["a"].num_clients, nodes["a"].num_subs) == (1, 3)
    assert (nodes["b"].num_clients, nodes["b"].num_users) == (2, 1)


async def test_a_newcomer_learns_of_all_at_once(two: Two) -> None:
    """Whoever has just come says hello and is told who is there."""
    await two.b.link_up()
    await settle()

    told = await two.b.ask(control.Survey())

    assert len(told) == 2


async def test_one_that_lives_and_does_not_answer_is_an_error(two: Two) -> None:
    """Nobody is told that something was done everywhere when it may not have been."""
    two.exchange.muted.add("b")
    asking = asyncio.get_running_loop().create_task(two.a.ask(control.Survey()))
    await settle()
    two.rigs["a"].clock.now_s += 0.5
    two.a.hear(Beat("b"))

    with pytest.raises(Unanswered):
        await asking


async def test_one_that_has_fallen_silent_is_gone(two: Two) -> None:
    """A gateway that was killed does not keep the others from being spoken for."""
    two.exchange.muted.add("b")

    told = await two.a.ask(control.Survey())

    assert [one.uid for one in told if isinstance(one, control.Node)] == ["a"]


async def test_the_silent_are_forgotten_after_a_while(two: Two) -> None:
    """Then nobody waits for their answers any more."""
    del two.exchange.nodes["b"]
    two.rigs["a"].clock.now_s += BEAT_LOST_S + 1
    beating = two.rigs["a"].tasks.spawn(two.a.run(), name="beat")
    await settle()
    beating.cancel()

    async with asyncio.timeout(SOON_S / 2):
        assert len(await two.a.ask(control.Survey())) == 1


async def test_one_that_says_goodbye_is_not_waited_for(two: Two) -> None:
    """A drain does not slow the API down."""
    await two.b.leave()
    two.exchange.muted.add("b")

    async with asyncio.timeout(SOON_S / 2):
        assert len(await two.a.ask(control.Survey())) == 1


async def test_without_a_broker_nothing_is_claimed(two: Two) -> None:
    """What cannot be asked is an error at once."""
    two.plugs["a"].connected = False

    with pytest.raises(Unanswered):
        await two.a.ask(control.Survey())


async def test_commands_of_a_stream_find_its_gateway(two: Two) -> None:
    """They are heard by the connection whose secret they name, and by no other."""
    rig = two.rigs["b"]
    client = stream_of(rig, "s3cret")
    client.says({"id": 1, "connect": {"token": "ada"}})
    await rig.answer()
    (welcome,) = await client.hears()
    assert welcome["connect"]["session"] == "s3cret"  # type: ignore[index]

    await two.a.emulate("b", "guess", b'{"id":2,"rpc":{"method":"no"}}')
    await two.a.emulate("b", "s3cret", b'{"id":3,"rpc":{"method":"no"}}')

    (refused,) = await client.hears()
    assert refused["id"] == 3
    with pytest.raises(PublishFailed) as failed:
        await two.a.emulate("of-yesterday", "s3cret", b"{}")
    assert failed.value.unroutable


async def test_a_user_is_disconnected_everywhere_but_where_spared(two: Two) -> None:
    """All devices but one, whichever gateways they are on; nobody else."""
    here = await two.rigs["a"].connected("ada")
    there = await two.rigs["b"].connected("ada")
    spared = await two.rigs["b"].connected("ada")
    bob = await two.rigs["b"].connected("bob")
    keep = spared.connection.session.client_id

    await two.a.ask(control.Disconnect(Target("ada"), 4500, "signed out", [keep]))

    assert [one.goodbye for one in (here, there, spared, bob)] == [
        4500,
        4500,
        None,
        None,
    ]


async def test_a_target_may_be_one_connection(two: Two) -> None:
    """By client id or by session, and only if the user is right."""
    rig = two.rigs["b"]
    one, other = await rig.connected("ada"), await rig.connected("ada")
    client = one.connection.session.client_id

    await two.a.ask(control.Disconnect(Target("bob", client=client), 4500, "no"))
    assert one.goodbye is None
    await two.a.ask(control.Disconnect(Target("ada", client=client), 4500, "yes"))

    assert (one.goodbye, other.goodbye) == (4500, None)


async def test_a_server_side_subscription_is_told_and_delivered(two: Two) -> None:
    """First the push, then what was missed, then what comes; and unsubscribing ends it."""
    rig = two.rigs["b"]
    rig.log("room:x").append()
    rig.log("room:x").append()
    ada = await rig.connected("ada")
    epoch = rig.log("room:x").epoch
    since = control.Position(1, epoch)

    act = control.Subscribe(Target("ada"), "room:x", data=b'{"n":1}', since=since)
    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await rig.answer()
    await asking
    rig.say("room:x")

    told, missed, live = await ada.hears()
    push = told["push"]
    assert push["channel"] == "room:x"  # type: ignore[index]
    assert push["subscribe"]["offset"] == 1  # type: ignore[index]
    assert push["subscribe"]["data"] == {"n": 1}  # type: ignore[index]
    offsets = [one["push"]["pub"]["offset"] for one in (missed, live)]  # type: ignore[index]
    assert offsets == [2, 3]

    await two.a.ask(control.Unsubscribe(Target("ada"), "room:x"))
    rig.say("room:x")
    (ended,) = await ada.hears()
    code = close_codes.UNSUBSCRIBED_BY_SERVER.code
    assert ended["push"]["unsubscribe"]["code"] == code  # type: ignore[index]


async def test_a_subscription_is_answered_when_it_stands(two: Two) -> None:
    """What is published after the answer is heard, and one that never stands is told."""
    rig = two.rigs["b"]
    ada = await rig.connected("ada")
    act = control.Subscribe(Target("ada"), "room:x")

    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await settle()
    assert not asking.done()
    await rig.answer()
    assert control.Done(1) in await asking
    assert len(await ada.hears()) == 1

    late = await two.a.ask(control.Subscribe(Target("ada"), "room:y"))
    codes = {one.code for one in late if isinstance(one, control.Refused)}
    assert codes == {errors.INTERNAL.code}


async def test_a_subscription_that_fails_is_told(two: Two) -> None:
    """Its client is closed to come back, and whoever asked hears that too."""
    rig = two.rigs["b"]
    ada = await rig.connected("ada")
    act = control.Subscribe(Target("ada"), "room:x")

    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await settle()
    ada.connection.close(close_codes.INSUFFICIENT_STATE)

    codes = {one.code for one in await asking if isinstance(one, control.Refused)}
    assert codes == {errors.INTERNAL.code}


async def test_who_leaves_meanwhile_is_not_waited_for(two: Two) -> None:
    """There is nobody left to be subscribed."""
    rig = two.rigs["b"]
    ada = await rig.connected("ada")
    act = control.Subscribe(Target("ada"), "room:x")

    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await settle()
    rig.gateway.disconnected(ada.connection)

    assert control.Done(1) in await asking


async def test_who_is_still_connecting_is_acted_on(two: Two) -> None:
    """What the server wants is true as soon as the client is there, and was answered."""
    rig = two.rigs["b"]
    ada = rig.client()
    ada.says({"id": 1, "connect": {"token": "ada"}})
    target = Target("ada")
    until_s = rig.clock.unix_ms() / 1000 + 60

    await two.a.ask(control.Unsubscribe(target, "#ada"))
    await two.a.ask(control.Refresh(target, expire_at_s=until_s))
    act = control.Subscribe(target, "room:x")
    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await settle()
    await rig.answer()

    assert control.Done(1) in await asking
    welcome, ended, told = await ada.hears()
    assert welcome["connect"]["ttl"] == 60  # type: ignore[index]
    assert ended["push"]["channel"] == "#ada"  # type: ignore[index]
    code = close_codes.UNSUBSCRIBED_BY_SERVER.code
    assert ended["push"]["unsubscribe"]["code"] == code  # type: ignore[index]
    assert told["push"]["channel"] == "room:x"  # type: ignore[index]
    assert "subscribe" in told["push"]  # type: ignore[operator]
    rig.say("#ada")
    assert await ada.hears() == []


async def test_the_last_word_on_a_channel_counts(two: Two) -> None:
    """Unsubscribed while still connecting, nobody is subscribed a moment later."""
    rig = two.rigs["b"]
    ada = rig.client()
    ada.says({"id": 1, "connect": {"token": "ada"}})
    act = control.Subscribe(Target("ada"), "room:x")

    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await settle()
    await two.a.ask(control.Unsubscribe(Target("ada"), "room:x"))
    await rig.answer()

    codes = {one.code for one in await asking if isinstance(one, control.Refused)}
    assert codes == {errors.INTERNAL.code}
    assert len(await ada.hears()) == 1


async def test_a_subscription_may_have_options_of_its_own(two: Two) -> None:
    """What this version does not know to decide is passed over."""
    ada = await two.rigs["b"].connected("ada")
    override = {"force_positioning": False, "of_the_future": True}

    act = control.Subscribe(Target("ada"), "room:x", override=override)
    asking = asyncio.get_running_loop().create_task(two.a.ask(act))
    await two.rigs["b"].answer()
    await asking

    (told,) = await ada.hears()
    assert told["push"]["subscribe"] == {}  # type: ignore[index]


async def test_a_lost_link_does_not_make_the_others_unknown(two: Two) -> None:
    """Back on the broker, they are still waited for."""
    two.plugs["a"].connected = False
    two.rigs["a"].clock.now_s += BEAT_LOST_S + 1
    beating = two.rigs["a"].tasks.spawn(two.a.run(), name="beat")
    await settle()
    beating.cancel()
    two.plugs["a"].connected = True

    assert len(await two.a.ask(control.Survey())) == 2


async def test_what_stands_already_stands(two: Two) -> None:
    """Subscribing someone who is subscribed is no error and no second push."""
    ada = await two.rigs["b"].subscribed("room:x")

    await two.a.ask(control.Subscribe(Target("ada"), "room:x"))

    assert await ada.hears() == []


async def test_an_unknown_namespace_is_refused(two: Two) -> None:
    """Gateways may be configured differently for a moment; then that is said."""
    told = await two.a.ask(control.Subscribe(Target("ada"), "nowhere:x"))

    codes = {one.code for one in told if isinstance(one, control.Refused)}
    assert codes == {errors.UNKNOWN_CHANNEL.code}


async def test_refresh_moves_an_expiry_or_ends_it(two: Two) -> None:
    """A later expiry keeps the connection, none ends it never, the past ends it now."""
    rig = two.rigs["b"]
    ada = await rig.connected("ada|x|60")
    now_s = rig.clock.unix_ms() / 1000

    await two.a.ask(control.Refresh(Target("ada"), expire_at_s=now_s + 7200))
    for _ in range(24):
        await rig.pass_time(5)
        ada.says({})
    assert ada.goodbye is None
    await two.a.ask(control.Refresh(Target("ada"), expired=True))

    assert ada.goodbye == close_codes.CONNECTION_EXPIRED.code


async def test_channels_are_listed_with_their_subscribers(two: Two) -> None:
    """By pattern; each gateway counts its own."""
    await two.rigs["a"].subscribed("room:x", "live:y")
    await two.rigs["b"].subscribed("room:x")

    told = await two.b.ask(control.ListChannels("room:*"))

    counts = [one.counts for one in told if isinstance(one, control.ChannelCounts)]
    assert counts == [{"room:x": 1}, {"room:x": 1}]


async def test_a_bad_pattern_is_refused(two: Two) -> None:
    """With the reason, by every gateway."""
    told = await two.a.ask(control.ListChannels("room:{a"))

    codes = {one.code for one in told if isinstance(one, control.Refused)}
    assert codes == {errors.BAD_REQUEST.code}


async def test_removed_history_is_not_served_from_memory(two: Two) -> None:
    """Whoever comes back is told to start again rather than shown what was removed."""
    rig = two.rigs["b"]
    await rig.subscribed("room:x")
    rig.say("room:x", 3)
    assert rig.gateway.feed.page("room:x", 0) is not None

    await two.a.ask(control.Forget("room:x"))

    assert rig.gateway.feed.page("room:x", 0) is None


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", ["room:a", ""], []),
        ("room:*", ["room:a", "room:"], ["live:a", "aroom:a"]),
        ("room:?", ["room:a"], ["room:ab"]),
        ("room:[ab]", ["room:a"], ["room:c"]),
        ("{room,live}:{a,b}", ["room:a", "live:b"], ["room:c", "x:a"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_patterns_are_those_of_a_shell(
    pattern: str, yes: list[str], no: list[str]
) -> None:
    """Stars, question marks, sets, and alternatives in braces."""
    matches = matcher(pattern)

    assert [name for name in yes if not matches(name)] == []
    assert [name for name in no if matches(name)] == []


@pytest.mark.parametrize("pattern", ["{a", "{a,{b,c}}", "{a,b}" * 7])
def test_patterns_that_cannot_be_used_say_so(pattern: str) -> None:
    """Open braces, braces in braces, and more alternatives than are looked at."""
    with pytest.raises(BadPattern):
        matcher(pattern)


@given(st.text(alphabet="ab*?[]{},!\\", max_size=40), st.text("ab{}", max_size=40))
def test_any_pattern_judges_or_is_refused(pattern: str, name: str) -> None:
    """Nothing that is typed into the API breaks a gateway."""
    try:
        matches = matcher(pattern)
    except BadPattern:
        return
    assert matches(name) in {True, False}


def stream_of(rig: Rig, session: str) -> Client:
    """A client of the rig whose commands come by its session."""
    client = rig.client()
    rig.gateway.disconnected(client.connection)
    connection = rig.gateway.connect(
        client.connection.codec, client.ear, session_id=session
    )
    return Client(connection, client.ear)
