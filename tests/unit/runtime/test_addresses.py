"""What counts as this machine: development conveniences depend on it."""

import pytest

from chatmesh.runtime.addresses import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.8.8", "::1", "[::1]"]
)
def test_this_machine_is_loopback(host: str) -> None:
    """All the usual spellings of here."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "10.0.0.1", "chat.example", "127.0.0.1.example", "localhost.evil"],  # noqa: S104
)
def test_elsewhere_is_not_loopback(host: str) -> None:
    """Names that only look like here do not get conveniences."""
    assert not is_loopback(host)
