"""What a delivery says of itself."""

from typing import cast

import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands as spec
from pamqp.common import FieldTable
from pamqp.header import ContentHeader

from chatmesh.history.adapters.rabbit_link import deaths_of
from chatmesh.wire import dead_letters


def delivered(headers: FieldTable | None, *, redelivered: bool) -> DeliveredMessage:
    return DeliveredMessage(
        delivery=spec.Basic.Deliver("c", 1, redelivered=redelivered),
        header=ContentHeader(properties=spec.Basic.Properties(headers=headers)),
        body=b"",
        channel=cast("AbstractChannel", None),
    )


@pytest.mark.parametrize(
    ("count", "redelivered", "deaths"),
    [
        (None, False, 0),
        (None, True, 1),
        (0, False, 0),
        (0, True, 1),
        (1, True, 1),
        (7, True, 7),
        (7, False, 7),
        ("7", True, 1),
    ],
)
def test_a_delivery_counts_as_repeated_when_anything_says_so(
    count: int | str | None,
    redelivered: bool,  # noqa: FBT001 - a column of the table
    deaths: int,
) -> None:
    """A count of nought does not hide that the broker marked it as redelivered."""
    headers: FieldTable = {} if count is None else {dead_letters.DELIVERY_COUNT: count}

    assert deaths_of(delivered(headers, redelivered=redelivered)) == deaths


def test_a_message_without_headers_is_new() -> None:
    """Unless the broker says otherwise."""
    assert deaths_of(delivered(None, redelivered=False)) == 0
    assert deaths_of(delivered(None, redelivered=True)) == 1
