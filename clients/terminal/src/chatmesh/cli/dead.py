"""`chatmesh dead`: look at dead letters, send them back, or let them go."""

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity

from chatmesh.bus.brokers import one_of
from chatmesh.bus.losses import is_loss, losses_as
from chatmesh.cli.command import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    CommandError,
    Environ,
)
from chatmesh.runtime import settings
from chatmesh.wire import dead_letters, messages
from chatmesh.wire.topics import Topics

SUMMARY: Final = "Dead letters: what nobody could process, and why."

CONNECT_S: Final = 10.0
PUBLISH_S: Final = 10.0
LOOK_AT_MAX: Final = 1000
"""Dead letters held in memory while looking; more are looked at in another go."""
REFRESH_AT: Final = 10
"""Looks after which a letter is renewed: brokers from 4.0 on drop it after twenty."""

_ID_CHARS: Final = 10
_EXAMPLES: Final = """\
A letter stays where it is until it is replayed or dropped. Replaying is safe to repeat:
a command that was committed after all is recognised by its id.

examples:
  chatmesh dead list
  chatmesh dead show 3f9a01c2d4
  chatmesh dead replay 3f9a01c2d4 77b0c9e812
  chatmesh dead replay --all
  chatmesh dead drop 3f9a01c2d4
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter, as it says itself what it is and where it came from."""

    id: str
    cause: str
    died: str
    exchange: str
    routing_key: str
    queue: str
    body: bytes

    @property
    def replayable(self) -> bool:
        """Whether it says where it came from."""
        return bool(self.exchange or self.routing_key)


def letter_of(headers: dict[str, Any], body: bytes) -> Letter:
    """Read a dead letter, whether history or the broker itself put it there."""
    if dead_letters.CAUSE in headers:
        died_ms = headers.get(dead_letters.DIED_MS)
        died = _moment(died_ms / 1000) if isinstance(died_ms, int) else "unknown"
        origin = (
            str(headers.get(dead_letters.ORIGIN_EXCHANGE, "")),
            str(headers.get(dead_letters.ORIGIN_ROUTING_KEY, "")),
            str(headers.get(dead_letters.ORIGIN_QUEUE, "")),
        )
        cause = str(headers[dead_letters.CAUSE])
    else:
        deaths = cast(
            "list[dict[str, Any]]", headers.get(dead_letters.BROKER_DEATHS) or [{}]
        )
        death = deaths[0]
        keys = cast("list[str]", death.get("routing-keys") or [""])
        origin = (
            str(death.get("exchange", "")),
            str(keys[0]),
            str(death.get("queue", "")),
        )
        when = death.get("time")
        died = _moment(when.timestamp()) if isinstance(when, datetime) else "unknown"
        reason = death.get("reason", "unknown")
        cause = f"given up by the broker: {reason} (see the logs of its consumer)"
    mark = "\0".join((died, cause, *origin)).encode()
    digest = hashlib.blake2b(mark + b"\0" + body, digest_size=_ID_CHARS // 2)
    return Letter(digest.hexdigest(), cause, died, *origin, body)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `chatmesh dead`."""
    parser.epilog = _EXAMPLES
    commands = parser.add_subparsers(metavar="list|show|replay|drop", required=True)
    add = commands.add_parser
    listing = _sub(add, "list", "what there is, oldest first", list_letters)
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    showing = _sub(add, "show", "one letter with its content", show)
    showing.add_argument("id", help="as `list` shows it")
    for name, text, action in (
        ("replay", "send letters back to where they came from", replay),
        ("drop", "delete letters for good", drop),
    ):
        acting = _sub(add, name, text, action)
        acting.add_argument("ids", metavar="ID", nargs="*", help="as `list` shows them")
        acting.add_argument("--all", action="store_true", help="all there are")


def _sub(
    add_parser: Callable[..., argparse.ArgumentParser],
    name: str,
    text: str,
    action: Callable[[argparse.Namespace, Environ], int],
) -> argparse.ArgumentParser:
    parser = add_parser(name, help=text, description=text)
    parser.set_defaults(run=action)
    parser.add_argument(
        "--config", type=Path, help="settings file; default: CHATMESH_CONFIG"
    )
    parser.add_argument("--amqp-url", help="broker; default: as in the settings")
    parser.add_argument("--prefix", help="of the names; default: as in the settings")
    return parser


# -- The commands ---------------------------------------------------------------------


def list_letters(arguments: argparse.Namespace, environ: Environ) -> int:
    """Print one line per letter and leave them all where they are."""

    async def work(office: "_Office") -> int:
        found = [letter async for letter, _ in office.letters()]
        if arguments.json:
            for letter in found:
                sys.stdout.write(json.dumps(_summary(letter)) + "\n")
            return EXIT_OK
        if not found:
            sys.stdout.write("no dead letters\n")
        for letter in found:
            sys.stdout.write(
                f"{letter.id}  {letter.died}  {letter.queue or '?'}  "
                f"{len(letter.body)} bytes  {letter.cause}\n"
            )
        if len(found) >= LOOK_AT_MAX:
            sys.stdout.write(f"… and perhaps more: these are the first {LOOK_AT_MAX}\n")
        return EXIT_OK

    return _at_the_office(arguments, environ, work)


def show(arguments: argparse.Namespace, environ: Environ) -> int:
    """Print everything about one letter."""

    async def work(office: "_Office") -> int:
        async for letter, _ in office.letters():
            if letter.id == arguments.id:
                shown = {**_summary(letter), "content": _content(letter.body)}
                sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
                return EXIT_OK
        raise CommandError(f"no dead letter {arguments.id}; `chatmesh dead list`")

    return _at_the_office(arguments, environ, work)


def replay(arguments: argparse.Namespace, environ: Environ) -> int:
    """Send letters back; each is removed once the broker has it in its queue again."""

    async def send_back(office: "_Office", letter: Letter) -> str | None:
        if not letter.replayable:
            return "does not say where it came from; drop it"
        return await office.send_back(letter)

    return _act(arguments, environ, "replayed", send_back)


def drop(arguments: argparse.Namespace, environ: Environ) -> int:
    """Delete letters."""

    async def let_go(office: "_Office", letter: Letter) -> str | None:  # noqa: RUF029 - as replay
        del office, letter
        return None

    return _act(arguments, environ, "dropped", let_go)


def _act(
    arguments: argparse.Namespace,
    environ: Environ,
    done: str,
    action: Callable[["_Office", Letter], Awaitable[str | None]],
) -> int:
    wanted: set[str] = set(arguments.ids)
    if bool(wanted) == arguments.all:
        raise CommandError("name the letters, or say --all", EXIT_USAGE)

    async def work(office: "_Office") -> int:
        failed = False
        missing = set(wanted)
        async for letter, message in office.letters():
            if not arguments.all and letter.id not in wanted:
                continue
            missing.discard(letter.id)
            if reason := await action(office, letter):
                failed = True
                sys.stderr.write(f"{letter.id}: {reason}\n")
                continue
            await message.ack()
            sys.stdout.write(f"{letter.id} {done}\n")
        for letter_id in sorted(missing):
            sys.stderr.write(f"{letter_id}: no such dead letter\n")
        return EXIT_FAILED if failed or missing else EXIT_OK

    return _at_the_office(arguments, environ, work)


# -- The broker -----------------------------------------------------------------------


class _Office:
    """The queue of dead letters, seen through one connection."""

    def __init__(
        self, channel: AbstractChannel, queue: AbstractQueue, count: int
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._count = count

    async def letters(
        self,
    ) -> AsyncGenerator[tuple[Letter, AbstractIncomingMessage]]:
        """Every letter, oldest first. What is not acknowledged stays in the queue."""
        for _ in range(min(self._count, LOOK_AT_MAX)):
            message = await self._queue.get(fail=False, timeout=CONNECT_S)
            if message is None:
                return
            yield (
                letter_of(cast("dict[str, Any]", message.headers), message.body),
                message,
            )
            looks = message.headers.get(dead_letters.DELIVERY_COUNT)
            if isinstance(looks, int) and looks >= REFRESH_AT and not message.processed:
                await self._renew(message)

    async def send_back(self, letter: Letter) -> str | None:
        """Publish to where it came from; why that failed, or None."""
        message = aio_pika.Message(
            letter.body,
            content_type=messages.CONTENT_TYPE,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            exchange = (
                await self._channel.get_exchange(letter.exchange, ensure=False)
                if letter.exchange
                else self._channel.default_exchange
            )
            await exchange.publish(
                message, letter.routing_key, mandatory=True, timeout=PUBLISH_S
            )
        except Exception as error:
            if not is_loss(error):
                raise
            return f"not taken by the broker: {_reason(error)}"
        return None

    async def _renew(self, message: AbstractIncomingMessage) -> None:
        """Put a fresh copy behind the others, then take the old one away."""
        headers = {
            k: v for k, v in message.headers.items() if k != dead_letters.DELIVERY_COUNT
        }
        copy = aio_pika.Message(
            message.body,
            headers=headers,
            content_type=message.content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._channel.default_exchange.publish(
            copy, self._queue.name, mandatory=True, timeout=PUBLISH_S
        )
        await message.ack()


@asynccontextmanager
async def _open_office(url: str, topics: Topics) -> AsyncGenerator[_Office]:
    async with await aio_pika.connect(one_of(url), timeout=CONNECT_S) as connection:
        channel = await connection.channel(on_return_raises=True)
        try:
            queue = await channel.get_queue(topics.dead_letters)
        except ChannelNotFoundEntity:
            raise CommandError(
                f"no queue {topics.dead_letters} here: has the mesh been started with"
                " this broker, virtual host and prefix?"
            ) from None
        yield _Office(channel, queue, queue.declaration_result.message_count or 0)


def _at_the_office(
    arguments: argparse.Namespace,
    environ: Environ,
    work: Callable[[_Office], Awaitable[int]],
) -> int:
    shared = settings.load(
        settings.Shared, section="", path=arguments.config, environ=environ
    )
    url = arguments.amqp_url or shared.amqp_url
    topics = Topics(arguments.prefix or shared.prefix)

    async def run() -> int:
        with losses_as(
            lambda error: CommandError(
                f"the broker does not let us look: {_reason(error)}"
            )
        ):
            async with _open_office(url, topics) as office:
                return await work(office)

    return asyncio.run(run())


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    # Who is waiting when the broker ends the connection is not told why.
    return str(error) or "the connection was lost"


# -- What is shown --------------------------------------------------------------------


def _summary(letter: Letter) -> dict[str, object]:
    return {
        "id": letter.id,
        "died": letter.died,
        "cause": letter.cause,
        "queue": letter.queue,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "bytes": len(letter.body),
    }


def _content(body: bytes) -> object:
    """The commands of a batch, or the raw bytes of what is none."""
    try:
        batch = messages.decode_command_batch(body)
    except messages.Malformed as error:
        return {"malformed": str(error), "raw": _text(body)}
    return {
        "origin": batch.origin,
        "commands": [
            {
                **{
                    name: value
                    for name, value in msgspec.structs.asdict(command).items()
                    if not isinstance(value, bytes)
                },
                "data": _text(command.data),
                "info": _text(command.info),
            }
            for command in batch.commands
        ],
    }


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds")
