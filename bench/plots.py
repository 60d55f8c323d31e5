"""Draws the kept results: pictures for the documentation."""

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

Axes: TypeAlias = Any
"""Partly typed in matplotlib."""

PICTURE: Final = "figures.png"
PRESENCE_PICTURE: Final = "presence.png"
INK: Final = "#3b5bdb"
MARK: Final = "#e8590c"
INKS: Final = (INK, MARK, "#2b8a3e", "#868e96")
MEMBERS: Final = (100, 1_000, 10_000)
PARTS: Final = ("presence", "gateways", "broker", "database")

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
    """Draw every result that is there."""
    _draw_runs(folder)
    _draw_presence(folder)


def _draw_runs(folder: Path) -> None:
    """Each run of each result beside the figure it is held against."""
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


def _draw_presence(folder: Path) -> None:
    """What a change costs and what is heard of it, over the members of a room."""
    found = [_medians(folder, f"presence_{n}") for n in MEMBERS]
    each = _medians(folder, "presence_1000_each")
    if not each or not all(found):
        return
    figure, axes = plt.subplots(1, 4, figsize=(14.5, 3.4))
    untold, told, pushes, asked = axes
    for axis, kind, title in (
        (untold, "untold_", "A change that nobody hears of\nmicroseconds of CPU"),
        (told, "", "A change, told to the room\nmicroseconds of CPU"),
    ):
        lines = {part: f"{kind}{part}_cpu_us_per_change" for part in PARTS}
        _over_members(axis, title, found, lines)
    _over_members(
        pushes,
        "Pushes to all members together\nper change",
        found,
        {"as it is": "pushes_per_change"},
    )
    pushes.plot([1_000], [each["pushes_per_change"]], "x", color=MARK)
    pushes.plot(MEMBERS, MEMBERS, "--", color=MARK, label="each told to all")
    pushes.set_yscale("log")
    _over_members(
        asked,
        "Asked at a gateway\nmedian ms",
        found,
        {"how many": "stats_ms_median", "first 100 of them": "first_page_ms_median"},
    )
    for axis in axes:
        axis.legend(fontsize=7, frameon=False)
    for axis in (untold, told, asked):
        axis.set_ylim(bottom=0)
    figure.tight_layout()
    plt.savefig(folder / PRESENCE_PICTURE, dpi=130)  # pyright: ignore[reportUnknownMemberType] - as above
    plt.close(figure)


def _over_members(
    axis: Axes, title: str, found: list[dict[str, float]], lines: dict[str, str]
) -> None:
    """A line for each label, of the results it names."""
    for (label, key), ink in zip(lines.items(), INKS, strict=False):
        values = [one[key] for one in found]
        axis.plot(MEMBERS, values, "o-", color=ink, label=label)
    axis.set_title(title, fontsize=9)
    axis.set_xscale("log")
    axis.set_xticks(MEMBERS, [f"{n:,}" for n in MEMBERS])
    axis.set_xlabel("members", fontsize=8)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _medians(folder: Path, name: str) -> dict[str, float]:
    """The medians of a result; nothing if it is not there."""
    kept = folder / f"{name}.json"
    return json.loads(kept.read_text())["medians"] if kept.exists() else {}
