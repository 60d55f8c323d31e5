"""`chatmesh dead` beside a running history."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chatmesh.local.mesh import inherited
from chatmesh.local.process import Command, Process
from chatmesh.local.service import Service
from chatmesh.wire import messages, topics
from chatmesh.wire.messages import CommandBatch, PublishCommand
from support.eventually import eventually
from support.history_side import GatewaySide, history_service
from support.instances import Corner

pytestmark = pytest.mark.timeout(90)


class Desk:
    """Runs the command line as an operator would."""

    def __init__(self, corner: Corner) -> None:
        self._environ = {
            **inherited(None),
            "CHATMESH_AMQP_URL": corner.url,
            "CHATMESH_PREFIX": corner.prefix,
        }

    async def run(self, *words: str) -> tuple[int, list[str]]:
        lines: list[str] = []
        command = Command(
            "dead",
            (sys.executable, "-m", "chatmesh.cli", "dead", *words),
            self._environ,
        )
        process = Process(command, sink=lines.append)
        return await process.wait(), lines

    async def letters(self) -> list[dict[str, str]]:
        code, lines = await self.run("list", "--json")
        assert code == 0
        return [json.loads(line) for line in lines]


@pytest.fixture
async def service(
    corner: Corner, database_url: str, tmp_path: Path
) -> AsyncIterator[Service]:
    made = history_service(
        amqp_url=corner.url,
        database_url=database_url,
        prefix=corner.prefix,
        folder=tmp_path,
    )
    await made.start()
    yield made
    await made.stop()


async def test_letters_are_seen_replayed_and_dropped(
    service: Service, corner: Corner
) -> None:
    """Looking leaves them; replaying brings a mended world its message; dropping ends it."""
    desk = Desk(corner)
    async with GatewaySide.open(corner.url, corner.prefix) as side:
        await side.hear("room:a")
        partition = topics.partition_of("room:a")
        key = topics.partition_key(partition)
        assert await desk.letters() == []
        await side.publish(side.topics.commands, key, b"garbage")
        await eventually(desk.letters)

        # As if history had buried a good command, for a reason that is gone now.
        good = CommandBatch("side", "", [PublishCommand("room:a", "1", b"{}")])
        await side.bury(messages.encode(good), side.topics.commands, key)
        garbage, buried = await desk.letters()
        assert [garbage, buried] == await desk.letters()
        assert garbage["cause"].startswith("malformed")
        assert garbage["queue"] == side.topics.command_queue(partition)

        code, lines = await desk.run("show", buried["id"])
        assert code == 0
        shown = json.loads("\n".join(lines))
        assert shown["content"]["commands"][0]["data"] == "{}"

        assert (await desk.run("replay", buried["id"]))[0] == 0
        await eventually(lambda: len(side.heard("room:a")) == 1)
        assert await desk.letters() == [garbage]

        assert (await desk.run("drop", "unknown"))[0] == 1
        assert (await desk.run("drop", "--all"))[0] == 0
        assert await desk.letters() == []
