"""What may stand in a report."""

import pytest

from chatmesh.presence.reports import refuse, refuse_status
from chatmesh.wire import limits, users
from chatmesh.wire.presence import Active, Change, Joined, Left
from chatmesh.wire.topics import partition_of

ROOM = "room:tea"
HERE = partition_of(ROOM)


@pytest.mark.parametrize(
    "change",
    [
        Joined(ROOM, "a1", "ada", b"{}", b"{}"),
        Joined(ROOM, "x1"),
        Left(ROOM, "a1"),
        Active(ROOM, "ada"),
        Active(ROOM, "owl", what="thinking"),
    ],
)
def test_facts_are_taken(change: Change) -> None:
    """What gateways usually say is fine."""
    assert refuse(change, HERE) is None


@pytest.mark.parametrize(
    "change",
    [
        Joined("no channel", "a1"),
        Joined("", "a1"),
        Joined(ROOM, ""),
        Joined(ROOM, "a\0"),
        Joined(ROOM, "a" * 256),
        Joined(ROOM, "a1", "a\0da"),
        Joined(ROOM, "a1", "\1ada"),
        Joined(ROOM, "a1", "a" * 256),
        Joined(ROOM, "a1", "ada", b"x" * (limits.COMMAND_BYTES_MAX + 1)),
        Left(ROOM, ""),
        Active(ROOM, "ada", what=""),
        Active(ROOM, "a\0da"),
    ],
)
def test_what_cannot_be_stored_or_shown_is_refused(change: Change) -> None:
    """With a reason, before it reaches anybody else."""
    assert refuse(change, HERE)


def test_a_channel_of_another_partition_is_refused() -> None:
    """Two replicas would keep it, and contradict each other."""
    assert refuse(Joined(ROOM, "a1"), (HERE + 1) % limits.PARTITIONS)


def test_a_status_is_a_line() -> None:
    """Short, and without line ends."""
    assert refuse_status("at lunch") is None
    assert refuse_status("") is None
    assert refuse_status("x" * (limits.STATUS_CHARS_MAX + 1))
    assert refuse_status("two\nlines")


def test_user_names_are_what_tokens_say() -> None:
    """Anything printable; an empty name is nobody's."""
    assert users.refusal("Ada Lovelace/1, ada@example.org") is None
    assert users.refusal("") is None
