"""The presence tables, one file per step."""
