"""Sends commands of our own down the path every command takes, and waits for answers."""

import asyncio
import itertools
from typing import Final, Protocol

from chatmesh.bus.outgoing import LinkLost
from chatmesh.history.ports import LogUnavailable, OutcomeUnknown
from chatmesh.runtime.clock import Clock
from chatmesh.wire import errors
from chatmesh.wire.messages import CommandBatch, Outcome, PublishCommand
from chatmesh.wire.topics import partition_of

WAITING_MAX: Final = 1000
"""Callers that wait for an outcome at the same time."""


class CommandLink(Protocol):
    """The broker link as the publisher sees it."""

    @property
    def reply_to(self) -> str:
        """Queue that this link answers are delivered to."""
        ...

    async def send_commands(self, partition: int, batch: CommandBatch) -> None:
        """Put commands on their queue, confirmed. Raises LinkLost."""
        ...


class CommandPublisher:
    """`ports.Publisher`. Outcomes come back through `settle`."""

    def __init__(self, origin: str, *, clock: Clock, within_s: float) -> None:
        self._origin = origin
        self._clock = clock
        self._within_s = within_s
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._link: CommandLink | None = None

    def use(self, link: CommandLink | None) -> None:
        """Send through this link from now on; None: there is none at the moment."""
        self._link = link

    def settle(self, outcomes: list[Outcome]) -> None:
        """Hear outcomes; those nobody waits for any more are of no interest."""
        for outcome in outcomes:
            waiting = self._waiting.get(outcome.request)
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome)

    async def publish(self, command: PublishCommand) -> Outcome:
        """Send a command and wait for its outcome. Raises OutcomeUnknown.

        Raises LogUnavailable when it was certainly not sent.
        """
        link = self._link
        if link is None:
            raise LogUnavailable("no broker link")
        if len(self._waiting) >= WAITING_MAX:
            raise LogUnavailable("too many publications wait already")
        number = next(self._numbers)
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        batch = CommandBatch(
            origin=self._origin,
            reply_to=link.reply_to,
            commands=[
                PublishCommand(
                    command.channel,
                    command.id,
                    command.data,
                    command.info,
                    command.user,
                    request=number,
                    tags=command.tags,
                )
            ],
            sent_ms=self._clock.unix_ms(),
        )
        try:
            async with asyncio.timeout(self._within_s):
                await link.send_commands(partition_of(command.channel), batch)
                return await waiting
        except (TimeoutError, LinkLost) as error:
            raise OutcomeUnknown(errors.OUTCOME_UNKNOWN.message) from error
        finally:
            del self._waiting[number]
