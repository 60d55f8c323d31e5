"""Where the local mesh keeps its state, and who may reach it there."""

import hashlib
import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chatmesh.local.trouble import Trouble

STATE: Final = ".chatmesh"
FALLBACK: Final = Path("/var/lib/chatmesh")
"""For root's checkouts that other users cannot reach, such as those in /root."""
UNPRIVILEGED: Final = "nobody"
"""Who PostgreSQL runs as when we are root: it exists everywhere and owns nothing."""


class PlaceError(Trouble):
    """One sentence saying which folder is in the way."""


@dataclass(frozen=True)
class Places:
    """The folders of one checkout."""

    checkout: Path
    state: Path
    """Ours: logs, settings of the running mesh."""
    shared: Path
    """What a process of another user has to reach: the database."""

    @property
    def own_name(self) -> str:
        """A name in a place that several checkouts share, such as a broker."""
        return f"chatmesh-{_digest(self.checkout)}"


def _digest(checkout: Path) -> str:
    return hashlib.sha256(str(checkout).encode()).hexdigest()[:12]


def service_user() -> str | None:
    """Who a server that refuses to be root shall be; None if we are not root."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def is_open_to_others(path: Path) -> bool:
    """Whether a stranger may pass through every folder down to `path`."""
    folders = [path, *path.parents]
    return all(
        folder.stat().st_mode & stat.S_IXOTH for folder in folders if folder.exists()
    )


def places(checkout: Path, fallback: Path = FALLBACK) -> Places:
    """The folders of a checkout; makes them where they are missing."""
    checkout = checkout.resolve()
    state = checkout / STATE
    shared = state
    if service_user() is not None and not is_open_to_others(checkout):
        shared = fallback / _digest(checkout)
    try:
        for folder in {state, shared}:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o711)
    except OSError as error:
        raise PlaceError(
            f"cannot write {error.filename}: {error.strerror}; "
            "use a checkout that belongs to you"
        ) from error
    return Places(checkout=checkout, state=state, shared=shared)


def give(path: Path, user: str | None) -> None:
    """Hand a folder and what is in it to another user."""
    if user is None:
        return
    entry = pwd.getpwnam(user)
    for entry_path in [path, *path.rglob("*")]:
        os.chown(entry_path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def reachable_copy(
    sources: Sequence[Path], top: Path, shared: Path, user: str | None
) -> Path:
    """`top` itself if `user` can get there, else a folder with copies of `sources`.

    They keep their places below `top`, because programs find libraries that way.
    """
    if user is None or is_open_to_others(top):
        return top
    target = shared / "programs"
    if target.exists():
        return target
    half = shared / "programs.half"
    shutil.rmtree(half, ignore_errors=True)
    for source in sources:
        shutil.copytree(source, half / source.relative_to(top), symlinks=True)
    half.rename(target)
    return target
