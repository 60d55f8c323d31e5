"""`python -m chatmesh.local`: the mesh, or just the instances that tests share."""

import asyncio
import os
import sys
from pathlib import Path

from chatmesh.local import instances
from chatmesh.local.console import Console
from chatmesh.local.run import Run
from chatmesh.local.trouble import Trouble


def main(words: list[str]) -> int:
    """Returns the exit code."""
    console = Console.of_this_terminal()
    environ = dict(os.environ)
    try:
        if words[:1] == ["instances"]:
            return asyncio.run(instances.serve(environ, sys.stdin, sys.stdout))
        run = Run(Path.cwd(), environ, console)
        return asyncio.run(run())
    except Trouble as trouble:
        console.say(str(trouble))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
