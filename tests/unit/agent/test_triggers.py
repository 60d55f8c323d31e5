"""Which messages call an agent."""

import json
import time

import pytest

from chatmesh.agent.agents import Agent, Trigger
from chatmesh.agent.triggers import Said, called, mentions, own_words, read
from chatmesh.wire.messages import Entry
from chatmesh.wire.runs import agent_info

OWL = Agent(name="owl", title="Owl")
ROOMY = Agent(name="roomy", trigger=Trigger(direct=("room:help*",)))
KEEN = Agent(name="keen", trigger=Trigger(mention=False, keywords=("deploy",)))


def said(text: str, channel: str = "room:a") -> Said:
    return Said(channel, "m1", 1, 0, "ada", text)


def names(text: str, channel: str = "room:a") -> list[str]:
    return [agent.name for agent in called([OWL, ROOMY, KEEN], said(text, channel))]


@pytest.mark.parametrize(
    "text",
    [
        "@owl hello",
        "hello @owl",
        "hello @Owl, how are you?",
        "(@owl)",
        "> quoted\n@owl and my own",
        "`code` @owl",
        "```\ncode\n```\n@owl",
    ],
)
def test_a_mention_calls(text: str) -> None:
    """A name after an at sign calls, in any case and beside punctuation."""
    assert "owl" in names(text)


@pytest.mark.parametrize(
    "text",
    [
        "owl hello",
        "mail ada@owl.example",
        "x@owl",
        "@owls",
        "@@owl",
        "see docs/@owl",
        "> @owl said something",
        "  > @owl said something",
        "`@owl`",
        "``a ` @owl``",
        "```\n@owl\n```",
        "~~~\n@owl\n~~~",
        "```\n@owl and no end",
        "````\n```\n@owl\n````",
        "",
    ],
)
def test_what_only_passes_through_calls_nobody(text: str) -> None:
    """Quotes, code, addresses and other names start nothing."""
    assert "owl" not in names(text)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("a `b` c", "a   c"),
        ("a ``b`c`` d", "a   d"),
        ("a `b``c` d", "a   d"),
        ("a ``b` c", "a ``b` c"),
        ("`a` `b` `c", "    `c"),
        ("a `b\nc` d", "a   d"),
    ],
)
def test_inline_code_ends_with_as_many_backticks(text: str, own: str) -> None:
    """Other runs of backticks within it are part of the code; one alone opens nothing."""
    assert own_words(text) == own


def test_backticks_that_open_and_never_close_cost_nothing() -> None:
    """One message of a room may not hold up a whole replica."""
    many = 100_000
    texts = ["x" + "`" * many + "a" * many, "".join("`" * n + "a" for n in range(700))]
    began_s = time.process_time()
    assert [own_words(text) for text in texts] == texts
    assert time.process_time() - began_s < 1.0


def test_a_room_where_it_answers_everything() -> None:
    """In a direct room any words of one's own will do; quotes alone will not."""
    assert names("hello", "room:help-1") == ["roomy"]
    assert names("> hello", "room:help-1") == []
    assert names("hello", "room:other") == []


def test_a_keyword_is_a_whole_word() -> None:
    """A keyword calls in any case, and not as a part of another word."""
    assert names("please DEPLOY it") == ["keen"]
    assert names("redeployed") == []


def test_an_agent_is_called_in_its_rooms_only() -> None:
    """Rooms are patterns; elsewhere even a mention does nothing."""
    only = Agent(name="owl", rooms=("room:x-*",))
    assert called([only], said("@owl", "room:x-1")) == [only]
    assert called([only], said("@owl", "room:y")) == []


def test_several_agents_are_called_by_one_message() -> None:
    """Each in the order of the file, once, however often it is named."""
    assert names("@roomy and @owl and @owl") == ["owl", "roomy"]


def test_names_and_words() -> None:
    """What is read out of a text."""
    assert mentions("@a-b, @c_d. @e-") == ["a-b", "c_d", "e"]
    assert own_words("a\n> b\nc `d` e") == "a\nc   e"


def entry(body: object, info: bytes = b'{"user":"ada","client":"c"}') -> Entry:
    return Entry(7, "m7", json.dumps(body).encode(), info, 5)


def test_a_message_is_read() -> None:
    """Who said it, where and when, comes from the entry and not from its text."""
    found = read("room:a", entry({"type": "message", "id": "m7", "text": "hi"}))
    assert found == Said("room:a", "m7", 7, 5, "ada", "hi")


@pytest.mark.parametrize(
    ("body", "info"),
    [
        ({"type": "message", "text": "@owl"}, agent_info("other", "Other")),
        ({"type": "message", "text": "@owl", "agent": True}, b""),
        ({"type": "message", "text": "@owl", "agent": {"name": "x"}}, b""),
        (
            {"type": "message", "text": "@owl"},
            b'{"user":"x","client":"x","conn_info":{"agent":true}}',
        ),
        ({"type": "edit", "text": "@owl"}, b""),
        ({"text": "@owl"}, b""),
        ({"type": "message", "text": 5}, b""),
        (["@owl"], b""),
    ],
)
def test_agents_and_other_publications_call_nobody(body: object, info: bytes) -> None:
    """An agent's own words never trigger, however they are marked."""
    assert read("room:a", entry(body, info)) is None


def test_what_is_no_json_calls_nobody() -> None:
    """A binary publication is none of an agent's business."""
    assert read("room:a", Entry(1, "m", b"\xff\x00")) is None
