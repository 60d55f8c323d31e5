"""A service API attacked by its own OpenAPI document."""

import asyncio
import sys
from pathlib import Path


async def openapi_attack(url: str, folder: Path, *options: str) -> str:
    """Run schemathesis on the API at `url`, with all checks; empty when it finds nothing.

    `folder` takes what it leaves behind. `options` are its own, such as a header.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        f"{url}/openapi.json",
        "--checks=all",
        "--max-examples=15",
        "--seed=1",
        "--no-color",
        *options,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode == 0:
        return ""
    return output.decode()[-6000:] or f"exit code {process.returncode}"
