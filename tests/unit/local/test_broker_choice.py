"""Which RabbitMQ is taken, for every mixture of what a machine offers."""

from dataclasses import replace

import pytest

from chatmesh.local.broker_choice import (
    NoBroker,
    Surroundings,
    Way,
    choose,
    choose_private,
)

EVERYTHING = Surroundings(
    given="amqp://there/",
    shared_lets_us_in=True,
    installed=True,
    installable=True,
    docker=True,
)
NOTHING = Surroundings(
    given=None,
    shared_lets_us_in=False,
    installed=False,
    installable=False,
    docker=False,
)


def test_an_address_that_was_given_beats_everything() -> None:
    """Somebody who names a broker means it."""
    assert choose(EVERYTHING) is Way.GIVEN
    assert choose_private(EVERYTHING) is Way.GIVEN


@pytest.mark.parametrize(
    ("found", "way"),
    [
        (replace(EVERYTHING, given=None), Way.SHARED),
        (replace(EVERYTHING, given=None, shared_lets_us_in=False), Way.PRIVATE),
        (replace(NOTHING, installable=True, docker=True), Way.INSTALL),
        (replace(NOTHING, docker=True), Way.DOCKER),
    ],
)
def test_the_least_work_comes_first(found: Surroundings, way: Way) -> None:
    """Running before installed before installable before a container."""
    assert choose(found) is way


def test_tests_never_take_what_somebody_else_uses() -> None:
    """The broker on the usual port belongs to somebody, so tests start their own."""
    found = replace(NOTHING, shared_lets_us_in=True, installed=True)

    assert choose_private(found) is Way.PRIVATE


def test_without_any_way_a_sentence_says_what_to_install() -> None:
    """The newcomer learns the command for this system and the way around it."""
    with pytest.raises(NoBroker, match=r"apt-get install rabbitmq.*CHATMESH_AMQP_URL"):
        choose(NOTHING)
