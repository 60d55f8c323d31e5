"""The smallest MCP server on standard streams; deploy/compose/mcp.yaml declares it."""

from datetime import date

from mcp.server import MCPServer

server = MCPServer("calendar")


@server.tool()
def days_between(start: str, end: str) -> int:
    """Days from one date to another, both as YYYY-MM-DD."""
    return (date.fromisoformat(end) - date.fromisoformat(start)).days


server.run()
