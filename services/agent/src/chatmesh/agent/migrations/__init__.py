"""The tables of runs, one file per step."""
