"""Time on a processor of the processes that take part, by what they are."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

BROKER: Final = "broker"
DATABASE: Final = "database"
PROGRAMS: Final = {"beam.smp": BROKER, "postgres": DATABASE}
_NS_PER_S: Final = 1e9

Spent = dict[str, dict[int, int]]
"""Nanoseconds so far, by part and process."""


def cpu_ns(pids: Iterable[int]) -> int:
    """Time of processes on a processor so far; finer than the clock ticks of `stat`."""
    return sum(_of_process(pid) for pid in pids)


def spent(own: Mapping[str, Sequence[int]]) -> Spent:
    """Time so far of these, and of broker and database if this process started them."""
    parts: Spent = {part: _of_each(pids) for part, pids in own.items()}
    for name, part in PROGRAMS.items():
        children = psutil.Process().children(recursive=True)
        parts[part] = _of_each(one.pid for one in children if _is(one, name))
    return parts


def seconds_between(before: Spent, after: Spent) -> dict[str, float]:
    """Seconds that each part took; a process that came meanwhile took all it has."""
    return {
        part: sum(ns - before[part].get(pid, 0) for pid, ns in after[part].items())
        / _NS_PER_S
        for part in after
    }


def _of_each(pids: Iterable[int]) -> dict[int, int]:
    taken: dict[int, int] = {}
    for pid in pids:
        try:
            taken[pid] = _of_process(pid)
        except FileNotFoundError:
            continue  # A worker of the database that has ended.
    return taken


def _of_process(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks)


def _is(process: psutil.Process, name: str) -> bool:
    try:
        return process.name() == name
    except psutil.NoSuchProcess:
        return False
