"""A client that does what the official SDKs do, and writes down everything.

It comes back with full jitter, asks to recover, pages history when it is told that it
could not, obeys 2500, and sends a message again with the same id, perhaps through
another gateway, until it knows what became of it. Whatever it is given it notes as it
came: repeats and holes are for the checker to find.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import jwt
import msgspec

from chaos import spoken
from chaos.chronicle import (
    Attempt,
    Chronicle,
    Goodbye,
    How,
    Life,
    Member,
    Message,
    Outcome,
    Seen,
)
from chaos.spoken import Error, Publication, Reply, Subscribed
from chaos.websocket import Refused, WebSocket
from chatmesh.runtime.backoff import Backoff
from chatmesh.runtime.tasks import Tasks

BACKOFF_BASE_S: Final = 0.1
BACKOFF_CAP_S: Final = 4.0
ANSWER_WITHIN_S: Final = 5.0
"""As long as SDKs wait for a reply."""
SUBSCRIBED_WITHIN_S: Final = 15.0
"""Longer: the reply has up to a mebibyte in it, and all clients of a scenario share one
process that has to read it."""
PING_GRACE_S: Final = 10.0
"""A connection whose ping is this late is dead, as for SDKs."""
PAGE_ENTRIES: Final = 200
FINAL_CODES: Final = (range(3500, 4000), range(4500, 5000))
RESUBSCRIBE_MIN: Final = 2500
CONFLICT: Final = 409
TOKEN_EXPIRED: Final = 109

Answer = Callable[[Reply | None], None]
"""Hears the reply to a command, or None when the connection ended before it."""


def token_for(user: str, secret: str, *, now_s: float, lives_s: float) -> str:
    """A connection token, as an application's backend makes them."""
    claims = {"sub": user, "iat": int(now_s), "exp": int(now_s + lives_s)}
    return jwt.encode(claims, secret, algorithm="HS256")


@dataclass(slots=True)
class _Room:
    """One subscription of one client."""

    member: Member
    position: tuple[str, int] | None = None
    life: Life | None = None
    held: list[Publication] | None = None
    """Live publications that wait while what was missed is read from history."""
    wants: bool = True
    asking: bool = False
    """A subscribe, or the reading of what was missed, is on its way."""
    asked_s: float = 0.0


@dataclass(slots=True)
class Habits:
    """How a client differs from the others."""

    lives_on: int | None = None
    """Index of the gateway it always comes back to; None: another one each time."""
    token_lives_s: float = 3600.0
    clock_ahead_s: float = 0.0
    """How wrong its own clock, and that of whoever makes its tokens, is."""
    small_buffer: bool = False
    expired_first: bool = False
    """Its first token has run out already; it has to be told so and get another one."""


class Client:
    """One user's connection. `run` keeps it up; everything else may be called any time."""

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        chronicle: Chronicle,
        *,
        secret: str,
        chance: random.Random,
        habits: Habits | None = None,
        on_seen: Callable[[str, str, float], None] | None = None,
    ) -> None:
        """`on_seen` hears channel, id and time of everything that is given to it."""
        self.name = name
        self.urls = list(urls)
        self.habits = habits or Habits()
        self._chronicle = chronicle
        self._secret = secret
        self._chance = chance
        self._on_seen = on_seen
        self._backoff = Backoff(BACKOFF_BASE_S, BACKOFF_CAP_S, chance)
        self._rooms: dict[str, _Room] = {}
        self._socket: WebSocket | None = None
        self._ended: asyncio.Future[None] | None = None
        self._up = asyncio.Event()
        self._numbers = 0
        self._waiting: dict[int, Answer] = {}
        self._ping_due_s = 0.0
        self._ping_every_s = 0
        self._refresh_due_s = 0.0
        lives_on = self.habits.lives_on
        self._turn = chance.randrange(len(urls)) if lives_on is None else lives_on
        self._tasks = Tasks(self._failed)
        self._stopping = False
        self._expired = self.habits.expired_first
        self._token_ends_s = 0
        """When its newest token runs out, by the clock of the gateways."""
        self.connects = 0
        """Handshakes that a gateway accepted."""
        self.connect_times_s: list[float] = []
        self.refusals = 0
        """Handshakes that were answered with "not now"."""

    # -- Life -------------------------------------------------------------------------

    def start(self) -> None:
        self._tasks.spawn(self._run(), name=f"client {self.name}")

    async def stop(self) -> None:
        """Leave for good."""
        self._stopping = True
        if self._socket is not None:
            self._socket.close()
        await self._tasks.stop(2.0)
        if self._socket is not None:
            self._socket.tear()

    def join(self, channel: str, *, since: int | None = None) -> Member:
        """Follow a channel, through all reconnects: from now on, or behind an offset."""
        room = _Room(self._chronicle.join(self.name, channel))
        if since is not None:
            room.position = ("", since)
        self._rooms[channel] = room
        if self._up.is_set():
            self._subscribe(room)
        return room.member

    def leave(self, channel: str) -> None:
        """Expect nothing more of a channel."""
        room = self._rooms.pop(channel)
        room.member.stays = False

    def follows(self, channel: str) -> bool:
        return channel in self._rooms

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @property
    def gateway(self) -> str:
        """Where it is, or will try next."""
        return self.urls[self._turn % len(self.urls)]

    def position(self, channel: str) -> int:
        """Offset of the last publication it was given; -1 before the first reply."""
        room = self._rooms[channel]
        return room.position[1] if room.position and not room.asking else -1

    def tear(self) -> None:
        """Lose the network in the middle of whatever is said."""
        if self._socket is not None:
            self._socket.tear()

    def freeze(self) -> None:
        if self._socket is not None:
            self._socket.freeze()

    def thaw(self) -> None:
        if self._socket is not None:
            self._socket.thaw()

    def move(self) -> None:
        """Go to the next gateway, properly."""
        if self._socket is not None:
            self._socket.close()

    # -- Sending ----------------------------------------------------------------------

    async def attempt(self, message: Message) -> Attempt:
        """Send once and wait for the answer as long as an SDK would."""
        attempt = Attempt(self.gateway, time.monotonic())
        message.attempts.append(attempt)
        reply = await self._ask(
            lambda number: spoken.send(
                number, message.channel, message.id, message.text
            )
        )
        if reply is None:
            return attempt
        attempt.answered_s = time.monotonic()
        if reply.rpc is not None:
            attempt.outcome = Outcome.COMMITTED
            attempt.offset = reply.rpc.data.offset
            if reply.rpc.data.id != message.id:
                self._trouble(f"sent {message.id}, answered {reply.rpc.data.id}")
        elif reply.error is not None:
            attempt.code = reply.error.code
            if not reply.error.temporary:
                attempt.outcome = Outcome.REFUSED
        return attempt

    async def until_connected(self) -> None:
        await self._up.wait()

    # -- The connection ---------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopping:
            url = self.gateway
            wait_s = 0.0
            try:
                await self._one_connection(url)
            except Refused as refused:
                self.refusals += 1
                # Retry-After, and spread over it: that is what it is for.
                wait_s = refused.retry_after_s * self._chance.uniform(0.5, 1.5)
            except (OSError, TimeoutError):
                pass  # What networks do; the chronicle shows what came of it.
            if self.habits.lives_on is None:
                self._turn += 1
            await asyncio.sleep(max(wait_s, self._backoff.next_s()))

    async def _one_connection(self, url: str) -> None:
        """Connect, and return when the connection has ended. Raises OSError."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = ended
        socket = await WebSocket.open(
            url,
            self._heard,
            self._closed,
            small_buffer=self.habits.small_buffer,
        )
        self._socket = socket
        try:
            self.connect_times_s.append(time.monotonic())
            self._ping_due_s = 0.0
            # As the JavaScript SDK does: everything in the first frame.
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            connecting = self._number(_into(answer))
            frames = [spoken.connect(connecting, self._token())]
            frames += [
                self._subscription(room) for room in self._rooms.values() if room.wants
            ]
            socket.send(b"\n".join(frames))
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reply = await answer
            if reply.connect is None:
                socket.close()
                self._refused(reply)
                return
            if self._expired:
                self._trouble("a token that had run out was taken")
            self.connects += 1
            self._ping_every_s = reply.connect.ping
            self._saw_ping()
            if reply.connect.expires:
                self._plan_refresh(reply.connect.ttl)
            self._backoff.reset()
            self._up.set()
            await self._watch(ended)
        finally:
            self._up.clear()
            self._socket = None
            socket.tear()
            self._forget_answers()
            for room in self._rooms.values():
                room.life = None
                room.held = None
                room.asking = False

    def _refused(self, reply: Reply) -> None:
        """Only a token that has run out, or a temporary error, lets a client try again."""
        error = reply.error
        if self._ran_out(error):
            # SDKs ask for another one, and come again.
            self._expired = False
        elif error is None or not error.temporary:
            self._trouble(f"connect was answered with {error}")

    async def _watch(self, ended: "asyncio.Future[None]") -> None:
        """Until the connection ends, or pings stay away; refresh tokens meanwhile."""
        while not ended.done():
            await asyncio.wait([ended], timeout=0.5)
            now_s = time.monotonic()
            if self._ping_every_s and now_s > self._ping_due_s:
                return
            if any(self._overdue(room, now_s) for room in self._rooms.values()):
                return
            if self._refresh_due_s and now_s > self._refresh_due_s:
                self._refresh_due_s = 0.0
                self._tasks.spawn(self._refresh(), name=f"refresh {self.name}")

    def _overdue(self, room: _Room, now_s: float) -> bool:
        """A subscribe that is not answered ends the connection, in SDKs too."""
        waits = room.asking and room.life is None
        return waits and now_s > room.asked_s + SUBSCRIBED_WITHIN_S

    async def _refresh(self) -> None:
        token = self._token()
        reply = await self._ask(lambda number: spoken.refresh(number, token))
        if reply is not None and reply.refresh is not None:
            self._plan_refresh(int(reply.refresh.get("ttl", 0)))
        elif reply is None or reply.error is None:
            return  # The connection ends with its token, and there will be another one.
        elif reply.error.temporary or self._ran_out(reply.error):
            self._plan_refresh(1)
        else:
            self._trouble(f"refresh was answered with {reply.error.code}")

    def _ran_out(self, error: Error | None) -> bool:
        """Whether it was told so of its token, and that is true."""
        told = error is not None and error.code == TOKEN_EXPIRED
        return told and time.time() >= self._token_ends_s

    def _plan_refresh(self, ttl_s: int) -> None:
        self._refresh_due_s = time.monotonic() + ttl_s if ttl_s else 0.0

    def _token(self) -> str:
        now_s = time.time() - 2.0
        lives_s = 1.0
        if not self._expired:
            now_s = time.time() + self.habits.clock_ahead_s
            # The backend's clock may be wrong as well, within what the token still bears.
            lives_s = self.habits.token_lives_s - min(0.0, self.habits.clock_ahead_s)
        self._token_ends_s = int(now_s + lives_s)
        return token_for(self.name, self._secret, now_s=now_s, lives_s=lives_s)

    def _closed(self, code: int, reason: str) -> None:
        final = any(code in codes for codes in FINAL_CODES)
        self._chronicle.goodbyes.append(
            Goodbye(self.name, code, reason, time.monotonic(), final)
        )
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    # -- Questions --------------------------------------------------------------------

    def _number(self, answer: Answer) -> int:
        """A number for the next command, and who hears its reply."""
        self._numbers += 1
        self._waiting[self._numbers] = answer
        return self._numbers

    async def _ask(self, command: Callable[[int], bytes]) -> Reply | None:
        """Give a command; None when no answer came in time or at all."""
        socket = self._socket
        if socket is None or not self._up.is_set():
            return None
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        number = self._number(_into(answer))
        socket.send(command(number))
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await answer
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._waiting.pop(number, None)

    def _forget_answers(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer(None)

    # -- Subscriptions ----------------------------------------------------------------

    def _subscription(self, room: _Room) -> bytes:
        """The subscribe command for a room, and someone who waits for its reply."""
        asked = room.position
        room.asking = True
        room.asked_s = time.monotonic()
        number = self._number(lambda reply: self._subscribed(room, asked, reply))
        return spoken.subscribe(number, room.member.channel, asked)

    def _subscribe(self, room: _Room) -> None:
        if self._socket is not None:
            self._socket.send(self._subscription(room))

    async def _subscribe_later(self, room: _Room) -> None:
        await asyncio.sleep(self._chance.uniform(0.05, 0.5))
        if self._up.is_set() and room.life is None and not room.asking:
            self._subscribe(room)

    def _subscribed(
        self,
        room: _Room,
        asked: tuple[str, int] | None,
        reply: Reply | None,
    ) -> None:
        if reply is None:
            return
        if reply.error is not None:
            room.asking = False
            if reply.error.temporary:
                self._tasks.spawn(
                    self._subscribe_later(room), name=f"subscribe {self.name}"
                )
            else:
                room.wants = False
                channel = room.member.channel
                self._trouble(f"subscribe to {channel} was refused: {reply.error}")
            return
        assert reply.subscribe is not None
        self._begin_life(room, asked, reply.subscribe)

    def _begin_life(
        self, room: _Room, asked: tuple[str, int] | None, result: Subscribed
    ) -> None:
        start = result.offset if asked is None else asked[1]
        room.life = Life(
            self.gateway,
            result.epoch,
            start,
            recovering=asked is not None,
            recovered=result.recovered,
            began_s=time.monotonic(),
        )
        room.member.lives.append(room.life)
        if asked is None or result.recovered:
            room.position = (result.epoch, start)
            room.asking = False
            for publication in result.publications:
                self._see(room, publication, How.RECOVERED)
            return
        if result.publications:
            self._trouble("publications in a reply that says not recovered")
        room.held = []
        self._tasks.spawn(
            self._page(room, room.life, result.epoch, result.offset),
            name=f"page {self.name}",
        )

    async def _page(self, room: _Room, life: Life, epoch: str, top: int) -> None:
        """Read what was missed from history, then go on with what waited meanwhile."""
        assert room.position is not None
        room.position = (epoch, room.position[1])
        while room.life is life and room.position[1] < top:
            since = room.position
            reply = await self._ask(
                lambda number, since=since: spoken.history(
                    number, room.member.channel, since, PAGE_ENTRIES
                )
            )
            if room.life is not life:
                return
            if reply is None or reply.history is None or not reply.history.publications:
                await asyncio.sleep(self._chance.uniform(0.05, 0.5))
                continue
            for publication in reply.history.publications:
                if publication.offset <= top:
                    self._see(room, publication, How.PAGED)
        if room.life is not life:
            return
        held, room.held = room.held or [], None
        room.asking = False
        for publication in held:
            self._see(room, publication, How.LIVE)

    def _see(self, room: _Room, publication: Publication, how: How) -> None:
        if room.life is None:
            return
        now_s = time.monotonic()
        author = publication.info.user if publication.info is not None else ""
        body = publication.data
        room.life.seen.append(
            Seen(publication.offset, body.id, author, body.text, now_s, how)
        )
        # As SDKs do: the position is the last one handled, whatever it is.
        assert room.position is not None
        room.position = (room.position[0], publication.offset)
        if self._on_seen is not None and how is not How.PAGED:
            self._on_seen(room.member.channel, body.id, now_s)

    # -- Heard ------------------------------------------------------------------------

    def _heard(self, frame: bytes) -> None:
        try:
            replies = spoken.heard(frame)
        except msgspec.DecodeError as error:
            self._trouble(f"unreadable frame: {error}")
            self.tear()
            return
        for reply in replies:
            if reply.push is not None:
                self._pushed(reply.push)
            elif reply.id:
                self._answered(reply)
            else:
                self._saw_ping()
                if self._socket is not None:
                    self._socket.send(spoken.PONG)

    def _answered(self, reply: Reply) -> None:
        answer = self._waiting.pop(reply.id, None)
        if answer is not None:
            # Now, not a turn later: what follows in this very frame may already
            # belong to a subscription that this reply begins.
            answer(reply)

    def _pushed(self, push: spoken.Push) -> None:
        room = self._rooms.get(push.channel)
        if room is None:
            return
        if push.pub is not None:
            if room.life is None:
                self._trouble(f"publication in {push.channel} before its reply")
            elif room.held is not None:
                room.held.append(push.pub)
            else:
                self._see(room, push.pub, How.LIVE)
        elif push.unsubscribe is not None:
            room.life = None
            room.held = None
            room.asking = False
            if push.unsubscribe.code >= RESUBSCRIBE_MIN:
                self._subscribe(room)
            else:
                room.wants = False
                self._trouble(f"unsubscribed with {push.unsubscribe.code}")

    def _saw_ping(self) -> None:
        self._ping_due_s = time.monotonic() + self._ping_every_s + PING_GRACE_S

    def _trouble(self, what: str) -> None:
        self._chronicle.troubles.append(f"{self.name}: {what}")

    def _failed(self, task: str, failure: BaseException) -> None:
        self._trouble(f"{task} failed: {failure!r}")


def _into(future: "asyncio.Future[Reply]") -> Answer:
    """An answer that ends up in a future; None becomes a ConnectionError."""

    def answered(reply: Reply | None) -> None:
        if future.done():
            return
        if reply is None:
            future.set_exception(ConnectionError("the connection ended"))
            future.exception()  # Whoever awaits it hears; nobody has to.
        else:
            future.set_result(reply)

    return answered
