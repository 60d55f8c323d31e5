"""What a task group raises, taken apart."""

import asyncio

import pytest

from chatmesh.runtime.failures import sole


class LinkLost(Exception):
    """The expected end."""


async def _both(first: Exception, second: Exception) -> None:
    async def fail(error: Exception) -> None:
        await asyncio.sleep(0)
        raise error

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(first))
            group.create_task(fail(second))
    except BaseExceptionGroup as failures:
        raise sole(failures, LinkLost) from None


async def test_several_of_the_expected_are_the_first_of_them() -> None:
    """As itself and not in a group, on every Python."""
    with pytest.raises(LinkLost, match="one"):
        await _both(LinkLost("one"), LinkLost("two"))


async def test_an_unexpected_one_beside_it_is_what_is_seen() -> None:
    """A bug must not hide behind a lost link."""
    with pytest.raises(ExceptionGroup) as caught:
        await _both(LinkLost("one"), ValueError("two"))

    assert [str(error) for error in caught.value.exceptions] == ["two"]


def test_groups_in_groups_are_one_failure() -> None:
    """However deep."""
    lost = LinkLost("deep")
    failures = ExceptionGroup("", [ExceptionGroup("", [lost])])

    assert sole(failures, LinkLost) is lost


def test_without_any_it_stays_as_it_is() -> None:
    """Nothing is lost on the way."""
    failures = ExceptionGroup("", [ValueError("x")])

    assert str(sole(failures, LinkLost)) == str(failures)
