"""`chatmesh chat`: take part in a room, from a terminal or from a script."""

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import jwt

from chatmesh.cli import token as tokens
from chatmesh.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandError, Environ
from chatmesh.cli.conversation import Conversation
from chatmesh.cli.desk import Command
from chatmesh.cli.room import Access, Room
from chatmesh.cli.screens import HELP, Pipes, Terminal, both_are_terminals
from chatmesh.runtime import logging as logs
from chatmesh.runtime.addresses import is_loopback
from chatmesh.runtime.clock import SystemClock
from chatmesh.runtime.tasks import Tasks
from chatmesh.wire import channels, limits

SUMMARY: Final = "Chat in a room, from a terminal or from a script."

URL_VARIABLE: Final = "CHATMESH_URL"
TOKEN_VARIABLE: Final = "CHATMESH_TOKEN"  # noqa: S105 - its name only
USER_VARIABLE: Final = "CHATMESH_USER"

DEFAULT_URL: Final = "ws://127.0.0.1:8001"
SOCKET_PATH: Final = "/connection/websocket"
BACKLOG: Final = 20
GIVE_UP: Final = "60s"

_DEVELOPMENT_TOKEN_S: Final = 3600
_SHOW_LAST_S: Final = 5.0
"""How long a script's own last messages may take from confirmed to shown."""
_STOP_S: Final = 2.0

_SCHEMES: Final = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

_EXAMPLES: Final = f"""\
{HELP}

Without --token and on this machine only, a development token is made for --user, as
`make run` expects it. When input is not a terminal every line is sent as a message; the
exit code is 0 when all are confirmed, 1 when one is not.

examples:
  chatmesh chat lobby --user ada
  chatmesh chat lobby --user bob --url ws://127.0.0.1:8002
  echo "build is green" | chatmesh chat builds --url wss://chat.example --token "$TOKEN"
  chatmesh chat lobby --user ada --follow < /dev/null
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `chatmesh chat`."""
    parser.epilog = _EXAMPLES
    parser.set_defaults(run=run)
    parser.add_argument(
        "room", help="a room's name; with a namespace (`ns:name`) any other channel"
    )
    parser.add_argument("--user", help=f"who you are (or {USER_VARIABLE})")
    parser.add_argument(
        "--url", help=f"the gateway (or {URL_VARIABLE}; default: {DEFAULT_URL})"
    )
    parser.add_argument("--token", help=f"connection token (or {TOKEN_VARIABLE})")
    parser.add_argument(
        "--history",
        metavar="N",
        type=_backlog,
        default=BACKLOG,
        help=f"messages to show from before (default: {BACKLOG})",
    )
    parser.add_argument(
        "--give-up",
        metavar="TIME",
        default=GIVE_UP,
        help=f"stop trying to send a message after this long (default: {GIVE_UP})",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="when the input has ended, go on showing messages until Ctrl-C",
    )


def run(arguments: argparse.Namespace, environ: Environ) -> int:
    """Take part until the reader has had enough, or the input ends."""
    logs.configure("chatmesh", "warning")
    plan = plan_of(arguments, environ)
    for sentence in plan.notices:
        sys.stderr.write(f"chatmesh: {sentence}\n")
    if both_are_terminals():
        screen: Terminal | Pipes = Terminal(plan.user, plan.channel)
    else:
        screen = Pipes(sys.stdin.fileno(), sys.stdout.buffer, sys.stderr)
    return asyncio.run(_take_part(plan, screen))


# -- What was asked for ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """A command line, understood."""

    url: str
    channel: str
    user: str
    token: str
    """Empty: make development tokens for the user."""
    backlog: int
    give_up_s: float
    follow: bool
    notices: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")


def plan_of(arguments: argparse.Namespace, environ: Environ) -> Plan:
    """Understand a command line. Raises CommandError."""
    url = socket_url(arguments.url or environ.get(URL_VARIABLE) or DEFAULT_URL)
    token = arguments.token or environ.get(TOKEN_VARIABLE) or ""
    user = arguments.user or environ.get(USER_VARIABLE) or ""
    give_up_s = tokens.seconds_of(arguments.give_up)
    plan = Plan(
        url=url,
        channel=channel_of(arguments.room),
        user=_user_of(token, user) if token else user,
        token=token,
        backlog=arguments.history,
        give_up_s=float("inf") if give_up_s is None else give_up_s,
        follow=arguments.follow,
        notices=() if token else (_DEVELOPMENT_NOTICE.format(user=user),),
    )
    if token:
        return plan
    if not plan.is_local:
        raise CommandError(
            f"{url} is not on this machine: it wants a token"
            f" (--token or {TOKEN_VARIABLE})",
            EXIT_USAGE,
        )
    if not user:
        raise CommandError("--user is missing: who are you?", EXIT_USAGE)
    return plan


_DEVELOPMENT_NOTICE: Final = (
    "no token given, so this uses a development token for {user};"
    " only gateways in development mode believe it"
)


def socket_url(url: str) -> str:
    """Complete the address of a gateway. Raises CommandError."""
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        scheme, host, _ = _SCHEMES.get(parts.scheme), parts.hostname, parts.port
    except ValueError as error:
        raise CommandError(f"{url} is no address: {error}", EXIT_USAGE) from error
    if scheme is None or not host:
        raise CommandError(
            f"{url} is no address of a gateway, as {DEFAULT_URL} is one", EXIT_USAGE
        )
    path = parts.path if parts.path.strip("/") else SOCKET_PATH
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def channel_of(room: str) -> str:
    """The channel behind a room's name. Raises CommandError."""
    namespaced = channels.NAMESPACE_BOUNDARY in room or room.startswith(
        channels.USER_BOUNDARY
    )
    channel = (
        room
        if namespaced
        else f"{channels.ROOM_NAMESPACE}{channels.NAMESPACE_BOUNDARY}{room}"
    )
    refusal = channels.refusal(channel) if room else "empty name"
    if refusal:
        raise CommandError(f"{room!r} cannot be a room: {refusal}", EXIT_USAGE)
    return channel


def _user_of(token: str, user: str) -> str:
    """Whom a token is for; it decides, so --user may only agree."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise CommandError("--token is no JSON Web Token", EXIT_USAGE) from error
    subject: object = claims.get("sub")
    named = subject if isinstance(subject, str) else ""
    if user and user != named:
        raise CommandError(
            f"the token is for {named or 'nobody in particular'}, not for {user}",
            EXIT_USAGE,
        )
    return named


def _backlog(text: str) -> int:
    number = int(text)
    if not 0 <= number <= limits.PAGE_ENTRIES_MAX:
        raise argparse.ArgumentTypeError(
            f"wants a number from 0 to {limits.PAGE_ENTRIES_MAX}"
        )
    return number


# -- Doing it -------------------------------------------------------------------------


async def _take_part(plan: Plan, screen: Terminal | Pipes) -> int:
    clock = SystemClock()

    async def development_token() -> str:  # noqa: RUF029 - as the SDK wants it
        return tokens.development_token(plan.user, _DEVELOPMENT_TOKEN_S, clock)

    room = Room(
        Access(
            plan.url,
            token=plan.token,
            get_token=None if plan.token else development_token,
            direct=plan.is_local,
        ),
        plan.channel,
    )
    conversation = Conversation(
        room,
        screen,
        clock=clock,
        chance=random.SystemRandom(),
        backlog=plan.backlog,
        give_up_s=plan.give_up_s,
        # A script's lines keep their order even if that means not sending the rest.
        stop_when_unknown=isinstance(screen, Pipes),
    )
    tasks = Tasks()
    with screen.open():
        try:
            listening = tasks.spawn(conversation.listen(), name="listen")
            sending = tasks.spawn(conversation.deliver_drafts(), name="send")
            talking = tasks.spawn(_talk(plan, screen, conversation), name="talk")
            await room.join()
            await asyncio.wait(
                {listening, sending, talking}, return_when=asyncio.FIRST_COMPLETED
            )
            if sending.done():
                await sending
            return await _outcome(screen, conversation, listening, talking)
        finally:
            await room.leave()
            await tasks.stop(_STOP_S)


async def _talk(plan: Plan, screen: Terminal | Pipes, said: Conversation) -> int:
    """Send what is typed; return the exit code once nothing more is to be done."""
    async for typed in screen.lines():
        if isinstance(typed, Command):
            await said.obey(typed)
        else:
            await said.say(typed)
    if screen.left_at_once:
        return EXIT_FAILED if said.unanswered else EXIT_OK
    if said.unanswered and isinstance(screen, Terminal):
        screen.notice("waiting for the last messages to be confirmed; Ctrl-C leaves")
    await said.all_answered()
    if isinstance(screen, Pipes):
        if said.failures and not said.joined.is_set():
            return EXIT_FAILED
        if not await _within(said.joined.wait(), plan.give_up_s):
            screen.notice(f"could not join {plan.channel} within {plan.give_up_s:g} s")
            return EXIT_FAILED
        await _within(said.shown_confirmed(), _SHOW_LAST_S)
        if plan.follow:
            await screen.reader_left.wait()
        return EXIT_FAILED if said.failures else EXIT_OK
    return EXIT_OK


async def _within(waiting: Awaitable[object], seconds: float) -> bool:
    """Wait for something, so long at most; False when it did not happen."""
    try:
        async with asyncio.timeout(None if seconds == float("inf") else seconds):
            await waiting
    except TimeoutError:
        return False
    return True


async def _outcome(
    screen: Terminal | Pipes,
    conversation: Conversation,
    listening: asyncio.Task[str],
    talking: asyncio.Task[int],
) -> int:
    if talking.done():
        return await talking
    screen.notice(f"it is over: {await listening}")
    # What was typed already still gets its verdict.
    await _within(conversation.all_answered(), _STOP_S)
    return EXIT_FAILED
