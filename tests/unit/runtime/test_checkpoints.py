"""Crash points: nothing in ordinary life, sudden death where a test asks for it."""

import signal
import subprocess
import sys

import pytest

from chatmesh.runtime import checkpoints
from chatmesh.runtime.startup import CannotStart

PROGRAM = """
import atexit, sys
from chatmesh.runtime import checkpoints
atexit.register(print, "cleaned up")
checkpoint = checkpoints.from_setting(sys.argv[1])
for label in sys.argv[2:]:
    checkpoint(label)
    print("passed", label, flush=True)
"""


def passing(setting: str, *labels: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, setting, *labels],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_without_a_setting_checkpoints_do_nothing() -> None:
    """Production passes them by."""
    checkpoint = checkpoints.from_setting("")

    checkpoint("history.committed")

    assert checkpoint is checkpoints.ignore


def test_a_process_dies_at_the_named_label() -> None:
    """It dies as if the power went: no clean-up of any kind runs."""
    ended = passing("history.committed", "history.received", "history.committed")

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "passed history.received\n"
    assert "history.committed" in ended.stderr


def test_a_process_dies_at_the_nth_pass() -> None:
    """Earlier passes and other labels do not count."""
    ended = passing("a:2", "a", "b", "b", "a", "a")

    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "passed a\npassed b\npassed b\n"


@pytest.mark.parametrize("setting", [":2", "a:", "a:0", "a:-1", "a:x", "a:²", ":"])
def test_a_setting_that_says_nothing_is_refused(setting: str) -> None:
    """A chaos run that never crashes would prove nothing."""
    with pytest.raises(CannotStart):
        checkpoints.from_setting(setting)
