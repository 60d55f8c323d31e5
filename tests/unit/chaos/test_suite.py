"""What is late and what is broken, and when a run is played on."""

import asyncio
import dataclasses
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from chaos.checker import LATE, Kind, Violation
from chaos.chronicle import Log
from chaos.scenarios import Scenario
from chaos.scene import Fault, Result, Scene
from chaos.stage import Ending, Stage
from chaos.stalls import Stalls
from chaos.suite import (
    CLIENTS_MIN,
    EXTRA_ROUNDS_MAX,
    FAULTS_MIN,
    MESSAGES_MIN,
    SCENARIOS,
    Order,
    is_only_late,
    judge,
    played,
    wants_another_round,
)
from chatmesh.local.service import Service
from chatmesh.local.trouble import Trouble

WHOLE = Order(SCENARIOS, seed=1, long=False, picture=None)


def result_of(kinds: Sequence[Kind]) -> Result:
    return Result(
        name="poison",
        seed=1,
        clients=1,
        messages=1,
        deliveries=1,
        faults=[],
        violations=[Violation(kind, "room:a", "what happened") for kind in kinds],
        notes=[],
        took_s=1.0,
        began_s=0.0,
        latencies=[],
    )


def test_a_missed_limit_may_be_the_machines_fault() -> None:
    """Others may have had its cores; then it is asked once more."""
    assert is_only_late(result_of([Kind.UNKEPT, Kind.UNKEPT]))
    assert is_only_late(result_of([Kind.BEHIND, Kind.UNKEPT]))
    assert not is_only_late(result_of([]))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in LATE])
def test_what_was_lost_is_never_forgiven(kind: Kind) -> None:
    """Nor doubled, reordered or invented: no machine is an excuse for that."""
    assert not is_only_late(result_of([kind]))
    assert not is_only_late(result_of([Kind.UNKEPT, kind]))


def test_some_promises_hold_at_any_pace() -> None:
    """A side effect done twice is no question of the machine."""
    scene = Scene("poison", cast("Stage", None), seed=1, stretch=1.0)

    scene.must(True, "kept")  # noqa: FBT003
    scene.must(False, "late")  # noqa: FBT003
    assert [violation.kind for violation in scene.violations] == [Kind.UNKEPT]
    scene.must(False, "done twice", at_any_pace=True)  # noqa: FBT003

    assert scene.violations[-1].kind is Kind.BROKEN


# -- Amounts ------------------------------------------------------------------------------


def enough(messages: int = MESSAGES_MIN) -> Result:
    fault = Fault("kill", 0.0, 0.0)
    return dataclasses.replace(
        result_of([]),
        clients=CLIENTS_MIN,
        messages=messages,
        faults=[fault] * FAULTS_MIN,
    )


def test_enough_is_enough() -> None:
    """No round more than it takes."""
    assert wants_another_round(WHOLE, [enough()], 0) == ""
    assert judge(WHOLE, [enough()]) == 0


def test_a_slow_machine_plays_on_until_there_is_enough() -> None:
    """What is short is said; and it ends, red, when it is short after that as well."""
    short = enough(messages=MESSAGES_MIN - 1)

    assert "49,999 messages of 50,000" in wants_another_round(WHOLE, [short], 0)
    assert wants_another_round(WHOLE, [short], EXTRA_ROUNDS_MAX) == ""
    assert judge(WHOLE, [short]) == 1


def test_rounds_add_up() -> None:
    """The amounts are of all that was played."""
    half = enough(messages=MESSAGES_MIN // 2)

    assert wants_another_round(WHOLE, [half], 1)
    assert wants_another_round(WHOLE, [half, half], 1) == ""


def test_a_broken_promise_needs_no_further_rounds() -> None:
    """It is red already."""
    broken = dataclasses.replace(result_of([Kind.LOST]), messages=1)

    assert wants_another_round(WHOLE, [broken], 0) == ""
    assert judge(WHOLE, [broken]) == 1


def test_what_was_broken_is_told_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who reads the last lines of a red run has what it takes to look for the cause."""
    assert judge(WHOLE, [enough(), result_of([Kind.LOST])]) == 1
    *_, after_the_table = capsys.readouterr().out.partition("broken: ")
    assert "--only poison --seed 1" in after_the_table
    assert "VIOLATION lost in room:a: what happened" in after_the_table


def test_what_came_in_time_only_later_is_told_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A green run that needed a second try does not hide it."""
    late = dataclasses.replace(enough(), missed_before=["12 s, 10 s are allowed"])

    assert judge(WHOLE, [late]) == 0
    *_, after_the_table = capsys.readouterr().out.partition("played again: ")
    assert "missed in try 1: 12 s, 10 s are allowed" in after_the_table


def test_a_part_is_never_short_of_anything() -> None:
    """Whoever plays one scenario does not want fifty thousand messages."""
    part = dataclasses.replace(WHOLE, scenarios=SCENARIOS[:1])

    assert wants_another_round(part, [result_of([])], 0) == ""


# -- Time ---------------------------------------------------------------------------------


def a_scene(stalls: Stalls | None = None) -> Scene:
    return Scene("poison", cast("Stage", None), seed=1, stretch=1.0, stalls=stalls)


async def test_what_the_machine_took_is_waited_in_addition() -> None:
    """A short wait goes on for as long as nothing ran, and then it is over."""
    stalls = Stalls()
    began_s = time.monotonic()
    stalls.add(began_s, began_s + 0.2)

    assert math.isinf(await a_scene(stalls).until(lambda: False, 0.05, "never"))
    assert time.monotonic() - began_s >= 0.2


async def test_a_wait_that_ran_out_is_late() -> None:
    """Whatever was waited for; and one that ended in time is none."""
    scene = a_scene()

    assert await scene.until(lambda: True, 1.0, "now", must=True) < 1.0
    assert not scene.violations
    await scene.until(lambda: False, 0.0, "never", must=True)

    assert [violation.kind for violation in scene.violations] == [Kind.UNKEPT]


async def test_a_long_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that ended well: it says where the time of a slow scenario went."""
    monkeypatch.setattr("chaos.scene.LONG_WAIT_S", 0.05)
    scene = a_scene()
    soon_s = time.monotonic() + 0.1

    await scene.until(lambda: True, 1.0, "now")
    await scene.until(lambda: time.monotonic() > soon_s, 1.0, "soon")
    await scene.until(lambda: False, 0.1, "never")

    assert scene.notes == ["waited for 0 s: soon", "waited for 0 s: never, in vain"]


async def test_who_is_away_has_not_said_yes() -> None:
    """A question that nobody could answer is asked again, as long as there is time."""
    asked = 0

    def away_at_first() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ConnectionRefusedError
        return True

    assert await a_scene().until(away_at_first, 5.0, "answer", every_s=0.0) < 5.0


# -- Ends ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Victim:
    """As much of a service, and of its process, as it takes to stop it."""

    code: int
    grace_s: float = 30.0
    running: bool = True
    name: str = "victim"

    @property
    def process(self) -> "Victim":
        return self

    @property
    def command(self) -> "Victim":
        return self

    async def stop(self) -> int:
        self.running = False
        return self.code


async def verdicts_on(victim: Victim) -> list[Kind]:
    scene = a_scene()
    await scene.stop(cast("Service", victim))
    return [violation.kind for violation in scene.violations]


async def test_who_is_asked_to_end_ends_with_zero() -> None:
    """Another code is no question of time; that we lost patience is."""
    assert await verdicts_on(Victim(0)) == []
    assert await verdicts_on(Victim(1)) == [Kind.BROKEN]
    assert await verdicts_on(Victim(-11)) == [Kind.BROKEN]
    assert await verdicts_on(Victim(-9, grace_s=0.0)) == [Kind.UNKEPT]


async def test_who_is_dead_already_is_not_asked() -> None:
    """How it died is told by whoever finds it dead."""
    assert await verdicts_on(Victim(-9, running=False)) == []


class QuietStage:
    """A stage on which nothing happens, with what was found dead on it."""

    def __init__(
        self, dead: Sequence[Ending] = (), unasked: Sequence[Ending] = ()
    ) -> None:
        self.unasked = list(unasked)
        self.in_order = True
        self._dead = list(dead)

    def dead(self) -> list[Ending]:
        return self._dead

    async def revive_all(self) -> None:
        if not self.in_order:
            raise Trouble("it does not come up")

    async def tops(self, _channels: Sequence[str]) -> dict[str, int]:
        return {}

    async def logs(self, _channels: Sequence[str]) -> dict[str, Log]:
        if not self.in_order:
            raise TimeoutError
        return {}


async def nothing(_scene: Scene) -> None:
    """Nothing happens."""


async def break_off(_scene: Scene) -> None:
    """A query takes too long."""
    await asyncio.sleep(0)
    raise TimeoutError


async def do_harm(scene: Scene) -> None:
    """Something is done twice."""
    scene.must(False, "done twice", at_any_pace=True)  # noqa: FBT003
    await asyncio.sleep(0)
    raise TimeoutError


async def verdict_on(
    play: Callable[[Scene], Awaitable[None]], stage: QuietStage
) -> tuple[list[Kind], bool]:
    scene = Scene("poison", cast("Stage", stage), seed=1, stretch=1.0)
    result, whole = await played(Scenario("poison", play, "clients"), scene)
    return [violation.kind for violation in result.violations], whole


async def test_nothing_is_nothing_to_complain_of() -> None:
    """And the next scenario plays on the same stage."""
    assert await verdict_on(nothing, QuietStage()) == ([], True)


async def test_what_breaks_off_is_late_and_spoils_its_stage() -> None:
    """A query that took too long says nothing of messages; a new stage will."""
    assert await verdict_on(break_off, QuietStage()) == ([Kind.UNKEPT], False)


async def test_a_stage_that_is_out_of_order_is_late_and_spoilt() -> None:
    """Also where only the end shows it."""
    stage = QuietStage()
    stage.in_order = False

    kinds, whole = await verdict_on(nothing, stage)

    assert set(kinds) == {Kind.UNKEPT}
    assert not whole


async def test_who_dies_unasked_is_never_forgiven() -> None:
    """Found dead at the end, or by whoever wanted to start it again."""
    at_the_end = QuietStage(dead=[Ending("gateway-1", 1)])
    before = QuietStage(unasked=[Ending("history-2", -11)])

    assert await verdict_on(nothing, at_the_end) == ([Kind.BROKEN], True)
    assert await verdict_on(nothing, before) == ([Kind.BROKEN], True)


async def test_who_could_not_start_may_have_met_somebody_on_its_port() -> None:
    """That has not been alive, so it has not died."""
    stage = QuietStage(unasked=[Ending("gateway-1", 2)])

    assert await verdict_on(nothing, stage) == ([Kind.UNKEPT], True)


async def test_harm_is_told_although_the_scenario_broke_off() -> None:
    """And then it is not only late."""
    stage = QuietStage()
    stage.in_order = False

    kinds, _ = await verdict_on(do_harm, stage)

    assert Kind.BROKEN in kinds
