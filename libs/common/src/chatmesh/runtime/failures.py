"""One failure out of those that a task group raises together.

For `except BaseExceptionGroup`, and instead of raising inside `except*`: Python 3.11.2,
which Debian 12 has, wraps in a group again what such a clause raises.
"""

from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


def sole(failures: BaseExceptionGroup[BaseException], kind: type[E]) -> BaseException:
    """The first `kind` if there is nothing else in the group, else the rest of it.

    The rest is a fault of ours and wants its traceback, not a translation.
    """
    wanted, rest = failures.split(kind)
    if wanted is None or rest is not None:
        return rest or failures
    return _first(wanted)


def _first(failures: BaseExceptionGroup[E]) -> E:
    first = failures.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _first(cast("BaseExceptionGroup[E]", first))
    return first
