"""The page's own checks: types, lint, and the rules it is made of."""

import asyncio
import shutil
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "web"
TESTED_WITHIN_S = 140.0


@pytest.mark.parametrize("script", ["check", "test"])
async def test_the_page_passes_its_own_checks(script: str) -> None:
    """What `npm run check` and `npm test` say in web/ is part of the whole."""
    npm = shutil.which("npm")
    if npm is None or not (WEB / "node_modules").exists():
        pytest.skip("the page's packages are not installed (it needs Node 20 and npm)")
    async with asyncio.timeout(TESTED_WITHIN_S):
        process = await asyncio.create_subprocess_exec(
            npm,
            "run",
            script,
            cwd=WEB,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()

    assert process.returncode == 0, said.decode()
