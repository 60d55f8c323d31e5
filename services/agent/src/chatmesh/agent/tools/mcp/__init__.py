"""MCP servers as tools: one process holds the connections, so that agents hold none."""
