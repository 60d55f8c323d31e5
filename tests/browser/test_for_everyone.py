"""The page without a mouse, with a screen reader, in the dark, on a phone."""

from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import ViewportSize

from browser.chat_page import ChatPage
from browser.conftest import OpenPage, Window
from chatmesh.local.mesh import Mesh
from support.eventually import eventually

CHECKOUT = Path(__file__).resolve().parents[2]
AXE = CHECKOUT / "web" / "node_modules" / "axe-core" / "axe.min.js"
PHONE: ViewportSize = {"width": 390, "height": 780}


async def focused(chat: ChatPage) -> str:
    name: str = await chat.page.evaluate(
        """() => {
            const { id, ariaLabel, innerText, value, tagName } = document.activeElement;
            if (tagName === "BODY") return tagName;
            return id || ariaLabel || innerText || value || tagName;
        }"""
    )
    return name.strip()


async def test_everything_works_with_the_keyboard(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """From signing in to writing in another room, without a mouse."""
    ada = await open_page(gentle_mesh.gateways[0], "ada", go_to=None, sign_in=False)
    keys = ada.page.keyboard
    await ada.page.get_by_label("Your name").wait_for()
    assert await focused(ada) == "who"
    await keys.type("ada")
    await keys.press("Enter")
    await ada.is_connected()
    await eventually(lambda: has_focus(ada, "message"))

    await keys.press("Control+k")
    assert await focused(ada) == "find-room"
    await keys.type("quiet corner")
    await keys.press("Enter")
    await ada.page.get_by_role("heading", level=1, name="quiet-corner").wait_for()
    await ada.has_loaded()
    await eventually(lambda: has_focus(ada, "message"))
    await keys.type("first line")
    await keys.press("Shift+Enter")
    await keys.type("second line")
    await keys.press("Enter")
    await ada.sees("first line\nsecond line")

    await keys.press("Alt+ArrowUp")
    await ada.page.get_by_role("heading", level=1, name="lobby").wait_for()
    await keys.press("Alt+ArrowDown")
    await ada.page.get_by_role("heading", level=1, name="quiet-corner").wait_for()
    await ada.messages.focus()
    await keys.press("Escape")
    assert await focused(ada) == "message"


async def has_focus(chat: ChatPage, name: str) -> bool:
    return await focused(chat) == name


async def test_the_focus_can_be_seen_wherever_it_goes(
    gentle_mesh: Mesh, open_page: OpenPage, room: str
) -> None:
    """Tab visits every control in reading order and comes back; each one shows it."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    await ada.page.evaluate("document.activeElement.blur()")
    seen: list[str] = []
    for _ in range(30):
        await ada.page.keyboard.press("Tab")
        name = await focused(ada)
        if name in seen:
            break
        if name == "BODY":  # One step is the browser's own.
            continue
        seen.append(name)
        shows = await ada.page.evaluate(
            """() => {
                const drawn = style => style.outlineStyle !== "none"
                    && parseFloat(style.outlineWidth) >= 1;
                const it = document.activeElement;
                const box = it.closest(".composer-box");
                return drawn(getComputedStyle(it))
                    || (it.nextElementSibling !== null
                        && drawn(getComputedStyle(it.nextElementSibling)))
                    || (box !== null && getComputedStyle(box).boxShadow !== "none");
            }"""
        )
        assert shows, f"the focus on {name!r} cannot be seen"

    # It begins where the focus was, so the beginning of the page is somewhere within.
    start = seen.index("Skip to the message box")
    assert seen[start : start + 2] == ["Skip to the message box", "find-room"]
    assert "message" in seen


async def test_new_messages_are_told_to_screen_readers(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """Arrivals are announced with their author; one's own and old ones are not."""
    ada = await open_page(gentle_mesh.gateways[0], "ada")
    await ada.say("old")
    await ada.sees("old")
    bob = await open_page(gentle_mesh.gateways[1], "bob")
    announcer = bob.page.get_by_test_id("announcer")
    assert await announcer.inner_text() == ""

    await ada.say("hello bob")

    await eventually(lambda: says(bob, "ada: hello bob"))
    await bob.say("hello ada")
    await bob.sees("hello bob", "hello ada")
    assert await announcer.inner_text() == "ada: hello bob"
    assert await announcer.get_attribute("aria-live") == "polite"


async def says(chat: ChatPage, words: str) -> bool:
    return await chat.page.get_by_test_id("announcer").inner_text() == words


async def violations(chat: ChatPage) -> list[str]:
    """What axe finds wrong with the page as it is now."""
    await chat.page.add_script_tag(path=AXE)
    result: dict[str, Any] = await chat.page.evaluate("axe.run()")
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("colours", ["light", "dark"])
async def test_axe_finds_nothing(
    gentle_mesh: Mesh, open_page: OpenPage, room: str, colours: Literal["light", "dark"]
) -> None:
    """Names, roles and contrast hold at the door, in a room and in trouble."""
    operations = f"{room}-operations"
    if not AXE.exists():
        pytest.skip("axe-core is not installed (it comes with the page: npm ci)")
    window: Window = {"color_scheme": colours, "bypass_csp": True}
    ada = await open_page(gentle_mesh.gateways[0], "ada", sign_in=False, **window)
    await ada.page.get_by_label("Your name").wait_for()
    assert await violations(ada) == []

    await ada.sign_in()
    await ada.join(operations)
    await ada.say("with `code`, a [link](https://example.org) and\n```\na block\n```")
    await ada.room_link("lobby").click()
    bob = await open_page(gentle_mesh.gateways[1], "bob", go_to=operations, **window)
    await bob.say("unread in operations")
    await ada.page.get_by_text("bob: unread in operations").wait_for()
    await ada.box.fill("a draft")
    assert await violations(ada) == []

    await ada.room_link(operations).click()
    await ada.sees("unread in operations")
    await ada.context.set_offline(True)
    await ada.page.get_by_text("You are offline.").wait_for()
    await ada.say("waits")
    await ada.page.get_by_text("Waits for the connection").wait_for()
    await ada.page.set_viewport_size(PHONE)
    assert await violations(ada) == []


async def test_colours_follow_the_system_until_told_otherwise(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """Light and dark come from the system; a choice is kept over a reload."""
    ada = await open_page(gentle_mesh.gateways[0], "ada", color_scheme="light")
    light = await canvas(ada)
    await ada.page.emulate_media(color_scheme="dark")
    dark = await canvas(ada)
    assert brightness(light) > 200
    assert brightness(dark) < 60

    button = ada.page.get_by_test_id("theme")
    await button.click()
    assert await canvas(ada) == light
    await ada.page.reload()
    await ada.is_connected()
    assert await canvas(ada) == light
    await button.click()
    await ada.page.emulate_media(color_scheme="light")
    assert await canvas(ada) == dark
    await button.click()
    assert await canvas(ada) == light


async def canvas(chat: ChatPage) -> str:
    colour: str = await chat.page.evaluate(
        "getComputedStyle(document.querySelector('main')).backgroundColor"
    )
    return colour


def brightness(colour: str) -> float:
    channels = [float(part) for part in colour.strip("rgba()").split(",")[:3]]
    return sum(channels) / 3


async def test_a_phone_shows_rooms_or_messages(
    gentle_mesh: Mesh, open_page: OpenPage
) -> None:
    """One thing at a time on a narrow screen, and nothing wider than it."""
    ada = await open_page(
        gentle_mesh.gateways[0], "ada", go_to=None, viewport=PHONE, has_touch=True
    )
    await ada.room_link("lobby").click()
    await ada.has_loaded()
    await ada.say("a-very-long-word-" * 20)
    await ada.sees("a-very-long-word-" * 20)
    assert not await ada.room_link("lobby").is_visible()
    width = await ada.page.evaluate("document.documentElement.scrollWidth")
    assert width == PHONE["width"]

    await ada.page.get_by_role("link", name="All rooms").click()

    await ada.room_link("lobby").wait_for()
    assert not await ada.messages.is_visible()
