"""The web page as its reader uses it: what can be seen, pressed and typed."""

from dataclasses import dataclass
from typing import Any

from playwright.async_api import BrowserContext, Locator, Page

from support.eventually import eventually

ARRIVES_WITHIN_S = 10.0
"""From pressing Enter to being on another screen, on a busy machine."""
RECONNECTS_WITHIN_S = 30.0
"""From losing a gateway to being connected again, pauses included."""


@dataclass(frozen=True)
class Shown:
    """One message on the screen."""

    offset: int
    id: str
    text: str


class ChatPage:
    """One person's browser window."""

    def __init__(self, page: Page, user: str) -> None:
        self.page = page
        self.user = user

    @property
    def context(self) -> BrowserContext:
        return self.page.context

    # -- Places on the page -------------------------------------------------------------

    @property
    def messages(self) -> Locator:
        """The list that scrolls."""
        return self.page.get_by_test_id("messages")

    @property
    def box(self) -> Locator:
        """Where one writes."""
        return self.page.locator("#message")

    @property
    def outgoing(self) -> Locator:
        """Messages that are not in the log yet."""
        return self.page.locator(".outgoing .message")

    @property
    def connection(self) -> Locator:
        return self.page.get_by_test_id("connection")

    @property
    def marker(self) -> Locator:
        """The line above what is new."""
        return self.page.get_by_test_id("marker")

    def room_link(self, room: str) -> Locator:
        rooms = self.page.get_by_role("navigation", name="Rooms")
        return rooms.locator(f'a[href="#/room/{room}"]')

    # -- What a person does -------------------------------------------------------------

    async def sign_in(self) -> None:
        await self.page.get_by_label("Your name").fill(self.user)
        await self.page.get_by_role("button", name="Enter").click()
        await self.is_connected()

    async def join(self, room: str) -> None:
        """Go to a room, as a new one where it is not known."""
        field = self.page.get_by_label("Find or join a room")
        await field.fill(room)
        await field.press("Enter")
        await self.page.get_by_role("heading", level=1, name=room).wait_for()
        await self.has_loaded()

    async def say(self, text: str) -> None:
        """Write and press Enter."""
        await self.box.fill(text)
        await self.box.press("Enter")

    async def move_to(self, gateway: str) -> None:
        await self.page.get_by_role("radio", name=gateway).check(force=True)

    async def scroll_to_top(self) -> None:
        await self.messages.evaluate("list => { list.scrollTop = 0 }")

    # -- What a person sees -------------------------------------------------------------

    async def shown(self) -> list[Shown]:
        """Committed messages in the open room, from top to bottom."""
        rows: list[dict[str, Any]] = await self.page.locator(
            ".message[data-offset]"
        ).evaluate_all(
            """rows => rows.map(row => ({
                offset: Number(row.dataset.offset),
                id: row.dataset.id,
                text: row.querySelector(".text").textContent,
            }))"""
        )
        return [Shown(**row) for row in rows]

    async def texts(self) -> list[str]:
        return [message.text for message in await self.shown()]

    async def state(self) -> str:
        return await self.connection.get_attribute("data-state") or ""

    async def gateway(self) -> str:
        return await self.page.get_by_test_id("gateway").inner_text()

    async def sees(
        self, *texts: str, within_s: float = ARRIVES_WITHIN_S
    ) -> list[Shown]:
        """Wait until exactly these messages end the list; return the whole list."""

        async def ends_with_them() -> bool:
            seen = await self.texts()
            assert seen[-len(texts) :] == list(texts)
            return True

        await eventually(ends_with_them, within_s=within_s)
        return await self.shown()

    async def is_connected(self, to: str | None = None) -> None:
        async def connected() -> bool:
            assert await self.state() == "connected"
            assert to is None or await self.gateway() == to
            return True

        await eventually(connected, within_s=RECONNECTS_WITHIN_S)

    async def has_loaded(self) -> None:
        """The open room's newest messages are there."""
        await self.page.locator('.messages[aria-busy="false"]').wait_for()

    async def has_sent_everything(self, within_s: float = RECONNECTS_WITHIN_S) -> None:
        async def nothing_waits() -> bool:
            assert await self.outgoing.count() == 0
            return True

        await eventually(nothing_waits, within_s=within_s)


def dense(messages: list[Shown]) -> bool:
    """Whether offsets follow each other without a gap or a repeat."""
    offsets = [message.offset for message in messages]
    return offsets == list(range(offsets[0], offsets[0] + len(offsets)))
