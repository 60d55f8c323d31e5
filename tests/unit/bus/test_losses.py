"""A lost line is one kind of failure, however the client library puts it."""

import pytest
from aiormq.exceptions import ChannelInvalidStateError, ConnectionClosed

from chatmesh.bus.losses import losses_as, losses_ignored


class Lost(Exception):
    """What callers know."""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionClosed(320, "shutdown"),
        ChannelInvalidStateError("closed"),
        ConnectionResetError(),
        TimeoutError(),
        # What waiters get when the broker closes the socket between two frames.
        Exception(),
    ],
)
def test_every_way_of_losing_a_line_is_told_as_one(error: Exception) -> None:
    """Also the bare exception that the library raises where it knows no cause."""
    with pytest.raises(Lost) as told, losses_as(lambda _: Lost()):
        raise error

    assert told.value.__cause__ is error
    with losses_ignored():
        raise error


@pytest.mark.parametrize("error", [ValueError("bug"), Lost("told already")])
def test_a_bug_stays_a_bug(error: Exception) -> None:
    """Nothing else is taken for a lost line."""
    with pytest.raises(type(error)) as raised, losses_as(lambda _: Lost("other")):
        raise error
    assert raised.value is error

    with pytest.raises(type(error)), losses_ignored():
        raise error
