"""One link after the other: pauses after failures, none after the end."""

import random
from collections.abc import Callable

from chatmesh.bus.lives import Lives
from chatmesh.bus.outgoing import LinkLost
from chatmesh.runtime import checkpoints
from chatmesh.runtime.health import BROKER, Health
from chatmesh.runtime.replica import Replica
from chatmesh.runtime.service import Stopping
from chatmesh.runtime.tracing import OFF
from support.history_doubles import QuickClock

LONG_S = 60.0


class Longest(random.Random):
    """Jitter that always takes the longest pause."""

    def uniform(self, a: float, b: float) -> float:
        del a
        return b


class LifeDouble:
    """Lives as long as it is told to; then its link is lost, or somebody asks to stop."""

    def __init__(self, clock: QuickClock, lasts_s: float, *, last: bool) -> None:
        self.clock = clock
        self.lasts_s = lasts_s
        self.last = last

    async def run(self, stopping: Stopping) -> None:
        self.clock.now_s += self.lasts_s
        if self.last:
            stopping.request("SIGTERM")
        raise LinkLost("the broker went")


def world() -> tuple[Replica, QuickClock]:
    clock = QuickClock()
    replica = Replica(
        me="probe-1",
        clock=clock,
        chance=Longest(),
        checkpoint=checkpoints.ignore,
        health=Health(BROKER),
        tracing=OFF,
    )
    return replica, clock


def living(clock: QuickClock, *lasting_s: float) -> Callable[[int], LifeDouble]:
    """Lives that last so long; with the last of them somebody asks to stop."""
    return lambda number: LifeDouble(
        clock, lasting_s[number - 1], last=number == len(lasting_s)
    )


async def test_a_link_that_cannot_be_built_is_tried_again_ever_more_slowly() -> None:
    """A broker that is down is not hammered, and one that comes back is found soon."""
    replica, clock = world()

    await Lives(replica, living(clock, *[0.0] * 8)).run(Stopping())

    assert clock.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


async def test_a_link_that_stood_for_long_is_rebuilt_at_once() -> None:
    """One restart of the broker a week is no reason to wait two seconds."""
    replica, clock = world()

    await Lives(replica, living(clock, 0.0, 0.0, LONG_S, 0.0)).run(Stopping())

    assert clock.slept == [0.1, 0.2, 0.1]


async def test_why_the_link_is_gone_is_told_by_readiness() -> None:
    """Whoever looks at /readyz reads the cause."""
    replica, clock = world()
    lives = Lives(replica, living(clock, 0.0))

    await lives.run(Stopping())

    check = replica.health.report()["checks"][BROKER]
    assert check == {"ok": False, "reason": "the broker went"}
    assert lives.now is None


async def test_no_life_begins_when_somebody_has_asked_to_stop() -> None:
    """A process that is asked to leave while it waits for its database leaves."""
    replica, clock = world()
    stopping = Stopping()
    stopping.request("SIGTERM")

    await Lives(replica, living(clock)).run(stopping)

    assert clock.slept == []
