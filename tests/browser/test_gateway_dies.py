"""A gateway goes away under its readers, by accident and by choice."""

import signal

from browser.chat_page import RECONNECTS_WITHIN_S, ChatPage, dense
from browser.conftest import OpenPage
from chatmesh.local.mesh import Mesh
from support.eventually import eventually


async def test_a_gateway_killed_while_typing(mesh: Mesh, open_page: OpenPage) -> None:
    """The page moves on by itself; the draft stays, and what was sent arrives once."""
    ada = await open_page(mesh.gateways[0], "ada")
    bob = await open_page(mesh.gateways[1], "bob")
    await ada.say("before")
    await bob.sees("before")

    sent = [f"during {number}" for number in range(8)]
    for text in sent[:4]:
        await ada.say(text)
    mesh.gateways[0].kill()
    for text in sent[4:]:
        await ada.say(text)
    await ada.box.fill("half a thought")
    await ada.is_connected(to="gateway-2")
    await ada.has_sent_everything()

    assert await ada.box.input_value() == "half a thought"
    await bob.sees("before", *sent, within_s=RECONNECTS_WITHIN_S)
    await ada.sees("before", *sent)
    assert await ada.shown() == await bob.shown()
    assert dense(await bob.shown())


async def test_every_gateway_gone_and_one_back(mesh: Mesh, open_page: OpenPage) -> None:
    """With nowhere to go, the page says when it tries again, and keeps what one writes."""
    ada = await open_page(mesh.gateways[0], "ada")
    for gateway in mesh.gateways:
        gateway.kill()
    await ada.page.get_by_text("Connection lost. Trying gateway-").wait_for()
    await ada.say("written in the dark")
    await ada.page.get_by_text("Waits for the connection").wait_for()

    await mesh.gateways[1].restart()
    await ada.page.get_by_role("button", name="Try now").click(timeout=20_000)
    await ada.is_connected(to="gateway-2")

    await ada.sees("written in the dark", within_s=RECONNECTS_WITHIN_S)
    await ada.has_sent_everything()


async def test_a_gateway_that_says_goodbye(mesh: Mesh, open_page: OpenPage) -> None:
    """A gateway that is stopped sends its readers elsewhere; they miss nothing."""
    ada = await open_page(mesh.gateways[0], "ada")
    bob = await open_page(mesh.gateways[1], "bob")

    mesh.gateways[0].process.send(signal.SIGTERM)
    for number in range(5):
        await bob.say(f"goodbye {number}")
    await ada.is_connected(to="gateway-2")

    await ada.sees(*[f"goodbye {number}" for number in range(5)])
    assert await ada.shown() == await bob.shown()


async def test_moving_by_choice(gentle_mesh: Mesh, open_page: OpenPage) -> None:
    """The reader changes gateways in the middle of a conversation and sees one room."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")

    for number in range(6):
        await ada.say(f"ada {number}")
        if number % 2:
            await ada.move_to(f"gateway-{2 if number % 4 == 1 else 1}")
    await ada.is_connected(to="gateway-2")
    await ada.has_sent_everything()

    await bob.sees(*[f"ada {number}" for number in range(6)])
    await eventually_same(ada, bob)
    assert dense(await bob.shown())


async def eventually_same(one: ChatPage, other: ChatPage) -> None:
    async def same() -> bool:
        return await one.shown() == await other.shown()

    await eventually(same)
