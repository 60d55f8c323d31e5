"""Taking part in a room: what happens there is shown, what is typed gets there.

Both without holes and in order, over connections that come and go.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final, Protocol

from chatmesh.cli import lines
from chatmesh.cli.desk import Command, Desk
from chatmesh.cli.lines import Message, count
from chatmesh.cli.room import (
    REPLACED,
    Connected,
    Ended,
    Event,
    Joined,
    Lost,
    Page,
    Said,
    Unreachable,
)
from chatmesh.cli.runs import Told
from chatmesh.cli.sending import (
    RETRY_BASE_S,
    RETRY_CAP_S,
    Confirmed,
    Draft,
    Failed,
    RefusedError,
    TryAgainError,
    deliver,
)
from chatmesh.cli.transcript import Transcript, Verdict
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.clock import Clock

PAGE_ENTRIES: Final = 200
"""Entries read at once when something is missing."""

TO_SHOW_MAX: Final = 1000
"""Publications that may wait to be shown; then further events wait in their room."""

DRAFTS_MAX: Final = 100
"""Messages that may wait to be sent; then typing waits."""


class Screen(Protocol):
    """Where a conversation is read and typed."""

    def message(self, message: Message) -> None:
        """Show one message below the ones before it."""
        ...

    def notice(self, text: str) -> None:
        """Say something about the conversation itself."""
        ...

    def status(self, link: str, waiting: list[str]) -> None:
        """How things are now: the connection, and what is not confirmed yet."""
        ...

    def live(self, shown: list[str]) -> None:
        """Show what agents are writing just now; other lines replace these."""
        ...

    def lines(self) -> AsyncIterator[str | Command]:
        """What is typed, until the reader has had enough."""
        ...


class Link(Protocol):
    """One room over one connection that comes back by itself; see `room.Room`."""

    @property
    def events(self) -> asyncio.Queue[Event]: ...
    async def send(self, draft: Draft) -> Confirmed: ...
    async def call(self, method: str, data: dict[str, object]) -> object: ...
    async def newest(self, limit: int) -> Page: ...
    async def after(self, offset: int, epoch: str, limit: int) -> Page: ...


class Conversation:
    """One person in one room.

    `listen` and `deliver_drafts` run side by side; `say` hands over what is typed.
    """

    def __init__(
        self,
        link: Link,
        screen: Screen,
        *,
        clock: Clock,
        chance: random.Random,
        backlog: int,
        give_up_s: float,
        stop_when_unknown: bool,
    ) -> None:
        self.joined = asyncio.Event()
        self.failures = 0
        self._link = link
        self._screen = screen
        self._clock = clock
        self._chance = chance
        self._backlog = backlog
        self._give_up_s = give_up_s
        self._stop_when_unknown = stop_when_unknown
        self._transcript = Transcript()
        self._state = "connecting…"
        self._gateway = ""
        self._away = False
        self._was_here = False
        self._to_show: asyncio.Queue[tuple[Joined | Said, bool]] = asyncio.Queue(
            TO_SHOW_MAX
        )
        self._heard = 0
        """Highest offset that arrived, shown by now or not."""
        self._left_at: int | None = None
        """What had arrived when the connection went; None once it is said to be back."""
        self._missed = 0
        """Messages behind `_left_at` shown by now, whichever way they came."""
        self._return_untold = False
        self._drafts: asyncio.Queue[Draft] = asyncio.Queue(DRAFTS_MAX)
        self._waiting: dict[str, str] = {}
        self._confirmed_top = 0
        self._moved = asyncio.Event()
        self._desk = Desk(link.call, screen, clock)

    # -- What happens in the room -----------------------------------------------------

    async def listen(self) -> str:
        """Show what happens until it is over; return why.

        How the connection is, is said at once; publications are shown one after the
        other, and reading what is missing between them may take a while.
        """
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(self._show_in_order())
            keeping_up = group.create_task(self._desk.keep_up())
            reason = await self._sort_events()
            await self._to_show.join()
            showing.cancel()
            keeping_up.cancel()
        return reason

    async def _sort_events(self) -> str:
        while True:
            event = await self._link.events.get()
            match event:
                case Connected():
                    self._gateway = lines.plain(event.gateway)
                case Lost():
                    self._go_away("connection lost, retrying…")
                case Unreachable():
                    reason = lines.plain(event.reason)
                    self._go_away(f"no connection: {reason}; retrying…")
                case Joined():
                    await self._to_show.put((event, self._come_back()))
                case Said():
                    self._heard = max(self._heard, event.offset)
                    await self._to_show.put((event, False))
                case Told():
                    self._desk.hear(event)
                case Ended():
                    return event.reason

    async def _show_in_order(self) -> None:
        while True:
            event, back = await self._to_show.get()
            if isinstance(event, Joined):
                await self._join(event, back=back)
            else:
                await self._take(event)
            if self._to_show.empty():
                self._tell_caught_up()
            self._to_show.task_done()

    async def shown_confirmed(self) -> None:
        """Return once everything that was confirmed to us has also been shown."""
        while self._transcript.started and (
            self._transcript.position < self._confirmed_top
        ):
            self._moved.clear()
            await self._moved.wait()

    def _go_away(self, notice: str) -> None:
        """Say it once per outage, not once per attempt."""
        if not self._away:
            self._away = True
            if self._left_at is None:
                self._left_at = self._known
            self._screen.notice(notice)
        self._state = "no connection, retrying…"
        self._show_status()

    @property
    def _known(self) -> int:
        return max(self._heard, self._transcript.position)

    def _come_back(self) -> bool:
        """Whether one had been here before, and away."""
        back = self._away and self._was_here
        if not self._was_here:
            self._left_at = None
        self._was_here = True
        self._away = False
        self._state = f"on {self._gateway}" if self._gateway else "connected"
        self._show_status()
        return back

    async def _join(self, joined: Joined, *, back: bool) -> None:
        if not joined.durable:
            if back:
                self._screen.notice("back")
        elif not self._transcript.started or not self._transcript.belongs(joined.epoch):
            if self._transcript.started:
                self._tell_replaced()
            elif self._left_at is not None:
                # The connection went again before this was looked at.
                self._left_at = max(self._left_at, joined.top)
            await self._begin(joined.top, joined.epoch)
        else:
            # What was recovered stands behind this event in the queue, and may have
            # begun to come before it, or with an attempt that did not last.
            if not joined.recovered:
                await self._fill(joined.top)
            self._return_untold |= back
        self.joined.set()
        self._desk.join()

    async def _begin(self, top: int, epoch: str) -> None:
        """Show the newest messages and go on from there."""
        self._transcript.start(top, epoch)
        if not self._backlog:
            return
        try:
            page = await self._read(lambda: self._link.newest(self._backlog))
        except RefusedError as error:
            self._screen.notice(f"earlier messages cannot be read: {error}")
            return
        if page.epoch:
            self._transcript.epoch = page.epoch
        for entry in page.entries:
            self._show(entry)

    async def _take(self, said: Said) -> None:
        verdict = self._transcript.judge(said.offset)
        if verdict is Verdict.GAP:
            await self._fill(said.offset - 1)
            # What was read may have gone beyond what was missing.
            verdict = self._transcript.judge(said.offset)
        if verdict is Verdict.SHOW:
            self._show(said)

    async def _fill(self, until: int) -> None:
        """Read and show what is missing up to an offset."""
        while self._transcript.position < until:
            position, epoch = self._transcript.position, self._transcript.epoch
            try:
                page = await self._read(
                    lambda at=position, of=epoch: self._link.after(at, of, PAGE_ENTRIES)
                )
            except RefusedError as error:
                if error.code == REPLACED:
                    self._tell_replaced()
                    await self._begin(0, "")
                else:
                    missing = count(until - position, "message")
                    self._screen.notice(f"{missing} cannot be read: {error}")
                    self._transcript.shown(until)
                return
            fresh = [entry for entry in page.entries if entry.offset > position]
            missing_until = fresh[0].offset - 1 if fresh else until
            if missing_until > position:
                missing = count(missing_until - position, "message")
                self._screen.notice(f"{missing} no longer kept")
                self._transcript.shown(missing_until)
            for entry in fresh:
                self._show(entry)

    async def _read(self, ask: Callable[[], Awaitable[Page]]) -> Page:
        """Ask until there is an answer. Raises RefusedError when there will be none."""
        backoff = Backoff(RETRY_BASE_S, RETRY_CAP_S, self._chance)
        while True:
            try:
                return await ask()
            except TryAgainError:
                await self._clock.sleep(backoff.next_s())

    def _show(self, said: Said) -> None:
        if said.message is not None:
            if self._left_at is not None and said.offset > self._left_at:
                self._missed += 1
            at_ms = said.message.at_ms or self._clock.unix_ms()
            message = replace(said.message, at_ms=at_ms)
            if message.run:
                self._desk.over(message)
            self._screen.message(message)
            if message.foot:
                self._screen.notice(f"{message.user}: {message.foot}")
        self._transcript.shown(said.offset)
        self._moved.set()

    def _tell_caught_up(self) -> None:
        if not self._return_untold:
            return
        missed = count(self._missed, "message") if self._missed else "nothing"
        ending = "caught up" if self._missed else "missed"
        self._end_outage()
        self._screen.notice(f"back; {missed} {ending}")

    def _end_outage(self) -> None:
        """Count from nothing again; by now the next outage may have begun."""
        self._missed, self._return_untold = 0, False
        self._left_at = self._known if self._away else None

    def _tell_replaced(self) -> None:
        """Offsets of another log say nothing about what was missed."""
        self._heard = 0
        self._end_outage()
        self._screen.notice("this room's history was replaced; this is what it has now")

    # -- What is typed ----------------------------------------------------------------

    async def say(self, text: str) -> None:
        """Have a message sent behind those that wait; waits while too many do."""
        draft = Draft(text)
        self._waiting[draft.id] = text
        self._show_status()
        await self._drafts.put(draft)

    async def obey(self, command: Command) -> None:
        """Do what was typed and is nothing to say to the room."""
        await self._desk.obey(command)

    async def all_answered(self) -> None:
        """Return once every message is confirmed or given up."""
        await self._drafts.join()

    @property
    def unanswered(self) -> int:
        """Messages that are neither confirmed nor given up."""
        return len(self._waiting)

    async def deliver_drafts(self) -> None:
        """Send what is typed, one after the other, so that its order is kept."""
        lost_order = False
        while True:
            draft = await self._drafts.get()
            if lost_order:
                outcome: Confirmed | Failed = Failed(
                    "not tried, because an earlier one may still arrive", unknown=False
                )
            else:
                outcome = await self._deliver(draft)
            del self._waiting[draft.id]
            if isinstance(outcome, Failed):
                self.failures += 1
                doubt = " (it may have arrived all the same)" if outcome.unknown else ""
                self._screen.notice(
                    f"NOT SENT: {lines.shortened(draft.text)}"
                    f" — {lines.plain(outcome.reason)}{doubt}"
                )
                lost_order |= outcome.unknown and self._stop_when_unknown
            else:
                self._confirmed_top = max(self._confirmed_top, outcome.offset)
            self._show_status()
            self._drafts.task_done()

    async def _deliver(self, draft: Draft) -> Confirmed | Failed:
        told: list[str] = []

        def retrying(reason: str) -> None:
            if not told and not self._away:
                self._screen.notice(
                    f"not confirmed yet ({lines.plain(reason)});"
                    " sending again, it cannot get in twice"
                )
            told.append(reason)

        return await deliver(
            draft,
            self._link.send,
            clock=self._clock,
            give_up_s=self._give_up_s,
            chance=self._chance,
            retrying=retrying,
        )

    def _show_status(self) -> None:
        self._screen.status(self._state, list(self._waiting.values()))
