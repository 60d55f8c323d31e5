"""Rooms with agents in a scene: what is asked, who watches, and what came of it."""

import asyncio
import copy
import itertools
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import asyncpg

from chaos.checker import Kind, Violation
from chaos.runs import LATE, Answered, RunBook, check
from chaos.scene import ASK_EVERY_S, Scene
from chaos.stage import SECRET
from chatmesh.wire.runs import RUN_ID_PREFIX, run_of
from support.agents_side import TELLER
from support.fake_openai import FakeOpenAI
from support.run_viewer import Refusal, Viewer, watching
from support.stories import Story

ANSWERED_WITHIN_S: Final = 120.0
SEEN_WITHIN_S: Final = 60.0
SAY_AGAIN_S: Final = 0.3


class Theatre:
    """Made by `theatre`; every question is asked until it is committed."""

    def __init__(self, scene: Scene, rooms: Sequence[str]) -> None:
        self.rooms = rooms
        self.viewers: dict[str, list[Viewer]] = {room: [] for room in rooms}
        self._scene = scene
        self._book = RunBook()
        self._numbers = itertools.count(1)
        self._asked: dict[tuple[str, str], Story] = {}

    @property
    def model(self) -> FakeOpenAI:
        model = self._scene.stage.model
        assert model is not None, "a stage with agents has a model"
        return model

    # -- Asking -----------------------------------------------------------------------

    async def ask(
        self,
        room: str,
        *,
        chars: int = 600,
        pause_ms: int = 15,
        tool: str = "",
    ) -> str:
        """Put a question; gives the run that there will be."""
        number = next(self._numbers)
        story = Story(f"s{number}", chars, pause_ms, tool=tool)
        message = f"m{number}"
        viewer = self.viewers[room][number % len(self.viewers[room])]
        while True:
            try:
                await viewer.say(message, f"@{TELLER} {story.question}")
                break
            except (ConnectionError, TimeoutError):
                pass  # Nobody knows: the same id settles it.
            except Refusal as refusal:
                if not refusal.temporary:
                    raise
            await asyncio.sleep(SAY_AGAIN_S)
        self._asked[room, message] = story
        run = run_of(TELLER, room, message)
        self._book.asked[run] = message
        return run

    async def ask_everywhere(self, **more: Any) -> list[str]:  # noqa: ANN401 - as `ask`
        return [await self.ask(room, **more) for room in self.rooms]

    def shown(self, run: str) -> int:
        """How many characters of a run are on the screen that has most of them."""
        return max(
            len(viewer.screen.live(run))
            for viewers in self.viewers.values()
            for viewer in viewers
        )

    async def streams(self, runs: Sequence[str], chars: int = 50) -> None:
        """Wait until each of these is being told."""
        await self._scene.until(
            lambda: all(self.shown(run) >= chars for run in runs),
            ANSWERED_WITHIN_S,
            "answers are being told",
            must=True,
        )

    async def answered(self, runs: Sequence[str]) -> float:
        """Wait until each of these has its answer on every screen of its room."""

        def all_there() -> bool:
            told = [
                set(viewer.screen.answers)
                for viewers in self.viewers.values()
                for viewer in viewers
            ]
            return all(any(run in some for some in told) for run in runs)

        return await self._scene.until(
            all_there, ANSWERED_WITHIN_S, "every question is answered", must=True
        )

    # -- The end ----------------------------------------------------------------------

    async def judge(self) -> None:
        """Wait until all is over, and hold everything against the promises."""
        scene, book = self._scene, self._book

        async def none_open() -> bool:
            book.open_runs = await self._open_runs()
            return not book.open_runs

        await scene.until(
            none_open, ANSWERED_WITHIN_S, "no run is open", every_s=ASK_EVERY_S
        )
        by_room = dict.fromkeys(self.rooms, 0)
        for answer in await self._log():
            by_room[answer.room] += 1
        await scene.until(
            lambda: all(
                len(viewer.screen.answers) >= by_room[room]
                for room, viewers in self.viewers.items()
                for viewer in viewers
            ),
            SEEN_WITHIN_S,
            "every screen has every answer",
        )
        # Screens first: what they were given by now is in a log that is read later.
        book.screens = {
            f"{room} {number}": (room, copy.deepcopy(viewer.screen))
            for room, viewers in self.viewers.items()
            for number, viewer in enumerate(viewers)
        }
        book.log = await self._log()
        book.told = {key: story.text for key, story in self._asked.items()}
        book.must_complete = frozenset(message for _, message in self._asked)
        for violation in check(book):
            kind = Kind.UNKEPT if violation.kind in LATE else Kind.ANSWER
            scene.violations.append(Violation(kind, "", str(violation)))
        moments = sum(
            len(run.moments)
            for _, screen in book.screens.values()
            for run in screen.runs.values()
        )
        scene.notes.append(
            f"{len(book.told)} runs, {len(book.log)} answers, {moments} states shown"
        )

    async def _open_runs(self) -> list[str]:
        rows = await self._fetch(
            "select id::text, channel, status from agent_runs"
            " where status <> 'ended' and channel = any($1)",
            list(self.rooms),
        )
        return [f"{row['id']} in {row['channel']}: {row['status']}" for row in rows]

    async def _log(self) -> list[Answered]:
        rows = await self._fetch(
            'select channel, id, "offset", data from log where channel = any($1)'
            " and id like $2 and data is not null",
            list(self.rooms),
            f"{RUN_ID_PREFIX}%",
        )
        answers: list[Answered] = []
        for row in rows:
            data = json.loads(row["data"])
            run = data["run"]
            answers.append(
                Answered(
                    row["channel"],
                    row["id"],
                    run["trigger"],
                    run["outcome"],
                    data["text"],
                    row["offset"],
                )
            )
        return answers

    async def _fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._scene.stage.database() as connection:
            return await connection.fetch(query, *arguments)


@asynccontextmanager
async def theatre(
    scene: Scene, *, rooms: int = 4, viewers: int = 2
) -> AsyncGenerator[Theatre]:
    """Rooms of their own, watched through every gateway; judged at the end."""
    # A stage is shared by scenes, so names are of this one; its people have others.
    names = [f"room:stage-{scene.name}-{scene.seed}-{n}" for n in range(rooms)]
    stage = Theatre(scene, names)
    stage.model.script.clear()
    async with AsyncExitStack() as stack:
        for room in names:
            for number in range(viewers):
                urls = scene.stage.urls[number:] + scene.stage.urls[:number]
                user = f"{scene.name}-viewer-{number}"
                viewer = await stack.enter_async_context(
                    watching(urls, user, room, secret=SECRET)
                )
                stage.viewers[room].append(viewer)
        began_s = time.monotonic()
        yield stage
        await stage.judge()
        scene.notes.append(f"agents' part took {time.monotonic() - began_s:.0f} s")
