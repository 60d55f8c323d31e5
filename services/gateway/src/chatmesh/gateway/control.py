"""What gateways do for each other: acts on everybody's connections, answers gathered.

Nothing here is special about this gateway: what it asks of all it asks of itself too,
over the broker, so that an answer proves the way. Who has to answer is known from
heartbeats; one that beats and does not answer is an error, one that has fallen silent
is gone.
"""

import asyncio
import fnmatch
import functools
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, assert_never

from chatmesh.bus.link import PublishFailed
from chatmesh.gateway.connection import Connection
from chatmesh.gateway.gateway import Gateway
from chatmesh.gateway.policy import Policy
from chatmesh.gateway.ports import ControlBus
from chatmesh.gateway.rules.grants import NotNow
from chatmesh.gateway.subscriptions import Grant, overridden
from chatmesh.gateway.tokens import Override
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import close_codes, control, errors
from chatmesh.wire.client import StreamPosition
from chatmesh.wire.control import (
    Act,
    Answer,
    Ask,
    Beat,
    Bye,
    ControlMessage,
    Emulated,
    Told,
)
from chatmesh.wire.errors import ErrorReply

log = logging.getLogger(__name__)

BEAT_EVERY_S: Final = 1.0
BEAT_LOST_S: Final = 5.0
"""A gateway not heard of for so long is forgotten."""
ANSWER_WITHIN_S: Final = 2.5
"""Every gateway has answered by then, or something is wrong with it."""
ASKS_MAX: Final = 1000
"""Questions under way at once; one more is refused."""
STANDING_SHARE: Final = 0.8
"""Of that time, what a subscription may take to stand: then it is said that it does not."""
CHANNELS_MAX: Final = 20_000
"""Channels one gateway lists in one answer."""
CHANNELS_PER_LOOK: Final = 2000
"""Channels looked at before others get a turn."""
ALTERNATIVES_MAX: Final = 64
"""What a pattern's braces may expand to."""


_OVERRIDES: Final = frozenset(Override.__struct_fields__)
"""What this version knows to decide; a newer gateway may ask for more."""


class Unanswered(Exception):
    """What was asked of all gateways may have been done by some of them only."""


class BadPattern(ValueError):
    """A pattern that cannot be used; says why."""


@dataclass(slots=True)
class _Asked:
    since_s: float
    waiting: set[str]
    answered: "asyncio.Future[None]"
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])


class Control:
    """One gateway among the gateways."""

    def __init__(
        self,
        bus: ControlBus,
        gateway: Gateway,
        policy: Policy,
        *,
        node: str,
        name: str,
        version: str,
        clock: Clock,
        tasks: Tasks,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        self.node = node
        self._answer_within_s = answer_within_s
        self._bus = bus
        self._gateway = gateway
        self._policy = policy
        self._name = name
        self._version = version
        self._clock = clock
        self._tasks = tasks
        self._up_since_s = clock.monotonic_s()
        self._heard_s: dict[str, float] = {}
        self._asked: dict[int, _Asked] = {}
        self._last = 0
        self._leaving = False

    # -- Asking -----------------------------------------------------------------------

    async def ask(self, act: Act) -> list[Answer]:
        """Have all gateways do something; gives what each said.

        Raises Unanswered when one of them may not have done it, or when too much is
        being asked already. A client that has given up waiting cancels.
        """
        if not self._bus.connected:
            raise Unanswered("no link to the broker")
        if len(self._asked) >= ASKS_MAX:
            raise Unanswered("too many questions at once")
        self._last += 1
        request = self._last
        asked = _Asked(
            self._clock.monotonic_s(),
            {*self._heard_s, self.node},
            asyncio.get_running_loop().create_future(),
        )
        self._asked[request] = asked
        try:
            async with asyncio.timeout(self._answer_within_s):
                await self._bus.tell_gateways(Ask(request, self._bus.reply_to, act))
                await asked.answered
        except PublishFailed as failed:
            raise Unanswered(str(failed)) from failed
        except TimeoutError:
            self._judge(asked)
        finally:
            del self._asked[request]
        return list(asked.answers.values())

    def _judge(self, asked: _Asked) -> None:
        """Time is up: whoever has not even beaten since is gone; the others are missed."""
        missed = [
            node
            for node in asked.waiting
            if node == self.node or self._heard_s.get(node, 0.0) > asked.since_s
        ]
        if missed:
            raise Unanswered(f"{len(missed)} gateways did not answer in time")

    async def emulate(self, node: str, session: str, data: bytes) -> None:
        """Take a client's commands to the gateway that holds its stream.

        Raises PublishFailed; unroutable when there is no such gateway.
        """
        if node == self.node:
            self._gateway.emulate(session, data)
        else:
            await self._bus.tell_gateway(node, Emulated(session, data))

    # -- Being there ------------------------------------------------------------------

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            if self._bus.connected and not self._leaving:
                await self._tell(Beat(self.node))
            self._forget_the_silent()
            await self._clock.sleep(BEAT_EVERY_S)

    async def link_up(self) -> None:
        """A line stands: say hello, and hear who else is there.

        Who was known before is still waited for: they may not have noticed anything.
        """
        self._tasks.spawn(self._tell(Beat(self.node, first=True)), name="hello")

    async def leave(self) -> None:
        """This gateway is about to stop: the others need not wait for it."""
        self._leaving = True
        if self._bus.connected:
            await self._tell(Bye(self.node))

    async def _tell(self, message: ControlMessage) -> None:
        try:
            await self._bus.tell_gateways(message)
        except PublishFailed as failed:
            # The next beat says the same.
            log.debug("heartbeat not sent", extra={"reason": str(failed)})

    def _forget_the_silent(self) -> None:
        if not self._bus.connected:
            return  # It is we who hear nothing.
        oldest_s = self._clock.monotonic_s() - BEAT_LOST_S
        silent = [node for node, at_s in self._heard_s.items() if at_s < oldest_s]
        for node in silent:
            del self._heard_s[node]

    # -- Heard ------------------------------------------------------------------------

    def hear(self, message: ControlMessage) -> None:
        match message:
            case Ask():
                self._hear_ask(message)
            case Told():
                self._hear_told(message)
            case Beat():
                self._heard_s[message.node] = self._clock.monotonic_s()
                if message.first and message.node != self.node and not self._leaving:
                    self._tasks.spawn(self._tell(Beat(self.node)), name="greeting")
            case Bye():
                self._heard_s.pop(message.node, None)
            case Emulated():
                self._gateway.emulate(message.session, message.data)
            case _:
                assert_never(message)

    def _hear_told(self, told: Told) -> None:
        asked = self._asked.get(told.request)
        if asked is None:
            return
        asked.answers[told.node] = told.answer
        asked.waiting.discard(told.node)
        if not asked.waiting and not asked.answered.done():
            asked.answered.set_result(None)

    def _hear_ask(self, ask: Ask) -> None:
        if isinstance(ask.act, control.ListChannels):
            # Many channels are many: others get their turn in between.
            listing = self._list_channels(ask.act.pattern)
            self._tasks.spawn(self._answer_later(ask, listing), name="list channels")
            return
        if isinstance(ask.act, control.Subscribe):
            # Begun at once, so that what is asked next finds it; answered when it stands.
            standing = self._standing(self._subscribe(ask.act))
            self._tasks.spawn(self._answer_later(ask, standing), name="subscribe")
            return
        answer = self.perform(ask.act)
        self._tasks.spawn(self._answer(ask, answer), name="answer")

    async def _answer_later(self, ask: Ask, answer: Awaitable[Answer]) -> None:
        await self._answer(ask, await answer)

    async def _answer(self, ask: Ask, answer: Answer) -> None:
        try:
            told = Told(ask.request, self.node, answer)
            await self._bus.answer(ask.reply_to, told)
        except PublishFailed as failed:
            log.info("answer not sent", extra={"reason": str(failed)})

    # -- Done here --------------------------------------------------------------------

    def perform(self, act: Act) -> Answer:
        """Do here what was asked of every gateway."""
        match act:
            case control.Disconnect():
                goodbye = close_codes.Disconnect(act.code, act.reason)
                spared = frozenset(act.spared)
                found = self._gateway.people.find(act.target)
                going = [c for c in found if c.session.client_id not in spared]
                return _each(going, lambda connection: connection.close(goodbye))
            case control.Unsubscribe():
                return _each(
                    self._gateway.people.find(act.target),
                    lambda connection: connection.unsubscribe(
                        act.channel, close_codes.UNSUBSCRIBED_BY_SERVER
                    ),
                )
            case control.Refresh():
                return self._refresh(act)
            case control.Forget():
                self._gateway.feed.forget_tail(act.channel)
                return control.Done()
            case control.Survey():
                return self._count()
            case control.ListChannels() | control.Subscribe():
                raise AssertionError("listing and subscribing take their time")
            case _:
                assert_never(act)

    def _subscribe(
        self, act: control.Subscribe
    ) -> "list[asyncio.Future[ErrorReply | None]]":
        """Begin to subscribe whom it concerns; each says later whether that stands."""
        options = self._policy.options(act.channel)
        if options is None:
            return [_decided(errors.UNKNOWN_CHANNEL)]
        decided = {name: v for name, v in act.override.items() if name in _OVERRIDES}
        grant = Grant(
            act.channel,
            overridden(options, Override(**decided)),
            expires_at_s=act.expire_at_s,
            info=act.info,
            data=act.data,
            since=(
                StreamPosition(act.since.offset, act.since.epoch)
                if act.since is not None
                else None
            ),
        )
        told: list[asyncio.Future[ErrorReply | None]] = []
        for connection in self._gateway.people.find(act.target):
            stands: asyncio.Future[ErrorReply | None]
            stands = asyncio.get_running_loop().create_future()
            try:
                connection.subscribe(grant, functools.partial(_decide, stands))
            except NotNow as not_now:
                _decide(stands, not_now.error)
            told.append(stands)
        return told

    async def _standing(
        self, told: "list[asyncio.Future[ErrorReply | None]]"
    ) -> Answer:
        try:
            async with asyncio.timeout(self._answer_within_s * STANDING_SHARE):
                outcomes = [await one for one in told]
        except TimeoutError:
            late = "a subscription does not stand in time"
            return _refused(errors.because(errors.INTERNAL, late))
        for error in outcomes:
            if error is not None:
                return _refused(error)
        return control.Done(len(outcomes))

    def _refresh(self, act: control.Refresh) -> Answer:
        found = self._gateway.people.find(act.target)
        if act.expired:
            goodbye = close_codes.CONNECTION_EXPIRED
            return _each(found, lambda connection: connection.close(goodbye))
        return _each(
            found, lambda connection: connection.refresh(act.expire_at_s, act.info)
        )

    def _count(self) -> control.Node:
        hub = self._gateway.hub
        return control.Node(
            self.node,
            self._name,
            self._version,
            num_clients=len(self._gateway.connections),
            num_users=len(self._gateway.people),
            num_subs=hub.subscriptions,
            num_channels=len(hub),
            uptime_s=int(self._clock.monotonic_s() - self._up_since_s),
        )

    async def _list_channels(self, pattern: str) -> Answer:
        try:
            matches = matcher(pattern)
        except BadPattern as bad:
            return _refused(errors.because(errors.BAD_REQUEST, str(bad)))
        hub = self._gateway.hub
        names = hub.channels()
        counts: dict[str, int] = {}
        for start in range(0, len(names), CHANNELS_PER_LOOK):
            for name in names[start : start + CHANNELS_PER_LOOK]:
                if matches(name):
                    counts[name] = hub.count(name)
            if len(counts) > CHANNELS_MAX:
                reason = f"over {CHANNELS_MAX} channels: narrow the pattern"
                return _refused(errors.because(errors.LIMIT_EXCEEDED, reason))
            await asyncio.sleep(0)
        return control.ChannelCounts(counts)


def _each(found: Iterable[Connection], act: Callable[[Connection], None]) -> Answer:
    count = 0
    for connection in found:
        act(connection)
        count += 1
    return control.Done(count)


def _decide(
    stands: "asyncio.Future[ErrorReply | None]", error: ErrorReply | None
) -> None:
    if not stands.done():  # Whoever asked may not wait any more.
        stands.set_result(error)


def _decided(error: ErrorReply) -> "asyncio.Future[ErrorReply | None]":
    decided: asyncio.Future[ErrorReply | None]
    decided = asyncio.get_running_loop().create_future()
    decided.set_result(error)
    return decided


def _refused(error: ErrorReply) -> control.Refused:
    return control.Refused(error.code, error.message, error.temporary)


def matcher(pattern: str) -> Callable[[str], bool]:
    """Judges names by a shell-like pattern. Raises BadPattern.

    Empty matches everything. Its time is linear: the standard library's translation
    does not try the same stars twice.
    """
    if not pattern:
        return lambda _: True
    parts = [fnmatch.translate(one) for one in _alternatives(pattern)]
    judge = re.compile("|".join(parts)).match
    return lambda name: judge(name) is not None


def _alternatives(pattern: str) -> list[str]:
    """A pattern without braces for each way to read it."""
    before, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    inside, end, after = rest.partition("}")
    if not end or "{" in inside:
        raise BadPattern("braces that do not close, or within braces")
    tails = _alternatives(after)
    expanded = [
        before + choice + tail for choice in inside.split(",") for tail in tails
    ]
    if len(expanded) > ALTERNATIVES_MAX:
        raise BadPattern(f"braces with more than {ALTERNATIVES_MAX} alternatives")
    return expanded


assert BEAT_EVERY_S * 2 < ANSWER_WITHIN_S, "whoever lives has beaten when time is up"
assert ANSWER_WITHIN_S < BEAT_LOST_S, "nobody is forgotten while its answer is due"
