"""Plays scenarios in lanes, each lane on a stage of its own, and sums up."""

import argparse
import asyncio
import random
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
from chaos.checker import LATE
from chaos.scenarios import SCENARIOS, Scenario
from chaos.scene import Result, Scene
from chaos.stage import Ending, Shape, Stage, open_stage
from chaos.stalls import Stalls, watched
from chatmesh.local.guard import take_descriptors
from chatmesh.local.instances import private_folder

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
EXTRA_ROUNDS_MAX: Final = 3
"""Where a machine was so slow that all lanes together came to too little."""
SCENARIO_WITHIN_S: Final = 600.0
"""Its play, and its end as long again; each single wait in it ends long before."""
TRIES_MAX: Final = 3
SECOND_TRY_SEEDS: Final = 1_000_000
"""Above all others: rooms are named by seed, and a further try wants new ones."""
OPENINGS_MAX: Final = 2
"""A stage that does not come up is opened once more."""
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
    """Play a scenario again that only missed a limit; for machines of many."""


async def run(order: Order) -> list[Result]:
    """Play everything and print as it comes."""
    take_descriptors()
    folder = private_folder()
    try:
        async with watched() as stalls:
            playing = _Run(order, folder, stalls)
            await playing.round(order.scenarios, order.seed)
            extra = 0
            while reason := wants_another_round(order, playing.results, extra):
                extra += 1
                say(f"one more round of the message scenarios: {reason}")
                again = [o for o in order.scenarios if o.lane in MESSAGE_LANES]
                await playing.round(again, order.seed + extra, until_enough=True)
    finally:
        if order.keep:
            say(f"logs and data are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    places = {scenario.name: n for n, scenario in enumerate(order.scenarios)}
    return sorted(playing.results, key=lambda one: (places[one.name], one.seed))


class _Run:
    """Lanes that share a machine."""

    def __init__(self, order: Order, folder: Path, stalls: Stalls) -> None:
        self._order = order
        self._folder = folder
        self._stalls = stalls
        self._room = asyncio.Semaphore(LANES_AT_ONCE)
        # Brokers and databases that start all want every core: one after the other.
        self._starting = asyncio.Lock()
        self._started_s = time.monotonic()
        self.results: list[Result] = []

    async def round(
        self, scenarios: Sequence[Scenario], seed: int, *, until_enough: bool = False
    ) -> None:
        """Play all of these, or as many as are wanted to come to the amounts."""
        async with asyncio.TaskGroup() as group:
            for name, its_own in by_lane(scenarios).items():
                lane = self._lane(name, its_own, seed, until_enough=until_enough)
                group.create_task(lane, name=name)

    async def _lane(
        self, name: str, scenarios: Sequence[Scenario], seed: int, *, until_enough: bool
    ) -> None:
        """Play scenarios on one stage, one after the other."""
        place = _Place(
            name,
            self._folder / f"{name}-{seed}",
            scenarios[0].shape,
            self._starting,
        )
        async with self._room:
            try:
                while True:
                    for scenario in scenarios:
                        if until_enough and not short_of(self._order, self.results):
                            return
                        self.results.append(await self._play(scenario, place, seed))
                    seed += 1
                    if not self._order.long or self._enough():
                        return
            finally:
                await place.close()

    async def _play(self, scenario: Scenario, place: "_Place", seed: int) -> Result:
        """As often as it only misses limits, and may be tried again."""
        missed: list[str] = []
        while True:
            again = seed + len(missed) * SECOND_TRY_SEEDS
            result = await self._tried(scenario, place, again)
            result.missed_before.extend(missed)
            missed.append("; ".join(one.detail for one in result.violations))
            tries = TRIES_MAX if self._order.second_try else 1
            if not is_only_late(result) or len(missed) >= tries:
                return result
            say(f"[{scenario.lane}] {scenario.name} is played again")

    async def _tried(self, scenario: Scenario, place: "_Place", seed: int) -> Result:
        try:
            stage = await place.stage()
        except Exception as error:  # noqa: BLE001 - the other lanes shall still be played
            reason = f"the stage did not come up: {error!r}"
            result, whole = Result.of_nothing(scenario.name, seed, reason), False
        else:
            scene = Scene(scenario.name, stage, seed, self._stretch, self._stalls)
            result, whole = await played(scenario, scene)
        if not whole:
            await place.close()
        say(
            f"[{scenario.lane}] {result.name} seed {seed}: {result.messages:,} messages, "
            f"{result.deliveries:,} deliveries, {len(result.faults)} faults, "
            f"{len(result.violations)} violations, {result.took_s:.0f} s\n"
            + report.told(result)
        )
        if result.violations:
            say(f"  replay: {report.replay(result)}")
        return result

    @property
    def _stretch(self) -> float:
        return LONG_STRETCH if self._order.long else 1.0

    def _enough(self) -> bool:
        deliveries = sum(result.deliveries for result in self.results)
        lasted_s = time.monotonic() - self._started_s
        return lasted_s > LONG_S and deliveries > LONG_DELIVERIES


class _Place:
    """A lane's stage: opened when it is wanted, and anew after one that was spoilt."""

    def __init__(
        self, lane: str, folder: Path, shape: Shape, starting: asyncio.Lock
    ) -> None:
        self._lane = lane
        self._folder = folder
        self._shape = shape
        self._starting = starting
        self._opened = 0
        self._stack = AsyncExitStack()
        self._stage: Stage | None = None

    async def stage(self) -> Stage:
        """The one that is open, or a new one. Raises whatever the last opening did."""
        for left in reversed(range(OPENINGS_MAX)):
            if self._stage is not None:
                break
            try:
                self._stage = await self._open()
            except Exception as error:
                say(f"[{self._lane}] the stage did not come up: {error!r}")
                if not left:
                    raise
        assert self._stage is not None
        return self._stage

    async def close(self) -> None:
        """What does not end in order ends with the suite: that proves nothing of the mesh."""
        stack, self._stack, self._stage = self._stack, AsyncExitStack(), None
        try:
            await stack.aclose()
        except Exception as error:  # noqa: BLE001 - the verdicts stand by now
            say(f"[{self._lane}] the stage did not end in order: {error!r}")

    async def _open(self) -> Stage:
        began_s = time.monotonic()
        self._opened += 1
        folder = self._folder / f"{self._opened}"
        folder.mkdir(parents=True)
        for one in (self._folder, folder):
            one.chmod(0o711)
        async with self._starting:
            opening = open_stage(folder, self._shape)
            stage = await self._stack.enter_async_context(opening)
        say(f"[{self._lane}] up after {time.monotonic() - began_s:.0f} s")
        return stage


def is_only_late(result: Result) -> bool:
    """Whether limits were missed and nothing else: nothing lost, doubled or reordered."""
    kinds = {violation.kind for violation in result.violations}
    return bool(kinds) and kinds <= LATE


def wants_another_round(order: Order, results: Sequence[Result], extra: int) -> str:
    """Why the message scenarios are to be played once more; nothing where they are not."""
    if extra >= EXTRA_ROUNDS_MAX or any(result.violations for result in results):
        return ""
    return short_of(order, results)


async def played(scenario: Scenario, scene: Scene) -> tuple[Result, bool]:
    """One scenario from its first client to the verdict, and whether its stage is whole."""
    within_s = SCENARIO_WITHIN_S * scene.stretch
    stage = scene.stage
    whole = True
    try:
        async with asyncio.timeout(within_s):
            await scenario.play(scene)
        _complain_of(stage.dead(), scene)
    except Exception as error:  # noqa: BLE001 - the other scenarios shall still be played
        scene.must(False, f"the scenario broke off: {error!r}")  # noqa: FBT003
        whole = False
    try:
        await stage.revive_all()
    except Exception as error:  # noqa: BLE001 - as above
        scene.must(False, f"not everything could be started again: {error!r}")  # noqa: FBT003
        whole = False
    unasked, stage.unasked = stage.unasked, []
    _complain_of(unasked, scene)
    try:
        async with asyncio.timeout(within_s):
            result = await scene.finish()
    except Exception as error:  # noqa: BLE001 - as above
        reason = f"there was no end to it: {error!r}"
        result = Result.of_nothing(scenario.name, scene.seed, reason)
        result.violations.extend(scene.violations)
        return result, False
    return result, whole and not scene.broken_off


def _complain_of(ended: Iterable[Ending], scene: Scene) -> None:
    for ending in ended:
        scene.must(False, str(ending), at_any_pace=not ending.excusable)  # noqa: FBT003


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
        help="play a scenario up to twice more that missed a limit and nothing else",
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
    lacking = short_of(order, results)
    if lacking:
        say(f"too little was done to prove anything: {lacking}")
    broken = [result for result in results if result.violations]
    # Again, for whoever reads only how it ended.
    for result in results:
        if result.missed_before and not result.violations:
            say(f"played again: {result.name}\n{report.told(result)}")
    for result in broken:
        say(f"broken: {result.name}; replay: {report.replay(result)}")
        say(report.told(result))
    return 1 if broken or lacking else 0


def short_of(order: Order, results: Sequence[Result]) -> str:
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
