"""Makes a typed function a tool that agents can call: `@tool`, then `serve()`.

from chatmesh.tools import serve, tool

@tool(read_only=True)
def add(a: float, b: float) -> float:
    '''The sum of two numbers.'''
    return a + b

serve()
"""

from chatmesh.tools.context import (
    OutcomeUnknown,
    RetryLater,
    ToolContext,
    ToolFailed,
)
from chatmesh.tools.declaration import Tool, tool
from chatmesh.tools.serving import serve

__all__ = [
    "OutcomeUnknown",
    "RetryLater",
    "Tool",
    "ToolContext",
    "ToolFailed",
    "serve",
    "tool",
]
