"""A model behind real HTTP: what of its stream reaches a run, and when."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest

from chatmesh.agent.adapters.hosted_model import Hosted, build
from chatmesh.agent.agents import AgentsFileError, HostedModel
from chatmesh.agent.conversation import ModelAsk, PersonSaid, Responded, Returned
from chatmesh.agent.ports import Answered, ModelFailed, StillThere, TextDelta
from chatmesh.runtime.clock import SystemClock
from support.eventually import eventually
from support.fake_openai import FakeOpenAI, Reply, ToolUse, too_many

ASK = ModelAsk("Be short.", [PersonSaid("ada", "Hello?")], [], 1000)
STORY = "".join(f"🫖{number} and " for number in range(80))
ADD = ToolUse("add", {"a": 1})
WINDOW_S = 0.1


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI() as made:
        yield made


@pytest.fixture
async def model(server: FakeOpenAI) -> Hosted:
    choice = HostedModel(kind="openai", name="fake-1", base_url=server.url)
    # Importing the library blocks, as it does in a service before it serves.
    return await asyncio.to_thread(
        build, choice, "", window_s=lambda: WINDOW_S, clock=SystemClock()
    )


async def answer(model: Hosted, heard: list[str]) -> Responded:
    """Ask once; what comes is written down piece by piece."""
    async with model.answer(ASK, step=1) as events:
        async for event in events:
            match event:
                case TextDelta(text=text):
                    heard.append(text)
                case StillThere():
                    pass
                case Answered(response=response):
                    return response
    raise AssertionError("an answer ends, or fails")


async def test_pieces_come_in_windows(server: FakeOpenAI, model: Hosted) -> None:
    """A model that sends two hundred pieces is heard in a few, and nothing is missing."""
    reply = Reply.of(STORY, piece_chars=3, pause_s=0.004)
    server.says(reply)
    heard: list[str] = []
    response = await answer(model, heard)
    assert (response.text, "".join(heard)) == (STORY, STORY)
    assert response.usage.output_tokens == len(reply.pieces)
    assert heard[0] == reply.pieces[0], "the first piece waits for no other"
    sent_s = server.asked[0].sent_s
    # One a window, and what passes at the beginning and at the end.
    assert len(heard) <= (sent_s[-1] - sent_s[0]) / WINDOW_S + 3


async def test_calls_of_tools_behind_text(server: FakeOpenAI, model: Hosted) -> None:
    """Their arguments come in pieces as well, which are no text."""
    tools = [ToolUse("add", {"a": 1, "b": "🫖" * 30}), ToolUse("look", {}, id="call_2")]
    server.says(Reply.of("Let me see.", tools=tools))
    heard: list[str] = []
    response = await answer(model, heard)
    assert "".join(heard) == response.text == "Let me see."
    assert [(one.id, one.name) for one in response.calls] == [
        ("call_1", "add"),
        ("call_2", "look"),
    ]
    assert json.loads(response.calls[0].arguments) == tools[0].arguments


async def test_thinking_and_arguments_are_signs_of_life(
    server: FakeOpenAI, model: Hosted
) -> None:
    """Nobody shows them, but whoever waits has to know that the model is at work."""
    server.says(Reply(["Well."], thoughts=["Let ", "me ", "think."], tools=[ADD]))
    async with model.answer(ASK, step=1) as events:
        kinds = [type(event) async for event in events]
    said = kinds.index(TextDelta)
    assert kinds[:said].count(StillThere) >= 3
    assert kinds[said:].count(StillThere) >= 2
    assert kinds[-1] is Answered


@pytest.mark.parametrize("ends", ["length", "content_filter"])
async def test_half_a_response_is_told_as_such(
    server: FakeOpenAI, model: Hosted, ends: str
) -> None:
    """Its text is kept, and its calls are not made."""
    server.says(Reply(["So far"], tools=[ADD], ends=ends))
    response = await answer(model, [])
    assert (response.text, response.calls) == ("So far", [])
    assert (response.cut_off, response.cut_by) == (True, ends)


async def test_what_is_no_text_is_made_text(server: FakeOpenAI, model: Hosted) -> None:
    """Halves of characters have no UTF-8, and NUL has no place in a database."""
    tools = [ToolUse("a\x00dd\ud83e", {}, id="\x00call_1")]
    server.says(Reply(["half \ud83e and", " nul\x00 and 🫖"], tools=tools), "Thanks.")
    heard: list[str] = []
    response = await answer(model, heard)
    assert "".join(heard) == response.text == "half \ufffd and nul and 🫖"
    (call,) = response.calls
    assert (call.id, call.name) == ("call_1", "add\ufffd")
    result = Returned(1, call.id, call.name, "done", "3")
    ask = ModelAsk("Be short.", [*ASK.turns, response, result], [], 1000)
    async with model.answer(ask, step=2) as events:
        assert [one async for one in events]
    (told,) = server.asked[1].messages[-2]["tool_calls"]
    assert (told["id"], told["function"]["name"]) == ("call_1", "add\ufffd")


async def test_a_break_is_told_behind_the_text(
    server: FakeOpenAI, model: Hosted
) -> None:
    """What was sent before the connection was cut is heard to the last piece."""
    server.says(Reply.of(STORY, piece_chars=5, pause_s=0.002, break_after=60))
    heard: list[str] = []
    with pytest.raises(ModelFailed) as failed:
        await answer(model, heard)
    assert (failed.value.passing, failed.value.begun) == (True, True)
    assert server.asked[0].cut
    assert STORY.startswith("".join(heard))
    # A reset may overtake what is on its way, but not what had been heard of.
    assert heard


async def test_a_refusal_is_no_stream(server: FakeOpenAI, model: Hosted) -> None:
    """It says when to come again, as it did before anything was joined."""
    server.says(too_many(2.5))
    with pytest.raises(ModelFailed) as failed:
        await answer(model, [])
    assert (failed.value.passing, failed.value.after_s) == (True, 2.5)


async def test_silence_holds_nothing_back(server: FakeOpenAI, model: Hosted) -> None:
    """A model that stalls has been heard to its last piece, and nothing is made up."""
    reply = Reply.of(STORY, piece_chars=5, pause_s=0.002, stall_after=50)
    server.says(reply)
    heard: list[str] = []
    asking = asyncio.create_task(answer(model, heard))
    expected = "".join(itertools.islice(reply.pieces, 50))
    await eventually(lambda: "".join(heard) == expected)
    assert not asking.done()
    assert server.asked[0].hung_up_s is None
    asking.cancel()
    await asyncio.wait({asking})
    await eventually(lambda: server.asked[0].hung_up_s is not None)


async def test_who_listens_no_more_hangs_up(server: FakeOpenAI, model: Hosted) -> None:
    """In the middle of a window as well: tokens that nobody reads cost money."""
    server.says(Reply.of(STORY * 10, piece_chars=3, pause_s=0.01))
    async with model.answer(ASK, step=1) as events:
        first = await anext(events)
        assert isinstance(first, TextDelta)
    await eventually(lambda: server.asked[0].hung_up_s is not None)


_MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1",
    "content": [], "stop_reason": None, "stop_sequence": None,
    "usage": {"input_tokens": 7, "output_tokens": 1},
}  # fmt: skip
ANTHROPIC = (
    {"type": "message_start", "message": _MESSAGE},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    },
    *(
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": text},
        }
        for text in ("Hello", " Ada")
    ),
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 3},
    },
    {"type": "message_stop"},
)


async def test_anthropic_is_there_without_another_package() -> None:
    """Its stream becomes the same pieces, and its key goes along."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Connection: close\r\n\r\n"
        )
        for one in ANTHROPIC:
            writer.write(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        choice = HostedModel(kind="anthropic", name="claude-1", base_url=url)
        model = await asyncio.to_thread(
            build, choice, "sk-1", window_s=lambda: WINDOW_S, clock=SystemClock()
        )
        heard: list[str] = []
        response = await answer(model, heard)
    assert ("".join(heard), response.text) == ("Hello Ada", "Hello Ada")
    assert heads[0].startswith(b"POST /v1/messages")
    assert b"sk-1" in heads[0]


@pytest.mark.skipif(find_spec("groq") is not None, reason="it is not missing here")
async def test_a_missing_package_is_named() -> None:
    """With what has to be typed to have it."""
    choice = HostedModel(kind="groq", name="m-1")
    with pytest.raises(
        AgentsFileError, match=r"pip install 'pydantic-ai-slim\[groq\]==2"
    ):
        await asyncio.to_thread(
            build, choice, "", window_s=lambda: WINDOW_S, clock=SystemClock()
        )
