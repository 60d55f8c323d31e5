"""Build the web page when its sources have changed and Node is there."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from chatmesh.local.process import Command, Process

NODE_MIN: Final = 20
"""What the page's build tool wants."""
_SKIPPED: Final = {"node_modules", "dist"}


class Page(Enum):
    """How it stands with the page; the value says it to people."""

    THERE = "built"
    NO_NODE = f"not built: Node.js {NODE_MIN} or newer and npm are missing"
    FAILED = "not built: npm failed, its log says why"
    NO_SOURCES = "not built: this checkout has no web/"


class WebPage:
    """The page of one checkout, in `web/`."""

    def __init__(self, checkout: Path, log: Path) -> None:
        self._folder = checkout / "web"
        self._log = log

    @property
    def dist(self) -> Path:
        """What a gateway serves."""
        return self._folder / "dist"

    async def ensure(self, say: Callable[[str], None]) -> Page:
        """Install and build what is not up to date; an old page is better than none."""
        if not (self._folder / "package.json").exists():
            return Page.NO_SOURCES
        wanted = digest(self._sources())
        if self._is_built_from(wanted):
            return Page.THERE
        if (node_major() or 0) < NODE_MIN or shutil.which("npm") is None:
            return Page.THERE if self._is_built() else Page.NO_NODE
        say("building the web page")
        built = await self._install() and await self._npm("run", "build")
        if not built:
            say(f"the web page could not be built; see {self._log}")
            return Page.THERE if self._is_built() else Page.FAILED
        (self.dist / ".built-from").write_text(wanted)
        return Page.THERE

    def _is_built(self) -> bool:
        return (self.dist / "index.html").exists()

    def _is_built_from(self, wanted: str) -> bool:
        mark = self.dist / ".built-from"
        return self._is_built() and mark.exists() and mark.read_text() == wanted

    def _sources(self) -> list[Path]:
        return sorted(
            path
            for top in self._folder.iterdir()
            if top.name not in _SKIPPED
            for path in ([top] if top.is_file() else top.rglob("*"))
            if path.is_file()
        )

    async def _install(self) -> bool:
        lock = self._folder / "package-lock.json"
        mark = self._folder / "node_modules" / ".installed-from"
        wanted = digest([lock, self._folder / "package.json"])
        if mark.exists() and mark.read_text() == wanted:
            return True
        # A half-made node_modules has no mark; `npm ci` starts over by itself.
        if not await self._npm("ci", "--no-audit", "--no-fund", "--loglevel=error"):
            return False
        mark.write_text(wanted)
        return True

    async def _npm(self, *words: str) -> bool:
        environ = dict(os.environ)
        command = Command(
            name="npm", words=("npm", *words), environ=environ, directory=self._folder
        )
        process = Process(command, log=self._log)
        try:
            return await process.wait() == 0
        finally:
            process.kill()


def digest(files: Iterable[Path]) -> str:
    """One value for names and contents."""
    total = hashlib.sha256()
    for file in files:
        if file.exists():
            total.update(file.name.encode() + b"\0")
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def node_major() -> int | None:
    """The major version of the installed Node, if there is one."""
    node = shutil.which("node")
    if node is None:
        return None
    done = subprocess.run(
        [node, "--version"], capture_output=True, text=True, check=False, timeout=10
    )
    found = re.match(r"v(\d+)\.", done.stdout)
    return int(found.group(1)) if found else None
