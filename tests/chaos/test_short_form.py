"""The short form of `make chaos`, as a test: every promise is kept.

Agents die once each way here; `make chaos` also kills them at each of their crash points.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from chaos import suite
from chatmesh.local import rabbit

RUN = Path(__file__).with_name("run.py")
WITHIN_S = 3000
"""Five minutes on a quiet machine; a slow one plays some of it again, or longer."""


@pytest.mark.timeout(WITHIN_S + 60)
@pytest.mark.skipif(
    not rabbit.is_installed(), reason="faults need a RabbitMQ of our own to break"
)
def test_every_promise_holds_while_parts_die(tmp_path: Path) -> None:
    """At least 50,000 messages, 200 clients and 30 faults, and nothing to complain of."""
    picture = tmp_path / "chaos.png"
    words = [sys.executable, str(RUN), "--brief", "--picture", str(picture)]

    done = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, timeout=WITHIN_S, check=False
    )

    print(done.stdout)  # noqa: T201 - the table and, if it failed, what replays it
    assert done.returncode == 0
    assert picture.exists()


def test_a_scenario_that_nobody_knows_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A typing mistake must not look like a run without violations."""
    with pytest.raises(SystemExit) as ended:
        suite.main(["--only", "no-such-scenario"])

    assert ended.value.code == 2
    assert "no-such-scenario" in capsys.readouterr().err


def test_every_scenario_says_what_it_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` is for people who look for one."""
    assert suite.main(["--list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(suite.SCENARIOS)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
