"""`chatmesh`: finds the command, runs it, and leaves with its exit code."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from chatmesh.cli import chat, dead, doctor, token, tools
from chatmesh.cli.command import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Command,
    CommandError,
    Environ,
    Run,
)
from chatmesh.cli.screens import discard
from chatmesh.runtime.startup import CannotStart

# A new command is a module with SUMMARY and add_to, and one line here.
COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "chat": chat,
        "dead": dead,
        "doctor": doctor,
        "token": token,
        "tools": tools,
    }
)


def parser() -> argparse.ArgumentParser:
    """The whole command line, as --help shows it."""
    top = argparse.ArgumentParser(
        prog="chatmesh",
        description="Chat in a mesh of gateways, and look after it.",
        epilog="`chatmesh COMMAND --help` says more about each.",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_to(
            commands.add_parser(
                name,
                help=command.SUMMARY,
                description=command.SUMMARY,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    return top


def run(argv: Sequence[str], environ: Environ) -> int:
    """Run one command line; what went wrong is one sentence on standard error."""
    arguments = parser().parse_args(argv)
    command: Run = arguments.run
    try:
        code = command(arguments, environ)
        sys.stdout.flush()
    except CommandError as error:
        sys.stderr.write(f"chatmesh: {error}\n")
        return error.code
    except CannotStart as error:
        sys.stderr.write(f"chatmesh: {error}\n")
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has left, and nothing can be said to them any more.
        discard(sys.stdout)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def main() -> None:
    sys.exit(run(sys.argv[1:], os.environ))  # noqa: TID251 - read here, handed on


if __name__ == "__main__":
    main()
