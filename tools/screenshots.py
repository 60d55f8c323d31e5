"""Pictures of the web page for the docs, taken of a real mesh: people and an agent.

`python tools/screenshots.py [FOLDER]` writes page-light.png, page-dark.png,
page-phone.png, agent-light.png, agent-dark.png and agent-phone.png, by default into
docs/pictures. The agent is the scripted one that every mesh begins with.
"""

import asyncio
import os
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

from chatmesh.local import chromium, mesh
from chatmesh.local.development import development_settings
from chatmesh.local.instances import private_folder, private_instances
from chatmesh.local.mesh import Gateway, Mesh, Plan
from chatmesh.local.trouble import Trouble
from chatmesh.local.web_page import Page as PageState
from chatmesh.local.web_page import WebPage

CHECKOUT: Final = Path(__file__).resolve().parent.parent
PICTURES: Final = CHECKOUT / "docs" / "pictures"
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 820}
PHONE: Final[ViewportSize] = {"width": 390, "height": 760}
SHARPNESS: Final = 2
QUIET: Final = ("--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run")
ARRIVES_WITHIN_MS: Final = 15_000

LOBBY: Final = (
    ("grace", "Morning! Both gateways are up and report ready. I am on gateway-2."),
    ("ada", "And I am on gateway-1. I see everything you wrote, in the same order."),
    ("mika.ito", "Same here. Offsets agree on both sides, `412` was the last one."),
    (
        "grace",
        "Then let us try the drain. Steps: https://docs.example.org/runbooks/drain",
    ),
    (
        "grace",
        "The short version:\n```sh\nkubectl rollout restart deploy/gateway\n"
        "kubectl rollout status deploy/gateway\n```",
    ),
    ("bob", "I was typing while gateway-1 went away. Half a second, then I was on 2."),
    ("bob", "The draft stayed and nothing was sent twice."),
    ("ada", "What happens to a message that is on its way at that moment?"),
    (
        "grace",
        "It waits and goes out over the other gateway with the same id. If the first try "
        "did arrive, the second one changes nothing.",
    ),
    ("mika.ito", "So whatever one sees as sent is in the room. Once."),
    ("ada", "Lovely. I compared all four windows: same list, same order."),
)
OPERATIONS: Final = (
    ("grace", "Disk alarm on broker 2 has cleared by itself."),
    ("bob", "Deploy window is 15:00 to 15:30, gateways one by one."),
)
READING_CLUB: Final = (
    ("mika.ito", "Thursday: “Time, clocks, and the ordering of events”."),
    ("ada", "I bring the cake."),
)


class Person:
    """Somebody's window."""

    def __init__(self, page: Page, name: str) -> None:
        self.page = page
        self.name = name

    async def enter(self, gateway: Gateway) -> None:
        await self.page.goto(gateway.page_url)
        await self.page.get_by_label("Your name").fill(self.name)
        await self.page.get_by_role("button", name="Enter").click()
        await self.page.locator('[data-state="connected"]').wait_for(state="attached")

    async def go_to(self, room: str) -> None:
        field = self.page.get_by_label("Find or join a room")
        if await field.is_visible():
            await field.fill(room)
            await field.press("Enter")
        await self.page.get_by_role("heading", level=1, name=room).wait_for()
        await self.page.locator('.messages[aria-busy="false"]').wait_for()

    async def say(self, text: str) -> None:
        """Write it and wait until the room has it."""
        box = self.page.locator("#message")
        await box.fill(text)
        await box.press("Enter")
        await self.page.locator(".outgoing").wait_for(state="detached")

    async def picture(self, path: Path) -> None:
        await self.page.mouse.move(0, 0)
        await self.page.screenshot(path=path, animations="disabled")
        print(f"chatmesh: wrote {path}")


class Studio:
    """Opens windows of one browser."""

    def __init__(self, browser: Browser, gateways: list[Gateway]) -> None:
        self.browser = browser
        self.gateways = gateways

    async def seat(
        self,
        name: str,
        gateway: int,
        viewport: ViewportSize = DESKTOP,
        colours: Literal["light", "dark"] = "light",
    ) -> Person:
        context = await self.browser.new_context(
            viewport=viewport,
            locale="en-GB",
            device_scale_factor=SHARPNESS,
            color_scheme=colours,
        )
        context.set_default_timeout(ARRIVES_WITHIN_MS)
        person = Person(await context.new_page(), name)
        await person.enter(self.gateways[gateway])
        return person


async def converse(
    people: dict[str, Person], room: str, lines: tuple[tuple[str, str], ...]
) -> None:
    for person in people.values():
        await person.go_to(room)
    for author, text in lines:
        await people[author].say(text)
    last = lines[-1][1]
    for person in people.values():
        await person.page.locator(".message[data-offset]", has_text=last).wait_for()


async def take(studio: Studio, folder: Path) -> None:
    people = {
        "ada": await studio.seat("ada", 0),
        "bob": await studio.seat("bob", 0),
        "grace": await studio.seat("grace", 1),
        "mika.ito": await studio.seat("mika.ito", 1),
    }
    await converse(people, "reading-club", READING_CLUB)
    await converse(people, "operations", OPERATIONS[:1])
    await converse(people, "lobby", LOBBY)

    # Two people go on elsewhere, so that the others have something unread.
    away = {name: people[name] for name in ("grace", "bob")}
    await converse(away, "operations", OPERATIONS[1:])
    ada = people["ada"]
    await ada.page.locator(".badge").wait_for()
    await ada.page.locator("#message").fill("Shall we do gateway-2 next?")
    await ada.picture(folder / "page-light.png")
    await ada.page.emulate_media(color_scheme="dark")
    await ada.picture(folder / "page-dark.png")

    await take_agents(studio, people, folder)

    # A phone in a tunnel says so, and keeps what was written there.
    phone = await studio.seat("linus", 1, PHONE)
    await phone.page.get_by_role("link", name="lobby").click()
    await phone.go_to("lobby")
    await phone.page.context.set_offline(True)
    await phone.page.get_by_text("You are offline.").wait_for()
    await phone.page.locator("#message").fill("In a tunnel. Can you see this?")
    await phone.page.locator("#message").press("Enter")
    await phone.page.get_by_text("Waits for the connection").wait_for()
    await phone.picture(folder / "page-phone.png")


AGENT_ROOM: Final = "release"
AGENT_WITHIN_MS: Final = 60_000
QUESTION: Final = "@helper count to 400"
SNIPPET: Final = (
    "@helper please run this:\n```python\n"
    "import statistics\nprint(statistics.median([12, 9, 31, 8, 15]))\n```"
)


async def take_agents(studio: Studio, people: dict[str, Person], folder: Path) -> None:
    """An agent that has used a tool, one that asks, and one that is writing."""
    ada, grace = people["ada"], people["grace"]
    await ada.page.emulate_media(color_scheme="light")
    for person in (ada, grace):
        await person.go_to(AGENT_ROOM)
    await grace.say("Figures for the release note: who has the median of last week?")
    await ada.say("@helper calculate (12+9+31+8+15)/5")
    answers = ada.page.locator('.message[data-id^="run:"]')
    await answers.first.wait_for(timeout=AGENT_WITHIN_MS)
    await answers.first.locator(".tool summary").first.click()
    await ada.say("That is the mean; grace wants the median.")
    await grace.say(SNIPPET)
    await ada.page.locator(".approval").wait_for(timeout=AGENT_WITHIN_MS)
    await ada.picture(folder / "agent-light.png")
    await ada.page.emulate_media(color_scheme="dark")
    await ada.picture(folder / "agent-dark.png")
    await ada.page.get_by_role("button", name="Approve").click()
    await answers.nth(1).wait_for(timeout=AGENT_WITHIN_MS)

    phone = await studio.seat("linus", 1, PHONE)
    await phone.page.goto(f"{studio.gateways[1].page_url}/#/room/{AGENT_ROOM}")
    await phone.page.locator('.messages[aria-busy="false"]').wait_for()
    await ada.say(QUESTION)
    await phone.page.locator(".run .text").first.wait_for(timeout=AGENT_WITHIN_MS)
    await phone.picture(folder / "agent-phone.png")
    await ada.page.emulate_media(color_scheme="light")
    await phone.page.context.close()


async def main(folder: Path) -> None:
    """Start everything, take the pictures, leave nothing behind."""
    path = chromium.ensure(say)
    if path is None:
        raise Trouble(chromium.MISSING)
    page = WebPage(CHECKOUT, CHECKOUT / ".chatmesh" / "web.log")
    if await page.ensure(say) is not PageState.THERE:
        raise Trouble("the web page is not built; it needs Node 20 or newer")
    state = private_folder()
    try:
        async with AsyncExitStack() as stack:
            instances = await stack.enter_async_context(
                private_instances(os.environ, state)
            )
            await mesh.migrate(instances.database_url)
            plan = Plan(
                amqp_url=instances.amqp_url,
                database_url=instances.database_url,
                folder=state / "logs",
                prefix="screenshots",
                settings=development_settings({}, page=page.dist),
                others=("presence",),
                agents=1,
                tool_workers=1,
            )
            running = await stack.enter_async_context(Mesh(plan))
            playwright = await stack.enter_async_context(async_playwright())
            browser = await playwright.chromium.launch(
                executable_path=path, headless=True, args=QUIET
            )
            stack.push_async_callback(browser.close)
            await take(Studio(browser, running.gateways), folder)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def say(text: str) -> None:
    print(f"chatmesh: {text}", flush=True)


if __name__ == "__main__":
    try:
        pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
        pictures.mkdir(parents=True, exist_ok=True)
        asyncio.run(main(pictures))
    except Trouble as trouble:
        say(str(trouble))
        sys.exit(1)
