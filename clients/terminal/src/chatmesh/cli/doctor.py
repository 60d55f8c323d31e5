"""`chatmesh doctor`: examine a deployment and explain what is wrong with it."""

import argparse
import asyncio
import functools
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from chatmesh.bus.brokers import split_urls
from chatmesh.cli import chat, examination
from chatmesh.cli import token as tokens
from chatmesh.cli.command import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    CommandError,
    Environ,
)
from chatmesh.cli.examination import Finding
from chatmesh.cli.room import Access
from chatmesh.runtime import settings
from chatmesh.runtime.addresses import is_loopback
from chatmesh.runtime.clock import Clock, SystemClock
from chatmesh.wire.topics import Topics

SUMMARY: Final = "Examine a deployment and explain what is wrong with it."

ROOM: Final = "room:doctor"
"""Where the canary is left: one short message for each examination."""
USER: Final = "doctor"
_TOKEN_S: Final = 600

_LOCAL_GATEWAYS: Final = (
    "ws://127.0.0.1:8001/connection/websocket",
    "ws://127.0.0.1:8002/connection/websocket",
)
_LOCAL_PROCESSES: Final = tuple(
    f"http://127.0.0.1:{port}" for port in (9001, 9002, 9010, 9020)
)
_EXAMPLES: Final = """\
Looks at the broker (reachable, every queue consumed, those of agents and tools
where there are any, dead letters), the database
(reachable, writable, migrations, clock), and at whatever gateways and processes are
named: whether they are ready, and whether a message sent to the first gateway is
committed and delivered by all of them. Ends with 1 when something is wrong.

examples:
  chatmesh doctor --local
  chatmesh doctor --config /etc/chatmesh.yaml --process http://history:9010
  chatmesh doctor --gateway wss://chat.example --token "$TOKEN"
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `chatmesh doctor`."""
    parser.epilog = _EXAMPLES
    parser.set_defaults(run=run)
    parser.add_argument(
        "--config", type=Path, help="settings file; default: CHATMESH_CONFIG"
    )
    parser.add_argument("--amqp-url", help="broker; default: as in the settings")
    parser.add_argument("--database-url", help="database; default: as in the settings")
    parser.add_argument("--prefix", help="of the names; default: as in the settings")
    parser.add_argument(
        "--gateway",
        metavar="URL",
        action="append",
        default=[],
        help="where clients connect; repeatable: a message has to reach them all",
    )
    parser.add_argument(
        "--process",
        metavar="URL",
        action="append",
        default=[],
        help="HTTP port of any process, asked whether it is ready; repeatable",
    )
    parser.add_argument(
        "--pool",
        metavar="NAME",
        action="append",
        default=[],
        help="pool of tools that should have a worker, beside builtin; repeatable",
    )
    parser.add_argument(
        "--local", action="store_true", help="what `make run` starts on this machine"
    )
    parser.add_argument(
        "--token", help=f"for the message (or {chat.TOKEN_VARIABLE}); none: development"
    )
    parser.add_argument(
        "--room", default=ROOM, help=f"where the message is left (default: {ROOM})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def run(arguments: argparse.Namespace, environ: Environ) -> int:
    """Examine, print the findings, and end with 1 if one of them is bad."""
    checks = checks_of(arguments, environ, SystemClock())
    findings = asyncio.run(examination.examine(checks))
    for finding in findings:
        sys.stdout.write(line_of(finding, as_json=arguments.json) + "\n")
    wrong = sum(not finding.ok for finding in findings)
    if not arguments.json:
        verdict = f"{wrong} of {len(findings)} things are wrong" if wrong else "healthy"
        sys.stdout.write(f"{verdict}\n")
    return EXIT_FAILED if wrong else EXIT_OK


def line_of(finding: Finding, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(asdict(finding), ensure_ascii=False)
    return f"{'ok ' if finding.ok else 'BAD'}  {finding.check}: {finding.text}"


def checks_of(
    arguments: argparse.Namespace, environ: Environ, clock: Clock
) -> list[Callable[[], Awaitable[list[Finding]]]]:
    """What the command line asks to be examined. Raises CommandError, CannotStart."""
    shared = settings.load(
        settings.Shared, section="", path=arguments.config, environ=environ
    )
    topics = Topics(arguments.prefix or shared.prefix)
    amqp_url = arguments.amqp_url or shared.amqp_url
    database_url = arguments.database_url or shared.database_url
    checks: list[Callable[[], Awaitable[list[Finding]]]] = [
        *(
            functools.partial(
                examination.examine_broker,
                url,
                topics,
                (examination.BUILTIN, *arguments.pool),
            )
            for url in split_urls(amqp_url)
        ),
        functools.partial(examination.examine_database, database_url, clock),
    ]
    processes = [*arguments.process, *(_LOCAL_PROCESSES if arguments.local else ())]
    checks += [
        functools.partial(examination.examine_process, url, clock) for url in processes
    ]
    gateways = [*arguments.gateway, *(_LOCAL_GATEWAYS if arguments.local else ())]
    if gateways:
        accesses = [access_of(url, arguments, environ, clock) for url in gateways]
        checks.append(
            functools.partial(examination.examine_delivery, accesses, arguments.room)
        )
    return checks


def access_of(
    url: str, arguments: argparse.Namespace, environ: Environ, clock: Clock
) -> Access:
    """How to get to a gateway. Raises CommandError where a token is missing."""
    url = chat.socket_url(url)
    token = arguments.token or environ.get(chat.TOKEN_VARIABLE) or ""
    local = is_loopback(urlsplit(url).hostname or "")
    if not token and not local:
        raise CommandError(
            f"{url} is not on this machine: it wants a token"
            f" (--token or {chat.TOKEN_VARIABLE})",
            EXIT_USAGE,
        )
    token = token or tokens.development_token(USER, _TOKEN_S, clock)
    return Access(url, token=token, direct=local)
