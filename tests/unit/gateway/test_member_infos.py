"""What presence is told of people while they are there: that they type, who they are."""

from collections.abc import AsyncIterator

import pytest

from chatmesh.gateway.rules.publish import QUIET_S
from chatmesh.gateway.subscriptions import Grant
from chatmesh.wire.presence import Active, Change, Joined
from support.gateway_rig import NAMESPACES, Client, Rig

ROOM = "rich:a"


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A gateway on a broker of a few lines."""
    made = Rig()
    yield made
    await made.close()


def told(rig: Rig) -> list[Change]:
    """What presence has been told since the last look."""
    changes = [change for report in rig.bus.reports for change in report.changes]
    rig.bus.reports.clear()
    return changes


async def typing(rig: Rig, *, on: bool = True) -> Client:
    """Ada has joined and said whether she types."""
    ada = await rig.subscribed(ROOM)
    data = {"channel": ROOM, "typing": on}
    ada.says({"id": 8, "rpc": {"method": "presence.typing", "data": data}})
    await ada.hears()
    told(rig)
    return ada


@pytest.mark.parametrize(
    "request_",
    [
        {"publish": {"channel": ROOM, "data": 1}},
        {
            "rpc": {
                "method": "message.send",
                "data": {"channel": ROOM, "id": "m1", "text": "hi"},
            }
        },
    ],
    ids=["publish", "message.send"],
)
async def test_a_message_ends_typing(rig: Rig, request_: dict[str, object]) -> None:
    """Once, however it is sent: the lease would go on for seconds."""
    ada = await typing(rig)

    ada.says({"id": 9, **request_})
    await rig.answer()
    assert told(rig) == [Active(ROOM, "ada", active=False)]

    ada.says({"id": 10, "publish": {"channel": ROOM, "data": 2}})
    await rig.answer()
    assert told(rig) == []


async def test_the_first_message_ends_what_an_earlier_connection_typed(
    rig: Rig,
) -> None:
    """Lost while typing and back on another gateway, which cannot know of it."""
    ada = await rig.subscribed(ROOM)
    told(rig)

    for number in (9, 10):
        ada.says({"id": number, "publish": {"channel": ROOM, "data": 1}})
        await rig.answer()

    assert told(rig) == [Active(ROOM, "ada", active=False)]


async def test_a_later_message_ends_what_another_device_types(rig: Rig) -> None:
    """Which may be on any gateway; said once a second, however much is sent."""
    ada = await typing(rig)
    for number in (9, 10, 11):
        ada.says({"id": number, "publish": {"channel": ROOM, "data": 1}})
        await rig.answer()
    assert told(rig) == [Active(ROOM, "ada", active=False)]

    await rig.pass_time(QUIET_S)
    ada.says({"id": 12, "publish": {"channel": ROOM, "data": 1}})
    await rig.answer()

    assert told(rig) == [Active(ROOM, "ada", active=False)]


async def test_who_did_not_type_ends_nothing(rig: Rig) -> None:
    """Nor who had just stopped: presence hears no more than it has to."""
    ada = await typing(rig, on=False)

    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await rig.answer()

    assert told(rig) == []


@pytest.mark.parametrize("how", ["server", "token"])
async def test_another_info_is_shown_everywhere_at_once(rig: Rig, how: str) -> None:
    """In presence, and beside what is said, also where the channel has an info of its own.

    Nothing is told again where nothing has changed.
    """
    ada = await rig.subscribed(ROOM)
    own = Grant("rich:b", NAMESPACES["rich"], info=b'{"seat":1}')
    ada.connection.subscribe(own, lambda error: None)
    await rig.answer()
    await ada.hears()
    told(rig)

    for number in (5, 6):
        if how == "token":
            rig.tokens.info = b'{"n":2}'
            ada.says({"id": number, "refresh": {"token": "ada"}})
        else:
            ada.connection.refresh(0.0, b'{"n":2}')
    await ada.hears()

    name = ada.connection.session.client_id
    changes = told(rig)
    assert len(changes) == 2
    plain = Joined(ROOM, name, "ada", b'{"n":2}', announce=True)
    seated = Joined("rich:b", name, "ada", b'{"n":2}', b'{"seat":1}', announce=True)
    assert plain in changes
    assert seated in changes

    for number, channel in ((8, ROOM), (9, "rich:b")):
        ada.says({"id": number, "publish": {"channel": channel, "data": 1}})
    await rig.answer()
    infos = [one["push"]["pub"]["info"] for one in await ada.hears() if "push" in one]  # type: ignore[index]
    assert [info["conn_info"] for info in infos] == [{"n": 2}] * 2  # type: ignore[index]
    assert [info.get("chan_info") for info in infos] == [None, {"seat": 1}]  # type: ignore[union-attr]


async def test_a_token_that_says_nothing_of_it_leaves_the_info(rig: Rig) -> None:
    """Refreshed for its time alone."""
    rig.tokens.info = b'{"n":1}'
    ada = await rig.subscribed(ROOM)
    told(rig)
    rig.tokens.info = b""

    ada.says({"id": 8, "refresh": {"token": "ada"}})
    await ada.hears()

    assert told(rig) == []


async def test_a_refreshed_subscription_may_bring_another_info(rig: Rig) -> None:
    """Shown in its channel alone, in presence and beside what is said."""
    rig.tokens.chan_info = b'{"seat":1}'
    ada = await rig.connected()
    ada.says({"id": 2, "subscribe": {"channel": ROOM, "token": f"ada|{ROOM}"}})
    await rig.answer()
    await ada.hears()
    told(rig)
    rig.tokens.chan_info = b'{"seat":2}'

    for number in (3, 4):
        refresh = {"channel": ROOM, "token": f"ada|{ROOM}"}
        ada.says({"id": number, "sub_refresh": refresh})
    ada.says({"id": 5, "publish": {"channel": ROOM, "data": 1}})
    await rig.answer()

    name = ada.connection.session.client_id
    moved = Joined(ROOM, name, "ada", chan_info=b'{"seat":2}', announce=True)
    assert told(rig) == [moved, Active(ROOM, "ada", active=False)]
    (info,) = [one["push"]["pub"]["info"] for one in await ada.hears() if "push" in one]  # type: ignore[index]
    assert info["chan_info"] == {"seat": 2}  # type: ignore[index]
