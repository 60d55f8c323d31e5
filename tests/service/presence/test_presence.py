"""Presence as a process: what gateways and their clients rely on."""

import asyncpg
import pytest

from chatmesh.wire import errors
from chatmesh.wire.presence import Joined
from support.eventually import eventually
from support.presence_side import ReporterSide
from support.replicas import Replicas

pytestmark = pytest.mark.timeout(90)

CROWD = 1000
LEAVES = 10


async def test_joins_and_leaves_are_told(
    replicas: Replicas, side: ReporterSide, other: ReporterSide
) -> None:
    """Whoever listens to a channel hears who comes and who goes, on any gateway."""
    await replicas.start()

    await side.join("room:0", "a1", "ada", b'{"name":"Ada"}')
    await side.hears("room:0", "join ada/a1")
    await other.join("room:0", "b1", "bob")
    await side.hears("room:0", "join ada/a1", "join bob/b1")
    await side.leave("room:0", "a1", clean=True)

    await side.hears("room:0", "join ada/a1", "join bob/b1", "leave ada/a1")
    assert side.heard[0][1].info == (
        b'{"user":"ada","client":"a1","conn_info":{"name":"Ada"}}'
    )


async def test_members_and_counts_are_answered(
    replicas: Replicas, side: ReporterSide, other: ReporterSide
) -> None:
    """By connection for SDKs, by user for people, in pages or at once."""
    await replicas.start()
    await side.join("room:0", "a1", "ada", b"1")
    await other.join("room:0", "a2", "ada")
    await other.join("room:0", "x1")
    await side.hears("room:0", "join ada/a1", "join /x1")

    counts = await side.counts("room:0")
    everyone = await side.members("room:0")
    people = await side.members("room:0", merged=True)
    (first,) = await side.pages("room:0", limit=2)
    (second,) = await side.pages("room:0", after=first.next_after, limit=2)

    assert (counts.num_clients, counts.num_users) == (3, 2)
    assert [(m.client, m.user, m.origin) for m in everyone] == [
        ("a1", "ada", "g1"),
        ("a2", "ada", "g2"),
        ("x1", "", "g2"),
    ]
    assert everyone[0].conn_info == b"1"
    assert [(m.client, m.user, m.connections) for m in people] == [
        ("x1", "", 1),
        ("a1", "ada", 2),
    ]
    assert [m.client for m in (*first.members, *second.members)] == ["a1", "a2", "x1"]
    assert (first.last, first.num_clients) == (True, 3)
    assert (second.next_after, second.last) == ("", True)


async def test_a_leave_costs_the_same_in_a_crowd(
    replicas: Replicas, side: ReporterSide, database_url: str
) -> None:
    """It is found by its key, also where the plan was made when hardly anybody was here."""
    presence = await replicas.start()
    # The plan is made at the first of these, and kept.
    for number in range(10):
        await side.join("quiet:0", f"a{number}")
        await side.leave("quiet:0", f"a{number}", clean=True)
        await _counted(side, 0)
    await side.tell(*(Joined("quiet:0", f"c{number}") for number in range(CROWD)))
    await _counted(side, CROWD)
    for number in range(LEAVES):
        await side.leave("quiet:0", f"c{number}", clean=True)
        await _counted(side, CROWD - number - 1)
    # What a session has read is known when it ends.
    await presence.stop()

    admin = await asyncpg.connect(database_url)
    try:
        (row,) = await admin.fetch(
            "SELECT n_tup_del, seq_tup_read FROM pg_stat_user_tables"
            " WHERE relname = 'presence_connections'"
        )
        by_other_ways = await admin.fetchval(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"
            " WHERE relname = 'presence_connections'"
            " AND indexrelname <> 'presence_connections_pkey'"
        )
    finally:
        await admin.close()
    assert row["n_tup_del"] >= LEAVES
    assert row["seq_tup_read"] < CROWD
    assert by_other_ways < CROWD


async def _counted(side: ReporterSide, members: int) -> None:
    async def so_many() -> bool:
        return (await side.counts("quiet:0")).num_clients == members

    await eventually(so_many)


async def test_an_empty_channel_has_nobody(
    replicas: Replicas, side: ReporterSide
) -> None:
    """To ask for a channel nobody was ever in is no mistake."""
    await replicas.start()

    (page,) = await side.pages("room:0")
    counts = await side.counts("room:0")

    assert (page.members, page.num_clients, page.error_code) == ([], 0, 0)
    assert (counts.num_clients, counts.num_users) == (0, 0)


async def test_a_user_is_found_and_remembered(
    replicas: Replicas, side: ReporterSide, other: ReporterSide
) -> None:
    """Where somebody is, over all gateways; and when they were last here."""
    await replicas.start()
    await side.join("room:0", "a1", "ada")
    await other.join("room:1", "a2", "ada")
    await side.hears("room:1", "join ada/a2")

    here = await side.user("ada")
    await side.leave("room:0", "a1", clean=True)
    await other.leave("room:1", "a2", clean=True)
    await side.hears("room:1", "join ada/a2", "leave ada/a2")
    away = await side.user("ada")
    never = await side.user("bob")

    assert (here.channels, here.connections) == (["room:0", "room:1"], 2)
    assert (away.channels, away.connections) == ([], 0)
    assert 0 < here.last_seen_ms - 5000 < away.last_seen_ms < here.last_seen_ms + 5000
    assert (never.channels, never.last_seen_ms) == ([], 0)


async def test_a_status_is_told_where_the_user_is(
    replicas: Replicas, side: ReporterSide
) -> None:
    """And kept when they are nowhere."""
    await replicas.start()
    await side.join("room:0", "a1", "ada")
    await side.hears("room:0", "join ada/a1")

    answer = await side.set_status("ada", "in a meeting", do_not_disturb=True)
    await side.hears("room:0", "join ada/a1", "ada says 'in a meeting'")
    (member,) = await side.members("room:0", merged=True)
    await side.leave("room:0", "a1", clean=True)
    later = await side.user("ada")

    assert (answer.status_text, answer.do_not_disturb) == ("in a meeting", True)
    assert (member.status_text, member.do_not_disturb) == ("in a meeting", True)
    assert later.status_text == "in a meeting"


async def test_senseless_requests_are_refused(
    replicas: Replicas, side: ReporterSide
) -> None:
    """With the protocol's code and a reason, like everywhere."""
    await replicas.start()

    (page,) = await side.pages("no channel")
    counts = await side.counts("")
    nobody = await side.user("")
    essay = await side.set_status("ada", "x" * 201)

    for answer in (page, counts, nobody, essay):
        assert answer.error_code == errors.BAD_REQUEST.code
        assert answer.error_message


async def test_typing_is_a_lease(replicas: Replicas, side: ReporterSide) -> None:
    """It ends with a message, and by itself."""
    await replicas.start()

    await side.type("room:0", "ada")
    await side.type("room:0", "ada", active=False)
    await side.type("room:0", "bob")

    await side.hears(
        "room:0",
        "ada types for 5000",
        "ada types for 0",
        "bob types for 5000",
        "bob types for 0",
        within_s=10,
    )


async def test_nothing_is_told_where_nobody_wants_it(
    replicas: Replicas, side: ReporterSide
) -> None:
    """A namespace without joins and leaves has its members all the same."""
    await replicas.start()
    await side.join("quiet:0", "a1", "ada")

    await eventually(lambda: _is_there(side, "quiet:0"))
    assert side.news("quiet:0") == []


async def _is_there(side: ReporterSide, channel: str) -> bool:
    return (await side.counts(channel)).num_clients == 1


async def test_malformed_messages_are_buried_with_their_cause(
    replicas: Replicas, side: ReporterSide
) -> None:
    """What nobody can read holds nobody up."""
    await replicas.start()

    await side.publish(side.topics.presence, "reports.00", b"\xc1 no report")
    await side.publish(side.topics.rpc, "presence", b"\xc1 no request")
    for partition in range(16):
        await side.report(partition, [])
    await side.join("room:0", "a1", "ada")
    await side.hears("room:0", "join ada/a1")

    buried = await eventually(lambda: side.dead_letters(2))
    assert all(cause.startswith("malformed: ") for cause in buried)


async def test_changes_that_cannot_be_are_left_out(
    replicas: Replicas, side: ReporterSide
) -> None:
    """One false change does not hide the others of its report."""
    await replicas.start()

    await side.join("room:0", "nul\0", "ada")
    await side.join("room:0", "a1", "\1ada")
    await side.join("room:0", "a1", "ada")

    await side.hears("room:0", "join ada/a1")
