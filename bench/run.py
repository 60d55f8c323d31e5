"""`make bench`: every figure several times, the median to quote, and the plots.

Load and mesh share the machine, so figures say what the machine does with both on it.
Results go to `bench/results/<name>.json`; the plot is drawn from them.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import agents, large_rooms, measures, plots, presence, tracing
from bench.agents import AgentBench, measured_agents
from bench.large_rooms import EACH, Crowd
from bench.measures import Figures
from bench.mesh import measured_mesh
from chatmesh.local.mesh import Mesh

RESULTS: Final = Path(__file__).resolve().parent / "results"
RUNS: Final = 5

Measure = Callable[[Mesh], Awaitable[Figures]]

MEASURES: Final[dict[str, Measure]] = {
    "latency_10": lambda mesh: measures.latency(
        mesh, members=10, rate_per_s=200, seconds=4
    ),
    "latency_100": lambda mesh: measures.latency(
        mesh, members=100, rate_per_s=200, seconds=4
    ),
    "sends_100_rooms": lambda mesh: measures.sends(
        mesh, rooms=100, senders=50, seconds=5, window=40
    ),
    "fan_out_1000": lambda mesh: measures.fan_out(
        mesh, members=1000, messages=5000, batch=250
    ),
    "idle_3000": lambda mesh: measures.idle(mesh, connections=3000),
}
AGENT_MEASURES: Final[dict[str, Callable[[AgentBench], Awaitable[Figures]]]] = {
    "agents_first_delta": lambda bench: agents.first_delta(bench, asks=50),
    "agents_streams": lambda bench: agents.streams(
        bench, streams=30, viewers=100, tokens_per_s=100, seconds=20
    ),
    "agents_fairness": lambda bench: agents.fairness(
        bench, busy=100, people=20, others=80
    ),
}
PRESENCE_ALONE: Final = {
    "presence_alone_100": 100,
    "presence_alone_1000": 1_000,
    "presence_alone_10000": 10_000,
}
"""Members in the room; reports go straight onto the queues of presence."""
LARGE_ROOMS: Final = {
    "presence_100": Crowd(100),
    "presence_1000": Crowd(1_000),
    "presence_10000": Crowd(10_000),
    # What the threshold of large rooms saves.
    "presence_1000_each": Crowd(1_000, EACH),
}
TRACING: Final = "tracing_overhead"
NAMES: Final = (*MEASURES, *AGENT_MEASURES, *PRESENCE_ALONE, *LARGE_ROOMS, TRACING)
GROUPS: Final = {"presence": (*LARGE_ROOMS, *PRESENCE_ALONE)}
FRESH_MESH_PER_RUN: Final = frozenset({"idle_3000", TRACING})
"""Processes of one program differ by a percent or so for all their life."""


async def run(names: list[str], runs: int) -> None:
    for name in names:
        taken: list[Figures] = []
        # A mesh of its own for each: memory and caches of one do not colour the next.
        # Memory that was grown into once is there for good, so it wants a new mesh a run.
        per_mesh = 1 if name in FRESH_MESH_PER_RUN else runs
        for _ in range(runs // per_mesh):
            async with _measuring(name) as measure:
                for _ in range(per_mesh):
                    taken.append(await measure())
                    print(f"{name:20} {_line(taken[-1])}", flush=True)
        _keep(name, taken)
    plots.draw(RESULTS)


@asynccontextmanager
async def _measuring(name: str) -> AsyncGenerator[Callable[[], Awaitable[Figures]]]:
    """Something running that can be measured, again and again."""
    if name == TRACING:
        async with tracing.measured_tracing() as pair:
            yield lambda: tracing.overhead(pair)
    elif name in AGENT_MEASURES:
        async with measured_agents() as bench:
            yield lambda: AGENT_MEASURES[name](bench)
    elif name in PRESENCE_ALONE:
        async with presence.measured_service() as alone:
            yield lambda: alone.measure(members=PRESENCE_ALONE[name])
    elif name in LARGE_ROOMS:
        async with large_rooms.measured_room(LARGE_ROOMS[name]) as room:
            yield room.measure
    else:
        async with measured_mesh() as mesh:
            yield lambda: MEASURES[name](mesh)


def _keep(name: str, taken: list[Figures]) -> None:
    RESULTS.mkdir(exist_ok=True)
    medians = {
        key: statistics.median(one.results[key] for one in taken)
        for key in taken[0].results
    }
    record = {
        "name": name,
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "parameters": taken[0].parameters,
        "runs": [one.results for one in taken],
        "medians": medians,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{name:20} median of {len(taken)}: {_pairs(medians)}", flush=True)


def _line(figures: Figures) -> str:
    return _pairs(figures.results)


def _pairs(values: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:,.2f}" for key, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, *GROUPS, []], default=[])
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args()
    chosen = [one for name in given.names for one in GROUPS.get(name, (name,))]
    uvloop.run(run(chosen or list(NAMES), given.runs))


if __name__ == "__main__":
    main()
