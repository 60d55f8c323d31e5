"""Commands of our own: sent down the common path, answered by number."""

import asyncio

import pytest

from chatmesh.bus.outgoing import LinkLost
from chatmesh.history.ports import LogUnavailable, OutcomeUnknown
from chatmesh.history.publishing import CommandPublisher
from chatmesh.wire.messages import CommandBatch, Outcome, PublishCommand
from chatmesh.wire.topics import partition_of
from support.history_doubles import QuickClock

COMMAND = PublishCommand("room:a", "1", b"{}", user="ada")


class CommandLinkDouble:
    reply_to = "mine"

    def __init__(self, *, lost: bool = False) -> None:
        self.sent: list[tuple[int, CommandBatch]] = []
        self.lost = lost

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        if self.lost:
            raise LinkLost("gone")
        self.sent.append((partition, batch))


def publisher(link: CommandLinkDouble | None) -> CommandPublisher:
    made = CommandPublisher("me", clock=QuickClock(), within_s=0.05)
    made.use(link)
    return made


async def test_the_outcome_finds_who_asked() -> None:
    """By number; strangers' numbers are passed over."""
    link = CommandLinkDouble()
    asking = publisher(link)
    waiting = asyncio.ensure_future(asking.publish(COMMAND))
    await asyncio.sleep(0)

    ((partition, batch),) = link.sent
    (sent,) = batch.commands
    asking.settle(
        [Outcome(999, "room:a", "x"), Outcome(sent.request, "room:a", "1", 5)]
    )

    assert (await waiting).offset == 5
    assert partition == partition_of("room:a")
    assert (batch.origin, batch.reply_to) == ("me", "mine")


async def test_no_answer_in_time_is_an_unknown_outcome() -> None:
    """Neither success nor failure may be claimed."""
    with pytest.raises(OutcomeUnknown):
        await publisher(CommandLinkDouble()).publish(COMMAND)


async def test_a_link_lost_while_sending_is_an_unknown_outcome() -> None:
    """The broker may have had the command."""
    with pytest.raises(OutcomeUnknown):
        await publisher(CommandLinkDouble(lost=True)).publish(COMMAND)


async def test_without_a_link_nothing_was_sent() -> None:
    """Then it is certain, and said so."""
    with pytest.raises(LogUnavailable):
        await publisher(None).publish(COMMAND)
