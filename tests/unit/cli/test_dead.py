"""What a dead letter says of itself, whoever put it there."""

import argparse
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from chatmesh.cli import dead
from chatmesh.cli.command import CommandError
from support.lost_lines import LOST, ending_with

OURS = {
    "cause": "malformed: not msgpack",
    "died-ms": 1_700_000_000_000,
    "origin-exchange": "chatmesh.commands",
    "origin-routing-key": "03",
    "origin-queue": "chatmesh.history.commands.03",
}
BROKERS = {
    "x-death": [
        {
            "reason": "delivery_limit",
            "queue": "chatmesh.history.commands.03",
            "exchange": "chatmesh.commands",
            "routing-keys": ["03"],
            "time": datetime(2023, 11, 14, tzinfo=UTC),
            "count": 1,
        }
    ]
}


def test_a_letter_of_ours_says_why_when_and_from_where() -> None:
    """As history wrote it."""
    letter = dead.letter_of(OURS, b"x")

    assert letter.cause == "malformed: not msgpack"
    assert letter.died == "2023-11-14T22:13:20+00:00"
    assert (letter.exchange, letter.routing_key) == ("chatmesh.commands", "03")
    assert letter.replayable


def test_a_letter_of_the_brokers_says_it_too() -> None:
    """In its own words."""
    letter = dead.letter_of(BROKERS, b"x")

    assert "delivery_limit" in letter.cause
    assert letter.died.startswith("2023-11-14")
    assert letter.queue == "chatmesh.history.commands.03"
    assert letter.replayable


def test_a_letter_that_says_nothing_cannot_be_replayed() -> None:
    """Nobody knows where it belongs."""
    letter = dead.letter_of({}, b"x")

    assert not letter.replayable
    assert letter.died == "unknown"


def test_letters_are_told_apart_by_what_is_in_them() -> None:
    """The same letter has the same id each time one looks, and no other has it."""
    assert dead.letter_of(OURS, b"x").id == dead.letter_of(OURS, b"x").id
    assert dead.letter_of(OURS, b"x").id != dead.letter_of(OURS, b"y").id
    assert dead.letter_of(OURS, b"x").id != dead.letter_of(BROKERS, b"x").id


@pytest.mark.parametrize("words", [["drop"], ["drop", "abc", "--all"]])
def test_one_says_which_letters_are_meant(words: list[str]) -> None:
    """Named ones or all, not neither and not both."""
    parser = argparse.ArgumentParser()
    dead.add_to(parser)
    arguments = parser.parse_args(words)

    with pytest.raises(CommandError, match="name the letters"):
        arguments.run(arguments, {})


@pytest.mark.parametrize("error", [*LOST, TimeoutError(), ConnectionResetError()])
def test_a_broker_that_goes_away_is_told_in_a_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a traceback, in whichever way the line ends."""
    monkeypatch.setattr(aio_pika, "connect", ending_with(error))
    parser = argparse.ArgumentParser()
    dead.add_to(parser)
    arguments = parser.parse_args(["list", "--amqp-url", "amqp://h", "--prefix", "p"])

    with pytest.raises(CommandError, match=r"does not let us look: .+"):
        arguments.run(arguments, {})


@pytest.mark.parametrize("error", [*LOST, TimeoutError()])
async def test_a_letter_whose_line_ends_while_it_is_sent_was_not_taken(
    error: Exception,
) -> None:
    """It stays where it is, and why is said."""
    exchange = SimpleNamespace(publish=ending_with(error))
    channel = SimpleNamespace(default_exchange=exchange)
    office = dead._Office(
        cast("AbstractChannel", channel), cast("AbstractQueue", None), 1
    )
    letter = dead.letter_of({**OURS, "origin-exchange": ""}, b"x")

    assert (await office.send_back(letter) or "").startswith("not taken by the broker")
