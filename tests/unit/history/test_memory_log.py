"""The log in memory keeps the promises of the real one, so tests may lean on it."""

import pytest

from conformance.log import LogPromises
from conformance.memory_log import MemoryLog


class TestMemoryLog(LogPromises):
    @pytest.fixture
    def log(self) -> MemoryLog:
        return MemoryLog()
