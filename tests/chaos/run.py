"""`make chaos`: break the mesh on purpose, and check every promise.

    python tests/chaos/run.py [--long] [--seed N] [--only NAME] [--list]

Ends with 1 if a promise was broken, and prints the seed that replays it.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos.suite import main, say
from chatmesh.local.web_page import WebPage

ROOT = Path(__file__).parents[2]


async def prepare() -> None:
    """The JavaScript SDK comes with the page; without Node the clients are Python's."""
    await WebPage(ROOT, ROOT / ".chatmesh" / "web.log").ensure(say)


if __name__ == "__main__":
    asyncio.run(prepare())
    sys.exit(main(sys.argv[1:]))
