"""What agents cost: the first words, many streams at once, and many that wait.

The model is the fake one of the tests, in this very process, so the time at which it
produced a word is known by the clock that the viewers use.
"""

import asyncio
import itertools
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from bench.load import LoadClient, message, open_clients, reading_in_turns
from bench.measures import Figures, cpu_s
from bench.mesh import measured_mesh
from chatmesh.local.mesh import Mesh
from support.agents_side import TELLER, agents_file, settings_for
from support.fake_openai import Asked, FakeOpenAI
from support.run_viewer import token
from support.stories import Story, tell

WITHIN_S: Final = 120.0
LOOK_EVERY_S: Final = 0.1
DELTA: Final = b'"TEXT_MESSAGE_CONTENT"'
ANSWER: Final = b'"id":"run:'
_SECRET: Final = secrets.token_hex(32)
_rooms: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class AgentBench:
    """A mesh with one agent process, and its model."""

    mesh: Mesh
    model: FakeOpenAI

    @property
    def urls(self) -> list[str]:
        return [gateway.ws_url for gateway in self.mesh.gateways]


@asynccontextmanager
async def measured_agents() -> AsyncGenerator[AgentBench]:
    with tempfile.TemporaryDirectory() as folder:
        async with FakeOpenAI(tell) as model:
            file = agents_file(
                Path(folder), model.url, idle_s=60.0, tools=[], concurrency=100
            )
            settings = {
                **settings_for(file),
                "CHATMESH_GATEWAY_TOKENS_HMAC_SECRETS": _SECRET,
            }
            async with measured_mesh(agents=1, settings=settings) as mesh:
                yield AgentBench(mesh, model)


def _room(prefix: str = "queue") -> str:
    return f"room:{prefix}-{os.getpid()}-{next(_rooms)}"


def _ask(client: LoadClient, room: str, story: Story, number: int = 0) -> None:
    request = message(room, f"{room}.{number}", f"@{TELLER} {story.question}")
    command, _ = client.expect()
    client.write(json.dumps({"id": command, **request}).encode())


async def first_delta(bench: AgentBench, *, asks: int) -> Figures:
    """From the model's first word to a viewer on another gateway."""
    one, two = bench.urls
    (asker,), (watcher,) = await open_clients([one], 1), await open_clients([two], 1)
    watcher.seen = deque()
    took: list[float] = []
    for number in range(asks):
        room, story = _room(), Story(f"f{number}", chars=60, pause_ms=30)
        await watcher.subscribe(room)
        await asker.subscribe(room)
        watcher.seen.clear()
        before = len(bench.model.asked)
        _ask(asker, room, story)
        await _until(lambda: _seen(watcher, ANSWER))
        produced_s = bench.model.asked[before].sent_s[0]
        took.append(next(at for line, at in watcher.seen if DELTA in line) - produced_s)
    for client in (asker, watcher):
        client.close()
    return Figures(
        "agents_first_delta",
        {"asks": asks},
        {
            "first_delta_ms_median": statistics.median(took) * 1e3,
            "first_delta_ms_p90": sorted(took)[int(asks * 0.9)] * 1e3,
        },
    )


async def streams(
    bench: AgentBench, *, streams: int, viewers: int, tokens_per_s: int, seconds: int
) -> Figures:
    """Many answers at once, each seen by many; the lag is a word's age when it is seen."""
    piece = 4
    clients = await open_clients(bench.urls, streams * viewers)
    rooms = [_room() for _ in range(streams)]
    for number, room in enumerate(rooms):
        async with asyncio.TaskGroup() as group:
            for client in clients[number * viewers : (number + 1) * viewers]:
                group.create_task(client.subscribe(room))
    watchers = [clients[number * viewers] for number in range(streams)]
    for watcher in watchers:
        watcher.seen = deque()
    agent, gateways = bench.mesh.agents[0].pid, [g.pid for g in bench.mesh.gateways]
    before, pushes = len(bench.model.asked), sum(one.pushes for one in clients)
    cpu_before, started = (cpu_s([agent]), cpu_s(gateways)), time.monotonic()
    crowd = [client for client in clients if client.seen is None]
    async with reading_in_turns(crowd):
        for number, (room, watcher) in enumerate(zip(rooms, watchers, strict=True)):
            story = Story(
                f"s{number}",
                chars=tokens_per_s * seconds * piece,
                pause_ms=1000 // tokens_per_s,
                piece=piece,
            )
            _ask(watcher, room, story)
        await _until(lambda: all(_seen(watcher, ANSWER) for watcher in watchers))
        took_s = time.monotonic() - started
    used = cpu_s([agent]) - cpu_before[0], cpu_s(gateways) - cpu_before[1]
    asked = bench.model.asked[before:]
    lags, windows = _lags(watchers, asked, piece, started)
    produced = sum(one.sent for one in asked)
    got = sum(one.pushes for one in clients) - pushes
    for client in clients:
        client.close()
    return Figures(
        "agents_streams",
        {
            "streams": streams,
            "viewers_each": viewers,
            "tokens_per_s": tokens_per_s,
            "seconds": seconds,
        },
        {
            "tokens_per_s_each": produced / took_s / streams,
            "lag_ms_first_third": _median_between(lags, 0.0, took_s / 3) * 1e3,
            "lag_ms_last_third": _median_between(lags, took_s * 2 / 3, took_s) * 1e3,
            "window_ms_median": statistics.median(windows),
            "deliveries_per_s": got / took_s,
            "agent_cpu_us_per_token": used[0] / produced * 1e6,
            "agent_cores": used[0] / took_s,
            "gateway_cores": used[1] / took_s,
        },
    )


def _lags(
    watchers: Sequence[LoadClient], asked: Sequence[Asked], piece: int, started: float
) -> tuple[list[tuple[float, float]], list[int]]:
    """When each delta was seen and how old its last word was then; and the windows."""
    lags: list[tuple[float, float]] = []
    windows: list[int] = []
    for number, watcher in enumerate(watchers):
        sent_s = next(one.sent_s for one in asked if f"#s{number} " in one.prompt)
        for event, at in _deltas(watcher):
            last: int = (event["off"] + len(event["data"]["delta"]) - 1) // piece
            lags.append((at - started, at - sent_s[min(last, len(sent_s) - 1)]))
            windows.append(event.get("window", 0))
    return lags, windows


async def fairness(
    bench: AgentBench, *, busy: int, people: int, others: int
) -> Figures:
    """Somebody asks for very much; then others in that room, and other rooms, for little.

    The agent answers one question at a time in a room, and all are asked at once.
    """
    room, rooms = _room(), [_room() for _ in range(others)]
    eager = await _person(bench, "eager", room)
    asking = [await _person(bench, f"person{number}", room) for number in range(people)]
    elsewhere = await _person(bench, "elsewhere", *rooms)
    started = time.perf_counter()
    for number in range(busy):
        _ask(eager, room, _short(f"e{number}"), number)
    await _until(lambda: not eager.replies)
    for number, person in enumerate(asking, busy):
        _ask(person, room, _short(f"p{number}"), number)
    for number, other in enumerate(rooms):
        _ask(elsewhere, other, _short(f"o{number}"))
    ends: dict[str, float] = {}

    def all_answered() -> bool:
        for client in (eager, elsewhere):
            while client.seen:
                line, at = client.seen.popleft()
                if ANSWER in line:
                    answer = json.loads(line)["push"]["pub"]["data"]
                    ends[answer["run"]["trigger"]] = at - started
        return len(ends) >= busy + people + others

    await _until(all_answered)
    for client in (eager, elsewhere, *asking):
        client.close()
    of_eager = [ends[f"{room}.{number}"] for number in range(busy)]
    of_people = [ends[f"{room}.{number}"] for number in range(busy, busy + people)]
    of_others = [ends[f"{other}.0"] for other in rooms]
    return Figures(
        "agents_fairness",
        {
            "runs_of_one_person": busy,
            "people_in_that_room_with_one_run": people,
            "other_rooms_with_one_run": others,
        },
        {
            "others_s_median": statistics.median(of_others),
            "others_s_max": max(of_others),
            "people_s_max": max(of_people),
            "one_person_s_max": max(of_eager),
            "answers_of_one_person_before_last_of_people": sum(
                at < max(of_people) for at in of_eager
            ),
            "answers_of_that_room_before_last_other": sum(
                at < max(of_others) for at in (*of_eager, *of_people)
            ),
        },
    )


async def _person(bench: AgentBench, name: str, *rooms: str) -> LoadClient:
    client = LoadClient()
    client.seen = deque()
    await client.open(bench.urls[0], token(name, _SECRET))
    for room in rooms:
        await client.subscribe(room)
    return client


def _short(key: str) -> Story:
    return Story(key, chars=40, pause_ms=10)


def _seen(client: LoadClient, what: bytes) -> bool:
    return any(what in line for line, _ in client.seen or ())


def _deltas(client: LoadClient) -> list[tuple[dict[str, Any], float]]:
    return [
        (json.loads(line)["push"]["pub"]["data"], at)
        for line, at in client.seen or ()
        if DELTA in line
    ]


def _median_between(
    lags: list[tuple[float, float]], from_s: float, until_s: float
) -> float:
    inside = [lag for at, lag in lags if from_s <= at < until_s]
    return statistics.median(inside) if inside else 0.0


async def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    # Polled, and seldom: what came has its time with it.
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("not everything was answered")
        await asyncio.sleep(LOOK_EVERY_S)
