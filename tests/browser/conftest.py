"""A real Chromium, and windows in it that show the page of a mesh."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol, TypedDict, Unpack

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, ViewportSize, async_playwright

from browser.chat_page import ChatPage
from chatmesh.local import chromium as local_chromium
from chatmesh.local import ports
from chatmesh.local.instances import Instances
from chatmesh.local.mesh import Gateway, Mesh
from chatmesh.local.trouble import Trouble
from support.meshes import shared_mesh

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""A browser that does what a test says and nothing on its own."""
IN_USE = (
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,"
    "primaryPointerType=4,availablePointerTypes=4",
)
"""Every window is as one in front of somebody who has a mouse."""
BROWSER_STARTS_WITHIN_S = 60.0
SHOWS_WITHIN_S = 15.0
"""From something happening to being on the screen, on a busy machine."""
TEST_WITHIN_S = 150
"""A test starts a mesh and a browser, and some wait for a mesh to recover."""
VIEWPORT: ViewportSize = {"width": 1180, "height": 760}


HERE = "the test's own room"


class Window(TypedDict, total=False):
    """What a person's browser is like, where it matters."""

    viewport: ViewportSize
    color_scheme: Literal["light", "dark"]
    has_touch: bool
    bypass_csp: bool


class OpenPage(Protocol):
    """Open the page of a gateway as somebody, in a window of its own."""

    async def __call__(
        self,
        gateway: Gateway,
        user: str,
        *,
        go_to: str | None = HERE,
        sign_in: bool = True,
        **window: Unpack[Window],
    ) -> ChatPage: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(TEST_WITHIN_S))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gentle_mesh(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Mesh]:
    """Two gateways and presence for all tests that break nothing and keep to a room of their own."""
    folder = tmp_path_factory.mktemp("gentle-mesh")
    settings = {"CHATMESH_PRESENCE_GRACE_S": "1.5", "CHATMESH_PRESENCE_SETTLE_S": "1"}
    async with shared_mesh(
        instances, migrated_template, folder, others=["presence"], settings=settings
    ) as mesh:
        yield mesh


@pytest.fixture
def room() -> str:
    """A room that no other test knows."""
    return f"room-{secrets.token_hex(4)}"


@pytest.fixture(scope="session")
def chromium_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the one browser of this test process takes commands; its start takes seconds.

    Skips the test where no Chromium is installed.
    """
    path = local_chromium.find()
    if path is None:
        pytest.skip(local_chromium.MISSING)
    url = f"http://{ports.LOOPBACK}:{(port := ports.free_port())}"
    command = [
        path,
        *QUIET,
        *IN_USE,
        "--headless",
        f"--remote-debugging-port={port}",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        try:
            _wait_until_it_answers(url, process)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + BROWSER_STARTS_WITHIN_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/json/version").is_success:
                return
        time.sleep(0.05)
    raise Trouble(f"Chromium does not answer; exit code {process.poll()}")


@asynccontextmanager
async def connected(chromium_url: str) -> AsyncGenerator[Browser]:
    """The browser, as this event loop sees it; the windows opened here go at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium_url)
        try:
            yield browser
        finally:
            await browser.close()


@pytest.fixture
async def chromium(chromium_url: str) -> AsyncIterator[Browser]:
    """The browser, with no windows in it but this test's."""
    async with connected(chromium_url) as browser:
        yield browser


@pytest.fixture
def open_page(chromium: Browser, room: str) -> Iterator[OpenPage]:
    """Windows for the people of a test.

    Every window has a context of its own, as if it were another machine. An exception
    or a breach of the content security policy in any of them fails the test.
    """
    troubles: list[str] = []

    async def opened(
        gateway: Gateway,
        user: str,
        *,
        go_to: str | None = HERE,
        sign_in: bool = True,
        **window: Unpack[Window],
    ) -> ChatPage:
        window.setdefault("viewport", VIEWPORT)
        context = await chromium.new_context(locale="en-GB", **window)
        context.set_default_timeout(SHOWS_WITHIN_S * 1000)
        page = await context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"{user}: {error}"))
        page.on(
            "console",
            lambda message: (
                troubles.append(f"{user}: {message.text}")
                if "Content Security Policy" in message.text
                else None
            ),
        )
        where = room if go_to == HERE else go_to
        await page.goto(f"{gateway.page_url}/{f'#/room/{where}' if where else ''}")
        if await page.title() != "chatmesh":
            pytest.skip("the page is not built (it needs Node 20 or newer, and npm)")
        chat = ChatPage(page, user)
        if sign_in:
            await chat.sign_in()
            if where is not None:
                await chat.has_loaded()
        return chat

    yield opened
    assert troubles == []
