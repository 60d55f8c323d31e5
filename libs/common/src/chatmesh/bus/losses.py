"""How the client library says that a line is lost, told in one way."""

import contextlib
from collections.abc import Callable, Generator
from typing import Final

from aiormq.exceptions import AMQPError

_LOSSES: Final = (AMQPError, OSError, TimeoutError, RuntimeError)


@contextlib.contextmanager
def losses_as(tell: Callable[[Exception], Exception]) -> Generator[None]:
    """Raise what `tell` makes of an error that means: this line is of no more use.

    What the library has not foreseen, and what we raise ourselves, passes unchanged.
    """
    try:
        yield
    except Exception as error:
        if is_loss(error):
            raise tell(error) from error
        raise


@contextlib.contextmanager
def losses_ignored() -> Generator[None]:
    """For the end of a line: what is left of a broken one is of no use."""
    try:
        yield
    except Exception as error:
        if not is_loss(error):
            raise


def is_loss(error: Exception) -> bool:
    """Whether the client library says with this that the line is lost."""
    # Whoever waits when the broker closes the socket between two frames is told with a
    # bare `Exception`, because the library has no cause to pass on.
    return isinstance(error, _LOSSES) or type(error) is Exception


def told(error: BaseException) -> str:
    """An error in a few words, for logs and reasons."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
