"""Containers without Docker: podman in a storage of its own, for one run of the tests.

Where no registry answers, stand-ins under the official names are made from Debian's own
packages: they prove our Dockerfiles and manifests, not the official images.
"""

import base64
import contextlib
import json
import os
import re
import resource
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
_STAND_IN: Final = "localhost/stand-in"
PULL_WITHIN_S: Final = 60
BOOTSTRAP_WITHIN_S: Final = 900
BUILD_WITHIN_S: Final = 1200
WITHIN_S: Final = 120
FILES_MAX: Final = 65_536
MOUNTS: Final = Path("/proc/self/mounts")
STAGE: Final = os.environ.get("CHATMESH_TESTS_CONTAINERS", "none")
"""What is run of the container stage: `none`; `images`, as `make test` does where it can;
`all`, as `make containers` does, where a reason to skip is a failure."""
# crun refuses hybrid cgroups, and without CAP_SYS_RESOURCE limits can only be lowered.
_CONTAINERS_CONF: Final = """\
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc=4096:4096"]
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
# A name without a registry means what it means to Docker.
_REGISTRIES_CONF: Final = 'unqualified-search-registries = ["docker.io"]'


class NoContainers(Exception):
    """Why containers cannot be run here."""


def reason_against() -> str:
    """Why this machine cannot run the container stage; nothing if it can."""
    if os.geteuid() != 0:
        return "the container stage wants root"
    wanted = ("podman", "runc", "iptables")
    missing = [name for name in wanted if shutil.which(name) is None]
    return f"{', '.join(missing)} missing, and not installed by itself" * bool(missing)


class Engine:
    """One podman with images and containers of its own below `folder`."""

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._root = root
        self._environ = {
            **os.environ,
            # Without systemd there is nobody to ask for health; the tests ask.
            "DISABLE_HC_SYSTEMD": "true",
        }
        for variable, name, text in (
            ("CONTAINERS_CONF", "containers", _CONTAINERS_CONF.format(files=_files())),
            ("CONTAINERS_STORAGE_CONF", "storage", _STORAGE_CONF.format(folder=folder)),
            ("CONTAINERS_REGISTRIES_CONF", "registries", _REGISTRIES_CONF),
        ):
            file = folder / f"{name}.conf"
            file.write_text(text)
            self._environ[variable] = str(file)

    def run(
        self, *words: str, within_s: float = WITHIN_S, stdin: str | None = None
    ) -> str:
        """Run a podman command; what it printed. Raises NoContainers with its last words."""
        return self.command("podman", *words, within_s=within_s, stdin=stdin)

    def command(
        self, *words: str, within_s: float = WITHIN_S, stdin: str | None = None
    ) -> str:
        """Run a program that uses this podman, as `run` does."""
        try:
            done = subprocess.run(
                words,
                env=self._environ,
                cwd=self._root,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                timeout=within_s,
            )
        except subprocess.TimeoutExpired:
            reason = f"{' '.join(words)[:200]}: not done within {within_s:.0f} s"
            raise NoContainers(reason) from None
        if done.returncode != 0:
            said = f"{done.stdout}\n{done.stderr}".strip()[-2000:]
            raise NoContainers(f"{' '.join(words)[:200]}: {said}")
        return done.stdout

    # -- Images -----------------------------------------------------------------------

    def has(self, image: str) -> bool:
        try:
            self.run("image", "exists", image)
        except NoContainers:
            return False
        return True

    def has_stand_ins(self) -> bool:
        """Whether what our Dockerfiles start from is not the real thing."""
        return self.has(_STAND_IN)

    def ensure_bases(self) -> None:
        """See that what our Dockerfiles start from is there. Raises NoContainers."""
        if not (self.has(PYTHON) and self.has(NODE)):
            try:
                for image in (PYTHON, NODE):
                    self.run("pull", "-q", image, within_s=PULL_WITHIN_S)
            except NoContainers:
                self._make_stand_ins()

    def _make_stand_ins(self) -> None:
        if shutil.which("debootstrap") is None:
            raise NoContainers("no registry answers, and debootstrap is missing")
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            system = Path(place) / "system"
            include = "--include=python3,python3-venv,ca-certificates"
            command = ["debootstrap", "--variant=minbase", include, "bookworm"]
            self.command(*command, str(system), within_s=BOOTSTRAP_WITHIN_S)
            (system / "usr/bin/python").symlink_to("python3")
            self._import(system, PYTHON, _STAND_IN)
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
        """Build a service's image from its Dockerfile. Raises NoContainers.

        Other tests, which wait for processes of theirs, go first.
        """
        words = ["-t", tag, "-f", f"services/{service}/Dockerfile", "."]
        command = ["nice", "podman", "build", *build_words(), *words]
        self.command(*command, within_s=BUILD_WITHIN_S)

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

    # -- The whole --------------------------------------------------------------------

    def try_out(self) -> None:
        """See that a container runs at all; inside another one it may not be allowed.

        Raises NoContainers.
        """
        self.run("run", "--rm", "--network=host", PYTHON, "python", "-c", "pass")

    def close(self) -> None:
        """End what still runs, and leave nothing mounted; images with a name stay."""
        try:
            self.run("pod", "rm", "-f", "-a")
            self.run("image", "prune", "-f")
        finally:
            lines = MOUNTS.read_text().splitlines()
            # A space in a path is written in octal there.
            mounted = [line.split()[1].replace("\\040", " ") for line in lines]
            for place in reversed(mounted):
                if Path(place).is_relative_to(self._folder):
                    self.command("umount", place)


def _files() -> int:
    """How many files a container may open: HAProxy wants two for each of 9000 clients."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILES_MAX if most == resource.RLIM_INFINITY else min(most, FILES_MAX)


def build_words() -> list[str]:
    """Options of a build in which packages are reached as this machine reaches them."""
    words = ["-q", "--isolation=chroot", "--network=host", "--pull=never"]
    for file in _pip_and_npm_files():
        words += ["-v", f"{file}:{file}:ro"]
    passed = [name for name in os.environ if name.startswith(("PIP_", "SSL_CERT"))]
    passed += [n for n in os.environ if n in {"NODE_EXTRA_CA_CERTS", "HTTPS_PROXY"}]
    for name in passed:
        words += ["--env", f"{name}={os.environ[name]}"]
    return words


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
