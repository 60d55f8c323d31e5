"""A process from start to exit code, watched from outside as an operator does."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from chatmesh.runtime.garbage import LOOK_AFTER
from chatmesh.runtime.service import Stopping

PROGRAM = """
import asyncio, sys
from chatmesh.runtime import service
from chatmesh.runtime.http import PortInUse

async def main(stopping):
    {body}

service.run(main, service="probe")
"""

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes whose main function has the body given."""
    started: list[subprocess.Popen[str]] = []

    def start_one(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


WAIT = """print("ready", flush=True)
    await stopping.wait()
    print("stopping because of", stopping.reason, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_process_to_stop(
    start: Start, number: signal.Signals
) -> None:
    """It ends in its own time, with the exit code of its main function."""
    process = start(WAIT + "    return 7")
    ready(process)

    process.send_signal(number)

    out, _ = process.communicate(timeout=20)
    assert process.returncode == 7
    assert out == f"stopping because of {number.name}\n"


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    """An operator who presses Ctrl-C twice does not wait for a clean end."""
    process = start(WAIT + "    await asyncio.sleep(60)\n    return 0")
    ready(process)

    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)

    process.communicate(timeout=20)
    assert process.returncode == 130


def test_a_stop_from_within_is_not_a_first_signal(start: Start) -> None:
    """A process that ends by itself still gives the operator a polite first signal."""
    process = start(
        'stopping.request("task feed failed")\n    '
        + WAIT
        + "    await asyncio.sleep(0.3)\n    return 3"
    )
    ready(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "stopping because of task feed failed\n"

    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=20)
    assert process.returncode == 3


def test_what_keeps_it_from_starting_is_one_sentence(start: Start) -> None:
    """No traceback for something that the operator has to change."""
    process = start('raise PortInUse("127.0.0.1", 8001)')

    _, err = process.communicate(timeout=20)

    assert process.returncode == 2
    assert err.startswith("probe: port 8001 on 127.0.0.1 is already in use")
    assert err.count("\n") == 1


def test_an_unexpected_failure_is_logged_with_its_traceback(start: Start) -> None:
    """A bug ends the process with 1 and with what a developer needs."""
    process = start("return {}['missing']")

    _, err = process.communicate(timeout=20)

    assert process.returncode == 1
    assert "service failed" in err
    assert "KeyError: 'missing'" in err


def test_it_runs_on_uvloop(start: Start) -> None:
    """All services share the fast loop."""
    process = start("print(type(asyncio.get_running_loop()).__module__)\n    return 0")

    out, _ = process.communicate(timeout=20)

    assert out == "uvloop\n"


async def test_the_first_reason_stays() -> None:
    """What began the end is what the log should say."""
    stopping = Stopping()
    assert not stopping.requested

    stopping.request("broker gone")
    stopping.request("SIGTERM")

    await stopping.wait()
    assert stopping.requested
    assert stopping.reason == "broker gone"


def test_what_is_loaded_is_no_garbage(start: Start) -> None:
    """A collector that looks through every module again and again stops the service."""
    body = """import gc
    print(gc.get_freeze_count() > 1000, gc.get_threshold()[0], flush=True)
    return 0
"""
    output, _ = start(body).communicate(timeout=30)

    assert output == f"True {LOOK_AFTER}\n"
