"""Write every generated document again; --check says which ones are old."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
GENERATORS: Final = (
    "tools.settings_reference",
    "tools.asyncapi",
    "tools.decisions_index",
    "tools.dashboards",
)
"""Each writes its documents; with `--check` it writes nothing and ends with 1 if one
of them is old, after saying so."""


def main(words: list[str]) -> int:
    # Side by side: most of the time goes into imports.
    running = [
        subprocess.Popen([sys.executable, "-m", generator, *words], cwd=ROOT)
        for generator in GENERATORS
    ]
    codes = [process.wait() for process in running]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
