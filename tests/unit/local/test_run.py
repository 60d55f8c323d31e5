"""What `make run` can be told."""

import pytest

from chatmesh.local.run import Wishes
from chatmesh.local.trouble import Trouble


def test_nothing_set_means_two_gateways_on_8001() -> None:
    """The defaults are the ones of the README."""
    wishes = Wishes.from_environ({})

    assert (wishes.gateways, wishes.histories, wishes.base_port) == (2, 1, 8001)
    assert wishes.amqp_url is None
    assert wishes.database_url is None


def test_an_empty_variable_counts_as_not_set() -> None:
    """As everywhere in chatmesh."""
    assert Wishes.from_environ({"CHATMESH_AMQP_URL": ""}).amqp_url is None


@pytest.mark.parametrize("text", ["two", "-1", "2.0", "²", "10"])
def test_a_number_of_gateways_that_cannot_be_is_one_sentence(text: str) -> None:
    """And it names the variable."""
    with pytest.raises(Trouble, match="CHATMESH_LOCAL_GATEWAYS"):
        Wishes.from_environ({"CHATMESH_LOCAL_GATEWAYS": text})
