"""The smallest worker: `python my_tools.py`, or `chatmesh tools serve my_tools.py`."""

from chatmesh.tools import serve, tool


@tool(read_only=True)
def add(a: float, b: float) -> float:
    """The sum of two numbers."""
    return a + b


serve()
