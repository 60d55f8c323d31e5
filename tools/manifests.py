"""Writes what the Helm chart and the plain manifests have in common; --check compares.

The chart is the one source: the base of `kubectl apply -k`, its components and the
golden renders of the tests are what it renders, and its schema of `config` and its
copies of alerts and dashboards come from where those are kept.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import helm_python
import yaml
from tools import chart_schema

ROOT: Final = Path(__file__).resolve().parent.parent
KUBERNETES: Final = ROOT / "deploy" / "k8s"
CHART: Final = KUBERNETES / "chart"
SCHEMA: Final = CHART / "values.schema.json"
COPIES: Final = (
    (ROOT / "deploy" / "alerts", "*.yaml", CHART / "files" / "alerts"),
    (ROOT / "deploy" / "dashboards", "*.json", CHART / "files" / "dashboards"),
)
"""Helm reads no file outside its chart."""
BASE: Final = KUBERNETES / "base" / "chatmesh.yaml"
CASES: Final = ROOT / "tests" / "deploy" / "cases"
GOLDEN: Final = ROOT / "tests" / "deploy" / "golden"
GOLDEN_CASES: Final = ("full", "small")
"""Cases whose render is kept; that of the defaults is the base of the manifests."""
NAME: Final = "chatmesh"
NAMESPACE: Final = "chatmesh"
MONITORING: Final = frozenset(("ServiceMonitor", "PodMonitor", "PrometheusRule"))
KEDA: Final = frozenset(("ScaledObject", "TriggerAuthentication"))
MCP: Final = {
    "enabled": True,
    # Their ConfigMap is left out, so it does not matter which.
    "servers": {"example": {"url": "https://mcp.example"}},
    # Overlays replace or remove the autoscalers of the base, before or after this one.
    "autoscaling": {"enabled": False},
}
"""What the component of the gateway to MCP servers is rendered with."""
HEAD: Final = "# Rendered from deploy/k8s/chart by `make manifests`; do not edit.\n"

Document = dict[str, Any]


class _Dumper(yaml.CSafeDumper):
    """Text of several lines as a block, so that a difference can be read."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    del dumper
    style = "|" if "\n" in text else None
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def values(path: Path) -> Document:
    """A values file; one of comments only is empty."""
    text = path.read_text(encoding="utf-8")
    return cast("Document", yaml.load(text, yaml.CSafeLoader) or {})


def render(given: Mapping[str, Any]) -> list[Document]:
    """Every object of a release, sorted. Raises helm_python.HelmError."""
    chart = helm_python.Chart.load(str(CHART))
    files = chart.render(dict(given), name=NAME, namespace=NAMESPACE)
    found = [
        cast("Document", document)
        for path, text in files.items()
        if path.endswith(".yaml")
        for document in yaml.load_all(text, yaml.CSafeLoader)
        if document
    ]
    return sorted(found, key=lambda each: (each["kind"], each["metadata"]["name"]))


def plain(documents: Iterable[Document]) -> Iterator[Document]:
    """As `kubectl` applies it: without what only Helm knows."""
    for document in documents:
        for labels in _labels(document):
            labels.pop("helm.sh/chart", None)
            if "app.kubernetes.io/managed-by" in labels:
                labels["app.kubernetes.io/managed-by"] = "kustomize"
        yield document


def _labels(document: Document) -> Iterator[Document]:
    yield document["metadata"].get("labels", {})
    spec = document.get("spec", {})
    # Of a CronJob, one further in.
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    yield spec.get("template", {}).get("metadata", {}).get("labels", {})


def without_servers(documents: Iterable[Document]) -> Iterator[Document]:
    """The gateway to MCP servers; kustomize names the servers' ConfigMap by what is in it."""
    for document in documents:
        labels = document["metadata"].get("labels", {})
        if labels.get("app.kubernetes.io/component") == "mcp":
            template = document.get("spec", {}).get("template", {})
            template.get("metadata", {}).get("annotations", {}).pop(
                "checksum/servers", None
            )
            yield document


def is_dashboard(document: Document) -> bool:
    return (
        document["kind"] == "ConfigMap"
        and "-dashboard-" in (document["metadata"]["name"])
    )


def dumped(documents: Iterable[Document], head: str = HEAD) -> str:
    return head + "".join(
        "---\n" + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=88)
        for document in documents
    )


def outputs() -> dict[Path, str]:
    """Every file that is written, and what belongs into it.

    The copies come first: what is rendered afterwards holds them.
    """
    own = values(KUBERNETES / "base" / "values.yaml")
    watched = render({**own, "monitoring": {"enabled": True}})
    scaled = render({**own, "autoscaling": {"provider": "keda"}})
    served = list(
        without_servers(render({**own, "mcp": MCP, "monitoring": {"enabled": True}}))
    )
    components = KUBERNETES / "components"
    wanted = {
        BASE: dumped(plain(render(own))),
        components / "monitoring" / "monitoring.yaml": dumped(
            plain(d for d in watched if d["kind"] in MONITORING or is_dashboard(d))
        ),
        components / "keda" / "keda.yaml": dumped(
            plain(d for d in scaled if d["kind"] in KEDA)
        ),
        components / "mcp" / "mcp.yaml": dumped(
            plain(d for d in served if d["kind"] not in MONITORING)
        ),
        components / "mcp-monitoring" / "monitoring.yaml": dumped(
            plain(d for d in served if d["kind"] in MONITORING)
        ),
    }
    for case in GOLDEN_CASES:
        # Alerts and dashboards are whole in the monitoring component.
        documents = [
            d
            for d in render(values(CASES / f"{case}.yaml"))
            if d["kind"] != "PrometheusRule" and not is_dashboard(d)
        ]
        wanted[GOLDEN / f"{case}.yaml"] = dumped(documents)
    return wanted


def copies() -> dict[Path, str]:
    """What the chart holds of the alerts and dashboards."""
    found: dict[Path, str] = {}
    for source, pattern, target in COPIES:
        for file in sorted(source.glob(pattern)):
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".json" or "groups" in values(file):
                found[target / file.name] = text
    return found


def strays(wanted: Mapping[Path, str]) -> list[Path]:
    """Copies of what is no more."""
    return [
        path
        for _, pattern, target in COPIES
        for path in sorted(target.glob(pattern))
        if path not in wanted
    ]


def stale(wanted: Mapping[Path, str]) -> list[Path]:
    """Which files do not hold what they should."""
    return [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def inputs() -> dict[Path, str]:
    """What the chart needs before it can be rendered."""
    return {SCHEMA: chart_schema.written_into(SCHEMA), **copies()}


def check() -> list[Path]:
    """Every file that `make manifests` would write or remove."""
    given = inputs()
    old = [*stale(given), *strays(given)]
    # What is rendered from old inputs says nothing more.
    return old or stale(outputs())


def write() -> None:
    given = inputs()
    for path in strays(given):
        path.unlink()
    _write(given)
    _write(outputs())


def _write(wanted: Mapping[Path, str]) -> None:
    for path in stale(wanted):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path], encoding="utf-8")


def main(words: list[str]) -> int:
    if words != ["--check"]:
        write()
        return 0
    old = check()
    for path in old:
        print(f"{path.relative_to(ROOT)} is out of date: `make manifests` writes it")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
