"""What the AMQP client library raises when a line ends, besides its own errors."""

from collections.abc import Awaitable, Callable

from aiormq.exceptions import ChannelInvalidStateError

LOST = (
    Exception(),  # The broker closed the socket between two frames.
    ChannelInvalidStateError("closed"),
    RuntimeError("<Connection> closed"),
)


def ending_with(error: Exception) -> Callable[..., Awaitable[None]]:
    """A call of the library on whose way the line ends."""

    async def end(*_: object, **__: object) -> None:  # noqa: RUF029 - awaited
        raise error

    return end
