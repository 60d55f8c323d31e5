"""The system's Prometheus beside a mesh: where it is, and what it is told."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from chatmesh.local import packages
from chatmesh.local.trouble import Trouble

PACKAGE: Final = "prometheus"
BROKER_JOB: Final = "rabbitmq"
QUEUES_JOB: Final = "rabbitmq-queues"
_FAMILIES: Final = ("queue_coarse_metrics", "queue_consumer_count")


def program(name: str, *, say: Callable[[str], None]) -> str:
    """Path of `prometheus` or `promtool`, installed if that needs no question.

    Raises:
        Trouble: it is not there and cannot be installed.
    """
    found = shutil.which(name)
    if found is None and packages.can_install():
        packages.install(PACKAGE, say=say)
        found = shutil.which(name)
    if found is None:
        raise Trouble(f"{name} is missing; install the package {PACKAGE}")
    return found


def configuration(
    targets: Mapping[str, Sequence[str]], *, rules: Sequence[Path], every_s: int
) -> dict[str, Any]:
    """What Prometheus is told; the broker's queues are asked for one by one as well.

    `targets` are `host:port`, by job; jobs are called as in the compose file.
    """
    jobs: list[dict[str, Any]] = [
        {"job_name": job, "static_configs": [{"targets": list(found)}]}
        for job, found in targets.items()
    ]
    if targets.get(BROKER_JOB):
        jobs.append(
            {
                "job_name": QUEUES_JOB,
                "metrics_path": "/metrics/detailed",
                "params": {"family": list(_FAMILIES)},
                "static_configs": [{"targets": list(targets[BROKER_JOB])}],
            }
        )
    every = f"{every_s}s"
    return {
        "global": {"scrape_interval": every, "evaluation_interval": every},
        "rule_files": [str(one) for one in rules],
        "scrape_configs": jobs,
    }


def words(path: str, *, config: Path, data: Path, port: int) -> list[str]:
    """The command line of a Prometheus that keeps exemplars."""
    return [
        path,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
