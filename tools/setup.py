"""Make .venv hold what requirements.lock says, and the workspace itself.

Runs on a bare Python 3.11 without any package. Does nothing when nothing changed.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "chatmesh.stamp"
LOCK = ROOT / "requirements.lock"
PYTHON_MIN = (3, 11)


def members() -> list[str]:
    """Our own packages, as the root pyproject.toml lists them."""
    import tomllib  # noqa: PLC0415 - an older Python gets its sentence first

    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = content["tool"]["uv"]["workspace"]["members"]
    return [name for name in listed if (ROOT / name / "pyproject.toml").exists()]


class SetupError(Exception):
    """One sentence for the person at the terminal."""


class State(NamedTuple):
    """What decides what .venv holds."""

    packages: str
    workspace: str

    @classmethod
    def wanted(cls) -> "State":
        # The place counts too: a virtual environment cannot be moved.
        packages = hashlib.sha256(f"{platform.python_version()} {VENV}".encode())
        packages.update(LOCK.read_bytes())
        workspace = hashlib.sha256()
        for member in members():
            workspace.update((ROOT / member / "pyproject.toml").read_bytes())
        return cls(packages.hexdigest(), workspace.hexdigest())

    @classmethod
    def of_venv(cls) -> "State":
        """What it holds by its own account; nothing, if it was cut off half-way."""
        words = STAMP.read_text().split() if PYTHON.exists() and STAMP.exists() else []
        return cls(*words) if len(words) == len(cls._fields) else cls("", "")


def say(text: str) -> None:
    print(f"chatmesh: {text}", flush=True)


def run(*command: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    stream = subprocess.PIPE if quiet else None
    return subprocess.run(
        command, cwd=ROOT, check=False, text=True, stdout=stream, stderr=stream
    )


def has_venv_module() -> bool:
    """Debian splits ensurepip off into a package of its own."""
    return (
        run(sys.executable, "-c", "import ensurepip, venv", quiet=True).returncode == 0
    )


def install_venv_module() -> None:
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(
            "this Python cannot make virtual environments; "
            f"install the package {package} (Debian: sudo apt-get install {package})"
        )
    say(f"installing {package} with apt-get")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package],
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package],
    ):
        subprocess.run(command, check=False, env=environ, stdout=subprocess.DEVNULL)
        if has_venv_module():
            return
    raise SetupError(f"apt-get could not install {package}; see its message above")


def make_venv() -> None:
    works = PYTHON.exists() and run(str(PYTHON), "-c", "import pip", quiet=True)
    if works and works.returncode == 0 and same_python():
        return
    if not has_venv_module():
        install_venv_module()
    shutil.rmtree(VENV, ignore_errors=True)
    made = run(sys.executable, "-m", "venv", str(VENV), quiet=True)
    if made.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(f"could not make {VENV.name}: {made.stderr or made.stdout}")


def same_python() -> bool:
    command = "import platform; print(platform.python_version())"
    answer = run(str(PYTHON), "-c", command, quiet=True)
    return answer.stdout.strip() == platform.python_version()


def pip(*arguments: str) -> None:
    options = ["-qq", "--disable-pip-version-check", "--no-input", "--no-deps"]
    command = [str(PYTHON), "-m", "pip", "install", *options, *arguments]
    if run(*command).returncode != 0:
        raise SetupError(
            "packages could not be installed; see pip's message above, then run again"
        )


def set_up(wanted: State, there: State) -> None:
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if there.packages != wanted.packages:
        say("setting up .venv from requirements.lock, once (a minute or two)")
        make_venv()
        pip("--require-hashes", "-r", str(LOCK))
    editable = [word for member in members() for word in ("-e", f"./{member}")]
    pip("--no-build-isolation", *editable)
    STAMP.write_text("\n".join(wanted))
    say(f"set up in {time.monotonic() - started:.0f} s")


def main() -> int:
    if sys.version_info < PYTHON_MIN:
        say(f"Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or newer is needed")
        return 1
    # The lock file is its own lock: two `make`s wait for each other and leave no file.
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted, there = State.wanted(), State.of_venv()
        if wanted == there:
            return 0
        try:
            set_up(wanted, there)
        except SetupError as error:
            say(str(error))
            return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("stopped; run again to finish the set-up")
        sys.exit(130)
