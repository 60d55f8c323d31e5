"""`chatmesh tools`: list, call and serve from a shell."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from support.eventually import eventually
from support.instances import Corner
from support.tool_rig import WITHIN_S

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "tools" / "my_tools.py"


class Shell:
    """Runs `chatmesh tools …` beside one broker."""

    def __init__(self, corner: Corner) -> None:
        self._environ = {
            "PATH": os.environ["PATH"],
            "CHATMESH_AMQP_URL": corner.url,
            "CHATMESH_PREFIX": corner.prefix,
        }

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chatmesh.cli",
            "tools",
            *words,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> tuple[int, str, str]:
        process = await self.start(*words)
        output, errors = await process.communicate()
        return process.returncode or 0, output.decode(), errors.decode()


@pytest.mark.timeout(180)
async def test_the_five_line_tool_is_served_listed_and_called(corner: Corner) -> None:
    """What the documentation shows works as it stands there."""
    shell = Shell(corner)
    serving = await shell.start("serve", str(EXAMPLE))
    try:

        async def listed() -> str:
            code, output, _ = await shell.run("list")
            assert code == 0
            return output if "add" in output else ""

        line = await eventually(listed, within_s=WITHIN_S * 2)
        assert line == "add  (my-tools ×1, reads)  The sum of two numbers.\n"  # noqa: RUF001 - times
        assert (await shell.run("call", "add", "a=1", "b=2.5"))[:2] == (0, "3.5\n")
        code, _, errors = await shell.run("call", "add", "a=1", "b=two")
        assert (code, "arguments refused" in errors) == (1, True)
        code, _, errors = await shell.run("call", "nothing")
        assert (code, "nobody serves" in errors) == (1, True)
        code, output, _ = await shell.run("list", "--json")
        assert json.loads(output)["parameters"]["required"] == ["a", "b"]
    finally:
        serving.terminate()
        assert await serving.wait() == 0
