"""Questions before something that matters: who may answer, and that it counts once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from chatmesh.wire import runs
from support.agents_side import TELLER, AgentsSide, notes, tool_worker
from support.eventually import eventually
from support.fake_openai import FakeOpenAI, Reply, ToolUse
from support.run_viewer import Refusal, Viewer, watching

pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

WITHIN_S: Final = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(
    side: AgentsSide, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Path]:
    """A worker with tools; gives the folder of its notes."""
    folder = tmp_path_factory.mktemp("tools")
    async with tool_worker(side.mesh, folder):
        async with watching(side.urls(), "waiter", "room:tools") as waiter:

            async def registered() -> bool:
                listed = await waiter.call("tools.list")
                return {"pay", "add"} <= {one["name"] for one in listed["tools"]}

            await eventually(registered, within_s=WITHIN_S)
        yield folder


async def asked(viewer: Viewer, run: str) -> dict[str, Any]:
    """The question, once it is in the room."""

    def shown() -> dict[str, Any] | None:
        shown = viewer.screen.runs.get(run)
        return next(iter(shown.approvals.values()), None) if shown else None

    return await eventually(shown, within_s=WITHIN_S)


async def begin(viewer: Viewer, model: FakeOpenAI, amount: int) -> str:
    """Have the agent want to pay."""
    model.says(
        Reply(["I pay."], tools=[ToolUse("pay", {"amount": amount})]), "It is done."
    )
    await viewer.say("m1", f"@{TELLER} pay {amount}")
    return runs.run_of(TELLER, viewer.room, "m1")


def answering(question: dict[str, Any], **more: object) -> dict[str, Any]:
    return {
        "approval": question["approval"],
        "digest": question["digest"],
        "approve": True,
        **more,
    }


async def ended(viewer: Viewer, run: str) -> dict[str, Any]:
    await eventually(lambda: run in viewer.screen.answers, within_s=WITHIN_S)
    return viewer.screen.answers[run][-1]


async def test_only_who_is_eligible_answers_and_only_once(
    side: AgentsSide, fresh_model: FakeOpenAI, tools: Path, key: str
) -> None:
    """A member may not, whoever asked; the moderator may; a second answer is too late."""
    room, (one, two) = f"room:{key}", side.urls()
    amount = int(key[:6], 16)
    async with (
        watching(one, "ada", room, role="member") as ada,
        watching(two, "mod", room, role="moderator") as moderator,
        watching(one, "eve", f"room:{key}-elsewhere", role="owner") as eve,
    ):
        run = await begin(ada, fresh_model, amount)
        question = await asked(moderator, run)
        assert question["tool"] == "pay"
        assert question["arguments"] == {"amount": amount}
        with pytest.raises(Refusal) as refused:
            await ada.call("approval.answer", **answering(question))
        assert refused.value.code == 103
        with pytest.raises(Refusal):
            await eve.call("approval.answer", **answering(question))
        with pytest.raises(Refusal):
            await moderator.call(
                "approval.answer", **answering(question, digest="another")
            )
        assert notes(tools) == [] or amount not in [
            note.get("amount") for note in notes(tools)
        ]
        said = await moderator.call("approval.answer", **answering(question))
        assert said["outcome"] == "approved"
        with pytest.raises(Refusal):
            await moderator.call("approval.answer", **answering(question))
        answer = await ended(ada, run)

    assert answer["text"].endswith("It is done.")
    assert [n for n in notes(tools) if n.get("amount") == amount] == [
        {"tool": "pay", "amount": amount}
    ]
    assert fresh_model.asked[-1].tool_results[-1].strip('"') == f"paid {amount}"


async def test_changed_arguments_are_what_is_done(
    side: AgentsSide, fresh_model: FakeOpenAI, tools: Path, key: str
) -> None:
    """Whoever approves may ask for less."""
    room, amount = f"room:{key}", int(key[:6], 16)
    async with watching(side.urls(), "boss", room, role="owner") as boss:
        run = await begin(boss, fresh_model, amount)
        question = await asked(boss, run)
        changed = answering(question, arguments={"amount": amount + 1})
        await boss.call("approval.answer", **changed)
        await ended(boss, run)

    either = (amount, amount + 1)
    paid = [note["amount"] for note in notes(tools) if note.get("amount") in either]
    assert paid == [amount + 1]


async def test_what_is_denied_is_not_done(
    side: AgentsSide, fresh_model: FakeOpenAI, tools: Path, key: str
) -> None:
    """The model reads why, and the answer says what it makes of it."""
    room, amount = f"room:{key}", int(key[:6], 16)
    async with watching(side.urls(), "boss", room, role="owner") as boss:
        run = await begin(boss, fresh_model, amount)
        question = await asked(boss, run)
        denied = answering(question, approve=False, reason="not today")
        assert (await boss.call("approval.answer", **denied))["outcome"] == "denied"
        await ended(boss, run)

    assert amount not in [note.get("amount") for note in notes(tools)]
    assert any("not today" in one for one in fresh_model.asked[-1].tool_results)
