"""History beside a real RabbitMQ and a real PostgreSQL."""

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def no_blocking_calls_in_the_loop() -> Iterator[None]:
    """As everywhere, but for asyncpg's look at the home folder when it connects."""
    with blockbuster_ctx(["chatmesh.history", "chatmesh.runtime"]) as watch:
        for function in watch.functions.values():
            # Certificates and passwords of the user: a few file names per connection.
            function.can_block_in(
                "asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"}
            )
        yield
