"""The log in PostgreSQL keeps its promises, two committers and lost answers included."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from chatmesh.history.adapters.postgres_log import PostgresLog
from chatmesh.history.ports import LogUnavailable, Placed
from chatmesh.history.retention import Rule
from chatmesh.postgres.database import Connection, Pool
from chatmesh.wire import channels
from conformance.log import LogPromises, columns, forward, offsets
from support.eventually import eventually


def connection(url: str, *, statement_s: float = 5) -> Connection:
    return Connection(
        url, application="chatmesh-history", connect_s=5, statement_s=statement_s
    )


def log_on(url: str) -> PostgresLog:
    return PostgresLog(connection(url), Pool([connection(url)]), read_within_s=5)


@pytest.fixture
def log(database_url: str) -> Iterator[PostgresLog]:
    made = log_on(database_url)
    yield made
    made.close()


async def append_patiently(
    log: PostgresLog, *rows: tuple[str, str, str]
) -> list[Placed]:
    """As the committer does: run it again for as long as it takes."""
    while True:
        try:
            return await log.append(columns(*rows))
        except LogUnavailable:
            continue


class TestPostgresLog(LogPromises):
    pass


async def test_what_a_namespace_keeps_no_longer_is_not_shown(
    log: PostgresLog, database_url: str
) -> None:
    """Before retention has been there; a gateway that closes a hole still sees it."""
    names = ("small:a", "short:a", "room:a")
    for name in names:
        await append_patiently(log, *((name, str(n), "x") for n in range(5)))
    kept = [Rule("small", 2, 0), Rule("short", 0, 1)]
    keeping = PostgresLog(
        connection(database_url),
        Pool([connection(database_url)]),
        read_within_s=5,
        kept=kept,
    )

    async def seen(*, whole: bool = False) -> list[int]:
        specs = [forward(name, limit=10)._replace(whole=whole) for name in names]
        pages = await keeping.read(specs)
        return [len(page.entries) for page in pages]

    async def expired() -> bool:
        return await seen() == [2, 0, 5]

    try:
        await eventually(expired)
        assert await seen(whole=True) == [5, 5, 5]
        (page,) = await keeping.read([forward("small:a", limit=10)])
        assert [one.offset for one in page.entries] == [4, 5]
        assert page.standing.floor == 3
    finally:
        keeping.close()


async def test_two_committers_cost_time_not_truth(
    log: PostgresLog, database_url: str
) -> None:
    """Both write the same ids to the same channels at once; the log has each once."""
    other = log_on(database_url)
    names = ("a", "b", "c")

    async def write(to: PostgresLog, order: int) -> None:
        for batch in range(20):
            rows = [
                (name, f"{batch}-{n}", "x")
                for n in range(10)
                for name in names[::order]
            ]
            await append_patiently(to, *rows)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(write(log, 1))
            group.create_task(write(other, -1))
    finally:
        other.close()

    for name in names:
        (page,) = await log.read([forward(name, limit=1000)])
        assert offsets(page) == list(range(1, 201))
        assert len({entry.id for entry in page.entries}) == 200


async def test_a_lost_answer_is_settled_by_asking_again(
    log: PostgresLog, database_url: str
) -> None:
    """The session dies in the middle; the next run says where everything stands."""
    await log.append(columns(("a", "0", "x")))
    admin = await asyncpg.connect(database_url)
    try:
        async with admin.transaction(), asyncio.TaskGroup() as group:
            await admin.execute("select * from channels for update")
            appending = group.create_task(_expect_unavailable(log))
            await eventually(lambda: _terminate_waiting(admin))
            await appending
    finally:
        await admin.close()

    (placed,) = await log.append(columns(("a", "1", "x")))

    assert placed.offset == 2


async def _expect_unavailable(log: PostgresLog) -> None:
    with pytest.raises(LogUnavailable):
        await log.append(columns(("a", "1", "x")))


async def _terminate_waiting(admin: "asyncpg.Connection[asyncpg.Record]") -> bool:
    rows = await admin.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'chatmesh-history' and wait_event_type = 'Lock'"
        " and datname = current_database()"
    )
    return bool(rows)


async def test_a_locked_channel_is_given_up_in_time(database_url: str) -> None:
    """A statement has a deadline; afterwards the same connection object works again."""
    log = PostgresLog(
        connection(database_url, statement_s=0.3),
        Pool([connection(database_url)]),
        read_within_s=5,
    )
    await log.append(columns(("a", "1", "x")))
    admin = await asyncpg.connect(database_url)
    try:
        async with admin.transaction():
            await admin.execute("select * from channels for update")
            with pytest.raises(LogUnavailable):
                await log.append(columns(("a", "2", "x")))
        (placed,) = await append_patiently(log, ("a", "2", "x"))
    finally:
        await admin.close()
        log.close()

    assert placed.offset == 2


async def test_age_decides_what_is_kept(log: PostgresLog, database_url: str) -> None:
    """Entries older than the namespace's age lose their payload, younger ones do not."""
    await log.append(columns(*(("a", str(n), "x") for n in range(5))))
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute(
            "update log set at = now() - interval '2 hours' where \"offset\" <= 3"
        )
    finally:
        await admin.close()

    emptied, _ = await log.retain(
        [Rule("", size=0, age_s=3600)], "", channels=10, entries=2
    )
    rest, _ = await log.retain(
        [Rule("", size=0, age_s=3600)], "", channels=10, entries=2
    )

    (page,) = await log.read([forward("a")])
    assert (emptied, rest) == (2, 1)
    assert offsets(page) == [4, 5]


@pytest.mark.parametrize(
    "channel",
    ["bare", "room:a", "$private:a", "a#u:1,u2", "$x", "room:a:b", "ns:x#ada", "#ada"],
)
async def test_the_database_knows_namespaces_as_we_do(
    log: PostgresLog, database_url: str, channel: str
) -> None:
    """Retention decides by namespace in SQL; the grammar is the same there."""
    admin = await asyncpg.connect(database_url)
    try:
        namespace = await admin.fetchval("select history_namespace($1)", channel)
    finally:
        await admin.close()

    assert namespace == channels.namespace_of(channel)


async def test_an_append_costs_the_same_in_a_long_log(database_url: str) -> None:
    """Ids are found by their key, also where the plan was made when the log was empty."""
    admin = await asyncpg.connect(database_url)
    try:
        await admin.execute("ALTER TABLE log SET (autovacuum_enabled = off)")
        log = log_on(database_url)
        for batch in range(20):
            rows = [("room:a", f"{batch}-{n}", "x") for n in range(100)]
            await append_patiently(log, *rows)
        # What a session has read is known when it ends.
        log.close()

        async def read_from_end_to_end() -> int | None:
            return await admin.fetchval(
                "SELECT seq_tup_read FROM pg_stat_user_tables"
                " WHERE relname = 'log' AND n_tup_ins = 2000"
            )

        async def known() -> bool:
            return await read_from_end_to_end() is not None

        await eventually(known)
        assert (await read_from_end_to_end() or 0) < 100
    finally:
        await admin.close()
