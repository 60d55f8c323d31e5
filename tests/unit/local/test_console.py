"""Lines of several processes on one terminal."""

import io

from chatmesh.local.console import Console


def test_every_line_says_who_spoke() -> None:
    """Names are padded, so that the lines stand below each other."""
    stream = io.StringIO()
    console = Console(stream, colour=False)

    console.sink("gateway-1")("up")
    console.say("one\ntwo")

    assert stream.getvalue() == (
        "gateway-1  | up\nchatmesh   | one\nchatmesh   | two\n"
    )


def test_colours_are_for_terminals() -> None:
    """A pipe gets plain text."""
    coloured, plain = io.StringIO(), io.StringIO()

    Console(coloured, colour=True).sink("history")("x")
    Console(plain, colour=False).sink("history")("x")

    assert "\x1b[" in coloured.getvalue()
    assert "\x1b[" not in plain.getvalue()


def test_a_terminal_that_went_away_stops_nothing() -> None:
    """What runs goes on until somebody asks it to stop."""
    stream = io.StringIO()
    console = Console(stream, colour=False)
    stream.close()

    console.say("nobody hears this")
