"""Programs that only the system's package manager can bring."""

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from chatmesh.local.trouble import Trouble

_APT_WITHIN_S: Final = 900.0
_LOCK_WITHIN_S: Final = 120
"""Somebody else may be installing just now."""


class CannotInstall(Trouble):
    """One sentence; the package manager's own words are above it."""


def can_install() -> bool:
    """Whether a package can be installed without asking anybody."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str, *, say: Callable[[str], None]) -> None:
    """Install a Debian package, without starting the services it brings.

    Raises:
        CannotInstall: apt-get failed, or was not done in time.
    """
    say(f"installing {package} with apt-get, once")
    waiting = ["-o", f"DPkg::Lock::Timeout={_LOCK_WITHIN_S}"]
    get = ["apt-get", *waiting, "install", "-qq", "-y"]
    get += ["--no-install-recommends", package]
    if _apt(get) == 0:
        return
    _apt(["apt-get", "update", "-qq"])
    if _apt(get) != 0:
        raise CannotInstall(
            f"apt-get could not install {package}; see its message above"
        )


def _apt(words: list[str]) -> int:
    environ = {
        "PATH": os.defpath + ":/usr/sbin:/sbin",
        "DEBIAN_FRONTEND": "noninteractive",
        # Maintainer scripts take this for "not a time to start services".
        "RUNLEVEL": "1",
        **_proxy_settings(),
    }
    try:
        done = subprocess.run(
            words,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_APT_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(
            f"`{' '.join(words)}` was not done within {_APT_WITHIN_S:.0f} s"
        ) from None
    return done.returncode


def _proxy_settings() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.lower() in {"http_proxy", "https_proxy", "no_proxy"}
    }
