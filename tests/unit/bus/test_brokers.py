"""Which brokers a setting names, and which of them a link takes."""

import pytest

from chatmesh.bus.brokers import one_of, split_urls

ONE = "amqp://a:5672/"
OTHER = "amqp://b:5672/"


@pytest.mark.parametrize(
    "text",
    [f"{ONE},{OTHER}", f"{ONE}, {OTHER}", f"{ONE}\n{OTHER}\n", f"{ONE},{OTHER},"],
)
def test_several_stand_between_commas_or_blanks(text: str) -> None:
    """However a file or a variable folds them."""
    assert split_urls(text) == [ONE, OTHER]


def test_every_broker_has_its_turn() -> None:
    """Whoever loses one comes to the other before long; a single one is always taken."""
    assert {one_of(f"{ONE},{OTHER}") for _ in range(100)} == {ONE, OTHER}
    assert one_of(ONE) == ONE
