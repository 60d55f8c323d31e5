"""Draws the kept results: one picture for the documentation."""

import json
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

PICTURE: Final = "figures.png"
INK: Final = "#3b5bdb"
MARK: Final = "#e8590c"

# What is drawn: title, result file, result, unit divisor, and the figure to reach.
PANELS: Final = (
    (
        "Fan-out, 1,000 members\nmillion deliveries/s",
        "fan_out_1000",
        "deliveries_per_s",
        1e6,
        1.0,
    ),
    (
        "Durable sends, 100 rooms\nthousand/s",
        "sends_100_rooms",
        "durable_sends_per_s",
        1e3,
        12.0,
    ),
    ("Sent to seen, 10 members\nmedian ms", "latency_10", "seen_ms_median", 1.0, 5.0),
    ("Sent to seen, 100 members\nmedian ms", "latency_100", "seen_ms_median", 1.0, 7.0),
    (
        "Agent: first words seen\nmedian ms",
        "agents_first_delta",
        "first_delta_ms_median",
        1.0,
        30.0,
    ),
    ("Idle connection\nKB", "idle_3000", "bytes_per_connection", 1e3, 20.0),
)


def draw(folder: Path) -> None:
    """Draw every result that is there beside the figure it is held against."""
    found = [panel for panel in PANELS if (folder / f"{panel[1]}.json").exists()]
    if not found:
        return
    figure, axes = plt.subplots(1, len(found), figsize=(3.1 * len(found), 3.2))
    for axis, (title, name, key, divisor, goal) in zip(
        axes if len(found) > 1 else [axes], found, strict=True
    ):
        record: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        runs = [run[key] / divisor for run in record["runs"]]
        axis.bar(range(1, len(runs) + 1), runs, color=INK, width=0.6)
        axis.axhline(goal, color=MARK, linestyle="--", linewidth=1)
        axis.axhline(record["medians"][key] / divisor, color=INK, linewidth=1)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("run", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.set_ylim(bottom=0)
        axis.set_xlim(0.4, max(len(runs), 3) + 0.6)
        axis.set_xticks(range(1, len(runs) + 1))
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    figure.text(0.5, 0.01, "dashed: to reach; line: median", fontsize=8, ha="center")  # pyright: ignore[reportUnknownMemberType] - matplotlib is partly typed
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    plt.savefig(folder / PICTURE, dpi=130)  # pyright: ignore[reportUnknownMemberType] - as above
    plt.close(figure)
