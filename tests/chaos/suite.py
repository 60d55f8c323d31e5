"""Plays scenarios in lanes, each lane on a stage of its own, and sums up."""

import argparse
import asyncio
import random
import resource
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from chaos import report
from chaos.checker import Kind
from chaos.scenarios import SCENARIOS, Scenario
from chaos.scene import Result, Scene
from chaos.stage import Stage, open_stage
from chatmesh.local.instances import private_folder
from chatmesh.local.trouble import Trouble

LONG_S: Final = 30 * 60.0
LONG_DELIVERIES: Final = 1_000_000
LONG_STRETCH: Final = 3.0
LANES_AT_ONCE: Final = 3
"""As many meshes as two cores can carry: half of the time each waits for a lease to end
or for a process to start."""
MESSAGES_MIN: Final = 50_000
CLIENTS_MIN: Final = 200
FAULTS_MIN: Final = 30
MESSAGE_LANES: Final = ("clients", "services", "cluster")
"""Those that prove what is promised of messages; the amounts are theirs."""
SCENARIO_WITHIN_S: Final = 300.0
SECOND_TRY_SEEDS: Final = 1_000_000
"""Above all others: rooms are named by seed, and a second try wants new ones."""
OPEN_FILES: Final = 8192
PICTURE: Final = Path(__file__).parents[2] / "docs" / "pictures" / "chaos.png"


@dataclass(frozen=True, slots=True)
class Order:
    """What to play."""

    scenarios: Sequence[Scenario]
    seed: int
    long: bool
    picture: Path | None
    keep: bool = False
    second_try: bool = False
    """Play a scenario once more that only missed a limit; for machines of many."""


async def run(order: Order) -> list[Result]:
    """Play everything and print as it comes."""
    _allow_many_files()
    folder = private_folder()
    playing = _Run(order, folder)
    try:
        async with asyncio.TaskGroup() as group:
            for name, scenarios in by_lane(order.scenarios).items():
                group.create_task(playing.lane(name, scenarios), name=name)
    finally:
        if order.keep:
            say(f"logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    places = {scenario.name: n for n, scenario in enumerate(order.scenarios)}
    return sorted(playing.results, key=lambda one: (places[one.name], one.seed))


class _Run:
    """Lanes that share a machine."""

    def __init__(self, order: Order, folder: Path) -> None:
        self._order = order
        self._folder = folder
        self._room = asyncio.Semaphore(LANES_AT_ONCE)
        # Brokers and databases that start all want every core: one after the other.
        self._starting = asyncio.Lock()
        self._started_s = time.monotonic()
        self.results: list[Result] = []

    async def lane(self, name: str, scenarios: Sequence[Scenario]) -> None:
        """Play scenarios on one stage, one after the other."""
        folder = self._folder / name
        folder.mkdir(parents=True)
        folder.chmod(0o711)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._room)
            began_s = time.monotonic()
            async with self._starting:
                opening = open_stage(folder, scenarios[0].shape)
                stage = await stack.enter_async_context(opening)
            say(f"[{name}] up after {time.monotonic() - began_s:.0f} s")
            seed = self._order.seed
            while True:
                for scenario in scenarios:
                    self.results.append(await self._play(scenario, stage, seed))
                seed += 1
                if not self._order.long or self._enough():
                    return

    async def _play(self, scenario: Scenario, stage: Stage, seed: int) -> Result:
        result = await _played(scenario, stage, seed, long=self._order.long)
        if not (self._order.second_try and is_only_late(result)):
            return result
        missed = "; ".join(violation.detail for violation in result.violations)
        say(f"[{scenario.lane}] {scenario.name} is played once more")
        again = seed + SECOND_TRY_SEEDS
        result = await _played(scenario, stage, again, long=self._order.long)
        result.notes.append(f"the second try; in the first, {missed}")
        return result

    def _enough(self) -> bool:
        deliveries = sum(result.deliveries for result in self.results)
        lasted_s = time.monotonic() - self._started_s
        return lasted_s > LONG_S and deliveries > LONG_DELIVERIES


def is_only_late(result: Result) -> bool:
    """Whether limits were missed and nothing else: nothing lost, doubled or reordered."""
    kinds = {violation.kind for violation in result.violations}
    return kinds == {Kind.UNKEPT}


async def _played(scenario: Scenario, stage: Stage, seed: int, *, long: bool) -> Result:
    """One scenario from its first client to the verdict; the stage is whole again."""
    stretch = LONG_STRETCH if long else 1.0
    scene = Scene(scenario.name, stage, seed, stretch)
    try:
        async with asyncio.timeout(SCENARIO_WITHIN_S * stretch):
            await scenario.play(scene)
    except Exception as error:  # noqa: BLE001 - the other scenarios shall still be played
        scene.must(False, f"the scenario broke off: {error!r}")  # noqa: FBT003
    for wires in stage.wires.values():
        wires.broker.mend()
        if wires.database is not None:
            wires.database.mend()
    try:
        await stage.revive_all()
    except Trouble as trouble:
        scene.must(False, f"not everything could be started again: {trouble}")  # noqa: FBT003
    result = await scene.finish()
    say(
        f"[{scenario.lane}] {result.name} seed {seed}: {result.messages:,} messages, "
        f"{result.deliveries:,} deliveries, {len(result.faults)} faults, "
        f"{len(result.violations)} violations, {result.took_s:.0f} s\n"
        + report.told(result)
    )
    if result.violations:
        say(f"  replay: {report.replay(result)}")
    return result


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Break the mesh on purpose, check every promise."
    )
    parser.add_argument("--long", action="store_true", help="half an hour, 60 s pauses")
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME")
    parser.add_argument(
        "--brief", action="store_true", help="what is played for every change"
    )
    parser.add_argument(
        "--second-try",
        action="store_true",
        help="play a scenario once more that missed a limit and nothing else",
    )
    lanes = list(by_lane(SCENARIOS))
    parser.add_argument("--lane", action="append", choices=lanes, metavar="LANE")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--picture", type=Path, help="where to draw the latencies")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    given = parser.parse_args(arguments)
    if given.list:
        for scenario in SCENARIOS:
            say(f"{scenario.name:26} {_first_line(scenario)}")
        return 0
    seed = given.seed if given.seed is not None else random.randrange(1_000_000)
    say(f"seed {seed}")
    chosen = [
        one
        for one in SCENARIOS
        if (not given.only or one.name in given.only)
        and (not given.lane or one.lane in given.lane)
        and (not given.brief or one.in_brief)
    ]
    whole = len(chosen) == len(SCENARIOS)
    picture = given.picture or (PICTURE if whole else None)
    order = Order(
        chosen,
        seed,
        given.long,
        picture,
        keep=given.keep,
        second_try=given.second_try,
    )
    return judge(order, uvloop.run(run(order)))


def judge(order: Order, results: Sequence[Result]) -> int:
    """Print the table, draw the picture; the exit code."""
    say("")
    say(report.table(results))
    if order.picture is not None:
        report.draw(results, order.picture)
    short_of = _short_of(order, results)
    if short_of:
        say(f"too little was done to prove anything: {short_of}")
    broken = [result for result in results if result.violations]
    for result in broken:
        say(f"broken: {result.name}; replay: {report.replay(result)}")
    return 1 if broken or short_of else 0


def _short_of(order: Order, results: Sequence[Result]) -> str:
    """Which amounts a run did not come to; nothing for a part of one."""
    played = {one.name for one in order.scenarios}
    if any(o.name not in played for o in SCENARIOS if o.lane in MESSAGE_LANES):
        return ""
    wanted = {
        "messages": (sum(r.messages for r in results), MESSAGES_MIN),
        "clients": (sum(r.clients for r in results), CLIENTS_MIN),
        "faults": (sum(len(r.faults) for r in results), FAULTS_MIN),
    }
    if order.long:
        deliveries = sum(r.deliveries for r in results)
        wanted["deliveries"] = (deliveries, LONG_DELIVERIES)
    return ", ".join(
        f"{found:,} {what} of {least:,}"
        for what, (found, least) in wanted.items()
        if found < least
    )


def _first_line(scenario: Scenario) -> str:
    return (scenario.play.__doc__ or "").partition("\n")[0]


def by_lane(scenarios: Iterable[Scenario]) -> dict[str, list[Scenario]]:
    """Scenarios that share a stage, in order."""
    lanes: dict[str, list[Scenario]] = {}
    for scenario in scenarios:
        lanes.setdefault(scenario.lane, []).append(scenario)
    return lanes
