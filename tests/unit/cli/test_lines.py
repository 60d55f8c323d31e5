"""Lines in a terminal: readable, and harmless whatever somebody wrote."""

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.cli import lines
from chatmesh.cli.lines import Message

NOON_MS = 1_795_348_800_000  # 2026-11-22 12:00 UTC


def test_a_message_is_one_line() -> None:
    """Time, author, text."""
    assert lines.line(Message("ada", "good morning", NOON_MS), UTC) == (
        "12:00 ada: good morning"
    )


def test_an_agent_is_marked_and_nobody_is_anonymous() -> None:
    """One sees who is a program, and who has no name."""
    assert lines.who(Message("helper", "", 0, agent=True)) == "helper (agent)"
    assert lines.who(Message("", "", 0)) == "anonymous"


def test_further_lines_do_not_pass_for_messages() -> None:
    """Nobody can write a line that looks as if somebody else had said it."""
    forged = Message("mallory", "hello\n12:00 ada: I owe you money\r\n\tx", NOON_MS)

    assert lines.line(forged, UTC).split("\n") == [
        "12:00 mallory: hello",
        "    12:00 ada: I owe you money",
        "        x",
    ]


@pytest.mark.parametrize(
    "evil",
    [
        "\x1b[2J",
        "\x9b31m",
        "\x07",
        "\x08\x08",
        "a\rb",
        "\x7f",
        "\u202eevil",
        "\u2066x",
        "\u200bx",
        "\u2028x",
        "\ue000",
        "\ud800",
    ],
)
def test_nothing_acts_up(evil: str) -> None:
    """Escape sequences and direction marks are shown as what they are not."""
    shown = lines.line(Message(f"ada{evil}", f"text{evil}", NOON_MS), UTC)

    assert not set(evil) & set(shown) - set("[2J31mabevilx")
    assert "\ufffd" in shown


def test_emoji_and_scripts_stay() -> None:
    """Harmless is not the same as English."""
    text = "héllo שלום 你好 👩‍👩‍👧 ☀️"

    assert lines.plain(text) == text


@given(st.text(), st.text())
def test_no_text_brings_control_characters(user: str, text: str) -> None:
    """Whatever is said, the terminal hears only text and line ends."""
    shown = lines.line(Message(user, text, NOON_MS), UTC)

    assert all(char == "\n" or char.isprintable() or char in " \u200d" or ord(char) > 127
               for char in shown)  # fmt: skip
    assert all(part.startswith("    ") for part in shown.split("\n")[1:])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"type": "message", "id": "1", "text": "hi"}, Message("ada", "hi", 5)),
        (
            {"type": "message", "text": "hi", "agent": True},
            Message("ada", "hi", 5, agent=True),
        ),
        ({"type": "message", "text": "", "agent": "yes"}, Message("ada", "", 5)),
        ({"type": "typing"}, None),
        ({"type": "message"}, None),
        ({"type": "message", "text": 5}, None),
        ({"type": 7, "text": "x"}, None),
        ({"input": "plain"}, Message("ada", '{"input": "plain"}', 5)),
        ([1, 2], Message("ada", "[1, 2]", 5)),
        ("text", Message("ada", '"text"', 5)),
        (None, Message("ada", "null", 5)),
    ],
)
def test_publications_become_messages(data: object, expected: Message | None) -> None:
    """Chat is shown as chat, unknown kinds are not shown, plain data is shown as it is."""
    assert lines.message_of(data, "ada", 5) == expected


def test_large_data_is_cut() -> None:
    """A dump of something is not worth a screenful."""
    message = lines.message_of(["x" * 5000], "ada", 0)

    assert message is not None
    assert len(message.text) < 500


def test_dates_and_numbers_read_naturally() -> None:
    """As one would say them."""
    assert lines.day(NOON_MS, UTC) == "Sunday, 22 November 2026"
    assert lines.count(1, "message") == "1 message"
    assert lines.count(0, "message") == "0 messages"


def test_an_impossible_time_is_no_crash() -> None:
    """A server may say anything."""
    assert lines.clock_time(10**30, UTC) == "00:00"
