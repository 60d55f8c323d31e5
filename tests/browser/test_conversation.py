"""People in one room on two gateways, and one who was away."""

from browser.chat_page import ChatPage, dense
from browser.conftest import OpenPage
from browser.talkers import talk
from chatmesh.local.mesh import Mesh
from support.eventually import eventually


async def test_two_gateways_are_one_room(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """Ada and Bob on different gateways see the same messages in the same order."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")

    for number in range(10):
        await ada.say(f"ada {number}")
        await bob.say(f"bob {number}")
    await ada.has_sent_everything()
    await bob.has_sent_everything()
    await ada.sees(*(await bob.texts())[-1:])

    assert await ada.gateway() == "gateway-1"
    assert await bob.gateway() == "gateway-2"
    assert await ada.shown() == await bob.shown()
    assert len(await ada.shown()) == 20
    assert dense(await ada.shown())


async def test_who_was_away_has_missed_nothing(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Carol closes the page, a hundred and fifty messages later she has them all."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    carol = await open_page(gentle_mesh.gateways[1], "carol")
    await ada.say("before")
    await carol.sees("before")
    await carol.page.goto("about:blank")

    meanwhile = [f"meanwhile {number}" for number in range(150)]
    await talk(gentle_mesh.gateways[0], "dora", room, meanwhile)
    await carol.page.goto(f"{gentle_mesh.gateways[1].page_url}/#/room/{room}")
    await carol.is_connected()
    await carol.has_loaded()
    await carol.marker.wait_for()
    await scroll_back_to_the_beginning(carol)

    assert await carol.texts() == ["before", *meanwhile]
    assert dense(await carol.shown())


async def test_who_was_offline_catches_up(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """A network that goes away and comes back leaves no trace in the room."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    carol = await open_page(gentle_mesh.gateways[1], "carol")
    await carol.context.set_offline(True)
    await carol.page.get_by_text("You are offline.").wait_for()

    meanwhile = [f"meanwhile {number}" for number in range(30)]
    await talk(gentle_mesh.gateways[0], "dora", room, meanwhile)
    await carol.say("written offline")
    assert await carol.texts() == []
    await carol.context.set_offline(False)
    await carol.is_connected()

    await carol.sees(*meanwhile, "written offline")
    await ada.sees(*meanwhile, "written offline")
    assert await carol.shown() == await ada.shown()


async def test_more_than_a_recovery_holds_is_paged(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Two megabytes missed are more than the subscription gives back, and no hole."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    carol = await open_page(gentle_mesh.gateways[1], "carol")
    await ada.say("before")
    await carol.sees("before")
    await carol.context.set_offline(True)
    await carol.page.get_by_text("You are offline.").wait_for()

    long = "x" * 50_000
    texts = [f"{number} {long}" for number in range(40)]
    await talk(gentle_mesh.gateways[0], "dora", room, texts)
    await carol.context.set_offline(False)
    await carol.is_connected()
    await carol.sees(f"39 {long}")

    numbers = [text.split(" ")[0] for text in await carol.texts()]
    assert numbers == ["before", *map(str, range(40))]
    assert dense(await carol.shown())


async def test_a_reload_keeps_everything(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Who I am, my rooms, the open one, its messages and what I was writing stay."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    await ada.join(f"{room}-operations")
    await ada.say("first")
    await ada.say("second")
    await ada.sees("first", "second")
    await ada.box.fill("half a thought")

    await ada.page.reload()
    await ada.is_connected()

    await ada.sees("first", "second")
    assert await ada.page.get_by_test_id("me").inner_text() == "ada"
    assert await ada.box.input_value() == "half a thought"
    assert await ada.room_link(room).is_visible()
    assert (
        await ada.room_link(f"{room}-operations").get_attribute("aria-current")
        == "page"
    )


async def scroll_back_to_the_beginning(chat: ChatPage) -> None:
    async def at_the_beginning() -> bool:
        await chat.scroll_to_top()
        return await chat.page.get_by_text(" begins here.").is_visible()

    await eventually(at_the_beginning, within_s=20)
