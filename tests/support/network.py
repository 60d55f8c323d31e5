"""Ports for servers that a test starts itself."""

import pytest

from chatmesh.local import ports


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    return ports.free_port()
