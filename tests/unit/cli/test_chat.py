"""`chatmesh chat`: what a command line means, and what it refuses."""

import argparse

import jwt
import pytest

from chatmesh.cli import chat
from chatmesh.cli.__main__ import parser
from chatmesh.cli.chat import Plan, channel_of, plan_of, socket_url
from chatmesh.cli.command import EXIT_USAGE, CommandError

TOKEN = jwt.encode({"sub": "ada"}, "x" * 32)


def parsed(*words: str) -> argparse.Namespace:
    return parser().parse_args(["chat", *words])


def plan(*words: str, **environ: str) -> Plan:
    return plan_of(parsed(*words), environ)


def refusal(*words: str, **environ: str) -> str:
    with pytest.raises(CommandError) as caught:
        plan(*words, **environ)
    assert caught.value.code == EXIT_USAGE
    return str(caught.value)


def test_the_least_one_has_to_say_is_enough() -> None:
    """A room and a name, on one's own machine."""
    understood = plan("lobby", "--user", "ada")

    assert understood.url == "ws://127.0.0.1:8001/connection/websocket"
    assert understood.channel == "room:lobby"
    assert understood.user == "ada"
    assert understood.token == ""
    assert understood.is_local
    assert "development token for ada" in understood.notices[0]


def test_variables_stand_in_for_arguments_and_arguments_win() -> None:
    """Who chats at one place every day says it once."""
    environ = {
        "CHATMESH_URL": "wss://chat.example/socket",
        "CHATMESH_TOKEN": TOKEN,
        "CHATMESH_USER": "ada",
    }

    usual = plan("lobby", **environ)
    once = plan("lobby", "--url", "ws://10.0.0.1:8002", **environ)

    assert usual.url == "wss://chat.example/socket"
    assert usual.token == TOKEN
    assert usual.notices == ()
    assert once.url == "ws://10.0.0.1:8002/connection/websocket"


def test_the_token_says_who_one_is() -> None:
    """A name beside it may agree, not contradict."""
    assert plan("lobby", "--token", TOKEN).user == "ada"
    assert plan("lobby", "--token", TOKEN, "--user", "ada").user == "ada"
    assert "the token is for ada, not for bob" in refusal(
        "lobby", "--token", TOKEN, "--user", "bob"
    )
    assert "nobody in particular" in refusal(
        "lobby", "--token", jwt.encode({}, "x" * 32), "--user", "bob"
    )
    assert "no JSON Web Token" in refusal("lobby", "--token", "abc")


@pytest.mark.parametrize(
    "url", ["wss://chat.example", "ws://10.0.0.1:8001", "ws://127.0.0.1.example"]
)
def test_a_development_token_never_leaves_this_machine(url: str) -> None:
    """Elsewhere it would at best be refused, and at worst be believed."""
    assert "wants a token" in refusal("lobby", "--user", "ada", "--url", url)


def test_a_development_token_wants_a_name() -> None:
    """There is nothing else that says who it is."""
    assert "who are you" in refusal("lobby")


@pytest.mark.parametrize(
    ("given", "completed"),
    [
        ("ws://h:1", "ws://h:1/connection/websocket"),
        ("ws://h:1/", "ws://h:1/connection/websocket"),
        ("http://h:1", "ws://h:1/connection/websocket"),
        ("https://h", "wss://h/connection/websocket"),
        ("h:8001", "ws://h:8001/connection/websocket"),
        ("ws://h/other/path?x=1", "ws://h/other/path?x=1"),
        ("ws://[::1]:8001", "ws://[::1]:8001/connection/websocket"),
    ],
)
def test_an_address_is_completed(given: str, completed: str) -> None:
    """As one finds it in a browser, in a chart, or in one's memory."""
    assert socket_url(given) == completed


@pytest.mark.parametrize(
    "url", ["", "ws://", "ftp://h", "ws://h:port", "ws://h:99999", "ws://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """In one sentence instead of an endless retry."""
    with pytest.raises(CommandError, match="no address"):
        socket_url(url)


@pytest.mark.parametrize(
    ("room", "channel"),
    [("lobby", "room:lobby"), ("news:today", "news:today"), ("#ada", "#ada")],
)
def test_a_bare_name_is_a_room(room: str, channel: str) -> None:
    """Other channels say their namespace."""
    assert channel_of(room) == channel


@pytest.mark.parametrize("room", ["", "two words", "\x1b", "ü", "x" * 300])
def test_what_cannot_be_a_room_is_refused(room: str) -> None:
    """Before anything is connected."""
    with pytest.raises(CommandError, match="cannot be a room"):
        channel_of(room)


@pytest.mark.parametrize("count", ["-1", "1001", "many"])
def test_the_backlog_is_bounded(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By what one page of history holds."""
    with pytest.raises(SystemExit):
        parsed("lobby", "--history", count)

    assert "--history" in capsys.readouterr().err


def test_patience_may_be_endless() -> None:
    """`--give-up never` tries until Ctrl-C."""
    patient = plan("lobby", "--user", "ada", "--give-up", "never")

    assert patient.give_up_s == float("inf")
    assert plan("lobby", "--user", "ada").give_up_s == 60


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """With examples that one can copy."""
    with pytest.raises(SystemExit):
        parsed("--help")

    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert chat.DEFAULT_URL in shown
