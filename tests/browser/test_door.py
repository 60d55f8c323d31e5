"""Getting in: by name in development, with a token elsewhere, and not with any other."""

import jwt

from browser.chat_page import ChatPage
from browser.conftest import OpenPage
from chatmesh.local.mesh import Mesh
from chatmesh.wire.development import DEVELOPMENT_SECRET
from support.meshes import StartMesh

STRANGER = "a secret that this mesh has never heard of, but long enough"


async def give(chat: ChatPage, token: str) -> None:
    await chat.page.get_by_label("Your token").fill(token)
    await chat.page.get_by_role("button", name="Enter").click()


async def test_outside_development_the_page_wants_a_token(
    start_mesh: StartMesh, open_page: OpenPage
) -> None:
    """No token: no way in. A stranger's: told so. The right one: in, as its owner."""
    mesh = await start_mesh(settings={"CHATMESH_GATEWAY_DEVELOPMENT": "false"})
    ada = await open_page(mesh.gateways[0], "ada", sign_in=False)

    await give(ada, "let me in")
    await ada.page.get_by_text("This is not a token.").wait_for()
    await give(ada, jwt.encode({"sub": "ada"}, STRANGER, algorithm="HS256"))
    await ada.page.get_by_text("Your sign-in is no longer valid").wait_for()
    await ada.page.get_by_role("button", name="Sign in again").click()
    await give(ada, jwt.encode({"sub": "ada"}, DEVELOPMENT_SECRET, algorithm="HS256"))
    await ada.is_connected()

    await ada.say("in at last")
    await ada.sees("in at last")
    assert await ada.page.get_by_test_id("me").inner_text() == "ada"
    await ada.page.reload()
    await ada.is_connected()
    await ada.sees("in at last")


async def test_two_people_share_a_browser(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Each tab is somebody: signing in again in a second one changes nothing here."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    second = await ada.context.new_page()
    await second.goto(f"{gentle_mesh.gateways[1].page_url}/#/room/{room}")
    await second.get_by_label("Your name").wait_for()
    bob = ChatPage(second, "bob")
    await bob.sign_in()
    await bob.has_loaded()

    await ada.page.reload()
    await ada.is_connected()
    await ada.has_loaded()
    await ada.say("I am still ada")
    await bob.say("I am bob")
    await ada.sees("I am still ada", "I am bob")

    authors = await ada.page.locator(".author").all_inner_texts()
    assert authors == ["ada", "bob"]
    assert await ada.page.get_by_test_id("me").inner_text() == "ada"


async def test_a_name_that_cannot_be_one_is_explained(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """The reason stands at the field, and the field has the focus."""
    page = await open_page(gentle_mesh.gateways[0], "nobody", sign_in=False)
    field = page.page.get_by_label("Your name")

    await field.fill("two words")
    await field.press("Enter")

    await page.page.get_by_role("alert").get_by_text("Letters, digits").wait_for()
    assert await field.get_attribute("aria-invalid") == "true"
    assert await field.evaluate("field => field === document.activeElement")
