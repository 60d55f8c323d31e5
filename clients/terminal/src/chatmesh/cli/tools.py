"""`chatmesh tools`: see what tools are served, call one, or serve those of a file."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast

from chatmesh.bus.outgoing import LinkLost
from chatmesh.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, CommandError, Environ
from chatmesh.runtime import settings
from chatmesh.runtime.clock import SystemClock
from chatmesh.tools.asking import Asking, NotAnswered, open_asking
from chatmesh.tools.serving import pool_of, run_worker, tools_of_file
from chatmesh.tools.worker import CONCURRENCY
from chatmesh.wire.tools import Progress, Registration, ToolDescription
from chatmesh.wire.topics import Topics

SUMMARY: Final = "Tools: what agents can call, and calling it yourself."

_EXAMPLES: Final = """\
These talk to the broker directly, so they need no agent and record nothing.

examples:
  chatmesh tools list
  chatmesh tools call calculator expression='6*7'
  chatmesh tools call add --json '{"a": 1, "b": 2}'
  chatmesh tools serve my_tools.py
"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `chatmesh tools`."""
    parser.epilog = _EXAMPLES
    commands = parser.add_subparsers(metavar="list|call|serve", required=True)
    listing = commands.add_parser("list", help="every tool that is served now")
    listing.set_defaults(run=list_tools)
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    _broker(listing)
    calling = commands.add_parser("call", help="call one tool and print its result")
    calling.set_defaults(run=call_tool)
    calling.add_argument("tool")
    calling.add_argument(
        "arguments", metavar="NAME=VALUE", nargs="*", help="VALUE is JSON, or else text"
    )
    calling.add_argument("--json", help="all arguments as one JSON object")
    calling.add_argument(
        "--yes", action="store_true", help="call it although it needs approval"
    )
    calling.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="default: the tool's own"
    )
    _broker(calling)
    serving = commands.add_parser("serve", help="serve the tools of a Python file")
    serving.set_defaults(run=serve_file)
    serving.add_argument("file", type=Path)
    serving.add_argument(
        "--pool", default="", help="queue; default: named for the file"
    )
    serving.add_argument(
        "--concurrency", type=int, default=CONCURRENCY, help="calls at once"
    )


def _broker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, help="settings file; default: CHATMESH_CONFIG"
    )
    parser.add_argument("--amqp-url", help="broker; default: as in the settings")
    parser.add_argument("--prefix", help="of the names; default: as in the settings")


def list_tools(arguments: argparse.Namespace, environ: Environ) -> int:
    """Print one line per tool and pool."""

    async def work(asking: Asking) -> int:
        offered = _offered(await asking.workers())
        for (pool, name), (tool, workers) in sorted(offered.items()):
            if arguments.json:
                shown = {
                    "name": name,
                    "pool": pool,
                    "workers": workers,
                    "description": tool.description,
                    "readOnly": tool.read_only,
                    "needsApproval": tool.needs_approval,
                    "timeoutMs": tool.timeout_ms,
                    "parameters": tool.parameters,
                }
                sys.stdout.write(json.dumps(shown) + "\n")
                continue
            kind = "reads" if tool.read_only else "acts"
            asks = ", asks first" if tool.needs_approval else ""
            line = " ".join(tool.description.split("\n", 1)[0].split())
            sys.stdout.write(f"{name}  ({pool} ×{workers}, {kind}{asks})  {line}\n")  # noqa: RUF001 - times
        if not offered and not arguments.json:
            sys.stdout.write("no tools are served\n")
        return EXIT_OK

    return _ask(arguments, environ, work)


def call_tool(arguments: argparse.Namespace, environ: Environ) -> int:
    """Call a tool; progress goes to standard error, the result to standard output."""
    given = _given(arguments)

    def told(progress: Progress) -> None:
        share = "" if progress.progress is None else f"{progress.progress:.0%} "
        sys.stderr.write(f"{share}{progress.text}\n")

    async def work(asking: Asking) -> int:
        offered = _offered(await asking.workers())
        found = [
            (pool, tool)
            for (pool, name), (tool, _) in sorted(offered.items())
            if name == arguments.tool
        ]
        if not found:
            raise CommandError(
                f"nobody serves a tool {arguments.tool}; `chatmesh tools list`"
            )
        pool, tool = found[0]
        if tool.needs_approval and not arguments.yes:
            raise CommandError(
                f"{arguments.tool} needs approval: --yes if you allow it", EXIT_USAGE
            )
        within_s = arguments.timeout or tool.timeout_ms / 1000
        result = await asking.call(
            pool, arguments.tool, given, within_s=within_s, told=told
        )
        if result.state != "done":
            sys.stderr.write(f"{result.state}: {result.error}\n")
            return EXIT_FAILED
        value: object = result.result
        text = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
        sys.stdout.write(f"{text}\n")
        return EXIT_OK

    return _ask(arguments, environ, work)


def serve_file(arguments: argparse.Namespace, environ: Environ) -> int:
    """Serve what a file marks with @tool, until stopped; ends the process."""
    del environ
    found = tools_of_file(arguments.file)
    pool = arguments.pool or pool_of(arguments.file)
    run_worker(found, pool=pool, concurrency=arguments.concurrency)
    return EXIT_OK


def _offered(
    workers: list[Registration],
) -> dict[tuple[str, str], tuple[ToolDescription, int]]:
    """Tools by pool and name, and how many workers serve each."""
    offered: dict[tuple[str, str], tuple[ToolDescription, int]] = {}
    for worker in workers:
        for tool in worker.tools:
            _, count = offered.get((worker.pool, tool.name), (tool, 0))
            offered[worker.pool, tool.name] = (tool, count + 1)
    return offered


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.json is not None:
        try:
            whole: object = json.loads(arguments.json)
        except json.JSONDecodeError as error:
            raise CommandError(f"--json is no JSON: {error}", EXIT_USAGE) from error
        if not isinstance(whole, dict):
            raise CommandError("--json wants an object", EXIT_USAGE)
        return cast("dict[str, Any]", whole)
    given: dict[str, Any] = {}
    for word in cast("list[str]", arguments.arguments):
        name, equals, text = word.partition("=")
        if not equals:
            raise CommandError(f"{word!r} is no NAME=VALUE", EXIT_USAGE)
        try:
            given[name] = json.loads(text)
        except json.JSONDecodeError:
            given[name] = text
    return given


def _ask(
    arguments: argparse.Namespace,
    environ: Environ,
    work: Callable[[Asking], Awaitable[int]],
) -> int:
    shared = settings.load(
        settings.Shared, section="", path=arguments.config, environ=environ
    )
    url = arguments.amqp_url or shared.amqp_url
    topics = Topics(arguments.prefix or shared.prefix)

    async def main() -> int:
        async with open_asking(url, topics, SystemClock()) as asking:
            return await work(asking)

    try:
        return asyncio.run(main())
    except LinkLost as lost:
        raise CommandError(f"cannot reach the broker: {lost}") from lost
    except NotAnswered as failed:
        raise CommandError(str(failed)) from failed
