"""What an examination says of neighbours that go away while they are asked."""

import aio_pika
import pytest

from chatmesh.cli import examination
from chatmesh.wire.topics import Topics
from support.lost_lines import LOST, ending_with


@pytest.mark.parametrize("error", [*LOST, TimeoutError()])
async def test_a_broker_that_ends_the_connection_is_a_finding(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever way the line ends, with a reason."""
    monkeypatch.setattr(aio_pika, "connect", ending_with(error))

    (found,) = await examination.examine_broker("amqp://h", Topics("p"))

    assert not found.ok
    assert "does not answer (" in found.text
    assert "()" not in found.text
