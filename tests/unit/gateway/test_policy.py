"""Who may do what in which channel, from both sides of every door."""

import pytest

from chatmesh.gateway.policy import Policy, Seat
from chatmesh.wire.errors import PERMISSION_DENIED, UNKNOWN_CHANNEL, ErrorReply
from chatmesh.wire.namespaces import NamespaceOptions, Who

NAMESPACES = {
    "": NamespaceOptions(),
    **{
        who.value: NamespaceOptions(
            subscribe=who, publish=who, read_history=who, see_presence=who
        )
        for who in Who
    },
}
POLICY = Policy(NAMESPACES)
ADA, NOBODY = "ada", ""


@pytest.mark.parametrize(
    ("channel", "user", "expected"),
    [
        ("everyone:a", ADA, None),
        ("everyone:a", NOBODY, None),
        ("users:a", ADA, None),
        ("users:a", NOBODY, PERMISSION_DENIED),
        ("nobody:a", ADA, PERMISSION_DENIED),
        ("bare", ADA, None),
        ("bare", NOBODY, PERMISSION_DENIED),
        ("nowhere:a", ADA, UNKNOWN_CHANNEL),
        ("everyone:$a", ADA, PERMISSION_DENIED),
        ("$a", ADA, PERMISSION_DENIED),
        ("#ada", ADA, None),
        ("#ada", "bob", PERMISSION_DENIED),
        ("#ada", NOBODY, PERMISSION_DENIED),
        ("#", NOBODY, PERMISSION_DENIED),
        ("dm#bob,ada", ADA, None),
        ("dm#bob,adam", ADA, PERMISSION_DENIED),
        ("everyone:dm#bob", ADA, PERMISSION_DENIED),
        ("nobody:dm#ada", ADA, None),
    ],
)
def test_who_may_subscribe(
    channel: str, user: str, expected: ErrorReply | None
) -> None:
    """Private and user-limited channels are decided before the namespace's option."""
    assert expected == POLICY.refuses_subscribe(channel, user)


ASKS = {
    "publish": POLICY.refuses_publish,
    "history": POLICY.refuses_history,
    "presence": POLICY.refuses_presence,
}


@pytest.mark.parametrize("what", ASKS)
@pytest.mark.parametrize(
    ("channel", "user", "seat", "expected"),
    [
        ("everyone:a", NOBODY, Seat.NONE, None),
        ("users:a", ADA, Seat.NONE, None),
        ("users:a", NOBODY, Seat.NONE, PERMISSION_DENIED),
        ("users:a", NOBODY, Seat.TAKEN, PERMISSION_DENIED),
        ("users:a", NOBODY, Seat.GRANTED, None),
        ("subscribers:a", ADA, Seat.NONE, PERMISSION_DENIED),
        ("subscribers:a", ADA, Seat.TAKEN, None),
        ("subscribers:a", NOBODY, Seat.GRANTED, None),
        ("nobody:a", ADA, Seat.TAKEN, PERMISSION_DENIED),
        ("nobody:a", ADA, Seat.GRANTED, PERMISSION_DENIED),
        ("nowhere:a", ADA, Seat.NONE, UNKNOWN_CHANNEL),
        ("everyone:$a", ADA, Seat.NONE, PERMISSION_DENIED),
        ("everyone:$a", ADA, Seat.GRANTED, None),
        ("everyone:dm#bob", ADA, Seat.NONE, PERMISSION_DENIED),
        ("everyone:dm#bob,ada", ADA, Seat.NONE, PERMISSION_DENIED),
        ("everyone:dm#bob,ada", ADA, Seat.TAKEN, None),
    ],
)
def test_who_may_act_in_a_channel(
    what: str,
    channel: str,
    user: str,
    seat: Seat,
    expected: ErrorReply | None,
) -> None:
    """Publish, read history and see presence follow one rule."""
    assert expected == ASKS[what](channel, user, seat)


@pytest.mark.parametrize("what", ASKS)
def test_insecure_allows_everything_that_exists(what: str) -> None:
    """Only an unknown namespace is still unknown."""
    open_to_all = Policy(NAMESPACES, insecure=True)
    ask = getattr(open_to_all, f"refuses_{what}")

    for channel in ("nobody:$a", "dm#bob", "everyone:a"):
        assert ask(channel, NOBODY, Seat.NONE) is None
        assert open_to_all.refuses_subscribe(channel, NOBODY) is None
    assert open_to_all.refuses_subscribe("nowhere:a", NOBODY) == UNKNOWN_CHANNEL
    assert ask("nowhere:a", NOBODY, Seat.TAKEN) == UNKNOWN_CHANNEL


def test_personal_channels_are_in_every_namespace_that_has_them() -> None:
    """For users with a name that makes a channel name."""
    policy = Policy(
        {
            "": NamespaceOptions(personal=True),
            "feed": NamespaceOptions(personal=True),
            "room": NamespaceOptions(),
        }
    )

    assert policy.personal_channels(ADA) == ["#ada", "feed:#ada"]
    for user in (NOBODY, "a,b", "Ada Lovelace", "zoë", "u" * 300):
        assert policy.personal_channels(user) == []
