"""The grammar of channel names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.wire import channels


@pytest.mark.parametrize(
    "channel", ["a", "room:a", "$a", "#ada", "a" * 255, "a:b:c", "~!*#."]
)
def test_printable_ascii_is_a_channel_name(channel: str) -> None:
    """Up to 255 characters."""
    assert channels.refusal(channel) is None


@pytest.mark.parametrize(
    "channel", ["", "a" * 256, "a b", "zoë", "a\n", "a\x00", "a\x7f"]
)
def test_anything_else_is_not_and_says_why(channel: str) -> None:
    """Empty, long, blank, accented, invisible."""
    assert channels.refusal(channel)


@pytest.mark.parametrize(
    ("channel", "namespace", "users", "private"),
    [
        ("lobby", "", None, False),
        ("room:a", "room", None, False),
        ("room:a:b", "room", None, False),
        ("$secret", "", None, True),
        ("$room:a", "room", None, True),
        ("room:$a", "room", None, True),
        ("room:a$b", "room", None, False),
        ("#ada", "", {"ada"}, False),
        ("feed:#ada", "feed", {"ada"}, False),
        ("dm#ada,bob", "", {"ada", "bob"}, False),
        ("dm#urn:a,urn:b", "", {"urn:a", "urn:b"}, False),
        ("room:dm#a#b", "room", {"a#b"}, False),
        ("room:#$ada", "room", {"$ada"}, False),
        (":a", "", None, False),
    ],
)
def test_a_name_says_its_namespace_its_users_and_whether_it_is_private(
    channel: str,
    namespace: str,
    users: set[str] | None,
    private: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The `:` of a user list opens no namespace."""
    assert channels.namespace_of(channel) == namespace
    assert channels.users_of(channel) == users
    assert channels.is_private(channel) == private


@given(
    st.text("abc:$", min_size=1).filter(lambda user: "," not in user),
    st.sampled_from(["", "feed"]),
)
def test_a_personal_channel_is_its_users_alone(user: str, namespace: str) -> None:
    """Whatever the user is called."""
    channel = channels.personal(user, namespace)

    assert channels.users_of(channel) == {user}
    assert channels.namespace_of(channel) == namespace
    assert not channels.is_private(channel)
