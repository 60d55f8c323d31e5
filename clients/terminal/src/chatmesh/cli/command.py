"""What a command is, and how it says that it cannot."""

import argparse
from collections.abc import Mapping
from typing import Final, Protocol

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

Environ = Mapping[str, str]


class CommandError(Exception):
    """Why a command cannot do what it was asked, in one sentence for a person."""

    def __init__(self, sentence: str, code: int = EXIT_FAILED) -> None:
        super().__init__(sentence)
        self.code = code


class Run(Protocol):
    """Does what was asked and returns the exit code. May raise CommandError."""

    def __call__(self, arguments: argparse.Namespace, environ: Environ) -> int: ...


class Command(Protocol):
    """A module of this package that is a command."""

    @property
    def SUMMARY(self) -> str:  # noqa: N802 - a constant of the module
        """One line for `chatmesh --help`."""
        ...

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments, and `run=` with what runs it as a default of the parser."""
        ...
