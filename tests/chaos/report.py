"""What came of a run: a table to read, a picture of the waiting, lines to replay it."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.scene import Fault, Result

BUCKET_S: Final = 0.1
_HEAD: Final = (
    "scenario",
    "clients",
    "messages",
    "deliveries",
    "faults",
    "rooms s",
    "all s",
    "violations",
    "took s",
    "stall s",
)
FLOOR_S: Final = 1e-3


def table(results: Sequence[Result]) -> str:
    """One line per scenario, and their sum."""
    rows = [_HEAD, *(_row(result) for result in results), _sum(results)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.name,
        f"{result.clients}",
        f"{result.messages:,}",
        f"{result.deliveries:,}",
        f"{len(result.faults)}",
        _seconds(result.recovery_s),
        _seconds(result.whole_s),
        f"{len(result.violations)}",
        f"{result.took_s:.0f}",
        f"{result.stalled_s:.1f}",
    )


def _sum(results: Sequence[Result]) -> tuple[str, ...]:
    return (
        "all",
        f"{sum(r.clients for r in results)}",
        f"{sum(r.messages for r in results):,}",
        f"{sum(r.deliveries for r in results):,}",
        f"{sum(len(r.faults) for r in results)}",
        _seconds(max((r.recovery_s for r in results), default=0.0)),
        _seconds(max((r.whole_s for r in results), default=0.0)),
        f"{sum(len(r.violations) for r in results)}",
        "",
        "",
    )


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.1f}"


def told(result: Result) -> str:
    """What is worth reading of one scenario: its faults, notes, and broken promises."""
    lines = [
        f"  {fault.name}: {_seconds(fault.recovery.rooms_s)} s to the next message on "
        f"every room, {_seconds(fault.recovery.members_s)} s for every member "
        f"(last: {fault.recovery.slowest})" + _allowed(fault)
        for fault in result.faults
        if fault.recovery is not None
    ]
    lines += [f"  note: {note}" for note in result.notes]
    lines += [
        f"  missed in try {n}: {w}" for n, w in enumerate(result.missed_before, 1)
    ]
    lines += [f"  VIOLATION {violation}" for violation in result.violations]
    return "\n".join(lines)


def _allowed(fault: Fault) -> str:
    """Where the machine stood still meanwhile, and got the time back."""
    if not fault.stalled_s:
        return ""
    return f"; {fault.stalled_s:.1f} s of stall, {fault.limit_s:.1f} s were allowed"


def replay(result: Result) -> str:
    """The command that plays the same scenario with the same seed."""
    return f"python tests/chaos/run.py --only {result.name} --seed {result.seed}"


def draw(results: Sequence[Result], file: Path) -> None:
    """Delivery latency over time, a strip per scenario, with the faults marked.

    Of one that was played more than once, the time that took longest to recover.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes a second, and not every run draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    plays: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.latencies:
            plays[result.name].append(result)
    shown = [max(played, key=lambda one: one.whole_s) for played in plays.values()]
    if not shown:
        return
    rows = math.ceil(len(shown) / 2)
    figure, grid = plt.subplots(
        rows, 2, figsize=(14, 2.3 * rows), squeeze=False, sharey=True
    )
    cells = [cell for row in grid for cell in row]
    for cell, result in zip(cells, shown, strict=False):
        times_s, medians_s, worst_s = _buckets(result)
        cell.semilogy(times_s, worst_s, color="#c96", linewidth=0.8, label="slowest")
        cell.semilogy(times_s, medians_s, color="#247", linewidth=1.0, label="median")
        for fault in result.faults:
            began_s = fault.began_s - result.began_s
            cell.axvline(began_s, color="#b22", linewidth=0.8, linestyle=":")
            if fault.ended_s > fault.began_s:
                ended_s = fault.ended_s - result.began_s
                cell.axvspan(began_s, ended_s, color="#b22", alpha=0.12)
        played = len(plays[result.name])
        title = result.name + (f" (worst of {played})" if played > 1 else "")
        cell.set_title(title, fontsize=9, loc="left")
        cell.set_ylim(FLOOR_S, 60)
        cell.grid(visible=True, alpha=0.25)
    for cell in cells[len(shown) :]:
        cell.set_visible(False)
    cells[0].legend(fontsize=7, loc="upper right")
    figure.supxlabel("seconds since the scenario began; red: faults", fontsize=9)
    figure.supylabel("seconds from sending to seeing", fontsize=9)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _buckets(result: Result) -> tuple[list[float], list[float], list[float]]:
    gathered: defaultdict[int, list[float]] = defaultdict(list)
    for at_s, latency_s in result.latencies:
        gathered[int((at_s - result.began_s) / BUCKET_S)].append(latency_s)
    times = sorted(gathered)
    for number in list(times):
        if number - 1 not in gathered:
            # A line across a silence would tell of deliveries that there were not.
            gathered[number - 1] = [math.nan]
    times = sorted(gathered)
    return (
        [number * BUCKET_S for number in times],
        [max(statistics.median(gathered[number]), FLOOR_S) for number in times],
        [max(*gathered[number], FLOOR_S) for number in times],
    )
