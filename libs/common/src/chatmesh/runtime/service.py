"""From the first instruction of a process to its exit code."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import uvloop

from chatmesh.runtime import garbage
from chatmesh.runtime import logging as logs
from chatmesh.runtime.startup import CannotStart

EXIT_FAILED: Final = 1
EXIT_CANNOT_START: Final = 2
EXIT_IMPATIENT: Final = 130

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)


class Stopping:
    """The wish that this process should end, from outside or from within."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._reason = ""

    @property
    def requested(self) -> bool:
        return self._asked.is_set()

    @property
    def reason(self) -> str:
        """Why, as the first who asked said it."""
        return self._reason

    def request(self, reason: str) -> None:
        """Ask the process to end; asking again changes nothing."""
        if not self._asked.is_set():
            self._reason = reason
            self._asked.set()

    async def wait(self) -> None:
        """Return once somebody has asked."""
        await self._asked.wait()


def run(main: Callable[[Stopping], Awaitable[int]], *, service: str) -> NoReturn:
    """Run `main` until it returns its exit code, and leave the process with it.

    SIGTERM and SIGINT set the `Stopping` it was given; a second one ends the process
    at once with 130. What keeps it from starting (settings, a busy port) is one
    sentence on standard error and exit code 2; any other failure is logged and 1.
    """
    logs.configure(service)
    garbage.look_seldom()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_run(main))
    except CannotStart as error:
        sys.stderr.write(f"{service}: {error}\n")
        code = EXIT_CANNOT_START
    except Exception:  # noqa: BLE001 - the last place that can still tell
        _log.exception("service failed")
        code = EXIT_FAILED
    logging.shutdown()
    sys.exit(code)


async def _run(main: Callable[[Stopping], Awaitable[int]]) -> int:
    stopping = Stopping()
    signals: list[str] = []

    def stop(name: str) -> None:
        signals.append(name)
        if len(signals) > 1:
            _log.warning("second signal: leaving at once", extra={"signal": name})
            logging.shutdown()
            os._exit(EXIT_IMPATIENT)
        _log.info("stopping", extra={"signal": name})
        stopping.request(name)

    loop = asyncio.get_running_loop()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop, number.name)
    return await main(stopping)
