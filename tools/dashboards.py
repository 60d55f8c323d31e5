"""Writes deploy/dashboards/*.json for Grafana; `--check` says which ones are old.

Panels are data, in `boards`; everything else about a dashboard is the same for all and
here. What a query may ask for is checked against a live scrape by the system tests.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
)
from tools.boards.agents import AGENTS
from tools.boards.broker import BROKER
from tools.boards.gateways import GATEWAYS
from tools.boards.journey import JOURNEY
from tools.boards.log import LOG
from tools.boards.panels import Board, Panel
from tools.boards.people import PEOPLE
from tools.boards.promises import PROMISES

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "deploy" / "dashboards"
MESH: Final = "$namespace"
THE_BROKER: Final = "$broker"
"""A namespace too, but often another than the mesh's."""
ALL: Final = ".*"
"""Also what has no namespace, as outside of Kubernetes."""
_COLUMNS: Final = 24
_HEIGHT: Final = 8


BOARDS: Final = (JOURNEY, GATEWAYS, LOG, BROKER, PEOPLE, AGENTS, PROMISES)
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_OURS: Final = re.compile(r"\b((?:chatmesh|process)[a-z0-9_:]*)(\{)?")
_THEIRS: Final = re.compile(r"\b(rabbitmq[a-z0-9_:]*)(\{)?")
_LETTERS: Final = "ABCDEFGH"


def built(board: Board) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"chatmesh-{board.name}")
        .description(board.sentence)
        .tags(["chatmesh"])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
        )
        .with_variable(
            _namespaces("namespace", "Mesh, by namespace", "chatmesh_build_info")
        )
    )
    if any(_THEIRS.search(query) for query in _queries(board)):
        made = made.with_variable(
            _namespaces("broker", "Broker, by namespace", "rabbitmq_identity_info")
        )
    for title, panels in board.rows:
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(_panel(panel, _COLUMNS // len(panels)))
    return JSONEncoder(sort_keys=True, indent=2).default(made.build())


def _queries(board: Board) -> Iterator[str]:
    for _, panels in board.rows:
        for panel in panels:
            for query, _ in panel.queries:
                yield query


def _namespaces(name: str, label: str, metric: str) -> dashboard.QueryVariable:
    """A choice among the namespaces that a metric comes from; first of all, every one."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(f"label_values({metric}, namespace)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .include_all(include_all=True)
        .all_value(ALL)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def of_one_mesh(query: str) -> str:
    """The query about mesh and broker that were chosen; all where there are no namespaces.

    The broker may stand in a namespace of its own, so it is chosen by itself.
    """
    return _chosen(_THEIRS, THE_BROKER, _chosen(_OURS, MESH, query))


def _chosen(metrics: re.Pattern[str], variable: str, query: str) -> str:
    return metrics.sub(
        lambda found: (
            f'{found[1]}{{namespace=~"{variable}"' + (", " if found[2] else "}")
        ),
        query,
    )


def _panel(panel: Panel, span: int) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.sentence)
        .unit(panel.unit)
        .min(0)
        .span(span)
        .height(_HEIGHT)
        .fill_opacity(8)
        .datasource(_SOURCE)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
    )
    for letter, (query, legend) in zip(_LETTERS, panel.queries, strict=False):
        made = made.with_target(
            prometheus.Dataquery()
            .ref_id(letter)
            .expr(of_one_mesh(query))
            .legend_format(legend)
            .exemplar(panel.exemplars)
        )
    return made


def main(words: list[str]) -> int:
    old: list[str] = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = {f"{board.name}.json": text_of(board) for board in BOARDS}
    for name, text in wanted.items():
        file = FOLDER / name
        if file.exists() and file.read_text() == text:
            continue
        old.append(f"deploy/dashboards/{name}")
        if "--check" not in words:
            file.write_text(text)
    old += [
        f"deploy/dashboards/{file.name}"
        for file in FOLDER.glob("*.json")
        if file.name not in wanted
    ]
    for name in old if "--check" in words else ():
        print(f"{name} is old; run `make docs`")
    return 1 if old and "--check" in words else 0


def text_of(board: Board) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(built(board)) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
