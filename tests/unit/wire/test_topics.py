"""Routing keys: legal for the broker, distinct for distinct channels."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.wire import limits, topics
from chatmesh.wire.topics import Topics

NAMES = st.text(max_size=300)
LEGAL_WORD = re.compile(r"[A-Za-z0-9_~%-]+")


@given(NAMES)
def test_any_name_is_one_legal_word(name: str) -> None:
    """No dot, no wildcard, and a bound on its length."""
    word = topics.escape(name)

    assert LEGAL_WORD.fullmatch(word)
    assert len(word) <= limits.ROUTING_WORD_BYTES_MAX


@given(NAMES, NAMES)
def test_distinct_names_are_distinct_words(one: str, other: str) -> None:
    """Also when they are long."""
    assert (topics.escape(one) == topics.escape(other)) == (one == other)


@given(
    st.text(st.characters(codec="ascii"), min_size=150, max_size=255),
    st.text(st.characters(codec="ascii"), max_size=3),
)
def test_long_names_with_one_beginning_stay_apart(name: str, end: str) -> None:
    """The digest tells them apart."""
    assert (topics.escape(name) == topics.escape(name + end)) == (end == "")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("plain-Name_1", "plain-Name_1"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        ("#", "%23"),
        ("~", "%7E"),
        ("%2A", "%252A"),
        ("zoë", "zo%C3%AB"),
        ("", "~"),
    ],
)
def test_what_means_something_to_the_broker_is_escaped(name: str, word: str) -> None:
    """And the escape itself is."""
    assert topics.escape(name) == word


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=255))
def test_keys_have_three_words_in_255_bytes_and_match_their_binding(
    channel: str,
) -> None:
    """Namespace, channel, and log or live; the binding hears both."""
    binding = topics.channel_binding(channel)
    beginning = binding.removesuffix("*")
    for key in (topics.log_key(channel), topics.live_key(channel)):
        assert key.startswith(beginning)
        assert len(key.split(".")) == 3
        assert len(key.encode()) <= 255


@given(NAMES)
def test_a_channel_has_one_partition(channel: str) -> None:
    """In every process and every release."""
    assert 0 <= topics.partition_of(channel) < limits.PARTITIONS


def test_partitions_never_change() -> None:
    """A changed one would break the order of every room during an upgrade."""
    names = ("room:a", "lobby", "#ada", "room:b")

    assert [topics.partition_of(one) for one in names] == [4, 7, 6, 14]


def test_all_names_of_a_deployment_begin_with_its_prefix() -> None:
    """Two deployments on one virtual host never meet."""
    mine = Topics("mine")
    names = [
        mine.commands,
        mine.events,
        mine.rpc,
        mine.presence,
        mine.control,
        mine.dead,
        mine.dead_letters,
        mine.history_rpc_queue,
        mine.gateway_queue("g"),
        *[mine.command_queue(number) for number in range(limits.PARTITIONS)],
    ]

    assert len(set(names)) == len(names)
    assert all(name.startswith("mine.") for name in names)
