"""The SQL of runs: one file per statement, each opening with what it is for."""

from typing import Final

from chatmesh.postgres.statements import statements

query: Final = statements(__name__, {"adopt": ["take_over"], "reap": ["take_over"]})
