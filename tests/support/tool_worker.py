"""A worker with tools for tests; each call is noted before it does anything else."""

import json
import os
import time
from pathlib import Path

from chatmesh.tools import serve, tool


def _note(name: str, **arguments: object) -> None:
    path = Path(os.environ["TOOL_NOTES"])
    with path.open("a") as notes:
        notes.write(json.dumps({"tool": name, **arguments}) + "\n")


@tool(read_only=True)
def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    _note("add", a=a, b=b)
    return a + b


@tool(read_only=True, timeout_s=60)
def ponder(seconds: float) -> str:
    """Takes its time, and changes nothing."""
    _note("ponder", seconds=seconds)
    time.sleep(seconds)
    return "pondered"


@tool(timeout_s=60)
def send_parcel(to: str, seconds: float = 0.0) -> str:
    """Does something that cannot be undone."""
    _note("send_parcel", to=to)
    time.sleep(seconds)
    return f"sent to {to}"


@tool(needs_approval=True, approvers=("owner", "moderator"))
def pay(amount: int) -> str:
    """Pays; owners and moderators have to agree."""
    _note("pay", amount=amount)
    return f"paid {amount}"


if __name__ == "__main__":
    serve(add, ponder, send_parcel, pay, pool="tests")
