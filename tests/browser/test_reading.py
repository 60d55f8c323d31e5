"""Finding one's place: older messages, what is new, what is unread elsewhere."""

import re

from browser.chat_page import ChatPage, dense
from browser.conftest import OpenPage
from browser.talkers import talk
from chatmesh.local.mesh import Mesh
from support.eventually import eventually


async def test_older_messages_come_when_scrolling_back(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Older ones arrive above without moving the line one is reading."""
    lines = [f"line {number}" for number in range(200)]
    await talk(gentle_mesh.gateways[0], "ada", room, lines)
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    first = await first_offset(bob)
    assert first > 1

    while first > 1:
        await bob.messages.evaluate("list => { list.scrollTop = 120 }")
        before = await top_of(bob, first)
        await eventually(lambda upto=first: has_older(bob, upto), within_s=20)
        await eventually(lambda line=first, top=before: stays(bob, line, top))
        first = await first_offset(bob)

    assert dense(await bob.shown())
    assert await bob.texts() == lines


async def first_offset(chat: ChatPage) -> int:
    return (await chat.shown())[0].offset


async def has_older(chat: ChatPage, than: int) -> bool:
    return await first_offset(chat) < than


async def top_of(chat: ChatPage, offset: int) -> float:
    """How far below the top of the window a message stands, as it is drawn now."""
    top: float = await chat.page.evaluate(
        """offset => document.querySelector(`.message[data-offset="${offset}"]`)
            .getBoundingClientRect().top""",
        offset,
    )
    return top


async def stays(chat: ChatPage, offset: int, top: float) -> bool:
    return abs(await top_of(chat, offset) - top) <= 1


async def test_unread_messages_are_counted_and_marked(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Another room's badge counts; opening it shows where the new ones begin."""
    operations = f"{room}-operations"
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    await bob.join(operations)
    await bob.say("old news")
    await ada.join(operations)
    await ada.sees("old news")
    await ada.room_link(room).click()
    await ada.has_loaded()

    for number in range(3):
        await bob.say(f"news {number}")
    link = ada.room_link(operations)
    await link.get_by_text(re.compile(r"^3")).wait_for()
    assert await ada.page.title() == f"(3) #{room} · chatmesh"
    assert "bob: news 2" in await link.inner_text()
    await link.click()

    await ada.marker.wait_for()
    below: list[str] = await ada.marker.evaluate(
        """line => [...document.querySelectorAll(".message[data-offset] .text")]
            .filter(text => line.compareDocumentPosition(text)
                & Node.DOCUMENT_POSITION_FOLLOWING)
            .map(text => text.textContent)"""
    )
    assert below == ["news 0", "news 1", "news 2"]

    async def read() -> bool:
        return await ada.page.title() == f"#{operations} · chatmesh"

    await eventually(read)


async def test_reading_older_messages_is_not_disturbed(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """New messages do not pull away who reads old ones; a button leads to them."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    lines = [f"line {number}" for number in range(50)]
    await talk(gentle_mesh.gateways[1], "bob", room, lines)
    await ada.sees("line 49")
    await ada.scroll_to_top()
    await ada.page.get_by_role("button", name="Newest").wait_for()

    await bob.say("look here")
    jump = ada.page.get_by_role("button", name="1 new")
    await jump.wait_for()
    assert await ada.messages.evaluate("list => list.scrollTop") == 0
    await jump.click()

    last = ada.page.locator(".message[data-offset]").last
    await eventually(lambda: is_in_view(ada, last))
    assert await jump.count() == 0


async def is_in_view(chat: ChatPage, row: object) -> bool:
    bottom: float = await chat.page.locator(".message[data-offset]").last.evaluate(
        "row => row.getBoundingClientRect().bottom"
    )
    frame: float = await chat.messages.evaluate(
        "list => list.getBoundingClientRect().bottom"
    )
    return bottom <= frame + 1


async def test_messages_are_never_read_as_markup(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """Whatever somebody writes is shown as written; only web addresses become links."""
    nasty = (
        "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script> "
        "javascript:alert(1) https://example.org/?q=<b>"
    )
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    bob = await open_page(gentle_mesh.gateways[1], "bob")

    await ada.say(nasty)
    await bob.sees(nasty)

    text = bob.page.locator(".message .text")
    assert await text.locator("img, script, b").count() == 0
    links = await text.locator("a").evaluate_all("all => all.map(a => a.href)")
    assert links == ["https://example.org/?q="]
    assert "owned" not in await bob.page.title()
