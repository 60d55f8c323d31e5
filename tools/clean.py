"""Remove what `make` made in this checkout, and nothing else."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "local" / "src"))

MADE = [
    ".chatmesh",
    ".venv",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".import_linter_cache",
    ".schemathesis",
    "web/dist",
    "web/node_modules",
]


def main() -> int:
    # Only the standard library is behind this: .venv may be gone already.
    from chatmesh.local import places  # noqa: PLC0415

    if (ROOT / places.STATE).exists():
        shared = places.places(ROOT).shared
        shutil.rmtree(shared, ignore_errors=True)
    for name in MADE:
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for folder, names, _ in os.walk(ROOT):
        if "__pycache__" in names:
            shutil.rmtree(Path(folder) / "__pycache__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
