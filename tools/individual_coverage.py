"""Which lines of a module do its own unit tests reach, without the help of others'?

A module that is only covered by tests of its neighbours breaks silently when those
change. Takes names of packages or modules: `tools/individual_coverage.py wire`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
UNIT: Final = ROOT / "tests" / "unit"


def modules() -> dict[str, Path]:
    """`wire/topics` and the file it is."""
    found: dict[str, Path] = {}
    for pattern in ("libs/*/src", "services/*/src", "clients/*/src", "tools/*/src"):
        for source in sorted(ROOT.glob(pattern)):
            top = source / "chatmesh"
            for path in sorted(top.rglob("*.py")):
                if path.name not in {"__init__.py", "__main__.py"}:
                    found[path.relative_to(top).with_suffix("").as_posix()] = path
    return found


def own_tests(name: str) -> Path | None:
    package, _, module = name.rpartition("/")
    candidates = [UNIT / package / f"test_{module}.py"]
    candidates.append(UNIT / package.partition("/")[0] / f"test_{module}.py")
    return next((path for path in candidates if path.exists()), None)


def covered_percent(path: Path, tests: Path, folder: Path) -> float:
    data, report = folder / "data", folder / "report.json"
    coverage = [sys.executable, "-m", "coverage"]
    run = [*coverage, "run", f"--data-file={data}", f"--include={path}", "-m", "pytest"]
    done = subprocess.run(
        [*run, "-q", "-m", "unit", "-p", "no:cacheprovider", str(tests)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{tests} fails; mend it first")
    told = subprocess.run(
        [*coverage, "json", "-q", f"--data-file={data}", "-o", str(report)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if told.returncode != 0:
        return 0.0
    return float(json.loads(report.read_text())["totals"]["percent_covered"])


def main(wanted: list[str]) -> None:
    for name, path in modules().items():
        if wanted and not any(name.startswith(prefix) for prefix in wanted):
            continue
        tests = own_tests(name)
        if tests is None:
            print(f"     -  {name}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            percent = covered_percent(path, tests, Path(folder))
        print(f"{percent:5.0f} % {name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
