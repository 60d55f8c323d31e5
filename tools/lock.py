"""Write requirements.lock and one lock per service image; --check says if they are old.

The lock names versions and hashes, never an index: whoever installs decides where
from. `--check` needs no network: the header of each lock records what it was made from.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
MEMBERS: Final[tuple[str, ...]] = tuple(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"][
        "members"
    ]
)
PYTHON: Final = "3.11"
INPUTS: Final = "# inputs: sha256:"


@dataclass(frozen=True)
class Lock:
    path: Path
    projects: tuple[str, ...]
    groups: tuple[str, ...] = ()
    extras: bool = False
    constraint: Path | None = None


EVERYTHING: Final = Lock(
    ROOT / "requirements.lock", projects=(".", *MEMBERS), groups=("dev",)
)


BUILD: Final = Lock(
    ROOT / "tools" / "build.lock",
    projects=(".",),
    groups=("build",),
    constraint=EVERYTHING.path,
)
"""What turns our own packages into wheels, for images."""


BESIDE: Final = {"services/history": ("libs/tools", "clients/terminal")}
"""What else an image holds: history's has the command line, for operators."""


def locks() -> list[Lock]:
    """The lock of the checkout, then those for images, cut from the first."""
    images = [
        Lock(
            ROOT / member / "requirements.lock",
            projects=("libs/common", *BESIDE.get(member, ()), member),
            # One image runs every process of its service, whatever that one needs.
            extras=True,
            constraint=EVERYTHING.path,
        )
        for member in MEMBERS
        if (ROOT / member / "Dockerfile").exists()
    ]
    return [EVERYTHING, BUILD, *images]


def project(directory: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / directory / "pyproject.toml").read_text())


def inputs_digest(lock: Lock) -> str:
    """Digest of the requirements only: a change of a lint rule makes no lock old."""
    wanted: dict[str, Any] = {"python": PYTHON, "groups": lock.groups}
    for directory in lock.projects:
        content = project(directory)
        wanted[directory] = {
            "dependencies": content["project"].get("dependencies", []),
            "extras": content["project"].get("optional-dependencies", {}),
            "groups": content.get("dependency-groups", {}) if lock.groups else {},
        }
    if lock.extras:
        wanted["extras"] = lock.extras
    text = json.dumps(wanted, sort_keys=True)
    if lock.constraint is not None:
        text += inputs_digest(EVERYTHING)
    return hashlib.sha256(text.encode()).hexdigest()


def write(lock: Lock, *, upgrade: bool) -> None:
    ours = [project(member)["project"]["name"] for member in MEMBERS]
    command = ["uv", "pip", "compile", "--quiet", "--universal"]
    command += ["--python-version", PYTHON, "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += [f"--no-emit-package={name}" for name in ours]
    command += [f"--group={group}" for group in lock.groups]
    command += ["--all-extras"] * lock.extras
    if lock.constraint is not None:
        command += ["--constraint", str(lock.constraint.relative_to(ROOT))]
        # Cut afresh from the large lock: the old one has no say.
        lock.path.unlink(missing_ok=True)
    elif upgrade:
        command += ["--upgrade"]
    command += ["--output-file", str(lock.path.relative_to(ROOT))]
    command += [f"{directory}/pyproject.toml" for directory in lock.projects]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    header = (
        "# Every package with its version and hashes. Made by `make lock`; do not edit.\n"
        f"{INPUTS}{inputs_digest(lock)}\n"
    )
    lock.path.write_text(header + lock.path.read_text())


def complaints(lock: Lock) -> list[str]:
    name = lock.path.relative_to(ROOT)
    if not lock.path.exists():
        return [f"{name} is missing: run `make lock`"]
    text = lock.path.read_text()
    found: list[str] = []
    if f"{INPUTS}{inputs_digest(lock)}\n" not in text:
        found.append(f"{name} is older than the requirements: run `make lock`")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("-") or "://" in line or "file:" in line:
            found.append(f"{name}:{number} names a place to install from: {line}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--upgrade", action="store_true", help="take newest versions")
    options = parser.parse_args()
    if not options.check:
        for lock in locks():
            write(lock, upgrade=options.upgrade)
    found = [line for lock in locks() for line in complaints(lock)]
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
