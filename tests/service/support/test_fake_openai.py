"""The fake model server, as a client library that is not ours sees it."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from httpx2 import HTTPError
from openai import AsyncOpenAI

from support.eventually import eventually
from support.fake_openai import FakeOpenAI, Reply, ToolUse, broken, too_many

TEXT = "Tea is made of water — and patience."


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as running:
        yield running


@pytest.fixture
async def model(server: FakeOpenAI) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


async def stream(model: AsyncOpenAI, prompt: str = "hi") -> AsyncIterator[str]:
    chunks = await model.chat.completions.create(
        model="m", messages=[{"role": "user", "content": prompt}], stream=True
    )
    async for chunk in chunks:
        for choice in chunk.choices:
            if choice.delta.content:
                yield choice.delta.content


async def test_a_text_is_streamed_piece_by_piece(
    server: FakeOpenAI, model: AsyncOpenAI
) -> None:
    """What was asked, by whom and when each piece went is written down."""
    server.says(Reply.of(TEXT, piece_chars=5))

    pieces = [piece async for piece in stream(model, "tea?")]

    (asked,) = server.asked
    assert "".join(pieces) == TEXT == asked.sent_text
    assert len(pieces) > 5
    assert (asked.prompt, asked.key, asked.finished) == ("tea?", "k", True)
    assert len(asked.sent_s) == asked.sent
    assert asked.hung_up_s is None


async def test_without_a_script_the_rule_answers(
    server: FakeOpenAI, model: AsyncOpenAI
) -> None:
    """Whole as well as streamed, with usage."""
    answer = await model.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}]
    )

    assert answer.choices[0].message.content == "You said: hi"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 10


async def test_a_tool_is_called_with_arguments_in_pieces(
    server: FakeOpenAI, model: AsyncOpenAI
) -> None:
    """The pieces make up the JSON."""
    server.says(Reply(["Let me see."], tools=[ToolUse("add", {"a": 1, "b": 2})]))
    name, arguments, reason = "", "", ""

    chunks = await model.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "1+2"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in chunks:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                name += call.function.name or ""
                arguments += call.function.arguments or ""

    assert (name, arguments, reason) == ("add", '{"a": 1, "b": 2}', "tool_calls")


async def test_errors_are_said_with_their_status(
    server: FakeOpenAI, model: AsyncOpenAI
) -> None:
    """429 says when to come again."""
    server.says(too_many(2.0), broken())

    with pytest.raises(openai.RateLimitError) as limited:
        await anext(stream(model))
    with pytest.raises(openai.InternalServerError):
        await anext(stream(model))

    assert limited.value.response.headers["retry-after"] == "2"


async def test_a_break_is_seen_as_one(server: FakeOpenAI, model: AsyncOpenAI) -> None:
    """In the middle of the text, after what was sent before."""
    server.says(Reply(["a", "b", "c"], break_after=2))
    pieces = stream(model)

    assert [await anext(pieces), await anext(pieces)] == ["a", "b"]
    with pytest.raises((openai.APIError, HTTPError)):
        await anext(pieces)
    (asked,) = server.asked
    await eventually(lambda: asked.cut)
    assert not asked.finished
    assert asked.hung_up_s is None


async def test_a_stalled_stream_ends_when_the_client_goes(
    server: FakeOpenAI, model: AsyncOpenAI
) -> None:
    """And the server knows that it went, and when."""
    server.says(Reply(["a", "b"], stall_after=1))
    pieces = stream(model)
    assert await anext(pieces) == "a"
    waiting = asyncio.ensure_future(anext(pieces))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    assert server.open == server.asked

    waiting.cancel()
    await asyncio.wait({waiting})

    await eventually(lambda: server.asked[0].hung_up_s is not None)
    assert not server.open
