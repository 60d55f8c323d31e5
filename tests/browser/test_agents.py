"""Agents in the page: answers that stream, tools, approvals, and a button that stops them."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator

from browser.chat_page import ChatPage
from browser.conftest import OpenPage, connected
from browser.test_for_everyone import AXE, violations
from support.agents_side import (
    TELLER,
    AgentsSide,
    agents_file,
    notes,
    settings_for,
    tool_worker,
)
from support.eventually import eventually
from support.fake_openai import FakeOpenAI, Reply, ToolUse, broken
from support.instances import Instances
from support.meshes import shared_mesh
from support.stories import Story, tell

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

WITHIN_S = 60.0


@dataclass
class Stage:
    """A mesh with an agent, its model, and what its tools have done."""

    side: AgentsSide
    tools: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium(chromium_url: str) -> AsyncIterator[Browser]:
    """The browser, in the loop that the model's server runs in."""
    async with connected(chromium_url) as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    instances: Instances,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("agents-in-the-page")
    async with FakeOpenAI(tell) as model:
        settings = settings_for(agents_file(folder, model.url))
        async with (
            shared_mesh(
                instances,
                migrated_template,
                folder / "logs",
                others=["presence"],
                agents=1,
                settings=settings,
            ) as mesh,
            tool_worker(mesh, folder),
        ):
            yield Stage(AgentsSide(mesh, model), folder)


@pytest.fixture
def story() -> Story:
    """Long enough to be interrupted; nobody else tells it."""
    return Story(secrets.token_hex(4), chars=1500, pause_ms=40)


def words(text: str) -> str:
    """As a page shows it, where line breaks and blanks are all the same."""
    return " ".join(text.split())


def bubble(chat: ChatPage) -> Locator:
    return chat.page.locator(".run")


def answer(chat: ChatPage) -> Locator:
    return chat.page.locator('.message[data-id^="run:"]')


async def streaming(chat: ChatPage, story: Story, chars: int = 1) -> str:
    """Wait until so much is shown of an answer; return what is.

    It usually goes on. On a machine that is slow enough it may be over by now: then all
    of it has to be there.
    """

    async def shown() -> str:
        parts = bubble(chat).or_(answer(chat)).locator(".text")
        text = words("".join(await parts.all_inner_texts()))
        assert len(text) >= chars, "nothing yet"
        assert words(story.text).startswith(text)
        return text

    return await eventually(shown, within_s=WITHIN_S)


async def has_ended(chat: ChatPage, text: str, outcome: str = "completed") -> None:
    await (
        answer(chat)
        .locator(f'[data-outcome="{outcome}"]')
        .wait_for(timeout=WITHIN_S * 1000)
    )
    shown = await answer(chat).locator(".text").last.inner_text()
    assert words(shown) == words(text)
    assert await bubble(chat).count() == 0


async def test_an_answer_streams_to_everybody(
    stage: Stage, open_page: OpenPage, story: Story
) -> None:
    """On both gateways, growing, and in the end the same for both, with what it took."""
    one, two = stage.side.mesh.gateways
    ada = await open_page(one, "ada")
    bob = await open_page(two, "bob")

    await ada.say(f"@{TELLER} {story.question}")

    first = await streaming(bob, story)
    more = await streaming(bob, story, len(first) + 20)
    assert more.startswith(first)
    assert await bob.page.get_by_test_id("run-status").inner_text() == "is writing"
    for chat in (ada, bob):
        await has_ended(chat, story.text)
        foot = answer(chat).locator(".run-facts")
        assert "fake-1" in await foot.inner_text()
        assert await answer(chat).count() == 1


async def test_a_reload_in_mid_stream_loses_and_doubles_nothing(
    stage: Stage, open_page: OpenPage, story: Story
) -> None:
    """What was said before the page was there is shown, and goes on character by character."""
    ada = await open_page(stage.side.mesh.gateways[0], "ada")
    await ada.say(f"@{TELLER} {story.question}")
    before = await streaming(ada, story, 60)

    await ada.page.reload()

    after = await streaming(ada, story, len(before))
    assert after.startswith(before)
    late = await open_page(stage.side.mesh.gateways[1], "late")
    await streaming(late, story, len(after))
    await has_ended(ada, story.text)
    await has_ended(late, story.text)


async def test_a_lost_connection_in_mid_stream_loses_and_doubles_nothing(
    stage: Stage, open_page: OpenPage, story: Story
) -> None:
    """What was said meanwhile is asked for."""
    ada = await open_page(stage.side.mesh.gateways[0], "ada")
    await ada.say(f"@{TELLER} {story.question}")
    await streaming(ada, story, 30)

    await ada.move_to("gateway-2")
    await ada.is_connected("gateway-2")

    await streaming(ada, story, 120)
    await has_ended(ada, story.text)


async def test_anybody_can_stop_it(
    stage: Stage, open_page: OpenPage, story: Story
) -> None:
    """What was said stays and is marked; the room goes on."""
    one, two = stage.side.mesh.gateways
    ada = await open_page(one, "ada")
    bob = await open_page(two, "bob")
    await ada.say(f"@{TELLER} {story.question}")
    await streaming(bob, story, 20)

    await bob.page.get_by_role("button", name="Stop Teller").click()

    for chat in (ada, bob):
        facts = answer(chat).locator('[data-outcome="cancelled"] .run-facts')
        await facts.get_by_text("Stopped").wait_for(timeout=WITHIN_S * 1000)
        text = words(await answer(chat).locator(".text").last.inner_text())
        assert text
        assert words(story.text).startswith(text.rstrip("…").strip())
    await ada.say("thank you")
    await bob.page.get_by_text("thank you").first.wait_for()


@asynccontextmanager
async def scripted(model: FakeOpenAI, *replies: Reply | str) -> AsyncGenerator[None]:
    """The model says these next, and nothing of them is left for others."""
    model.says(*replies)
    try:
        yield
    finally:
        model.script.clear()


async def test_an_approval_is_given_with_other_arguments(
    stage: Stage, open_page: OpenPage
) -> None:
    """The card is there for both; what one changes is what the tool does."""
    one, two = stage.side.mesh.gateways
    ada = await open_page(one, "ada", color_scheme="dark", bypass_csp=True)
    bob = await open_page(two, "bob", bypass_csp=True)
    use = ToolUse("pay", {"amount": 5})
    async with scripted(
        stage.side.model, Reply(["I pay."], tools=[use]), "It is **done**."
    ):
        await ada.say(f"@{TELLER} pay")
        for chat in (ada, bob):
            card = chat.page.locator(".approval")
            await card.wait_for(timeout=WITHIN_S * 1000)
            assert '"amount": 5' in await card.inner_text()
            if AXE.exists():
                assert await violations(chat) == []
        status = ada.page.get_by_test_id("run-status")
        await status.get_by_text("waits for an approval").wait_for()

        await bob.page.get_by_role("button", name="Edit arguments").click()
        await bob.page.get_by_label("Arguments").fill("{oops")
        approve = bob.page.get_by_role("button", name="Approve")
        assert await approve.is_disabled()
        await bob.page.get_by_label("Arguments").fill('{"amount": 7}')
        await approve.click()

        await answer(ada).wait_for(timeout=WITHIN_S * 1000)
    assert await ada.page.locator(".approval").count() == 0
    assert await answer(ada).locator("strong").inner_text() == "done"
    tool = answer(ada).locator('.tool[data-tool="pay"]')
    assert await tool.get_attribute("data-state") == "done"
    await tool.locator("summary").click()
    await tool.get_by_text("paid 7").wait_for()
    assert [note for note in notes(stage.tools) if note["tool"] == "pay"][-1] == {
        "tool": "pay",
        "amount": 7,
    }


async def test_a_denied_call_is_not_made(stage: Stage, open_page: OpenPage) -> None:
    """The agent is told, and says so."""
    ada = await open_page(stage.side.mesh.gateways[0], "ada")
    use = ToolUse("pay", {"amount": 13})
    async with scripted(stage.side.model, Reply(["I pay."], tools=[use]), "Then not."):
        await ada.say(f"@{TELLER} pay")
        await ada.page.get_by_role("button", name="Deny").click(timeout=WITHIN_S * 1000)
        await answer(ada).wait_for(timeout=WITHIN_S * 1000)

    tool = answer(ada).locator('.tool[data-tool="pay"]')
    assert await tool.get_attribute("data-state") == "denied"
    assert all(note.get("amount") != 13 for note in notes(stage.tools))


async def test_a_failed_answer_is_tried_again(
    stage: Stage, open_page: OpenPage
) -> None:
    """By anybody, with a button that is gone for everybody once there is an answer."""
    one, two = stage.side.mesh.gateways
    ada = await open_page(one, "ada")
    bob = await open_page(two, "bob")
    async with scripted(stage.side.model, broken(400), "Now it works."):
        await ada.say(f"@{TELLER} try")
        again = bob.page.get_by_role("button", name="Try again")
        await again.click(timeout=WITHIN_S * 1000)
        for chat in (ada, bob):
            done = answer(chat).locator('[data-outcome="completed"]')
            await done.wait_for(timeout=WITHIN_S * 1000)

    for chat in (ada, bob):
        assert await answer(chat).count() == 2
        assert "Now it works." in await answer(chat).last.inner_text()
        await chat.page.get_by_role("button", name="Try again").wait_for(
            state="detached"
        )


async def test_names_of_agents_are_completed(stage: Stage, open_page: OpenPage) -> None:
    """With the keyboard alone; a mention is written out and nothing is sent by that."""
    ada = await open_page(stage.side.mesh.gateways[0], "ada")
    await ada.page.locator(f'[data-agent="{TELLER}"]').wait_for()
    await ada.box.press_sequentially("hello @te")
    option = ada.page.get_by_role("option", name="Teller")
    await option.wait_for()
    assert await option.get_attribute("aria-selected") == "true"

    await ada.box.press("Enter")

    assert await ada.box.input_value() == f"hello @{TELLER} "
    assert await option.count() == 0
    assert await ada.texts() == []


async def test_what_an_agent_writes_is_never_markup(
    stage: Stage, open_page: OpenPage
) -> None:
    """HTML stays text, pictures are links, and only http addresses can be followed."""
    ada = await open_page(stage.side.mesh.gateways[0], "ada")
    text = (
        "<img src=x onerror=alert(1)> <b>bold</b>\n\n"
        "![p](https://example.org/p.png) [bad](javascript:alert(1)) "
        "[good](https://example.org/)\n\n# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    async with scripted(stage.side.model, Reply.of(text)):
        await ada.say(f"@{TELLER} markup")
        await answer(ada).wait_for(timeout=WITHIN_S * 1000)

    shown = answer(ada).locator(".text")
    assert "<b>bold</b>" in await shown.inner_text()
    assert await shown.locator("img, b, script, h1").count() == 0
    links = await shown.locator("a").evaluate_all(
        "all => all.map(a => [a.href, a.rel])"
    )
    assert [href for href, _ in links] == [
        "https://example.org/p.png",
        "https://example.org/",
    ]
    assert all("noopener" in rel for _, rel in links)
    assert await shown.locator("td").all_inner_texts() == ["1", "2"]
