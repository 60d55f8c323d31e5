"""Who comes and who goes, told in facts and times."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatmesh.presence.roster import (
    Connection,
    Counts,
    Diff,
    Face,
    Roster,
    Rules,
    person_of,
)
from chatmesh.wire.presence import Active, Joined, Left
from support.presence_story import (
    EXACT,
    GRACE_MS,
    MERGED,
    PARTITION,
    ROOM,
    T0,
    Story,
)


@pytest.fixture
def story() -> Story:
    return Story()


# -- Users, with a grace -----------------------------------------------------------------


def test_the_first_connection_of_a_user_joins(story: Story) -> None:
    """Whoever comes by the first of their connections is announced."""
    assert story.joined("a1", "ada") == ["join ada/a1"]


def test_a_second_device_is_no_second_join(story: Story) -> None:
    """A user who is here already does not come again."""
    story.joined("a1", "ada")

    assert story.joined("a2", "ada", origin="g2") == []
    assert story.clients == ["a1", "a2"]


def test_a_user_leaves_with_the_last_connection(story: Story) -> None:
    """As long as one device is left, the user is here."""
    story.joined("a1", "ada")
    story.joined("a2", "ada")

    assert story.left("a1", clean=True) == []
    assert story.left("a2", clean=True) == ["leave ada/a1"]


def test_a_leave_names_the_connection_that_joined(story: Story) -> None:
    """Who keeps a list by client id can strike out what they have written."""
    story.joined("a1", "ada", info=b'{"name": "Ada"}')
    story.left("a1")
    story.joined("a2", "ada", info=b'{"name": "Countess"}')

    assert story.left("a2", clean=True) == ["leave ada/a1"]
    info = json.loads(story.diffs[-1].news[0].body)
    assert info["conn_info"] == {"name": "Ada"}


def test_a_clean_leave_has_no_grace(story: Story) -> None:
    """Who says goodbye is gone at once."""
    story.joined("a1", "ada")

    assert story.left("a1", clean=True) == ["leave ada/a1"]
    assert story.after(60) == []


def test_a_lost_connection_has_its_grace(story: Story) -> None:
    """Who vanishes is still here for the grace, and has left after it."""
    story.joined("a1", "ada")

    assert story.left("a1") == []
    assert story.after(GRACE_MS / 1000 - 0.25) == []
    assert story.clients == ["a1"]
    assert story.after(0.25) == ["leave ada/a1"]
    assert story.clients == []
    assert story.after(60) == []


def test_a_return_within_the_grace_is_neither_leave_nor_join(story: Story) -> None:
    """A reconnect is nobody's business, on whichever gateway it ends."""
    story.joined("a1", "ada")
    story.left("a1")
    story.after(9)

    assert story.joined("a2", "ada", origin="g2") == []
    assert story.clients == ["a2"]
    assert story.after(60) == []


def test_a_return_that_is_heard_before_the_loss_is_silent_too(story: Story) -> None:
    """Reports of two gateways may overtake each other."""
    story.joined("a1", "ada")
    story.joined("a2", "ada", origin="g2")

    assert story.left("a1") == []
    assert story.clients == ["a2"]
    assert story.after(60) == []


def test_a_return_after_the_grace_is_a_join(story: Story) -> None:
    """Who was announced as gone is announced again."""
    story.joined("a1", "ada")
    story.left("a1")
    story.after(11)

    assert story.joined("a2", "ada") == ["join ada/a2"]


def test_a_clean_goodbye_during_the_grace_ends_it(story: Story) -> None:
    """Whoever is lost first and then closed for good has left, once."""
    story.joined("a1", "ada")
    story.left("a1")

    assert story.left("a1", clean=True) == ["leave ada/a1"]
    assert story.after(60) == []


def test_two_losses_of_one_user_are_one_leave(story: Story) -> None:
    """A user with two devices on a dead gateway leaves once."""
    story.joined("a1", "ada")
    story.joined("a2", "ada")
    story.gone("g1")

    assert story.after(60) == ["leave ada/a1"]


def test_anonymous_connections_are_users_of_their_own(story: Story) -> None:
    """Nobody is not one person."""
    assert story.joined("x1") == ["join /x1"]
    assert story.joined("x2") == ["join /x2"]
    assert story.diffs[-1].counts == {ROOM: Counts(2, 2)}


def test_an_anonymous_connection_has_no_grace(story: Story) -> None:
    """It could not be known again, so waiting for it is for nothing."""
    story.joined("x1")

    assert story.left("x1") == ["leave /x1"]


def test_a_fact_told_twice_is_one_fact(story: Story) -> None:
    """Snapshots repeat what is known."""
    story.joined("a1", "ada")

    assert story.joined("a1", "ada") == []
    assert not story.diffs[-1].connections


def test_a_leave_of_nobody_is_nothing(story: Story) -> None:
    """Who was never here cannot leave."""
    assert story.left("a1", clean=True) == []
    assert not story.diffs[-1].connections


def test_a_connection_with_a_new_user_is_a_leave_and_a_join(story: Story) -> None:
    """A connection never changes hands; the newer word counts."""
    story.joined("a1", "ada")

    assert story.joined("a1", "bob") == ["leave ada/a1", "join bob/a1"]


def test_new_infos_are_kept_without_a_word(story: Story) -> None:
    """What a connection shows may change with its token."""
    story.joined("a1", "ada", info=b"1")

    assert story.joined("a1", "ada", info=b"2") == []
    kept = story.diffs[-1].connections[ROOM, "a1"]
    assert kept is not None
    assert kept.conn_info == b"2"


# -- Connections, without a grace ----------------------------------------------------------


def test_without_a_grace_every_connection_joins_and_leaves() -> None:
    """The protocol's exact behaviour is about connections."""
    story = Story(EXACT)

    assert story.joined("a1", "ada") == ["join ada/a1"]
    assert story.joined("a2", "ada") == ["join ada/a2"]
    assert story.left("a1") == ["leave ada/a1"]
    assert story.left("a2", clean=True) == ["leave ada/a2"]


def test_without_a_grace_a_reconnect_is_a_leave_and_a_join() -> None:
    """Nothing is hidden that the protocol would show."""
    story = Story(EXACT)
    story.joined("a1", "ada")

    news = story.told(Left(ROOM, "a1"), Joined(ROOM, "a2", "ada"))

    assert news == ["leave ada/a1", "join ada/a2"]


def test_without_a_grace_users_are_still_counted_once() -> None:
    """Two connections of one user are two clients and one user."""
    story = Story(EXACT)
    story.joined("a1", "ada")
    story.joined("a2", "ada")

    assert story.diffs[-1].counts == {ROOM: Counts(2, 1)}
    assert not any(diff.faces for diff in story.diffs)


def test_nothing_is_told_where_nobody_wants_it() -> None:
    """A namespace without joins and leaves has its members all the same."""
    story = Story(Rules(announce=False, grace_ms=0, large_above=0))

    assert story.joined("a1", "ada") == []
    assert story.left("a1") == []
    assert story.after(5) == []


def test_a_token_decides_who_is_told_of() -> None:
    """Of one subscription, against what the namespace says of all others."""
    quiet = Story(Rules(announce=False, grace_ms=0, large_above=200))
    loud = Story(EXACT)

    assert quiet.joined("a1", "ada", announce=True) == ["join ada/a1"]
    assert quiet.joined("b1", "bob") == []
    assert quiet.left("a1", clean=True) == ["leave ada/a1"]
    assert quiet.left("b1", clean=True) == []
    assert loud.joined("a1", "ada", announce=False) == []
    assert loud.left("a1", clean=True) == []


def test_a_user_is_told_of_by_the_first_connection_that_may_be(story: Story) -> None:
    """A quiet device is neither a join nor a leave, whichever comes or goes first."""
    assert story.joined("a1", "ada", announce=False) == []
    assert story.joined("a2", "ada") == ["join ada/a2"]
    assert story.joined("a3", "ada") == []
    assert story.left("a2", clean=True) == []
    assert story.left("a3", clean=True) == []
    assert story.left("a1", clean=True) == ["leave ada/a2"]

    assert story.joined("a4", "ada", announce=False) == []
    assert story.left("a4") == []
    assert story.after(60) == []


def test_graces_that_end_together_are_told_a_second_apart() -> None:
    """Of a gateway that died, too: the moment of the loss is not that of the word."""
    story = Story(Rules(announce=True, grace_ms=3000, large_above=3))
    for n in range(6):
        story.joined(f"c{n}", f"u{n}")
    story.joined("w", "watcher", origin="g2")
    story.after(10)

    story.gone("g1")

    assert story.after(3) == ["6 clients, 6 users"]
    assert story.after(0.75) == []
    assert story.after(0.25) == ["1 clients, 1 users, small again"]


def test_a_quiet_connection_may_be_heard_from_now_on(story: Story) -> None:
    """It comes back within its grace with another token; who was heard is not hushed."""
    story.joined("a1", "ada", announce=False)
    story.left("a1")

    assert story.joined("a1", "ada", announce=True) == ["join ada/a1"]
    assert story.joined("a1", "ada", announce=False) == []
    assert story.left("a1", clean=True) == ["leave ada/a1"]


def test_leaves_of_connections_do_not_borrow_a_name() -> None:
    """After a grace was taken away, what was kept of users is not said of connections."""
    before = Story()
    before.joined("a1", "ada")
    before.joined("a2", "ada")
    before.left("a1", clean=True)
    face = (ROOM, "ada", Face("a1", b"", b""))
    story = Story(EXACT)
    story.roster = Roster.restored(
        PARTITION,
        lambda _channel: EXACT,
        connections=list(before.roster.rooms[ROOM].connections.values()),
        faces=[face],
        sequences=[("g1", 3)],
        number=0,
        settled_ms=0,
    )
    story.sequences["g1"] = 3

    assert story.joined("a3", "ada") == ["join ada/a3"]
    assert story.left("a3", clean=True) == ["leave ada/a3"]
    assert story.left("a2", clean=True) == ["leave ada/a2"]


def test_a_large_room_of_the_untold_is_small_again_by_itself() -> None:
    """Nobody has to be told so, and typing is told again."""
    story = Story(Rules(announce=False, grace_ms=0, large_above=2))
    for n in range(4):
        story.joined(f"c{n}", f"u{n}")
    assert story.typed("u3") == []
    for n in range(3):
        story.left(f"c{n}", clean=True)

    assert story.typed("u3") == ["u3 types for 5000"]


def test_a_large_room_of_the_untold_is_not_counted_aloud() -> None:
    """Counts stand for joins and leaves, and there are none."""
    story = Story(Rules(announce=True, grace_ms=0, large_above=2))

    for n in range(4):
        assert story.joined(f"c{n}", f"u{n}", announce=False) == []
    assert story.after(5) == []
    assert story.joined("c4", "u4") == ["5 clients, 5 users"]


# -- Processes -----------------------------------------------------------------------------


def test_a_dead_gateway_takes_its_users_with_it_once(story: Story) -> None:
    """At most lease and grace after its death, each of its users has left, once."""
    story.joined("a1", "ada")
    story.joined("b1", "bob")
    story.joined("c1", "cem", origin="g2")

    assert story.gone("g1") == []
    assert sorted(story.after(10)) == ["leave ada/a1", "leave bob/b1"]
    assert story.gone("g1") == []
    assert story.after(60) == []
    assert story.clients == ["c1"]


def test_users_of_a_dead_gateway_who_come_back_elsewhere_never_left(
    story: Story,
) -> None:
    """A rolling restart makes no storm: a thousand users move without a word."""
    for number in range(1000):
        story.rules = MERGED._replace(large_above=10_000)
        story.joined(f"old{number}", f"u{number}")
    news = story.gone("g1")
    for number in range(1000):
        news += story.joined(f"new{number}", f"u{number}", origin="g2")
    news += story.after(60)

    assert news == []
    assert len(story.clients) == 1000


def test_a_gateway_believed_dead_tells_anew_without_a_flicker(story: Story) -> None:
    """A process that was only slow takes its connections back by a snapshot."""
    story.joined("a1", "ada")
    story.gone("g1")
    story.after(3)
    snapshot = story.report("g1", 7, Joined(ROOM, "a1", "ada"), part=1, parts=1)

    assert story.hears(snapshot) == []
    assert story.after(60) == []
    assert story.clients == ["a1"]


def test_a_snapshot_loses_what_it_does_not_name(story: Story) -> None:
    """What a gateway no longer has is lost, with its grace."""
    story.joined("a1", "ada")
    story.joined("b1", "bob")
    story.joined("c1", "cem", origin="g2")

    assert story.told(Joined(ROOM, "b1", "bob"), part=1, parts=1) == []
    assert story.after(10) == ["leave ada/a1"]
    assert story.clients == ["b1", "c1"]


def test_a_snapshot_in_parts_counts_when_it_is_complete(story: Story) -> None:
    """Nobody is lost because their part is still on its way."""
    story.joined("a1", "ada")
    story.joined("b1", "bob")
    story.told(Joined(ROOM, "a1", "ada"), part=1, parts=2)
    story.told(Joined(ROOM, "b1", "bob"), part=2, parts=2)

    assert story.after(60) == []
    assert story.clients == ["a1", "b1"]


def test_a_snapshot_without_its_beginning_is_asked_for_again(story: Story) -> None:
    """Its first part went to a replica that died; nobody is lost by half a truth."""
    story.joined("a1", "ada")
    story.told(Joined(ROOM, "b1", "bob"), part=2, parts=2)

    assert story.diffs[-1].resync == {("g1", PARTITION)}
    assert story.after(60) == []
    assert story.clients == ["a1", "b1"]


def test_an_empty_snapshot_loses_everything(story: Story) -> None:
    """A gateway without connections says so."""
    story.joined("a1", "ada")
    story.told(part=1, parts=1)

    assert story.after(10) == ["leave ada/a1"]


def test_a_report_heard_before_is_dropped(story: Story) -> None:
    """The broker delivers again what was not acknowledged."""
    join = story.report("g1", 1, Joined(ROOM, "a1", "ada"))
    leave = story.report("g1", 2, Left(ROOM, "a1", clean=True))
    assert story.hears(join) == ["join ada/a1"]
    assert story.hears(leave) == ["leave ada/a1"]

    assert not story.roster.hear(join, story.now_ms, Diff())
    assert not story.roster.hear(leave, story.now_ms, Diff())
    assert story.clients == []


def test_a_missing_report_is_noticed(story: Story) -> None:
    """A gap in the numbers is made good by a snapshot."""
    story.joined("a1", "ada")
    story.hears(story.report("g1", 3, Joined(ROOM, "b1", "bob")))

    assert story.diffs[-1].resync == {("g1", PARTITION)}
    assert story.clients == ["a1", "b1"]


# -- Large rooms -----------------------------------------------------------------------------


def crowd(story: Story, size: int) -> None:
    story.told(*(Joined(ROOM, f"c{n}", f"u{n}") for n in range(size)))


def test_a_large_room_hears_counts_instead_of_joins() -> None:
    """Above the threshold, who comes only changes the counts."""
    story = Story(MERGED._replace(large_above=3))
    news = [story.joined(f"c{n}", f"u{n}") for n in range(5)]

    assert news == [
        ["join u0/c0"],
        ["join u1/c1"],
        ["join u2/c2"],
        ["4 clients, 4 users"],
        [],
    ]
    assert story.after(1) == ["5 clients, 5 users"]
    assert story.after(10) == []


def test_a_large_room_hears_its_counts_at_most_once_a_second() -> None:
    """However many come and go, one message a second tells it."""
    story = Story(MERGED._replace(large_above=3))
    crowd(story, 5)
    news: list[str] = []
    for number in range(100):
        story.joined(f"d{number}", f"v{number}")
        news += story.after(0.05)

    news += story.after(1)

    # Five seconds at 20 joins a second.
    assert 4 <= len(news) <= 6
    assert news[-1] == "105 clients, 105 users"


def test_a_room_that_shrinks_well_below_the_threshold_is_small_again() -> None:
    """The last counts say so, and joins and leaves follow from there on."""
    story = Story(MERGED._replace(large_above=10))
    crowd(story, 11)
    story.after(2)
    news = [story.left(f"c{n}", clean=True) for n in range(2)]
    assert news == [["10 clients, 10 users"], []]
    assert story.after(2) == ["9 clients, 9 users, small again"]

    assert story.left("c9", clean=True) == ["leave u9/c9"]


def test_a_second_device_changes_the_counts_of_a_large_room() -> None:
    """Counts are of connections, too."""
    story = Story(MERGED._replace(large_above=3))
    crowd(story, 5)
    story.after(2)
    story.joined("again", "u1")

    assert story.after(1) == ["6 clients, 5 users"]


def test_changes_cost_the_same_in_rooms_of_any_size() -> None:
    """What one join stores and tells does not grow with the room."""
    sizes: list[tuple[int, int]] = []
    for members in (1_000, 10_000):
        story = Story()
        crowd(story, members)
        story.after(2)
        story.joined("late", "late")
        diff = story.diffs[-1]
        sizes.append((len(diff.connections) + len(diff.counts), len(diff.news)))

    assert sizes[0] == sizes[1] == (2, 1)


# -- Activities --------------------------------------------------------------------------------


def test_typing_is_told_with_its_end(story: Story) -> None:
    """Who hears of it can forget it by themselves."""
    story.joined("a1", "ada")

    assert story.typed("ada") == ["ada types for 5000"]


def test_typing_ends_by_itself(story: Story) -> None:
    """A typist who vanishes does not type for ever."""
    story.joined("a1", "ada")
    story.typed("ada")

    assert story.after(5) == ["ada types for 0"]
    assert story.after(60) == []


def test_renewed_typing_is_told_again_now_and_then(story: Story) -> None:
    """Every key stroke may renew it; the room hears of it every few seconds."""
    story.joined("a1", "ada")
    news: list[str] = []
    for _ in range(40):
        news += story.typed("ada")
        news += story.after(0.25)

    assert news == ["ada types for 5000"] * 4


def test_a_message_ends_typing(story: Story) -> None:
    """The gateway says so with every message of the user."""
    story.joined("a1", "ada")
    story.typed("ada")

    assert story.typed("ada", active=False) == ["ada types for 0"]
    assert story.typed("ada", active=False) == []
    assert story.after(60) == []


def test_typing_ends_with_the_typist(story: Story) -> None:
    """Who leaves no longer types."""
    story.joined("a1", "ada")
    story.typed("ada")

    assert story.left("a1", clean=True) == ["ada types for 0", "leave ada/a1"]
    assert story.after(60) == []


def test_agents_say_what_they_do(story: Story) -> None:
    """Thinking is an activity like typing, with a lease."""
    assert story.typed("owl", what="thinking") == ["owl does thinking for 5000"]
    assert story.after(5) == ["owl does thinking for 0"]


def test_a_large_room_hears_no_typing() -> None:
    """A thousand typists would be a thousand messages to a thousand members."""
    story = Story(MERGED._replace(large_above=3))
    crowd(story, 5)

    assert story.typed("u1") == []
    assert story.typed("owl", what="streaming") == ["owl does streaming for 5000"]


def test_nobody_types_anonymously(story: Story) -> None:
    """There is no name to show."""
    assert story.typed("") == []


# -- What is stored ------------------------------------------------------------------------------


class Shelf:
    """A database of three dictionaries."""

    def __init__(self) -> None:
        self.connections: dict[tuple[str, str], Connection] = {}
        self.faces: dict[tuple[str, str], Face] = {}
        self.sequences: dict[str, int] = {}
        self.number = 0

    def store(self, diff: Diff) -> None:
        for key, connection in diff.connections.items():
            self.connections.pop(key, None)
            if connection is not None:
                self.connections[key] = connection
        for key, face in diff.faces.items():
            self.faces.pop(key, None)
            if face is not None:
                self.faces[key] = face
        for (origin, _), sequence in diff.sequences.items():
            self.sequences[origin] = sequence
            if not sequence:
                del self.sequences[origin]
        self.number = max([self.number, *(n.number for n in diff.news)])

    def restored(self, story: Story, settle_s: float = 0) -> Roster:
        ordered = sorted(self.connections.values(), key=lambda c: c.joined_us)
        return Roster.restored(
            PARTITION,
            lambda _channel: story.rules,
            connections=ordered,
            faces=[(*key, face) for key, face in self.faces.items()],
            sequences=list(self.sequences.items()),
            number=self.number,
            settled_ms=story.now_ms + int(settle_s * 1000),
        )


def restart(story: Story, settle_s: float = 0) -> None:
    """The process dies; another one goes on with what was stored."""
    shelf = Shelf()
    for diff in story.diffs:
        shelf.store(diff)
    story.roster = shelf.restored(story, settle_s)


def test_a_restart_forgets_nothing(story: Story) -> None:
    """Whoever goes on knows who is here, who is lost, and as whom they joined."""
    story.joined("a1", "ada")
    story.left("a1")
    story.joined("a2", "ada")
    story.joined("b1", "bob")
    story.left("b1")
    story.after(4)
    restart(story)

    assert story.joined("a2", "ada") == []
    assert story.left("a2", clean=True) == ["leave ada/a1"]
    assert story.after(5.75) == []
    assert story.after(0.25) == ["leave bob/b1"]


def test_after_a_restart_reports_that_waited_come_before_the_end_of_a_grace(
    story: Story,
) -> None:
    """Who came back while nobody was looking has not left."""
    story.joined("a1", "ada")
    story.left("a1")
    story.now_ms += 30_000
    restart(story, settle_s=5)

    assert story.after(4) == []
    assert story.joined("a2", "ada", origin="g2") == []
    assert story.after(60) == []


def test_after_a_restart_reports_heard_before_are_dropped(story: Story) -> None:
    """What was stored and not acknowledged is delivered again, and changes nothing."""
    report = story.report("g1", 1, Joined(ROOM, "a1", "ada"))
    story.hears(report)
    restart(story)

    assert story.hears(report) == []


def test_numbers_of_joins_and_leaves_never_go_back(story: Story) -> None:
    """Who has seen a number can tell a repeat from news, also across restarts."""
    story.joined("a1", "ada")
    story.left("a1", clean=True)
    restart(story)
    story.now_ms -= 5000
    story.joined("a1", "ada")

    assert story.numbers == sorted(set(story.numbers))
    assert len(story.numbers) == 3


def test_last_seen_is_when_the_user_was_lost(story: Story) -> None:
    """The grace is nobody's presence."""
    story.joined("a1", "ada")
    story.now_ms += 1000
    lost_ms = story.now_ms
    story.left("a1")
    story.after(60)

    seen = [diff.seen_ms["ada"] for diff in story.diffs if "ada" in diff.seen_ms]
    assert set(seen) == {lost_ms}


# -- Anything at all -------------------------------------------------------------------------------

CLIENTS = [f"{user or 'anon'}{n}" for user in ("ada", "bob", "") for n in (1, 2)]
USERS = {client: client.rstrip("12").replace("anon", "") for client in CLIENTS}
STEPS = st.one_of(
    st.tuples(st.just("join"), st.sampled_from(CLIENTS), st.sampled_from(["g1", "g2"])),
    st.tuples(st.just("leave"), st.sampled_from(CLIENTS), st.booleans()),
    st.tuples(st.just("gone"), st.sampled_from(["g1", "g2"])),
    st.tuples(st.just("wait"), st.sampled_from([0.25, 3.0, 11.0])),
    st.tuples(st.just("restart")),
)


@given(st.lists(STEPS, max_size=40), st.sampled_from([MERGED, EXACT]))
@settings(max_examples=200, deadline=None)
def test_joins_and_leaves_always_pair(
    steps: list[tuple[object, ...]], rules: Rules
) -> None:
    """Whatever happens: nobody joins twice, leaves unjoined, or stays for ever."""
    story = Story(rules)
    present: set[str] = set()

    def tell(news: list[str]) -> None:
        for one in news:
            kind, who = one.split(" ", 1)
            if kind == "join":
                assert who not in present
                present.add(who)
            else:
                present.remove(who)

    for step in steps:
        match step:
            case ("join", str(client), str(origin)):
                tell(story.joined(client, USERS[client], origin=origin))
            case ("leave", str(client), bool(clean)):
                tell(story.left(client, clean=clean))
            case ("gone", str(origin)):
                tell(story.gone(origin))
            case ("wait", float(seconds)):
                tell(story.after(seconds))
            case _:
                restart(story)
        room = story.roster.rooms.get(ROOM)
        people = set(room.people) if room is not None else set[str]()
        connections = len(room.connections) if room is not None else 0
        assert len(present) == (len(people) if rules.merged else connections)
        assert story.roster.size == connections
    tell(story.gone("g1"))
    tell(story.gone("g2"))
    tell(story.after(11))
    assert not present
    assert not story.clients


def test_persons_are_users_or_connections() -> None:
    """An anonymous connection never meets a user of the same name."""
    assert person_of("ada", "a1") == "ada"
    assert person_of("", "ada") != "ada"


def test_activities_of_other_rooms_stay_there(story: Story) -> None:
    """Typing here is not typing there."""
    story.joined("a1", "ada")
    story.told(Active("room:elsewhere", "ada"))

    assert story.typed("ada", active=False) == []
    assert story.now_ms == T0
