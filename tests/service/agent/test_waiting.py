"""Which of many runs that wait are looked at, in a real PostgreSQL."""

import uuid
from collections.abc import AsyncIterator, Iterable

import asyncpg
import pytest

from chatmesh.agent.adapters.postgres_runs import PER_ROOM, PostgresRuns
from chatmesh.agent.agents import Agent
from chatmesh.agent.fairness import Running, Waiting, in_turn
from chatmesh.agent.ports import UNKNOWN_AGENT_S
from chatmesh.postgres.database import Connection, Pool
from chatmesh.wire.runs import RunOutcome

RUNS_MAX = 30


@pytest.fixture
async def book(  # noqa: RUF029 - its connections are dropped inside the loop
    database_url: str,
) -> AsyncIterator[PostgresRuns]:
    sessions = [
        Connection(database_url, application="test", connect_s=10, statement_s=10)
        for _ in range(3)
    ]
    placing, leasing, working = sessions
    yield PostgresRuns(
        "me", working=Pool([working]), placing=placing, leasing=leasing, lease_s=10
    )
    for session in sessions:
        session.drop()


async def wait(database_url: str, asked: Iterable[tuple[str, str]]) -> None:
    """Let runs wait, of (room, person), in this order; nobody performs them."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.executemany(
            "insert into agent_runs (id, agent, channel, trigger_id, trigger_offset,"
            " trigger_text, requester, created_at) values ($1, 'owl', $2, $3, 1, '', $4,"
            " now() + make_interval(secs => $5))",
            [
                (uuid.uuid4(), f"room:{room}", f"m{n}", person, n / 1000)
                for n, (room, person) in enumerate(asked)
            ],
        )
    finally:
        await connection.close()


async def next_ones(book: PostgresRuns, limit: int = 1000) -> list[Waiting]:
    """Those that a replica with room for thirty runs takes first."""
    return in_turn(*await book.waiting(limit))[:RUNS_MAX]


async def test_two_hundred_that_wait_take_turns(
    book: PostgresRuns, database_url: str
) -> None:
    """Over rooms, and in a room over people, whoever came before with however much."""
    eager = [("a", "eager")] * 120
    people = [("a", f"p{n}") for n in range(20)]
    rooms = [(f"b{n}", f"q{n}") for n in range(60)]
    await wait(database_url, [*eager, *people, *rooms])
    first = await next_ones(book)
    assert [one.requester for one in first[:2]] == ["eager", "q0"]
    assert len({one.channel for one in first}) == RUNS_MAX
    of_room = [
        one for one in in_turn(*await book.waiting(1000)) if one.channel[5:] == "a"
    ]
    # One of each person before the second of anybody.
    assert len({one.requester for one in of_room[:21]}) == 21
    assert len(of_room) == PER_ROOM


async def test_a_turn_that_is_over_is_known(
    book: PostgresRuns, database_url: str
) -> None:
    """Whichever replica had it; a turn before the others came is of no interest."""
    await wait(database_url, [("a", "x")] * 3 + [("a", "y")])
    owl = Agent(name="owl", title="Owl", concurrency=1)
    served: list[str] = []
    for _ in range(4):
        order = [one.run for one in in_turn(*await book.waiting(1000))]
        (claimed,) = await book.claim(order, [owl], 1)
        served.append(claimed.requester)
        await book.decide(
            claimed.run, claimed.epoch, RunOutcome.COMPLETED, "", b"answer"
        )
        await book.end(claimed.run, claimed.epoch)
    assert served == ["x", "y", "x", "x"]
    await wait(database_url, [("a", "z")])
    assert await _turns(book) == [], "nobody waits who has seen one of these"


async def _turns(book: PostgresRuns) -> list[Running]:
    _, turns = await book.waiting(1000)
    return turns


async def test_a_new_room_is_seen_behind_any_number(
    book: PostgresRuns, database_url: str
) -> None:
    """However many wait in others, and however few are looked at."""
    long = [(f"a{n % 30}", "x") for n in range(30 * PER_ROOM)]
    await wait(database_url, [*long, ("new", "y")])
    looked_at, _ = await book.waiting(100)
    assert len(looked_at) == 100
    assert [one.requester for one in looked_at].count("y") == 1
    assert in_turn(looked_at, [])[30].requester == "y"


async def test_what_only_has_to_be_ended_needs_no_room(
    book: PostgresRuns, database_url: str
) -> None:
    """Of runs that were left behind, a full replica takes those that are over anyway."""
    await wait(database_url, [(room, "x") for room in "abcd"])
    connection = await asyncpg.connect(database_url)
    try:
        for room, stop_by, crashes in (
            ("a", None, 0),
            ("b", "ada", 0),
            ("c", None, 2),
            ("d", None, 1),
        ):
            await connection.execute(
                "update agent_runs set status = 'running', owner = 'gone',"
                " lease_until = now() - interval '1 second', stop_by = $2, crashes = $3"
                " where channel = 'room:' || $1::text",
                *(room, stop_by, crashes),
            )
    finally:
        await connection.close()
    ending = await book.adopt(10, performing=False, crashes_max=3, known=["owl"])
    assert {one.channel for one in ending} == {"room:b", "room:c"}
    others = await book.adopt(10, performing=True, crashes_max=3, known=["owl"])
    assert {one.channel for one in others} == {"room:a", "room:d"}


async def test_who_does_not_know_an_agent_leaves_its_runs_to_others(
    book: PostgresRuns, database_url: str
) -> None:
    """The agents file changes in one replica after the other; then it is nobody's."""
    await wait(database_url, [("a", "x")])
    owl = Agent(name="owl", title="Owl")
    (run,) = [one.run for one in await next_ones(book)]
    (claimed,) = await book.claim([run], [owl], 1)
    await book.let_go(run, claimed.epoch, 1)
    assert not await book.adopt(1, performing=True, crashes_max=3, known=["fox"])
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "update agent_runs set lease_until = now() - make_interval(secs => $1)",
            UNKNOWN_AGENT_S + 1,
        )
    finally:
        await connection.close()
    assert await book.adopt(1, performing=True, crashes_max=3, known=["fox"])
