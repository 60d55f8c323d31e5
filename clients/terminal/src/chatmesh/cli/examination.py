"""What a deployment is examined for: each check says what it found and what to do.

A check never raises for what it finds; it gives findings. Whatever it asks has a
deadline, and nothing is changed but one message in the canary's room.
"""

import asyncio
import http.client
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from typing import Any, Final, cast

import aio_pika
import asyncpg
from aio_pika.exceptions import ChannelNotFoundEntity

from chatmesh.bus.losses import is_loss
from chatmesh.cli.room import Access, Ended, Joined, Lost, Room, Said, Unreachable
from chatmesh.cli.sending import Draft, RefusedError, TryAgainError
from chatmesh.postgres.database import connect
from chatmesh.postgres.migrations import pending, shipped
from chatmesh.runtime.clock import Clock
from chatmesh.runtime.startup import CannotStart
from chatmesh.wire import limits
from chatmesh.wire.topics import Topics

WITHIN_S: Final = 10.0
"""Until a neighbour has to have answered."""
CANARY_WITHIN_S: Final = 15.0
SKEW_MAX_S: Final = 0.5
"""Clocks further apart than this make every latency we show a fiction."""
HTTP_SKEW_MAX_S: Final = 2.0
"""The same by a Date header, which counts whole seconds."""

_MIGRATING: Final = ("history", "presence", "agent")
_NEEDED: Final = ("history", "presence")
_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    ok: bool
    text: str
    """What was found; when it is bad, followed by what to do."""


def good(check: str, text: str) -> list[Finding]:
    return [Finding(check, ok=True, text=text)]


def bad(check: str, text: str) -> list[Finding]:
    return [Finding(check, ok=False, text=text)]


# -- Broker ---------------------------------------------------------------------------

BROKER: Final = "broker"
CONSUMERS: Final = "consumers"
DEAD: Final = "dead letters"
BUILTIN: Final = "builtin"
"""The pool of the tools that come with the agents."""


async def examine_broker(
    url: str, topics: Topics, pools: Sequence[str] = (BUILTIN,)
) -> list[Finding]:
    """Whether the broker answers, has our queues, and somebody takes from each.

    `pools` are those of tools, as far as they are there.
    """
    try:
        async with (
            asyncio.timeout(WITHIN_S),
            await aio_pika.connect(url, timeout=WITHIN_S) as connection,
        ):
            return [
                *good(BROKER, "answers"),
                *await _examine_queues(connection, topics, pools),
            ]
    except Exception as error:
        if not is_loss(error):
            raise
        return bad(
            BROKER,
            f"does not answer ({_words(error)}); check amqp_url and that RabbitMQ runs",
        )


async def _examine_queues(
    connection: aio_pika.abc.AbstractConnection, topics: Topics, pools: Sequence[str]
) -> list[Finding]:
    partitions = range(limits.PARTITIONS)
    wanted = {
        "history": [*map(topics.command_queue, partitions), topics.history_rpc_queue],
        "presence": [
            *map(topics.presence_reports_queue, partitions),
            topics.presence_rpc_queue,
        ],
    }
    findings: list[Finding] = []
    for service, queues in wanted.items():
        alone: list[str] = []
        waiting = 0
        for queue in queues:
            seen = await _look_at(connection, queue)
            if seen is None:
                findings += bad(
                    CONSUMERS,
                    f"there is no queue {queue}: no process of this mesh has ever"
                    " reached this broker; check amqp_url and prefix",
                )
                break
            if not seen.consumer_count:
                alone.append(queue)
            waiting += seen.message_count or 0
        else:
            findings += _consumption(service, queues, alone, waiting)
    findings += await _examine_agents(connection, topics, pools)
    dead = await _look_at(connection, topics.dead_letters)
    if dead is not None and dead.message_count:
        findings += bad(
            DEAD,
            f"{dead.message_count} wait for a decision; see `chatmesh dead list`",
        )
    elif dead is not None:
        findings += good(DEAD, "none")
    return findings


async def _examine_agents(
    connection: aio_pika.abc.AbstractConnection, topics: Topics, pools: Sequence[str]
) -> list[Finding]:
    """Agents and the tools that come with them; a mesh without them is none the worse."""
    findings: list[Finding] = []
    # Agents themselves declare this one; the other is there in every mesh.
    messages = await _look_at(connection, topics.agent_messages_queue)
    requests = await _look_at(connection, topics.agent_rpc_queue)
    if messages is not None and requests is not None:
        seen = {
            topics.agent_messages_queue: messages,
            topics.agent_rpc_queue: requests,
        }
        alone = [queue for queue, counts in seen.items() if not counts.consumer_count]
        waiting = sum(counts.message_count or 0 for counts in seen.values())
        findings += _consumption("agent", list(seen), alone, waiting)
    for queue in map(topics.tool_pool_queue, pools):
        counts = await _look_at(connection, queue)
        if counts is None:
            continue
        if counts.consumer_count:
            findings += good(
                CONSUMERS,
                f"tools take from {queue}, {counts.message_count or 0} waiting",
            )
        else:
            findings += bad(
                CONSUMERS,
                f"no worker takes from {queue}, {counts.message_count or 0} waiting:"
                " agents cannot call its tools; start a worker of that pool",
            )
    return findings


def _consumption(
    service: str, queues: Sequence[str], alone: Sequence[str], waiting: int
) -> list[Finding]:
    if not alone:
        text = f"{service} takes from all its {len(queues)} queues, {waiting} waiting"
        return good(CONSUMERS, text)
    if len(alone) == len(queues):
        return bad(CONSUMERS, f"no {service} is running; start one")
    return bad(
        CONSUMERS,
        f"nobody takes from {', '.join(alone)}: a replica of {service} has died or"
        f" hangs; others take over within its lease, else restart {service}",
    )


async def _look_at(connection: aio_pika.abc.AbstractConnection, queue: str) -> Any:  # noqa: ANN401 - the broker's own answer
    """Counts of a queue; None when there is none. A refusal costs the channel."""
    channel = await connection.channel()
    try:
        declared = await channel.declare_queue(queue, passive=True)
    except ChannelNotFoundEntity:
        return None
    await channel.close()
    return declared.declaration_result


# -- Database -------------------------------------------------------------------------

DATABASE: Final = "database"
MIGRATIONS: Final = "migrations"
CLOCK: Final = "clock"


async def examine_database(url: str, clock: Clock) -> list[Finding]:
    """Whether it answers, takes writes, has all tables, and knows what time it is."""
    try:
        connection = await connect(
            url,
            application="chatmesh-doctor",
            connect_s=WITHIN_S,
            statement_s=WITHIN_S,
        )
    except (asyncpg.PostgresError, OSError, TimeoutError, ValueError) as error:
        return bad(
            DATABASE,
            f"does not answer ({_words(error)}); check database_url and that"
            " PostgreSQL runs",
        )
    try:
        return [
            *await _examine_writes(connection),
            *await _examine_migrations(connection),
            *await _examine_clock(connection, clock),
        ]
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        return bad(DATABASE, f"stopped answering ({_words(error)})")
    finally:
        connection.terminate()


async def _examine_writes(connection: "asyncpg.Connection[Any]") -> list[Finding]:
    standby = await connection.fetchval("SELECT pg_is_in_recovery()")
    read_only = await connection.fetchval("SHOW default_transaction_read_only")
    if standby or read_only == "on":
        return bad(
            DATABASE,
            "answers but takes no writes: it is a standby or read-only; point"
            " database_url at the primary",
        )
    return good(DATABASE, "answers and takes writes")


async def _examine_migrations(connection: "asyncpg.Connection[Any]") -> list[Finding]:
    findings: list[Finding] = []
    for service in _MIGRATING:
        try:
            rows = await connection.fetch(
                f"SELECT number, checksum FROM {service}_migrations"  # noqa: S608 - our own word
            )
        except asyncpg.UndefinedTableError:
            if service in _NEEDED:
                findings += bad(
                    MIGRATIONS,
                    f"{service} has never made its tables here; start it, or run"
                    f" `python -m chatmesh.{service} migrate`",
                )
            continue
        applied = {row["number"]: row["checksum"] for row in rows}
        findings += await asyncio.to_thread(_compare, service, applied)
    return findings


def _compare(service: str, applied: dict[int, str]) -> list[Finding]:
    """Against what the package ships, where it is installed beside this command."""
    package = f"chatmesh.{service}.migrations"
    try:
        there = find_spec(package) is not None
    except ModuleNotFoundError:
        there = False
    newest = max(applied, default=0)
    if not there:
        return good(
            MIGRATIONS,
            f"{service} is at {newest:04d} (its package is not installed here, so"
            " whether that is all is not known)",
        )
    try:
        todo = pending(shipped(package), applied)
    except CannotStart as error:
        return bad(MIGRATIONS, f"{service}: {error}")
    if todo:
        return bad(
            MIGRATIONS,
            f"{service} lacks {todo[0].name}; run `python -m chatmesh.{service}"
            " migrate`",
        )
    return good(MIGRATIONS, f"{service} is current, at {newest:04d}")


async def _examine_clock(
    connection: "asyncpg.Connection[Any]", clock: Clock
) -> list[Finding]:
    before_ms = clock.unix_ms()
    theirs = await connection.fetchval(
        "SELECT extract(epoch FROM clock_timestamp())::float8"
    )
    ours = (before_ms + clock.unix_ms()) / 2000
    return skew("the database", cast("float", theirs) - ours, SKEW_MAX_S)


def skew(whose: str, ahead_s: float, at_most_s: float) -> list[Finding]:
    """Judge how far somebody's clock is ahead of ours."""
    if abs(ahead_s) <= at_most_s:
        return good(CLOCK, f"{whose} agrees with this machine")
    direction = "ahead of" if ahead_s > 0 else "behind"
    return bad(
        CLOCK,
        f"{whose} is {abs(ahead_s):.1f} s {direction} this machine: latencies and token"
        " expiries are wrong by that; make both follow the same time server",
    )


# -- Processes ------------------------------------------------------------------------

PROCESS: Final = "process"


async def examine_process(url: str, clock: Clock) -> list[Finding]:
    """Whether a process is ready, by its HTTP port, and if not, which check says so."""
    return await asyncio.to_thread(_ask_process, url.rstrip("/"), clock)


def _ask_process(url: str, clock: Clock) -> list[Finding]:
    try:
        with urllib.request.urlopen(  # noqa: S310 - the operator names it
            f"{url}/readyz", timeout=WITHIN_S
        ) as answer:
            date = answer.headers.get("date", "")
    except urllib.error.HTTPError as error:
        if error.code != _UNAVAILABLE:
            return bad(PROCESS, f"{url} answers {error.code}; is it one of ours?")
        return bad(PROCESS, f"{url} is not ready: {_reasons(error.read())}")
    except (OSError, http.client.HTTPException) as error:
        return bad(PROCESS, f"{url} does not answer ({_words(error)}); is it running?")
    found = good(PROCESS, f"{url} is ready")
    if date:
        ahead_s = parsedate_to_datetime(date).timestamp() - clock.unix_ms() / 1000
        found += skew(url, ahead_s, HTTP_SKEW_MAX_S)
    return found


def _reasons(body: bytes) -> str:
    try:
        checks: dict[str, dict[str, Any]] = json.loads(body)["checks"]
        told = [
            f"{name} ({state['reason']})" if state["reason"] else name
            for name, state in checks.items()
            if not state["ok"]
        ]
    except (ValueError, KeyError, TypeError):
        return "it does not say why"
    return ", ".join(told) or "it does not say why"


# -- Delivery -------------------------------------------------------------------------

DELIVERY: Final = "delivery"


async def examine_delivery(accesses: Sequence[Access], channel: str) -> list[Finding]:
    """Send one message through the first gateway and wait for it on every one."""
    rooms = [Room(access, channel) for access in accesses]
    try:
        findings: list[Finding] = []
        for access, room in zip(accesses, rooms, strict=True):
            await room.join()
            if reason := await _entered(room):
                findings += bad(DELIVERY, f"{access.url}: {reason}")
        if findings:
            return findings
        return await _send_canary(accesses, rooms)
    finally:
        for room in rooms:
            await room.leave()


async def _entered(room: Room) -> str:
    """Wait until the room is heard; why it is not, or nothing."""
    last = "no answer in time; is this a gateway, and may it be reached from here?"
    try:
        async with asyncio.timeout(CANARY_WITHIN_S):
            while True:
                match await room.events.get():
                    case Joined():
                        return ""
                    case Ended(reason):
                        return f"{reason}; check the token and the room's namespace"
                    case Unreachable(reason):
                        last = f"cannot connect ({reason}); is the gateway running?"
                    case Lost():
                        last = "the connection is lost again and again"
                    case _:
                        pass
    except TimeoutError:
        return last


async def _send_canary(
    accesses: Sequence[Access], rooms: Sequence[Room]
) -> list[Finding]:
    started_s = time.monotonic()
    draft = Draft(f"chatmesh doctor {secrets.token_hex(4)}")
    try:
        async with asyncio.timeout(CANARY_WITHIN_S):
            confirmed = await rooms[0].send(draft)
    except (TryAgainError, TimeoutError) as error:
        return bad(
            DELIVERY,
            f"a message sent to {accesses[0].url} was not committed in time"
            f" ({_words(error)}); look at history, its consumers and the database",
        )
    except RefusedError as error:
        return bad(DELIVERY, f"{accesses[0].url} refused a message: {error}")
    findings = good(
        DELIVERY,
        f"committed through {accesses[0].url} in"
        f" {(time.monotonic() - started_s) * 1000:.0f} ms",
    )
    for access, room in zip(accesses, rooms, strict=True):
        if await _heard(room, confirmed.offset):
            findings += good(DELIVERY, f"delivered by {access.url}")
        else:
            findings += bad(
                DELIVERY,
                f"{access.url} did not deliver what was committed: its events do not"
                " reach it; see its canary and broker checks, and restart it",
            )
    return findings


async def _heard(room: Room, offset: int) -> bool:
    try:
        async with asyncio.timeout(CANARY_WITHIN_S):
            while True:
                event = await room.events.get()
                if isinstance(event, Said) and event.offset >= offset:
                    return True
    except TimeoutError:
        return False


# -- All of it ------------------------------------------------------------------------


async def examine(
    checks: Sequence[Callable[[], Awaitable[list[Finding]]]],
) -> list[Finding]:
    """Run checks side by side; findings in the order of the checks."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(check)) for check in checks]
    return [finding for task in tasks for finding in task.result()]


async def _awaited(check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    return await check()


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    # Who is waiting when the broker ends the connection is not told why.
    return str(error).strip() or "the connection was lost"
