"""`make test` and its parts: see that everything is there, then run pytest once.

tools/test.py LEVEL… -- PYTEST-ARGUMENTS
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from chatmesh.local import broker, broker_choice, chromium, packages
from chatmesh.local.broker_choice import Way
from chatmesh.local.trouble import Trouble
from chatmesh.local.web_page import Page, WebPage

ROOT: Final = Path(__file__).resolve().parent.parent
MORE_TRIES: Final = ("--reruns", "2", "--reruns-delay", "2", "-raR")
"""On CI a failed test is tried up to twice more and all tries are reported: processes on
a machine that others share are sometimes late. Locally nothing is."""
WAITING: Final = frozenset({"service", "system", "browser"})
"""Levels whose tests mostly wait for processes that they started."""
MOST_AT_ONCE: Final = 4
LEVELS: Final = ("unit", "deploy", "service", "system", "browser", "chaos")

STAGE: Final = "CHATMESH_TESTS_CONTAINERS"
STAGES: Final = ("none", "images", "all")
"""What is run of the container stage; see `tests/support/podman.py`."""
CONTAINER_PACKAGES: Final = (
    ("podman", "podman"),
    ("runc", "runc"),
    ("netavark", "netavark"),
    ("aardvark-dns", "aardvark-dns"),
    ("catatonit", "catatonit"),
    ("debootstrap", "debootstrap"),
    ("newuidmap", "uidmap"),
    ("iptables", "iptables"),
)
"""Programs that the container stage runs, and the packages that bring them."""


def say(text: str) -> None:
    print(f"chatmesh: {text}", flush=True)


def prepare_containers() -> bool:
    """Whether the container stage is asked for; what it runs is installed if it can be.

    Raises:
        Trouble: it is asked for in a word that nobody knows.
    """
    stage = os.environ.setdefault(STAGE, STAGES[0])
    if stage not in STAGES:
        raise Trouble(f"{STAGE} is one of {', '.join(STAGES)}, not {stage!r}")
    if stage == STAGES[0]:
        return False
    for program, package in CONTAINER_PACKAGES:
        there = shutil.which(program, path="/usr/sbin:/usr/bin:/usr/lib/podman")
        if there is None and packages.can_install():
            try:
                packages.install(package, say=say)
            except packages.CannotInstall as reason:
                say(f"{reason}; the container stage will say so")
                break
    return True


async def prepare(levels: list[str]) -> None:
    """Install what the tests would stumble over; nothing that is running is touched.

    Raises:
        Trouble: there is no way to a broker, or a word that nobody knows.
    """
    containers = "deploy" in levels and prepare_containers()
    if set(levels) <= {"unit", "deploy"} and not containers:
        return
    if os.environ.get("TESTS_USE") == "containers":
        if not broker.docker_answers():
            raise Trouble("TESTS_USE=containers needs a Docker engine; none answers")
    else:
        given = os.environ.get("CHATMESH_AMQP_URL") or None
        found = await broker.look_around(given, private=True)
        if broker_choice.choose_private(found) is Way.INSTALL:
            packages.install("rabbitmq-server", say=say)
    if "browser" in levels:
        page = await WebPage(ROOT, ROOT / ".chatmesh" / "web.log").ensure(say)
        if page is not Page.THERE:
            say(f"the web page is {page.value}; its tests will say so")
        if chromium.ensure(say) is None:
            say(f"browser tests will be skipped: {chromium.MISSING}")


def side_by_side(levels: list[str]) -> list[str]:
    """What makes pytest run in one process per core and one more; ARGS=-n0 undoes it.

    Each has a broker, a database and ports of its own; the tests of a file stay together.
    """
    if not WAITING & set(levels):
        return []
    processes = min((os.cpu_count() or 1) + 1, MOST_AT_ONCE)
    return ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]


def pytest_words(levels: list[str], more: list[str]) -> list[str]:
    """One run for all levels, so that there is one summary at the end."""
    folders = [
        f"tests/{level}" for level in levels if (ROOT / "tests" / level).exists()
    ]
    if any("tests/" in word for word in more):
        folders = []
    tries = MORE_TRIES if os.environ.get("CI") else ()
    marks = ["-m", " or ".join(levels)]
    return ["-m", "pytest", *marks, *side_by_side(levels), *tries, *folders, *more]


def main(words: list[str]) -> int:
    levels, more = words, list[str]()
    if "--" in words:
        cut = words.index("--")
        levels, more = words[:cut], words[cut + 1 :]
    unknown = sorted(set(levels) - set(LEVELS))
    if unknown or not levels:
        say(f"levels are {', '.join(LEVELS)}; not {', '.join(unknown) or 'nothing'}")
        return 2
    if "deploy" in levels:
        # What it cannot install it says; the tests that miss it say so again.
        subprocess.run([sys.executable, "tools/deploy_tools.py"], cwd=ROOT, check=False)
    try:
        asyncio.run(prepare(levels))
    except Trouble as trouble:
        say(str(trouble))
        return 1
    command = [sys.executable, *pytest_words(levels, more)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
