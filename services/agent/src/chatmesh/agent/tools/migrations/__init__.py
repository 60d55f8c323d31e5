"""The tables of tools, one file per step."""
