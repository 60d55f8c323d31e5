"""Who is here, who types, and what people say about themselves."""

import pytest

from browser.chat_page import ChatPage
from browser.conftest import OpenPage
from browser.talkers import talk
from chatmesh.local.mesh import Mesh
from support.eventually import eventually

TOLD_WITHIN_S = 30.0
"""Presence tells within a second; a machine may be busy."""


async def people(chat: ChatPage, state: str) -> list[str]:
    """Whom the list shows in this state, from top to bottom."""
    names: list[str] = await chat.page.locator(
        f'.person[data-state="{state}"]'
    ).evaluate_all("all => all.map(one => one.dataset.user)")
    return names


async def shows(chat: ChatPage, state: str, *users: str) -> None:
    async def shown() -> bool:
        assert await people(chat, state) == list(users)
        return True

    await eventually(shown, within_s=TOLD_WITHIN_S)


async def test_people_come_and_go_in_the_list(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """Over two gateways, without a reload, and with when they were last seen."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    await shows(ada, "online", "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    await shows(bob, "online", "bob", "ada")
    await shows(ada, "online", "ada", "bob")
    assert await ada.page.get_by_test_id("people-count").inner_text() == "2"

    await bob.page.goto("about:blank")

    await shows(ada, "gone", "bob")
    await shows(ada, "online", "ada")
    assert await ada.page.get_by_text("Last seen").count() == 1


async def test_who_types_is_told_until_the_message(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """It begins with the first key and ends with the message, or when the field is empty."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    activity = bob.page.locator('[data-slot="activity"]')

    async def says(words: str) -> bool:
        assert await activity.inner_text() == words
        return True

    await ada.box.press_sequentially("hel")
    await eventually(lambda: says("ada is typing …"), within_s=TOLD_WITHIN_S)
    await ada.box.press("Enter")
    await bob.sees("hel")
    await eventually(lambda: says(""), within_s=TOLD_WITHIN_S)

    await ada.box.press_sequentially("x")
    await eventually(lambda: says("ada is typing …"), within_s=TOLD_WITHIN_S)
    await ada.box.fill("")
    await eventually(lambda: says(""), within_s=TOLD_WITHIN_S)
    assert await ada.page.locator('[data-slot="activity"]').inner_text() == ""


async def test_a_status_is_seen_by_the_others(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """A few words and do-not-disturb, kept over a reload."""
    eve = await open_page(gentle_mesh.gateways[0], "eve")
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    await shows(bob, "online", "bob", "eve")

    await eve.page.get_by_role("button", name="eve").first.click()
    await eve.page.get_by_label("Status").fill("at lunch")
    await eve.page.get_by_label("Do not disturb").check()
    await eve.page.get_by_role("button", name="Save").click()

    await shows(bob, "busy", "eve")
    await bob.page.get_by_text("at lunch").wait_for()
    await eve.page.reload()
    await eve.is_connected()
    await eve.page.get_by_test_id("my-status").get_by_text("at lunch").wait_for()


async def test_developers_see_offsets_and_ids(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Switched on by oneself, for oneself."""
    await talk(gentle_mesh.gateways[0], "bob", room, ["one", "two"])
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    await ada.sees("one", "two")
    details = ada.page.get_by_test_id("details")
    assert await details.count() == 0

    await ada.page.get_by_test_id("me").click()
    await ada.page.get_by_label("Developer mode").check()

    shown = await ada.shown()
    assert [text.split(" ")[0] for text in await details.all_inner_texts()] == [
        f"#{message.offset}" for message in shown
    ]


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_list_can_be_hidden(
    gentle_mesh: Mesh, open_page: OpenPage, width: int
) -> None:
    """Beside the messages where there is room, over them where there is not."""
    ada = await open_page(
        gentle_mesh.gateways[0], "ada", viewport={"width": width, "height": 760}
    )
    panel = ada.page.locator("#people")
    button = ada.page.locator(".people-button")
    if not await panel.is_visible():
        await button.click()
    await shows(ada, "online", "ada")

    await ada.page.get_by_role("button", name="Hide the people").click()

    await panel.wait_for(state="detached")
    assert await button.get_attribute("aria-expanded") == "false"
