"""Rendered manifests as tests look at them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from tools import manifests

ROOT: Final = Path(__file__).resolve().parents[2]
CHART: Final = ROOT / "deploy" / "k8s" / "chart"
CASES: Final = ROOT / "tests" / "deploy" / "cases"
CASE_NAMES: Final = tuple(sorted(path.stem for path in CASES.glob("*.yaml")))
REAPER: Final = "reaper"
SCALED: Final = ("gateway", "history", "presence", "agent", "tools", "mcp")
SERVICES: Final = (*SCALED, REAPER)
TOOL_PROCESSES: Final = frozenset(("tools", "mcp"))
"""Services that serve tools, and are told by flags what to do."""
OF_THE_AGENTS_IMAGE: Final = TOOL_PROCESSES | {REAPER}
"""Services that are programs of the agent's image."""
WORKLOADS: Final = frozenset(("Deployment", "StatefulSet", "Job", "CronJob", "Pod"))

Document = dict[str, Any]


def image_of(service: str) -> str:
    return "agent" if service in OF_THE_AGENTS_IMAGE else service


def case(name: str) -> list[Document]:
    """What the chart renders for one of the values files in tests/deploy/cases."""
    return manifests.render(manifests.values(CASES / f"{name}.yaml"))


def load(text: str) -> list[Document]:
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def of(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: list[Document], kind: str, ending: str) -> Document:
    """The one object of a kind whose name ends so."""
    found = [d for d in of(documents, kind) if d["metadata"]["name"].endswith(ending)]
    assert len(found) == 1, f"{kind} …{ending}: {[d['metadata'] for d in found]}"
    return found[0]


@dataclass(frozen=True)
class Workload:
    """Anything that makes pods."""

    kind: str
    name: str
    labels: Mapping[str, str]
    pod: Document
    document: Document

    @property
    def containers(self) -> list[Document]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Its named ports."""
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
        }

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def workloads(documents: list[Document]) -> Iterator[Workload]:
    """Everything that makes pods, in the order of the documents."""
    for document in of(documents, *WORKLOADS):
        name = document["metadata"]["name"]
        if document["kind"] == "Pod":
            labels, pod = document["metadata"]["labels"], document["spec"]
        else:
            spec = document["spec"]
            template = spec.get("jobTemplate", {}).get("spec", spec)["template"]
            labels, pod = template["metadata"]["labels"], template["spec"]
        yield Workload(document["kind"], name, labels, pod, document)


def fits(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


_SUFFIXES: Final = {
    "m": 1e-3,
    "": 1,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number. Raises ValueError when it is none."""
    word = str(text)
    number = word.rstrip("mkMGTi")
    suffix = word[len(number) :]
    if suffix not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return float(number) * _SUFFIXES[suffix]
