"""Finding connections by user, without asking all of them."""

from collections.abc import AsyncIterator

import pytest

from chatmesh.wire import close_codes
from chatmesh.wire.control import Target
from support.gateway_rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A gateway on a broker of a few lines."""
    made = Rig()
    yield made
    await made.close()


async def test_all_devices_of_a_user_are_found_and_nobody_else(rig: Rig) -> None:
    """By the name their tokens gave them."""
    phone, laptop = await rig.connected("ada"), await rig.connected("ada")
    await rig.connected("bob")

    found = rig.gateway.people.find(Target("ada"))

    assert set(found) == {phone.connection, laptop.connection}
    assert len(rig.gateway.people) == 2


async def test_who_has_not_said_who_they_are_is_nobody_yet(rig: Rig) -> None:
    """Not even an anonymous user: those have connected."""
    rig.client()
    assert len(rig.gateway.people) == 0
    assert rig.gateway.people.find(Target("", client="c1")) == []

    anonymous = rig.client()
    anonymous.says({"id": 1, "connect": {}})
    await rig.answer()
    name = anonymous.connection.session.client_id

    found = rig.gateway.people.find(Target("", client=name))
    assert found == [anonymous.connection]


async def test_who_waits_for_their_channels_is_known_already(rig: Rig) -> None:
    """Sent away meanwhile, they do not come in; refused, they are nobody again."""
    ada, bob = rig.client(), rig.client()
    ada.says({"id": 1, "connect": {"token": "ada"}})
    bob.says({"id": 1, "connect": {"token": "expired"}})

    (found,) = rig.gateway.people.find(Target("ada"))
    found.close(close_codes.FORCE_DISCONNECT)
    await rig.answer()

    assert (await ada.hears(), ada.goodbye) == ([], 3503)
    assert rig.gateway.people.find(Target("")) == []


async def test_who_has_left_is_not_found(rig: Rig) -> None:
    """Neither those who were known, nor those who left before they were."""
    ada = await rig.connected("ada")
    stranger = rig.client()
    assert rig.gateway.people.find(Target("ada")) == [ada.connection]

    rig.gateway.disconnected(ada.connection)
    rig.gateway.disconnected(stranger.connection)

    assert rig.gateway.people.find(Target("ada")) == []
    assert len(rig.gateway.people) == 0


async def test_a_session_finds_only_its_own_stream(rig: Rig) -> None:
    """And only with the right user."""
    await rig.connected("ada")

    assert rig.gateway.people.find(Target("ada", session="unknown")) == []


async def test_one_connection_is_found_without_its_user(rig: Rig) -> None:
    """By client id or by session; what is said beside it has to be right."""
    ada = await rig.connected("ada")
    await rig.connected("ada")
    ear = rig.client()
    bob = rig.gateway.connect(ear.connection.codec, ear.ear, session_id="s3cret")
    bob.receive(b'{"id":1,"connect":{"token":"bob"}}')
    find = rig.gateway.people.find
    client = ada.connection.session.client_id

    assert find(Target("", client=client)) == [ada.connection]
    assert find(Target("bob", client=client)) == []
    assert find(Target("", session="s3cret")) == [bob]
    assert find(Target("", client=client, session="s3cret")) == []
    assert find(Target("", session="unknown")) == []

    rig.gateway.disconnected(ada.connection)
    assert find(Target("", client=client)) == []
