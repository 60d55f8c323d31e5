"""One scenario being played: its rooms, its cast, its faults, and what came of them."""

import asyncio
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, cast

import aio_pika.exceptions
import asyncpg
import httpx

from chaos import node
from chaos.checker import Kind, Violation, check
from chaos.chronicle import Chronicle, How, Message, Outcome
from chaos.client import Client, Habits, token_for
from chaos.node import NodeClient
from chaos.proxy import Wire
from chaos.recovery import RECOVERY_S_MAX, Recovery, limit_of, recovery_of
from chaos.sdk import SdkClient
from chaos.stage import SECRET, Stage
from chaos.stalls import Stalls
from chatmesh.local import ports
from chatmesh.local.service import Service
from chatmesh.local.supervisor import how_it_ended
from chatmesh.runtime.tasks import Tasks

LOOK_EVERY_S: Final = 0.02
ASK_EVERY_S: Final = 0.25
"""Where looking is asking somebody: a database, a broker, a process."""
JOINED_WITHIN_S: Final = 120.0
SETTLED_WITHIN_S: Final = 120.0
CAUGHT_UP_WITHIN_S: Final = 120.0
"""Whoever is stuck is stuck after this as well, and nobody else is called that."""
API_WITHIN_S: Final = 60.0
LONG_WAIT_S: Final = 20.0
"""Longer than what is waited for takes; such a wait is told, also where it ended well."""
IN_FLIGHT_MAX: Final = 5
"""Messages of one sender whose fate is open; then it waits, as a person would."""
TOKEN_LIVES_S: Final = 3600.0
NOT_YET: Final = (
    OSError,
    TimeoutError,
    httpx.HTTPError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    aio_pika.exceptions.AMQPError,
)
"""What asking may end with while the one who is asked is away, or busy."""


@dataclass(slots=True)
class Fault:
    """Something that was broken on purpose."""

    name: str
    began_s: float
    ended_s: float
    """When the broken thing was there again; as `began_s` where others take over."""
    strikes: bool = False
    """Whether it stops rooms, and others of the kind may come before it is over."""
    limit_s: float = RECOVERY_S_MAX
    stalled_s: float = 0.0
    """How much of its recovery the machine took, which is added to the limit."""
    recovery: Recovery | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario came to."""

    name: str
    seed: int
    clients: int
    messages: int
    deliveries: int
    faults: list[Fault]
    violations: list[Violation]
    notes: list[str]
    took_s: float
    began_s: float
    latencies: list[tuple[float, float]]
    """When seen, and how long after it was sent first: live deliveries."""
    stalled_s: float = 0.0
    """How much of the time the machine, or the suite itself, stood still."""
    missed_before: list[str] = field(default_factory=list[str])
    """What each earlier try of it came too late with; see `suite.TRIES_MAX`."""

    @classmethod
    def of_nothing(cls, name: str, seed: int, reason: str) -> "Result":
        """Of a scenario that could not be played: late, until somebody has tried again."""
        violation = Violation(Kind.UNKEPT, "", reason)
        now_s = time.monotonic()
        return cls(name, seed, 0, 0, 0, [], [violation], [], 0.0, now_s, [])

    @property
    def recovery_s(self) -> float:
        """The longest of its faults, to the next message on every room."""
        return max(
            (f.recovery.rooms_s for f in self.faults if f.recovery is not None),
            default=0.0,
        )

    @property
    def whole_s(self) -> float:
        """The longest of its faults, to the next message for every member."""
        return max(
            (f.recovery.members_s for f in self.faults if f.recovery is not None),
            default=0.0,
        )


@dataclass(slots=True)
class Pace:
    """How much is said."""

    per_client_s: float = 7.0
    """Messages per second and client."""
    text_chars: int = 60


class Scene:
    """Made by `played`; scenarios call `cast`, `talk`, faults, and leave the rest to it."""

    def __init__(
        self,
        name: str,
        stage: Stage,
        seed: int,
        stretch: float,
        stalls: Stalls | None = None,
    ) -> None:
        """`stretch`: how much longer than in the short form everything takes.

        `stalls`: what the machine took from everybody, and limits have to give back.
        """
        self.name = name
        self.stage = stage
        self.seed = seed
        self.stretch = stretch
        self.chance = random.Random(f"{name} {seed}")
        self.chronicle = Chronicle()
        self.clients: list[Client] = []
        self.seconds: list[Client] = []
        """Second connections of some users, on another gateway, for sending only."""
        self.sdks: list[SdkClient] = []
        self.node: NodeClient | None = None
        self.rooms: list[str] = []
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.violations: list[Violation] = []
        self.latencies: list[tuple[float, float]] = []
        self.began_s = time.monotonic()
        self._stalls = stalls or Stalls()
        self._tasks = Tasks(self._failed)
        self._sending = Tasks(self._failed)
        self.broken_off = False
        """Its end was not played to the end, so nobody knows in which state its stage is."""
        self._balancer: Wire | None = None
        self._numbers = 0
        self._quiet = False
        self._measuring = True
        self._newest: dict[str, float] = {}
        """By room: when the newest message that anybody was given had been sent."""

    # -- The cast ---------------------------------------------------------------------

    async def cast(
        self,
        *,
        clients: int = 40,
        rooms: int = 8,
        rooms_each: int = 2,
        sdks: int = 2,
        with_node: bool = True,
        habits: Sequence[Habits] = (),
        urls: Sequence[str] | None = None,
    ) -> None:
        """Let everybody come in; return when all of them are in all their rooms."""
        self.rooms = [f"room:{self.name}-{self.seed}-{n}" for n in range(rooms)]
        for number in range(clients):
            own = habits[number] if number < len(habits) else Habits()
            client = self._client(f"{self.name}-{number}", own, urls)
            first = number % rooms
            for shift in range(min(rooms_each, rooms)):
                client.join(self.rooms[(first + shift) % rooms])
            client.start()
            self.clients.append(client)
            if number % 4 == 0:
                second = self._client(client.name, Habits(), urls)
                second.start()
                self.seconds.append(second)
        await self._cast_sdks(sdks, with_node=with_node)
        await self.until(self.all_in, JOINED_WITHIN_S, "everybody came in", must=True)

    async def _cast_sdks(self, count: int, *, with_node: bool) -> None:
        gateways = [(ports.LOOPBACK, g.port) for g in self.stage.mesh.gateways]
        self._balancer = Wire(f"{self.name} balancer", gateways, in_turn=True)
        await self._balancer.start()
        url = self.stage.urls[0].replace(
            str(self.stage.mesh.gateways[0].port), str(self._balancer.port)
        )
        for number in range(count):
            name = f"{self.name}-python-{number}"
            sdk = SdkClient(
                name,
                url,
                self.chronicle,
                token=self._token(name),
                on_seen=self._saw,
            )
            await sdk.start()
            for room in self.rooms[:2]:
                await sdk.join(room)
            self.sdks.append(sdk)
        if not with_node:
            return
        lacking = node.missing()
        if lacking is not None:
            self.notes.append(f"no JavaScript client: {lacking}")
            return
        name = f"{self.name}-node"
        self.node = NodeClient(name, self.chronicle, on_seen=self._saw)
        await self.node.start(url, self._token(name), self.rooms[:2])

    def _client(self, name: str, habits: Habits, urls: Sequence[str] | None) -> Client:
        return Client(
            name,
            urls or self.stage.urls,
            self.chronicle,
            secret=SECRET,
            chance=random.Random(self.chance.random()),
            habits=habits,
            on_seen=self._saw,
        )

    def _token(self, name: str) -> str:
        return token_for(name, SECRET, now_s=time.time(), lives_s=TOKEN_LIVES_S)

    def all_in(self) -> bool:
        """Whether every member that stays has been let in."""
        return all(member.lives for member in self.chronicle.members if member.stays)

    def all_connected(self) -> bool:
        return all(client.connected for client in (*self.clients, *self.seconds))

    def second(self, client: Client) -> Client | None:
        """The other connection of the same user, if there is one."""
        return next((one for one in self.seconds if one.name == client.name), None)

    # -- Talking ----------------------------------------------------------------------

    def talk(self, pace: Pace | None = None, clients: Sequence[Client] = ()) -> None:
        """Begin to send, until the scene ends."""
        pace = pace or Pace()
        for client in clients or self.clients:
            self._tasks.spawn(self._talk(client, pace), name=f"{client.name} talks")
        if not clients:
            for sdk in self.sdks:
                self._tasks.spawn(self._talk(sdk, pace), name=f"{sdk.name} talks")

    def talk_in(self, room: str, pace: Pace, clients: Sequence[Client]) -> None:
        """Begin to send to one room only, until the scene ends."""
        for client in clients:
            self._tasks.spawn(
                self._talk(client, pace, [room]), name=f"{client.name} talks in {room}"
            )

    async def _talk(
        self,
        client: Client | SdkClient,
        pace: Pace,
        rooms: Sequence[str] = (),
    ) -> None:
        rooms = rooms or [
            m.channel for m in self.chronicle.members if m.client == client.name
        ]
        in_flight: set[asyncio.Task[None]] = set()
        while not self._quiet:
            await asyncio.sleep(self.chance.expovariate(pace.per_client_s))
            await client.until_connected()
            if len(in_flight) >= IN_FLIGHT_MAX or self._quiet:
                continue
            message = self.new_message(client.name, self.chance.choice(rooms), pace)
            task = self._sending.spawn(
                self.deliver(client, message), name=f"send {message.id}"
            )
            in_flight.add(task)
            task.add_done_callback(in_flight.discard)

    def new_message(
        self, author: str, channel: str, pace: Pace | None = None, text: str = ""
    ) -> Message:
        self._numbers += 1
        message_id = f"{author}-{self._numbers}"
        text = text or f"{message_id} ".ljust((pace or Pace()).text_chars, "x")
        return self.chronicle.message(Message(channel, message_id, author, text))

    def later(self, client: Client, message: Message) -> None:
        """Have a message sent, again if it has been, until its fate is known."""
        self._sending.spawn(self.deliver(client, message), name=f"send {message.id}")

    def once(self, client: Client, message: Message) -> None:
        """Have a message sent a single time, whatever comes of it."""
        self._sending.spawn(client.attempt(message), name=f"send {message.id} once")

    async def deliver(self, client: Client | SdkClient, message: Message) -> None:
        """Send until the fate of a message is known, as an application would."""
        second = self.second(client) if isinstance(client, Client) else None
        by: Client | SdkClient = client
        while True:
            await by.until_connected()
            attempt = await by.attempt(message)
            if attempt.outcome is not Outcome.UNKNOWN:
                return
            await asyncio.sleep(self.chance.uniform(0.1, 0.5))
            # The same id, perhaps by another connection on another gateway.
            by = client if second is None else self.chance.choice([client, second])

    async def for_a_while(self, seconds: float) -> None:
        """Let things be as they are for so long, more in the long form."""
        await asyncio.sleep(seconds * self.stretch)

    # -- Faults -----------------------------------------------------------------------

    @asynccontextmanager
    async def fault(
        self, name: str, *, taken_over: bool = True, strikes: bool = False
    ) -> AsyncGenerator[Fault]:
        """Break something inside of this; at its end it is whole again.

        `taken_over`: others do the work meanwhile, so the time to recover counts from
        the beginning. Where the only one of its kind is away, it counts from its return.
        `strikes`: it may overlap with others; see `recovery.limits_of`.
        """
        now_s = time.monotonic()
        fault = Fault(name, now_s, now_s, strikes)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            if not taken_over:
                fault.ended_s = time.monotonic()

    async def healed(self, fault: Fault) -> None:
        """Wait until every room has had a message sent after the fault."""
        since_s = fault.ended_s

        def every_room() -> bool:
            return not (set(self.rooms) - self._rooms_alive(since_s))

        await self.until(
            every_room, 3 * RECOVERY_S_MAX, f"{fault.name}: every room goes on"
        )

    def heard_in(self, room: str) -> bool:
        """Whether anybody was given anything in a room."""
        return room in self._newest

    def _rooms_alive(self, since_s: float) -> set[str]:
        return {room for room, sent_s in self._newest.items() if sent_s > since_s}

    def must(
        self,
        kept: bool,  # noqa: FBT001 - an assertion
        promise: str,
        *,
        at_any_pace: bool = False,
    ) -> None:
        """Note a broken promise that is not the checker's to find.

        `at_any_pace`: no machine is so slow that it would be excused.
        """
        if not kept:
            kind = Kind.BROKEN if at_any_pace else Kind.UNKEPT
            self.violations.append(Violation(kind, "", promise))

    async def stop(self, service: Service) -> None:
        """SIGTERM, as a deployment does; whoever is asked like that ends with 0."""
        if not service.running:
            return
        began_s = time.monotonic()
        code = await service.process.stop()
        insisted = time.monotonic() - began_s >= service.command.grace_s
        self.must(
            code == 0,
            f"{service.name} {how_it_ended(code)} after SIGTERM",
            # Our own patience ran out: that is a limit in seconds like others.
            at_any_pace=not insisted,
        )

    def stalled_s(self, since_s: float, until_s: float | None = None) -> float:
        """How much of the time since then the machine, or the suite, stood still."""
        now_s = time.monotonic() if until_s is None else until_s
        return self._stalls.within(since_s, now_s)

    async def until(
        self,
        probe: Callable[[], object],
        within_s: float,
        what: str,
        *,
        must: bool = False,
        every_s: float = LOOK_EVERY_S,
    ) -> float:
        """Wait for something, and say how long it took; inf when it did not happen.

        What the machine stalled meanwhile is waited in addition.
        `must`: that it did not happen is a violation by itself, of the late kind.
        """
        started_s = time.monotonic()
        while True:
            if await self._is_so(probe):
                return self._waited(started_s, what)
            stalled_s = self.stalled_s(started_s)
            if time.monotonic() - started_s >= within_s + stalled_s:
                break
            await asyncio.sleep(every_s)
        self._waited(started_s, f"{what}, in vain")
        if must:
            self.must(
                False,  # noqa: FBT003
                f"not within {within_s:g} s, nor {stalled_s:.1f} s of stall: {what}",
            )
        return math.inf

    def _waited(self, since_s: float, what: str) -> float:
        took_s = time.monotonic() - since_s
        if took_s >= LONG_WAIT_S:
            self.notes.append(f"waited for {took_s:.0f} s: {what}")
        return took_s

    async def _is_so(self, probe: Callable[[], object]) -> bool:
        try:
            answer = probe()
            if isinstance(answer, Awaitable):
                answer = await cast("Awaitable[object]", answer)
        except NOT_YET:
            return False
        return bool(answer)

    def _saw(self, channel: str, message_id: str, at_s: float) -> None:
        message = self.chronicle.messages.get((channel, message_id))
        sent_s = message.first_sent_s if message is not None else None
        if sent_s is not None and self._measuring:
            self.latencies.append((at_s, at_s - sent_s))
            if sent_s > self._newest.get(channel, 0.0):
                self._newest[channel] = sent_s

    def latencies_of(self, clients: set[str], since_s: float) -> list[float]:
        """How long messages took to some clients, live ones only."""
        return [
            latency_s
            for client, _, at_s, latency_s in self._live()
            if client in clients and at_s >= since_s
        ]

    def latencies_in(
        self, rooms: set[str], since_s: float, until_s: float
    ) -> list[float]:
        """How long messages took in some rooms, live ones only."""
        return [
            latency_s
            for _, room, at_s, latency_s in self._live()
            if room in rooms and since_s <= at_s <= until_s
        ]

    def _live(self) -> Iterator[tuple[str, str, float, float]]:
        for member in self.chronicle.members:
            for life in member.lives:
                for seen in life.seen:
                    message = self.chronicle.messages.get((member.channel, seen.id))
                    sent_s = message.first_sent_s if message is not None else None
                    if seen.how is How.LIVE and sent_s is not None:
                        yield (
                            member.client,
                            member.channel,
                            seen.at_s,
                            seen.at_s - sent_s,
                        )

    # -- The end ----------------------------------------------------------------------

    async def finish(self) -> Result:
        """Let everything calm down, read the log, and judge."""
        found: list[Violation] = []
        try:
            try:
                if self.rooms:
                    await self._calm_down()
            finally:
                await self._leave()
            # Nobody is given anything any more, so whatever was given is in this log.
            self.chronicle.logs = await self.stage.logs(self.rooms)
            await self._judge_recoveries()
            # Seconds of pure work: other lanes go on meanwhile.
            found = await asyncio.to_thread(check, self.chronicle)
            await self._compare_with_api()
        except Exception as error:  # noqa: BLE001 - the other scenarios shall still be played
            self.must(False, f"the end broke off: {error!r}")  # noqa: FBT003
            self.broken_off = True
        unsettled = sum(
            message.attempts[-1].outcome is Outcome.UNKNOWN
            for message in self.chronicle.messages.values()
            if message.attempts
        )
        if unsettled:
            self.notes.append(f"{unsettled} messages of unknown fate")
        return Result(
            name=self.name,
            seed=self.seed,
            clients=len(self.clients)
            + len(self.seconds)
            + len(self.sdks)
            + (self.node is not None),
            messages=len(self.chronicle.messages),
            deliveries=self.chronicle.deliveries(),
            faults=self.faults,
            violations=self.violations + found,
            notes=self.notes,
            took_s=time.monotonic() - self.began_s,
            began_s=self.began_s,
            latencies=self.latencies,
            stalled_s=self.stalled_s(self.began_s),
        )

    async def _calm_down(self) -> None:
        """Until everybody has what is due, a newcomer too."""
        if self.faults:
            # Silence now would look like a room that never came back.
            await self.healed(max(self.faults, key=lambda fault: fault.ended_s))
        self._quiet = True
        await self._settle()
        self.chronicle.due = await self._caught_up()
        await self._read_afresh()

    async def _judge_recoveries(self) -> None:
        strikes_s = [(f.began_s, f.ended_s) for f in self.faults if f.strikes]
        for fault in self.faults:
            fault.recovery = await asyncio.to_thread(
                recovery_of, self.chronicle, self.rooms, fault.ended_s
            )
            took_s = fault.recovery.rooms_s
            fault.stalled_s = self.stalled_s(fault.ended_s, fault.ended_s + took_s)
            fault.limit_s = limit_of(fault.ended_s, strikes_s) + fault.stalled_s
            self.must(
                took_s <= fault.limit_s,
                f"{fault.name}: {took_s:.1f} s until every room went on, "
                f"{fault.limit_s:.0f} s are allowed",
            )

    async def _settle(self) -> None:
        """Wait for the fate of every message that was begun."""
        if self.node is not None:
            # A scenario that broke off may have left it frozen, with an answer to wait for.
            self.node.thaw()
            self.node.hush()
        await self.until(lambda: not len(self._sending), SETTLED_WITHIN_S, "answers")
        if self.node is not None:
            await self.until(self.node.settled.is_set, SETTLED_WITHIN_S, "node")
        await self._sending.stop(2.0)
        await self._tasks.stop(2.0)

    async def _caught_up(self) -> dict[str, int]:
        """Wait until everybody is where the logs are, and these stay there.

        What was due then; a message whose answer nobody waits for may still come.
        """
        tops = await self.stage.tops(self.rooms)

        async def everybody() -> bool:
            nonlocal tops
            before, tops = tops, await self.stage.tops(self.rooms)
            return tops == before and all(
                follower.position(channel) == tops.get(channel, 0)
                for follower, channel in self._followed()
            )

        await self.until(
            everybody, CAUGHT_UP_WITHIN_S, "everybody caught up", every_s=ASK_EVERY_S
        )
        return tops

    def _followed(self) -> Iterator[tuple[Client | SdkClient | NodeClient, str]]:
        by_name: dict[str, Client | SdkClient | NodeClient] = {
            follower.name: follower for follower in (*self.sdks, *self.clients)
        }
        if self.node is not None:
            by_name[self.node.name] = self.node
        for member in self.chronicle.members:
            if member.stays:
                yield by_name[member.client], member.channel

    async def _read_afresh(self) -> None:
        """A client that has never been there has to end up with the same lists."""
        self._measuring = False  # What is old is no news, however long ago it was sent.
        reader = self._client(f"{self.name}-afresh", Habits(), None)
        for room in self.rooms:
            reader.join(room, since=0)
        reader.start()
        try:
            await self.until(
                lambda: all(
                    reader.position(name) >= top
                    for name, top in self.chronicle.due.items()
                ),
                CAUGHT_UP_WITHIN_S,
                "a fresh client has read everything",
            )
        finally:
            await reader.stop()

    async def _compare_with_api(self) -> None:
        """The service API has to tell the same as the database."""
        # Where there is no log, the checker says so.
        there = [room for room in self.rooms if room in self.chronicle.logs]
        if not there:
            return
        room = self.chance.choice(there)

        async def the_same() -> bool:
            # Of this moment: a message whose sender has given up may come at any time.
            log = (await self.stage.logs([room]))[room]
            return await self.stage.api_log(room) == [e.offset for e in log.entries]

        await self.until(
            the_same,
            API_WITHIN_S,
            f"history's HTTP API tells {room}",
            must=True,
            every_s=ASK_EVERY_S,
        )

    async def _leave(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in (*self.clients, *self.seconds):
                group.create_task(client.stop())
            for sdk in self.sdks:
                group.create_task(sdk.stop())
            if self.node is not None:
                group.create_task(self.node.stop())
        if self._balancer is not None:
            await self._balancer.stop()

    def _failed(self, task: str, failure: BaseException) -> None:
        self.must(False, f"{task} failed: {failure!r}", at_any_pace=True)  # noqa: FBT003
