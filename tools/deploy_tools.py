"""Installs what the deploy tests need beside .venv; does nothing when it is there.

checkov lives in a virtual environment of its own, because it pins much, and the models
of Kubernetes objects come from npm. What cannot be had is said and skipped: the tests
that want it say so again.
"""

import hashlib
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
POSTURE: Final = ROOT / ".venv" / "posture"
"""Beside the packages it must not mix with; `make clean` removes both."""
POSTURE_LOCK: Final = ROOT / "tests" / "deploy" / "posture" / "requirements.lock"
MODELS: Final = ROOT / "tests" / "deploy" / "models"
INSTALL_WITHIN_S: Final = 600


def say(text: str) -> None:
    print(f"chatmesh: {text}", flush=True)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run(*command: str, directory: Path = ROOT) -> str:
    """Run to the end; its last words if it failed, else nothing."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            check=False,
            capture_output=True,
            text=True,
            timeout=INSTALL_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {INSTALL_WITHIN_S} s"
    return "" if done.returncode == 0 else (done.stderr or done.stdout).strip()[-300:]


def posture() -> str:
    """Install checkov; what went wrong, if something did."""
    mark = POSTURE / "installed-from"
    if mark.exists() and mark.read_text() == digest(POSTURE_LOCK):
        return ""
    shutil.rmtree(POSTURE, ignore_errors=True)
    pip = (str(POSTURE / "bin" / "python"), "-m", "pip", "install", "-qq", "--no-deps")
    wrong = run(sys.executable, "-m", "venv", str(POSTURE)) or run(
        *pip, "--require-hashes", "-r", str(POSTURE_LOCK)
    )
    if not wrong:
        mark.write_text(digest(POSTURE_LOCK))
    return f"checkov could not be installed: {wrong}" if wrong else ""


def models() -> str:
    """Install the models of Kubernetes objects; what went wrong, if something did."""
    lock = MODELS / "package-lock.json"
    mark = MODELS / "node_modules" / ".installed-from"
    if mark.exists() and mark.read_text() == digest(lock):
        return ""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js and npm are missing: no models of Kubernetes objects"
    wrong = run("npm", "ci", "--ignore-scripts", "--loglevel=error", directory=MODELS)
    if not wrong:
        mark.write_text(digest(lock))
    return f"npm could not install the Kubernetes models: {wrong}" if wrong else ""


def main() -> int:
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(posture), pool.submit(models)]
        wrong = [text for text in (part.result() for part in running) if text]
    for text in wrong:
        say(text)
    took_s = time.monotonic() - started
    if took_s > 1:
        say(f"tools of the deploy tests set up in {took_s:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
