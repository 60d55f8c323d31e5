"""An agent's answer as somebody in front of a terminal sees it."""

import pytest

from support.agents_side import TELLER, AgentsSide
from support.fake_openai import broken
from support.stories import Story
from system.test_terminal_chat import left, terminal

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]


async def test_an_answer_is_written_and_stays(side: AgentsSide, key: str) -> None:
    """While it is written, its status is at the bottom; then it stays, with what it took."""
    story = Story(key, chars=600, pause_ms=20)
    gateway = side.mesh.gateways[0]
    async with terminal(gateway, key, "ada") as (ada, end):
        await ada.sees("on gateway-1")

        ada.types(f"@{TELLER} {story.question}\r")

        await ada.sees("Teller is writing")
        await ada.sees("Teller (agent): ")
        await ada.sees("Teller: fake-1, ")
        ada.types("/stop\r")
        await ada.sees("nobody is at work here")
        assert await left(ada, "\x03", end) == 0


async def test_a_failed_answer_is_asked_for_once_more(
    side: AgentsSide, key: str
) -> None:
    """What came to no good end is named, and `/retry` makes it another one."""
    async with terminal(side.mesh.gateways[0], key, "ada") as (ada, end):
        await ada.sees("on gateway-1")
        side.model.says(broken(400), "Better now.")

        ada.types(f"@{TELLER} try\r")
        await ada.sees("Teller: failed: ")
        ada.types("/retry\r")

        await ada.sees("Teller is asked once more")
        await ada.sees("Better now.")
        assert await left(ada, "\x03", end) == 0
