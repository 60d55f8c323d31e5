"""Containers without Docker: podman in a storage of its own, for one run of the tests.

Where no registry answers, stand-ins under the official names are made from Debian's own
packages: they prove our Dockerfiles and manifests, not the official images.
"""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

PYTHON: Final = "docker.io/library/python:3.11-slim"
NODE: Final = "docker.io/library/node:22-slim"
PULL_WITHIN_S: Final = 60
BOOTSTRAP_WITHIN_S: Final = 900
BUILD_WITHIN_S: Final = 1200
WITHIN_S: Final = 120
# crun refuses hybrid cgroups, and without CAP_SYS_RESOURCE limits can only be lowered.
_CONTAINERS_CONF: Final = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_STORAGE_CONF: Final = """\
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


class NoContainers(Exception):
    """Why containers cannot be run here."""


def reason_against() -> str:
    """Why this machine cannot run the container stage; nothing if it can."""
    if os.geteuid() != 0:
        return "the container stage wants root"
    missing = [name for name in ("podman", "runc") if shutil.which(name) is None]
    return f"{', '.join(missing)} missing: `make containers` installs it" * bool(
        missing
    )


class Engine:
    """One podman with images and containers of its own below `folder`."""

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._root = root
        containers, storage = folder / "containers.conf", folder / "storage.conf"
        containers.write_text(_CONTAINERS_CONF)
        storage.write_text(_STORAGE_CONF.format(folder=folder))
        self._environ = {
            **os.environ,
            "CONTAINERS_CONF": str(containers),
            "CONTAINERS_STORAGE_CONF": str(storage),
        }

    def run(
        self, *words: str, within_s: float = WITHIN_S, stdin: str | None = None
    ) -> str:
        """Run a podman command; what it printed. Raises NoContainers with its last words."""
        done = subprocess.run(
            ["podman", *words],
            env=self._environ,
            cwd=self._root,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )
        if done.returncode != 0:
            raise NoContainers(f"podman {words[0]}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    # -- Images -----------------------------------------------------------------------

    def has(self, image: str) -> bool:
        try:
            self.run("image", "exists", image)
        except NoContainers:
            return False
        return True

    def ensure_bases(self) -> bool:
        """See that what our Dockerfiles start from is there; True if it is the real thing.

        Raises NoContainers.
        """
        if not (self.has(PYTHON) and self.has(NODE)):
            try:
                for image in (PYTHON, NODE):
                    self.run("pull", "-q", image, within_s=PULL_WITHIN_S)
            except (NoContainers, subprocess.TimeoutExpired):
                self._make_stand_ins()
        return not self.has("localhost/stand-in")

    def _make_stand_ins(self) -> None:
        if shutil.which("debootstrap") is None:
            raise NoContainers("no registry answers, and debootstrap is missing")
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            system = Path(place) / "system"
            include = "--include=python3,python3-venv,ca-certificates"
            command = ["debootstrap", "--variant=minbase", include, "bookworm"]
            done = subprocess.run(
                [*command, str(system)],
                capture_output=True,
                text=True,
                check=False,
                timeout=BOOTSTRAP_WITHIN_S,
            )
            if done.returncode != 0:
                raise NoContainers(f"debootstrap: {done.stdout[-500:]}")
            (system / "usr/bin/python").symlink_to("python3")
            self._import(system, PYTHON, "localhost/stand-in")
            self._borrow_node(system)
            self._import(system, NODE)

    def _borrow_node(self, system: Path) -> None:
        """This machine's Node.js; the page is built by it, and it stays behind."""
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            return
        shutil.copy(node, system / "usr/bin/node")
        modules = Path(npm).resolve().parents[1]
        shutil.copytree(modules, system / "usr/lib/node_modules/npm")
        (system / "usr/bin/npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")
        for libraries in ("libnode", "libuv", "libcares", "libnghttp2"):
            for file in Path("/usr/lib/x86_64-linux-gnu").glob(f"{libraries}*.so*"):
                shutil.copy(file, system / "usr/lib/x86_64-linux-gnu")

    def _import(self, system: Path, *names: str) -> None:
        archive = self._folder / "system.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(system, arcname=".")
        path = "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        self.run("import", "-q", "--change", path, str(archive), names[0])
        archive.unlink()
        for name in names[1:]:
            self.run("tag", names[0], name)

    def build(self, service: str, tag: str) -> None:
        """Build a service's image from its Dockerfile. Raises NoContainers."""
        words = ["build", "-q", "--isolation=chroot", "--network=host", "--pull=never"]
        # As the machine reaches its package registries, so does the build.
        for file in _pip_and_npm_files():
            words += ["-v", f"{file}:{file}:ro"]
        passed = [name for name in os.environ if name.startswith(("PIP_", "SSL_CERT"))]
        passed += [n for n in os.environ if n in {"NODE_EXTRA_CA_CERTS", "HTTPS_PROXY"}]
        for name in passed:
            words += ["--env", f"{name}={os.environ[name]}"]
        words += ["-t", tag, "-f", f"services/{service}/Dockerfile", "."]
        self.run(*words, within_s=BUILD_WITHIN_S)

    # -- Pods -------------------------------------------------------------------------

    def secret(self, name: str, values: Mapping[str, str]) -> None:
        """A Secret as `kube play` finds it."""
        coded = {k: base64.b64encode(v.encode()).decode() for k, v in values.items()}
        with contextlib.suppress(NoContainers):  # There may be none.
            self.run("secret", "rm", name)
        self.run("secret", "create", name, "-", stdin=json.dumps(coded))

    def play(self, documents: Sequence[Mapping[str, Any]]) -> Path:
        """Run what the documents say; the file that ends it again."""
        file = self._folder / "play.yaml"
        file.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        self.run("kube", "play", str(file))
        return file

    def pod(self, deployment: str) -> str:
        """The pod that `kube play` made of a Deployment."""
        pods = json.loads(self.run("pod", "ls", "--format", "json"))
        (name,) = [p["Name"] for p in pods if p["Name"].startswith(f"{deployment}-pod")]
        return name

    def down(self, file: Path) -> None:
        self.run("kube", "play", "--down", str(file))


def _pip_and_npm_files() -> list[str]:
    """Where this machine says how its registries are reached."""
    home = Path.home()
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    ).stdout
    # Folders of packages, which a machine may have beside or in place of an index.
    folders = re.findall(r"(?:file:/{2}|(?<=['\" =]))(/[\w./-]+)", said)
    candidates = [
        *("/etc/ssl/certs", "/etc/pip.conf", "/usr/etc/npmrc", "/etc/npmrc"),
        *(str(home / name) for name in (".npmrc", ".pip/pip.conf")),
        str(home / ".config/pip/pip.conf"),
        # An index lies beside the files that it lists.
        *(folder.rstrip("/").removesuffix("/simple") for folder in folders),
    ]
    there = [name for name in dict.fromkeys(candidates) if Path(name).exists()]
    return [n for n in there if not any(n.startswith(f"{other}/") for other in there)]
