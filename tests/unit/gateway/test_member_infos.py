"""What presence is told of people while they are there: that they type, who they are."""

from collections.abc import AsyncIterator

import pytest

from chatmesh.wire.presence import Active, Change
from support.gateway_rig import Client, Rig

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


async def test_who_did_not_type_ends_nothing(rig: Rig) -> None:
    """Nor who had stopped: presence hears no more than it has to."""
    ada = await typing(rig, on=False)

    ada.says({"id": 9, "publish": {"channel": ROOM, "data": 1}})
    await rig.answer()

    assert told(rig) == []
